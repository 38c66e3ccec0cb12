"""A node whose disk is full: refuses writes, does not spin, goes on by itself when there is room again."""

import errno
import random
from pathlib import Path

import pytest

from replcache.clock import SystemClock
from replcache.errors import ReplcacheError
from replcache.raft.disk import DiskFile, OpenMode, OsDisk
from replcache.raft.node import RaftNode
from replcache.raft.node_config import RaftConfig
from replcache.raft.port import Member
from replcache.statemachine.commands import Command, Set
from tests.helpers.raft_cluster import free_port
from tests.helpers.wait import async_wait_until

VALUE = bytes(300_000)


class FullDisk(OsDisk):
    """Has no room for more log while is_full; counts how often it was asked."""

    def __init__(self) -> None:
        self.is_full = False
        self.asked = 0

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        file = super().open(path, mode)
        allocate = file.allocate

        def no_room(offset: int, length: int) -> None:
            self.asked += 1
            if self.is_full:
                raise OSError(errno.ENOSPC, "injected")
            allocate(offset, length)

        file.allocate = no_room  # type: ignore[method-assign]
        return file


async def test_writes_are_refused_until_there_is_room(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = RaftConfig("n1", b"test", str(tmp_path / "n1"), address, (Member("n1", address, "n1:1"),))
    disk, clock = FullDisk(), SystemClock()
    node = RaftNode(config, on_halt=lambda reason: None, disk=disk, rng=random.Random(1))
    await node.start()
    try:
        await async_wait_until(lambda: node.engine.is_leader, 10, "the node leads")

        async def write(key: bytes, timeout_s: float) -> None:
            await node.propose(Command(ops=(Set(key, VALUE),)), clock.now() + timeout_s)

        await write(b"before", 5)
        disk.is_full = True
        with pytest.raises(ReplcacheError):
            for number in range(20):
                await write(b"full %d" % number, 1)
        assert node.engine.wal.disk_full
        asked, since = disk.asked, clock.now()
        with pytest.raises(ReplcacheError):
            await write(b"refused", 0.5)
        await async_wait_until(lambda: disk.asked >= asked + 3, 5, "the node asks again")
        assert disk.asked - asked <= 2 + (clock.now() - since) / 0.1, "it spins"
        assert not node.halted
        disk.is_full = False
        await async_wait_until(lambda: not node.engine.wal.disk_full, 5, "the node notices the room")
        await write(b"after", 5)
        assert node.machine.peek(b"after") is not None
    finally:
        await node.close()
