"""The data directory's identity: whose it is, how often it started, and that two processes never share it."""

import random
from pathlib import Path

import pytest

from replcache.errors import StorageError
from replcache.raft.disk import OsDisk
from replcache.raft.identity import Identity

CLUSTER = b"cluster-a"


def open_identity(path: Path, cluster_id: bytes = CLUSTER, node_name: str = "n1", seed: int = 1) -> Identity:
    return Identity.open(OsDisk(), str(path / "data"), cluster_id, node_name, random.Random(seed))


def test_first_start_draws_an_incarnation_that_stays(tmp_path: Path) -> None:
    first = open_identity(tmp_path)
    assert first.fresh
    assert first.boot == 1
    assert 0 < first.incarnation < 2**63
    assert first.bootstrap is None
    first.close()
    second = open_identity(tmp_path, seed=2)
    assert not second.fresh
    assert (second.boot, second.incarnation) == (2, first.incarnation)


def test_bootstrap_is_remembered_and_never_changes(tmp_path: Path) -> None:
    first = open_identity(tmp_path)
    first.set_bootstrap(b"members")
    first.set_bootstrap(b"members")
    with pytest.raises(AssertionError):
        first.set_bootstrap(b"others")
    first.close()
    assert open_identity(tmp_path).bootstrap == b"members"


def test_empty_bootstrap_is_not_no_bootstrap(tmp_path: Path) -> None:
    first = open_identity(tmp_path)
    first.set_bootstrap(b"")
    first.close()
    assert open_identity(tmp_path).bootstrap == b""


def test_second_process_on_one_directory_is_refused(tmp_path: Path) -> None:
    first = open_identity(tmp_path)
    with pytest.raises(StorageError, match="another process"):
        open_identity(tmp_path)
    first.close()
    first.close()
    assert open_identity(tmp_path).boot == 2, "the refused start must not count"


def test_other_cluster_or_node_is_refused_naming_both(tmp_path: Path) -> None:
    open_identity(tmp_path).close()
    with pytest.raises(StorageError, match=r"cluster 'cluster-a'.*cluster 'cluster-b'"):
        open_identity(tmp_path, cluster_id=b"cluster-b")
    with pytest.raises(StorageError, match=r"node 'n1'.*'n2'"):
        open_identity(tmp_path, node_name="n2")
    with pytest.raises(StorageError, match="ff00"):
        open_identity(tmp_path, cluster_id=b"\xff\x00")
    assert open_identity(tmp_path).boot == 2, "refused starts gave the lock back and did not count"


def test_data_without_identity_is_refused(tmp_path: Path) -> None:
    open_identity(tmp_path).close()
    (tmp_path / "data" / "wal").mkdir()
    (tmp_path / "data" / "identity").unlink()
    with pytest.raises(StorageError, match="missing"):
        open_identity(tmp_path)


def test_every_flip_and_every_truncation_is_refused(tmp_path: Path) -> None:
    first = open_identity(tmp_path)
    first.set_bootstrap(b"members")
    first.close()
    path = tmp_path / "data" / "identity"
    good = path.read_bytes()
    damaged = [good[:size] for size in range(len(good))] + [good + b"\0"]
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(StorageError, match="damaged"):
            open_identity(tmp_path)
        assert path.read_bytes() == data, "a refused file is left for the operator to look at"
    path.write_bytes(good)
    assert open_identity(tmp_path).boot == 2
