"""Backup, restore and comparison of replicas as an operator does them, on real nodes under load."""

import json
import random
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcache.client import Client
from replcache.localcluster import LocalCluster, free_ports
from tests.e2e.conftest import Shell
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

pytestmark = pytest.mark.timeout(300)
NODE_SETTINGS = {"REPLCACHE_FAULT_INJECTION": "true", "REPLCACHE_STATE_CHECK_S": "0.5"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    found = ProcessCluster(tmp_path_factory.mktemp("nodes") / ".cluster", random.Random())
    found.start(**NODE_SETTINGS)
    try:
        found.wait_ready()
        yield found
    finally:
        found.stop()


def flip_bit(nodes: ProcessCluster, name: str, key: str) -> None:
    request = urllib.request.Request(
        f"http://{nodes.local.layout(name).http_address}/fault",
        data=json.dumps({"flip_bit_of": key}).encode(),
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def test_a_snapshot_under_load_becomes_a_new_cluster(nodes: ProcessCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path, nodes.url)
    done = threading.Event()

    def write() -> None:
        with nodes.client() as client:
            number = 0
            while not done.is_set():
                client.set(f"busy:{number % 50}", number)
                number += 1

    with nodes.client() as client:
        for number in range(300):
            client.set(f"key:{number}", f"value {number}")
        client.incr("counter", 41)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            saved = shell("snapshot", "save", "state.rcsnap", "--json")
        finally:
            done.set()
            writer.join()
    assert saved.code == 0, saved.err
    found = saved.json()
    assert (tmp_path / "state.rcsnap").stat().st_mode & 0o077 == 0
    restored = LocalCluster(tmp_path / "new", 3, free_ports(3, random.Random()))
    restored.prepare()
    for layout in restored.layouts:
        flags = ("--config", str(layout.config), "--cluster-name", "restored", "--json")
        made = shell("snapshot", "restore", "state.rcsnap", *flags)
        assert made.code == 0, made.err
        assert made.json() == found
    restored.start(environment={"REPLCACHE_CLUSTER_NAME": "restored"})
    try:
        with Client(restored.url, timeout="20s") as client:
            assert client.get_value("key:299") == "value 299"
            assert client.incr("counter") == 42
            assert sum(1 for _ in client.scan("key:")) == 300
        equal = Shell(tmp_path, restored.url)("hash", "--json")
        assert equal.code == 0, equal.err
        assert equal.json()["equal"] is True
        assert len(set(equal.json()["nodes"].values())) == 1
    finally:
        restored.stop(grace_s=5)


def test_a_flipped_bit_in_one_node_is_reported(nodes: ProcessCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path, nodes.url)
    with nodes.client() as client:
        client.set("planted", "good value")
        assert shell("hash").code == 0
        wait_until(
            lambda: sum(nodes.metrics(name)["replcache_state_checks_total"] for name in nodes.names) > 0,
            15,
            "the leader compares by itself",
        )
        victim = next(name for name in nodes.names if name != nodes.leader(client))
        flip_bit(nodes, victim, "planted")
        wrong = shell("hash")
        assert wrong.code == 1
        assert f"THE STATES DIFFER: {victim}" in wrong.err

        def reported() -> bool:
            return any(
                nodes.metrics(name)["replcache_state_divergences_total"] > 0
                and nodes.metrics(name)["replcache_state_diverged_nodes"] == 1
                for name in nodes.names
            )

        wait_until(reported, 15, "the leader's counter")
        leader = nodes.leader(client)
        assert f"nodes={victim}" in nodes.log(leader).replace('"', "").replace("\x1b[0m", "")
        client.set("planted", "new value")
        wait_until(lambda: shell("hash").code == 0, 20, "a new value repairs it")


def test_a_damaged_file_is_refused(nodes: ProcessCluster, tmp_path: Path) -> None:
    shell = Shell(tmp_path, nodes.url)
    with nodes.client() as client:
        client.set("some", "data")
    assert shell("snapshot", "save", "good.rcsnap", "--node", "n2").code == 0
    data = bytearray((tmp_path / "good.rcsnap").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.rcsnap").write_bytes(data)
    refused = shell("snapshot", "info", "bad.rcsnap")
    assert refused.code == 7
    assert "checksum" in refused.err
