"""A disk that misbehaves on demand, for fault drills on real processes (config: fault_injection).

Slow, full and failing as real disks are: a full disk takes part of a write and then refuses; a sync that
failed has lost what it was asked to sync, and says OK when asked again (which nobody may do).
"""

import errno
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from replcache.raft.disk import FILE_MODE, OPEN_FLAGS, DiskFile, OpenMode, OsDisk, OsFile


@dataclass
class DiskFaults:
    """What the disk does wrong from now on. Read by worker threads, set by the loop: single assignments.

    Attributes:
        sync_delay_s: added to each fdatasync.
        fail_syncs: the next so many fdatasync calls fail with EIO.
        is_full: writes that would grow a file fail with ENOSPC.
        skip_syncs: fdatasync says that it is done, and did nothing. No node survives that: it is the control
            of power cut tests, which must see writes lost.
    """

    sync_delay_s: float = 0.0
    fail_syncs: int = 0
    is_full: bool = False
    skip_syncs: bool = False


class FaultyFile(OsFile):
    """An OsFile that asks DiskFaults first."""

    def __init__(self, descriptor: int, faults: DiskFaults) -> None:
        super().__init__(descriptor)
        self._faults = faults

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        if self._faults.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(offset, buffers)

    def allocate(self, offset: int, length: int) -> None:
        if self._faults.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(offset, length)

    def fdatasync(self) -> None:
        if self._faults.sync_delay_s:
            threading.Event().wait(self._faults.sync_delay_s)
        if self._faults.fail_syncs > 0:
            self._faults.fail_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not self._faults.skip_syncs:
            super().fdatasync()


class FaultyDisk(OsDisk):
    """The file system of this machine, with DiskFaults in front of it."""

    def __init__(self, faults: DiskFaults) -> None:
        self._faults = faults

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        return FaultyFile(os.open(path, OPEN_FLAGS[mode] | os.O_CLOEXEC, FILE_MODE), self._faults)
