"""The log on a disk that is full or fails, on a real file system with injected errors."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from replcache.errors import StorageError
from replcache.raft.disk import DiskFile, DiskFull, OpenMode, OsDisk, OsFile
from replcache.raft.wal import Wal
from tests.unit.raft.test_wal import SMALL_SEGMENT, content, entries, open_wal, segment_files


class FailingFile(OsFile):
    """Fails fdatasync or allocation on demand."""

    def __init__(self, descriptor: int, failing: dict[str, int]) -> None:
        super().__init__(descriptor)
        self.failing = failing

    def fdatasync(self) -> None:
        if "sync" in self.failing:
            raise OSError(self.failing["sync"], "injected")
        super().fdatasync()

    def allocate(self, offset: int, length: int) -> None:
        if "allocate" in self.failing:
            raise OSError(self.failing["allocate"], "injected")
        super().allocate(offset, length)

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        if "write" in self.failing:
            super().write(offset, [b"".join(buffers)[:100]])
            raise OSError(self.failing["write"], "injected")
        super().write(offset, buffers)


class FailingDisk(OsDisk):
    def __init__(self) -> None:
        self.failing: dict[str, int] = {}

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        flags = {"read": os.O_RDONLY, "append": os.O_RDWR, "create": os.O_RDWR | os.O_CREAT | os.O_TRUNC}
        return FailingFile(os.open(path, flags[mode], 0o600), self.failing)


@pytest.mark.parametrize("where", ["allocate", "write"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_keeps_the_group_and_goes_on_when_there_is_room(
    tmp_path: Path, where: str, error: int
) -> None:
    disk = FailingDisk()
    wal = Wal.open(disk, str(tmp_path / "wal"), segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.append(entries(1, 3))
    wal.sync()
    disk.failing[where] = error
    lsn = wal.append(entries(4, 200))
    for _ in range(3):
        with pytest.raises(DiskFull):
            wal.sync()
        assert wal.disk_full
        assert wal.durable_lsn < lsn
    middle = wal.durable_index
    assert middle < 203, "what does not fit the allocated room is not durable"
    disk.failing.clear()
    wal.append(entries(204, 2))
    wal.sync()
    assert not wal.disk_full
    assert wal.durable_index == 205
    expected = content(wal)
    wal.close()
    assert content(open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)) == expected


@pytest.mark.parametrize(
    ("where", "error"),
    [("sync", errno.EIO), ("sync", errno.ENOSPC), ("write", errno.EIO), ("allocate", errno.EROFS)],
)
def test_disk_failure_is_final(tmp_path: Path, where: str, error: int) -> None:
    """fsyncgate: a second fsync would report success for pages that are lost."""
    disk = FailingDisk()
    wal = Wal.open(disk, str(tmp_path / "wal"), segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.sync()
    durable = wal.durable_lsn
    disk.failing[where] = error
    wal.append(entries(1, 100))
    with pytest.raises(StorageError) as caught:
        wal.sync()
    assert not isinstance(caught.value, DiskFull)
    disk.failing.clear()
    wal.append(entries(101, 1))
    with pytest.raises(StorageError, match="must stop"):
        wal.sync()
    assert wal.durable_lsn == durable
    assert wal.durable_index == 0


def test_full_disk_is_relieved_by_compaction(tmp_path: Path) -> None:
    """Old segments go although newer records can't be written: otherwise a full disk would stay full."""
    disk = FailingDisk()
    wal = Wal.open(disk, str(tmp_path / "wal"), segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.append(entries(1, 400))
    wal.sync()
    many = len(segment_files(tmp_path))
    disk.failing["allocate"] = errno.ENOSPC
    wal.append(entries(401, 100))
    with pytest.raises(DiskFull):
        wal.sync()
    wal.compact_to(300)
    with pytest.raises(DiskFull):
        wal.sync()
    assert len(segment_files(tmp_path)) < many
    disk.failing.clear()
    wal.sync()
    expected = content(wal)
    wal.close()
    again = open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)
    again.align_to_snapshot(300, 1)
    again.compact_to(300)
    assert content(again) == expected
