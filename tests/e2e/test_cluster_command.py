"""`replcache cluster`: up, status, kill, down: idempotent, honest, and leaving no process behind."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcache.localcluster import LocalCluster, free_ports
from tests.e2e.conftest import Shell, port_flags
from tests.helpers.wait import wait_until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalCluster]:
    """A cluster that one test may break."""
    made = LocalCluster(tmp_path / ".cluster", 3, free_ports(3, random.Random()))
    yield made
    made.stop(grace_s=5)


def processes_with(text: str) -> list[int]:
    """Processes whose command line contains the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in arguments:
                found.append(int(entry.name))
    return found


def test_up_status_kill_up_down(own: LocalCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    up = shell("cluster", "up", *port_flags(own), "--json")
    assert up.code == 0, up.err
    status = up.json()
    assert status["leader"] in own.names
    assert [node["node"] for node in status["nodes"]] == ["n1", "n2", "n3"]
    assert all(node["up"] and node["leader"] == status["leader"] for node in status["nodes"])
    assert len(processes_with(str(own.directory))) == 3

    again = shell("cluster", "up", "--json")
    assert "run already" in again.err
    pids = [node["pid"] for node in status["nodes"]]
    assert [node["pid"] for node in again.json()["nodes"]] == pids

    # Without --endpoints, commands find the cluster of this directory.
    assert shell("set", "k", "v").code == 0

    leader = status["leader"]
    assert shell("cluster", "kill", "leader").code == 0
    after = shell("cluster", "status", "--json")
    crashed = {node["node"]: node for node in after.json()["nodes"]}[leader]
    assert (crashed["up"], crashed["problem"], crashed["pid"]) == (False, "CRASHED", None)
    assert shell("get", "k").text == "v"
    assert "CRASHED" in shell("cluster", "status").text

    back = shell("cluster", "up", "--json")
    assert f"started {leader}" in back.err
    assert back.json()["leader"] != ""

    down = shell("cluster", "down", "--json")
    assert sorted(down.json()["stopped"]) == ["n1", "n2", "n3"]
    assert processes_with(str(own.directory)) == []
    assert shell("cluster", "status").code == 3
    assert shell("cluster", "down").code == 0

    assert shell("cluster", "up").code == 0
    assert shell("get", "k").text == "v"
    assert shell("cluster", "down", "--wipe").code == 0
    assert not own.directory.exists()


def test_frozen_node_is_reported_and_stopped(own: LocalCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("cluster", "up", *port_flags(own)).code == 0
    assert shell("cluster", "kill", "n2", "--signal", "STOP").code == 0
    nodes = {n["node"]: n for n in shell("cluster", "status", "--json").json()["nodes"]}
    assert nodes["n2"]["problem"] in ("no answer in time", "not reachable")
    assert nodes["n2"]["pid"] is not None
    assert shell("cluster", "down").code == 0
    assert processes_with(str(own.directory)) == []


def test_port_that_is_taken_is_named(own: LocalCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("cluster", "up", *port_flags(own)).code == 0
    other = shell("cluster", "up", *port_flags(own), "--directory", "other")
    assert other.code == 3
    for number in (own.ports.grpc, own.ports.peer + 1, own.ports.http + 2):
        assert str(number) in other.err
    assert processes_with(str(tmp_path / "other")) == []
    assert len(processes_with(str(own.directory))) == 3


def test_pid_of_somebody_else_is_never_killed(own: LocalCluster, tmp_path: Path) -> None:
    """A stale process file names the pid of another process: this very test."""
    shell = Shell(tmp_path)
    own.prepare()
    own.layout("n1").process.write_text(
        f'{{"pid": {os.getpid()}, "started": "long ago", "marker": "{own.layout("n1").config}"}}'
    )
    assert shell("cluster", "down").code == 0
    assert shell("cluster", "kill", "n1").code == 3


def test_wrong_shape_is_wrong_usage(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("cluster", "up", "--nodes", "0").code == 2
    assert shell("cluster", "up", "--grpc-port", "7401", "--peer-port", "7402").code == 2
    assert shell("cluster", "kill", "n9").code == 2
    assert shell("cluster", "kill", "n1", "--signal", "NONE").code == 2


def test_tour_runs_through(own: LocalCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("cluster", "up", *port_flags(own)).code == 0
    tour = shell("cluster", "tour")
    assert tour.code == 0, tour.text + tour.err
    assert "FENCE_REJECTED" in tour.text
    assert "the new leader is" in tour.text
    assert len(own.running()) == 3


def test_node_stops_in_order_on_term(own: LocalCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("cluster", "up", *port_flags(own)).code == 0
    status = shell("cluster", "status", "--json").json()
    assert own.kill(status["leader"], signal.SIGTERM)
    wait_until(lambda: own.pid(status["leader"]) is None, 15, "the leader stopped")
    wait_until(lambda: shell("set", "after", "x").code == 0, 15, "the others serve")
