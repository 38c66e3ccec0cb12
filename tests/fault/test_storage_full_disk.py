"""A disk that is really full (ext4 on a loop device): nothing is promised, nothing lost, it goes on alone."""

import errno
import os
from pathlib import Path

import pytest

from replcache.raft.disk import DiskFull, OsDisk
from replcache.raft.snapshots import SnapshotStore
from replcache.raft.wal import Wal
from tests.helpers.loop_disk import LoopDisk
from tests.helpers.storage_child import payload_of

pytestmark = pytest.mark.root


def open_wal(disk: LoopDisk) -> Wal:
    return Wal.open(OsDisk(), str(disk.mount_point / "wal"), segment_bytes=1 << 20, allocate_bytes=1 << 16)


def fill(path: Path) -> None:
    """Takes all the room there is, to the last block."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 4096):
            while True:
                try:
                    os.write(descriptor, bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
    finally:
        os.close(descriptor)


def append_until_full(wal: Wal) -> None:
    with pytest.raises(DiskFull):
        while wal.last_index < 5000:
            first = wal.last_index + 1
            wal.append([(i, 1, 0, payload_of(i, 1)) for i in range(first, first + 50)])
            wal.sync()


def test_log_goes_on_when_there_is_room_again(loop_disk: LoopDisk) -> None:
    wal = open_wal(loop_disk)
    wal.set_hard_state(1, None)
    wal.append([(i, 1, 0, payload_of(i, 1)) for i in range(1, 51)])
    wal.sync()
    ballast = loop_disk.mount_point / "ballast"
    fill(ballast)
    append_until_full(wal)
    assert wal.disk_full
    promised = wal.durable_index
    assert 50 <= promised < wal.last_index
    for _ in range(3):
        with pytest.raises(DiskFull):
            wal.sync()
    assert wal.durable_index == promised
    ballast.unlink()
    wal.sync()
    assert not wal.disk_full
    assert wal.durable_index == wal.last_index
    last = wal.last_index
    loop_disk.cut_power()
    wal.close()
    loop_disk.unmount()
    loop_disk.mount()
    again = open_wal(loop_disk)
    try:
        assert again.last_index == last
        for index, _, _, payload in again.entries(1, 1 << 40, 1 << 40):
            assert payload == payload_of(index, 1)
    finally:
        again.close()


def test_power_cut_while_the_disk_is_full_keeps_what_was_promised(loop_disk: LoopDisk) -> None:
    wal = open_wal(loop_disk)
    wal.set_hard_state(1, None)
    wal.append([(i, 1, 0, payload_of(i, 1)) for i in range(1, 51)])
    wal.sync()
    fill(loop_disk.mount_point / "ballast")
    append_until_full(wal)
    promised = wal.durable_index
    loop_disk.cut_power()
    wal.close()
    loop_disk.unmount()
    loop_disk.mount()
    again = open_wal(loop_disk)
    try:
        assert again.last_index >= promised
        for index, _, _, payload in again.entries(1, 1 << 40, 1 << 40):
            assert payload == payload_of(index, 1)
    finally:
        again.close()


def test_snapshot_without_room_leaves_nothing_behind(loop_disk: LoopDisk) -> None:
    store = SnapshotStore.open(OsDisk(), str(loop_disk.mount_point / "snapshots"), b"c")
    ballast = loop_disk.mount_point / "ballast"
    fill(ballast)
    chunks = [bytes([number]) * 1_000_000 for number in range(3)]
    with pytest.raises(DiskFull):
        store.writer(5, 1, b"", chunks).run()
    assert list((loop_disk.mount_point / "snapshots").iterdir()) == []
    ballast.unlink()
    info = store.writer(5, 1, b"", chunks).run()
    assert info is not None
    loaded = store.load(info)
    assert list(loaded.chunks()) == chunks
    loaded.close()
