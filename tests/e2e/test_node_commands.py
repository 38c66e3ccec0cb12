"""status, members, transfer, version, config, certs as a user runs them."""

import os
import pty
import select
import signal
import subprocess
import time
import tomllib
from pathlib import Path

from replcache.localcluster import LocalCluster
from tests.e2e.conftest import Shell
from tests.helpers.wait import scaled, wait_until


def test_status_shows_every_node(shell: Shell) -> None:
    status = shell("status", "--json").json()
    assert status["leader"] in ("n1", "n2", "n3")
    assert {node["node"] for node in status["nodes"]} == {"n1", "n2", "n3"}
    assert {node["term"] for node in status["nodes"]} == {status["nodes"][0]["term"]}
    assert "LEADER" in shell("status").text


def test_members_are_the_configured_ones(shell: Shell, cluster: LocalCluster) -> None:
    members = shell("members", "--json").json()
    assert {member["name"]: member["client_address"] for member in members} == {
        layout.name: layout.grpc_address for layout in cluster.layouts
    }
    assert all(member["voter"] and member["incarnation"] for member in members)


def test_leadership_is_handed_over(shell: Shell) -> None:
    before = shell("status", "--json").json()["leader"]
    target = next(name for name in ("n1", "n2", "n3") if name != before)
    assert shell("transfer", target, "--json").json() == {"leader": target}
    wait_until(lambda: shell("status", "--json").json()["leader"] == target, 10, "all know the new leader")
    assert shell("transfer", "n9").code != 0


def test_version_names_what_it_stands_on(shell: Shell) -> None:
    versions = shell("version", "--json").json()
    assert versions["pysyncobj"] == "0.3.17"
    assert shell("version").text.startswith("replcache ")


def test_config_shows_origins_and_precedence(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('name = "n7"\nheartbeat_s = 0.12\nelection_min_s = 0.7\n')
    shown = shell(
        "config", "--config", "c.toml", "--heartbeat-s", "0.05", "--json", REPLCACHE_ELECTION_MIN_S="0.6"
    ).json()
    assert shown["name"] == {"value": "n7", "origin": "file c.toml"}
    assert shown["election_min_s"] == {"value": 0.6, "origin": "env REPLCACHE_ELECTION_MIN_S"}
    assert shown["heartbeat_s"] == {"value": 0.05, "origin": "flag --heartbeat-s"}
    assert shown["election_max_s"]["origin"] == "default"


def test_wrong_config_lists_all_problems_at_once(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('heartbeat_s = "soon"\nspeed = 9\ngrpc_listen = "nowhere"\n')
    for command in ("config", "serve"):
        result = shell(command, "--config", "c.toml")
        assert result.code == 2
        for part in ("heartbeat_s", "soon", "speed", "grpc_listen", "nowhere", "c.toml"):
            assert part in result.err, (command, part)


def test_sample_config_is_valid_toml(shell: Shell) -> None:
    sample = shell("config", "--sample").text
    assert tomllib.loads(sample) == {}
    assert "# heartbeat_s = " in sample


def test_certs_are_made_and_kept(shell: Shell) -> None:
    flags = ("--node", "n1=127.0.0.1", "--client", "app", "--json")
    made = {row["certificate"]: row["state"] for row in shell("certs", "c", *flags).json()}
    assert made == {"c/ca.pem": "made", "c/n1.pem": "made", "c/app.pem": "made"}
    assert {row["state"] for row in shell("certs", "c", *flags).json()} == {"kept"}
    assert shell("certs", "c", "--node", "a b").code == 2


def test_get_is_quick(shell: Shell) -> None:
    """The fastest of five: a command line that people wait for is not used."""
    shell("set", "quick", "x")
    durations = []
    for _ in range(5):
        begin = time.monotonic()
        shell("get", "quick")
        durations.append(time.monotonic() - begin)
    assert min(durations) < scaled(1.0), durations


def test_top_prints_once_without_a_terminal(shell: Shell, cluster: LocalCluster) -> None:
    assert shell("set", "greeting", "hello").code == 0
    shown = shell("top", "--interval", "300ms")
    assert shown.code == 0, shown.err
    assert all(name in shown.text for name in ("n1", "n2", "n3", "leader", "hit rate", "3 of 3 nodes"))
    found = shell("top", "--json", "--interval", "300ms").json()
    assert found["leader"] in ("n1", "n2", "n3")
    assert {node["node"] for node in found["nodes"]} == {"n1", "n2", "n3"}
    dead = shell("top", "--json", "--endpoints", "127.0.0.1:1")
    assert dead.code == 3
    assert dead.json()["nodes"] == [{"address": "127.0.0.1:1", "problem": "not reachable"}]


def test_top_is_live_on_a_terminal_and_ends_by_ctrl_c(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            shell.command("top", "--interval", "200ms"),
            cwd=shell.folder,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**shell.environment, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"},
        )
        os.close(theirs)
        seen = b""

        def is_drawn_thrice() -> bool:
            nonlocal seen
            readable, _, _ = select.select([ours], [], [], 0)
            if readable:
                seen += os.read(ours, 65536)
            return seen.count(b"3 of 3 nodes") >= 3

        try:
            wait_until(is_drawn_thrice, 20, "three pictures", lambda: seen[-500:])
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0, process.stderr and process.stderr.read()
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)
