"""Tags, leases, elections, namespaces, guards and sweeping from the command line, against a real server."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.testing

from replcache import Client
from replcache.cli.main import app
from replcache.cli.units import bytes_of_size
from replcache.errors import ConfigError
from tests.helpers.client_driver import ServerThread

OK, NEGATIVE, USAGE, UNAVAILABLE, REFUSED = 0, 1, 2, 3, 4


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    thread = ServerThread()
    yield thread
    thread.close()


class Run:
    def __init__(self, server: ServerThread) -> None:
        self._environment = {"REPLCACHE_URL": server.url, "COLUMNS": "200"}

    def __call__(self, *arguments: str) -> typer.testing.Result:
        return typer.testing.CliRunner().invoke(app, list(arguments), env=self._environment)

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.exit_code == OK, done.output
        # The server of this process logs to the same stream.
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def run(server: ServerThread) -> Run:
    return Run(server)


def test_tags(run: Run) -> None:
    assert run("set", "t1", "one", "--tag", "red", "--tag", "round", "--idle", "1h").exit_code == OK
    assert run("set", "t2", "two", "--tag", "red", "--max-reads", "5").exit_code == OK
    assert run("find", "red", "round", "--keys-only").stdout == "t1\n"
    found = run.json("find", "red", "--limit", "1")
    assert found["more"] is True
    entry = run.json("get", "t1")
    assert (entry["tags"], entry["idle_ttl_s"]) == (["red", "round"], 3600)
    assert "two" in run("find", "red").stdout
    assert run("invalidate", "red").stdout == "2\n"
    assert run.json("invalidate", "red") == {"invalidated": 0}
    assert run("find", "").exit_code == REFUSED


def test_delete_prefix_and_sweep(run: Run, server: ServerThread) -> None:
    for number in range(3):
        run("set", f"p{number}", "x")
    assert run("del-prefix", "p").stdout == "3\n"
    assert run("del-prefix", "").exit_code == REFUSED
    with Client(server.url, part_bytes=100) as client:
        client.set("big", b"x" * 1000)
    assert run("get", "big").stdout.strip() == "x" * 1000
    assert run("del", "big").exit_code == OK
    assert run.json("sweep") == {"swept": 10}
    assert run("sweep", "big").stdout == "0\n"


def test_lease(run: Run) -> None:
    lease_id = run("lease", "grant", "--ttl", "1m").stdout.strip()
    assert run("set", "leased", "x", "--lease", lease_id).exit_code == OK
    assert "leased" in run("lease", "show", lease_id).stdout
    shown = run.json("lease", "show", lease_id)
    assert (shown["ttl_s"], shown["keys"]) == (60, [{"key": "leased"}])
    assert run("lease", "keep", lease_id).exit_code == OK
    assert run("lease", "revoke", lease_id).exit_code == OK
    assert run("get", "leased").exit_code == NEGATIVE
    for word in ("keep", "revoke", "show"):
        assert run("lease", word, lease_id).exit_code == NEGATIVE
    assert run("set", "leased", "x", "--lease", lease_id).exit_code == NEGATIVE


def test_election(run: Run, server: ServerThread) -> None:
    assert run("election", "leader", "e").exit_code == NEGATIVE
    program = "import os, sys; sys.exit(0 if int(os.environ['REPLCACHE_FENCE_TOKEN']) > 0 else 9)"
    led = run("election", "campaign", "e", "--value", "me", "--", sys.executable, "-c", program)
    assert led.exit_code == OK, led.output
    assert run("election", "campaign", "e").exit_code == USAGE
    with Client(server.url) as client, client.election("e").campaign("host-1") as term:
        assert run("election", "leader", "e").stdout == "host-1\n"
        assert run.json("election", "leader", "e")["token"] == term.token
        assert "host-1" in run("election", "observe", "e", "--limit", "1").stdout
        waited = run("election", "campaign", "e", "--wait", "0", "--", "true")
        assert waited.exit_code == NEGATIVE
    assert run("election", "observe", "e", "--limit", "1").stdout == "nobody\n"


def test_namespaces(run: Run) -> None:
    assert run.json("namespace", "set", "users", "user:", "--max-bytes", "1k", "--policy", "lru") == {
        "changed": True
    }
    assert (
        "so already"
        in run("namespace", "set", "users", "user:", "--max-bytes", "1KiB", "--policy", "lru").stderr
    )
    (found,) = run.json("namespace", "list")
    assert (found["name"], found["prefix"], found["max_bytes"]) == ("users", "user:", 1024)
    assert found["policy"] == "lru"
    assert "users" in run("namespace", "list").stdout
    assert run("namespace", "remove", "users").exit_code == OK
    assert run("namespace", "remove", "users").exit_code == NEGATIVE
    assert run("namespace", "set", "users", "user:", "--max-bytes", "some").exit_code == USAGE


def test_guards(run: Run) -> None:
    assert run("guard", "add", "orders/", "--by", "orders/*").exit_code == OK
    assert run("set", "orders/1", "x").exit_code == REFUSED
    assert run.json("guard", "list") == [{"prefix": "orders/", "by": "orders/*"}]
    assert "orders/*" in run("guard", "list").stdout
    assert run("guard", "remove", "orders/").exit_code == OK
    assert run("guard", "remove", "orders/").exit_code == NEGATIVE
    assert run("set", "orders/1", "x").exit_code == OK


def test_statistics(run: Run) -> None:
    assert run.json("statistics")["node"] == "n1"
    assert "node n1" in run("statistics", "n1", "--hot-keys", "3").stdout
    assert run("statistics", "n9").exit_code == REFUSED


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("64", 64), ("64k", 65536), ("64 MiB", 64 << 20), ("1GB", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "many", "1x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError):
        bytes_of_size(text)
