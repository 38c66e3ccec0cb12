"""LocalCluster: shapes, ports and files; the nodes themselves run in tests/e2e."""

import fcntl
import os
import sys
import tomllib
from pathlib import Path

import pytest

from replcache.localcluster import LocalCluster, LocalClusterError, Ports, processes
from tests.helpers.wait import wait_until


def test_new_cluster_has_the_documented_ports(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "c")
    assert cluster.endpoints == ("127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403")
    assert cluster.layout("n2").peer_address == "127.0.0.1:7412"
    assert cluster.layout("n3").http_address == "127.0.0.1:7423"
    assert not (tmp_path / "c").exists()


def test_prepared_directory_remembers_its_shape(tmp_path: Path) -> None:
    ports = Ports(grpc=9001, peer=9101, http=9201)
    LocalCluster(tmp_path, nodes=5, ports=ports).prepare()
    again = LocalCluster(tmp_path)
    assert (again.nodes, again.ports, again.exists) == (5, ports, True)


def test_other_shape_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    LocalCluster(tmp_path, nodes=3).prepare()
    with pytest.raises(LocalClusterError, match="--wipe"):
        LocalCluster(tmp_path, nodes=5)
    with pytest.raises(LocalClusterError, match="another --directory"):
        LocalCluster(tmp_path, ports=Ports(grpc=9001))


@pytest.mark.parametrize(
    ("nodes", "ports", "expected"),
    [
        (0, Ports(), "1 to 9"),
        (10, Ports(), "1 to 9"),
        (3, Ports(grpc=7401, peer=7403), "port 7403 is wanted for grpc and for peer"),
        (3, Ports(http=65534), "65536 is not within"),
        (3, Ports(grpc=0), "0 is not within"),
    ],
)
def test_impossible_shape_is_refused(tmp_path: Path, nodes: int, ports: Ports, expected: str) -> None:
    with pytest.raises(LocalClusterError, match=expected):
        LocalCluster(tmp_path, nodes=nodes, ports=ports)


def test_unknown_node_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match="n1, n2, n3"):
        LocalCluster(tmp_path).pid("n4")


def test_configuration_names_all_members(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / 'odd "name"', nodes=3)
    cluster.prepare()
    config = tomllib.loads(cluster.layout("n2").config.read_text())
    assert config["name"] == "n2"
    assert config["data_dir"] == str(cluster.layout("n2").data)
    assert [member["name"] for member in config["members"]] == ["n1", "n2", "n3"]


def test_wipe_removes_only_a_cluster_directory(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "c")
    cluster.prepare()
    cluster.wipe()
    assert not (tmp_path / "c").exists()
    (tmp_path / "mine").mkdir()
    LocalCluster(tmp_path / "mine").wipe()
    assert (tmp_path / "mine").exists()


def test_broken_marker_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(LocalClusterError, match=r"cluster\.json"):
        LocalCluster(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        "{}",
        '{"format": 1}',
        '{"format": 1, "nodes": "3", "ports": {"grpc": 1, "peer": 11, "http": 21}}',
        '{"format": 1, "nodes": 3, "ports": [1, 11, 21]}',
        '{"format": 1, "nodes": 3, "ports": {"grpc": 1}}',
        '{"format": 1, "nodes": 3, "ports": {"grpc": "1", "peer": 11, "http": 21}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_marker_is_named(tmp_path: Path, fields: str) -> None:
    (tmp_path / "cluster.json").write_text(fields)
    with pytest.raises(LocalClusterError, match=r"cluster\.json"):
        LocalCluster(tmp_path)


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalClusterError, match=r"file/cluster\.json can't be read: Not a directory"):
        LocalCluster(tmp_path / "file")


def test_data_in_use_is_not_wiped(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "c")
    cluster.prepare()
    data = cluster.layout("n2").data
    data.mkdir()
    with (data / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LocalClusterError, match="the data of n2"):
            cluster.wipe()
    assert data.exists()
    cluster.wipe()
    assert not data.exists()


# Stands for a node: has the lock of its data, and its command line ends as that of `serve`.
NODE = """
import fcntl, pathlib, signal, sys
data = pathlib.Path(sys.argv[-1]).parent / "data"
data.mkdir()
lock = (data / "lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("record", [None, "{", '{"pid": 99999999, "started": "before", "marker": "x"}'])
def test_a_node_whose_record_is_lost_is_found_and_stopped(tmp_path: Path, record: str | None) -> None:
    """`down` left it running, and `down --wipe` deleted the data under it."""
    cluster = LocalCluster(tmp_path / "c", nodes=1)
    cluster.prepare()
    layout = cluster.layout("n1")
    command = [sys.executable, "-c", NODE, "serve", "--config", str(layout.config)]
    identity = processes.spawn_detached(command, layout.log, os.environ, command[-1])
    try:
        wait_until(lambda: b"ready" in layout.log.read_bytes(), 10, "the node is up")
        if record is not None:
            layout.process.write_text(record)
        assert cluster.running() == {"n1": identity.pid}
        with pytest.raises(LocalClusterError, match="still running: n1"):
            cluster.wipe()
        assert cluster.stop() == ("n1",)
        assert not processes.is_alive(identity)
        cluster.wipe()
    finally:
        processes.stop([identity], 0.1)
