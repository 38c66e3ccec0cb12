"""`replcache prewarm` and `replcache reconcile` against a fake cluster and SQLite."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.testing

from replcache import Client
from replcache.cli.main import app
from tests.helpers.client_driver import ClusterThread


@pytest.fixture(name="cluster", scope="module")
def _cluster() -> Iterator[ClusterThread]:
    cluster = ClusterThread(nodes=1)
    yield cluster
    cluster.close()


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, profile TEXT)")
    connection.executemany(
        "INSERT INTO users VALUES (?, ?)", [(f"{n}", json.dumps({"n": n})) for n in range(50)]
    )
    connection.commit()
    connection.close()
    return path


def replcache(cluster: ClusterThread, *arguments: str) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, list(arguments), env={"REPLCACHE_URL": cluster.url})


def test_pairs_of_a_file(cluster: ClusterThread, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text("\n".join(json.dumps({"key": f"f:{n}", "value": {"n": n}}) for n in range(100)) + "\n")
    done = replcache(cluster, "prewarm", str(file), "--rate", "2k/s", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stored"] == 100
    assert not (tmp_path / "keys.jsonl.state").exists()
    with Client(cluster.url) as client:
        assert client.get_value("f:7") == {"n": 7}
    file.write_text('{"key": "a"}\n')
    assert replcache(cluster, "prewarm", str(file)).exit_code != 0


def test_keys_of_a_file_and_rows_of_a_table(cluster: ClusterThread, tmp_path: Path, database: Path) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text("".join(f'"{n}"\n' for n in range(60)))
    table = (
        "--db",
        f"sqlite:///{database}",
        "--table",
        "users",
        "--key-column",
        "id",
        "--value-column",
        "profile",
    )
    warm = replcache(cluster, "prewarm", str(file), "--prefix", "u:", "--json", *table)
    assert warm.exit_code == 0, warm.output
    assert (json.loads(warm.stdout)["stored"], json.loads(warm.stdout)["absent"]) == (50, 10)
    with Client(cluster.url) as client:
        for number in range(10):
            client.set(f"u:{number}", {"n": -1})
        client.set("u:gone", 1)
    look = replcache(cluster, "reconcile", "--prefix", "u:", "--no-repair", "--json", *table)
    assert (look.exit_code, json.loads(look.stdout)["different"]) == (1, 11)
    repair = replcache(cluster, "reconcile", "--prefix", "u:", *table)
    assert "11 different, 11 repaired" in repair.output
    again = replcache(cluster, "reconcile", "--prefix", "u:", *table)
    assert (again.exit_code, "0 different" in again.output) == (0, True)
    with Client(cluster.url) as client:
        assert client.get_value("u:3") == {"n": 3}


def test_a_database_that_is_not_there_is_named(cluster: ClusterThread, tmp_path: Path) -> None:
    missing = replcache(cluster, "reconcile", "--db", f"sqlite:///{tmp_path}/no.db", "--table", "users")
    assert missing.exit_code == 2
    assert not (tmp_path / "no.db").exists()
    assert replcache(cluster, "reconcile", "--db", "oracle://x", "--table", "users").exit_code != 0


def test_a_database_that_cannot_be_reached_is_an_error_without_its_password(
    cluster: ClusterThread,
) -> None:
    pytest.importorskip("psycopg")
    for address in (
        "postgresql://me:hidden@127.0.0.1:1/shop",
        "postgresql://me:hidden@[127.0.0.1/shop",  # libpq repeats what it can't read
        "postgres-typo://me:hidden@127.0.0.1/shop",
    ):
        done = replcache(cluster, "reconcile", "--db", address, "--table", "users")
        assert done.exit_code in (2, 4), done.output
        assert done.stderr.startswith("error: ")
        assert "hidden" not in done.output


def test_a_line_that_is_no_utf8_is_named(cluster: ClusterThread, tmp_path: Path) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_bytes(b'{"key": "a", "value": 1}\n{"key": "\xff", "value": 1}\n')
    done = replcache(cluster, "prewarm", str(file))
    assert (done.exit_code, f"{file}:2: " in done.stderr) == (4, True), done.output
