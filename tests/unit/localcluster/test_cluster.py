"""LocalCluster: shapes, ports and files; the nodes themselves run in tests/e2e."""

import tomllib
from pathlib import Path

import pytest

from replcache.localcluster import LocalCluster, LocalClusterError, Ports


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
