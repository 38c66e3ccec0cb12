"""A node that was taken in again remembers it on its disk, when there is room."""

import errno
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from replcache.constants import DISK_FULL_RETRY_S
from replcache.raft.disk import DiskFile, OpenMode, OsDisk
from replcache.raft.identity import Identity
from replcache.raft.membership import encode_configuration
from replcache.raft.node_peers import NodePeers
from replcache.raft.port import Member

MEMBERS = (Member("n1", "127.0.0.1:1", "n1:1", 7),)


class SmallDisk(OsDisk):
    """Creates nothing while its error is set; counts how often it was asked."""

    def __init__(self) -> None:
        self.error = 0
        self.asked = 0

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        self.asked += mode == "create"
        if mode == "create" and self.error:
            raise OSError(self.error, "injected")
        return super().open(path, mode)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE])
def test_a_rejoin_that_finds_no_room_is_remembered_later(tmp_path: Path, error: int) -> None:
    """It raised out of the pump, which stops a node that had just been taken in again."""
    disk, time = SmallDisk(), [100.0]
    identity = Identity.open(disk, str(tmp_path), b"test", "n1", random.Random(1))
    engine = SimpleNamespace(
        is_bootstrapped=False, is_recognised=True, configurations=SimpleNamespace(current=MEMBERS)
    )
    node = SimpleNamespace(
        engine=engine,
        clock=SimpleNamespace(now=lambda: time[0]),
        storage=SimpleNamespace(identity=identity),
        config=SimpleNamespace(name="n1"),
    )
    peers = cast(Any, SimpleNamespace(_node=node, _remember_at=float("-inf")))
    disk.error, asked = error, disk.asked
    for _ in range(5):
        NodePeers.remember_rejoin(peers)
    assert disk.asked == asked + 1, "the pump runs many times a second"
    assert not engine.is_bootstrapped
    assert identity.bootstrap is None
    disk.error = 0
    time[0] += DISK_FULL_RETRY_S
    NodePeers.remember_rejoin(peers)
    assert engine.is_bootstrapped
    assert identity.bootstrap == encode_configuration(MEMBERS)
