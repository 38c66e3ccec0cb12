"""The seam between the storage layer and files: a small Protocol, and the operating system behind it.

No thread and no asyncio lives here; every call blocks and is made from a worker thread or at start. The
simulator has its own Disk (tests/helpers/sim_disk.py) whose crashes lose what was not synced.

What the rest of the storage layer relies on:
    * write() writes everything or raises; what a failed write left behind is unknown;
    * after fdatasync() has returned, the bytes of the file and its size survive a power loss;
    * a created, renamed or unlinked name survives a power loss only after fsync_dir() of its directory;
    * rename() replaces an existing target atomically; open files stay readable after rename and unlink;
    * bytes that were never written read as zeros, never as old contents of the device.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Literal, Protocol

from replcache.errors import StorageError

# Files hold users' values: nobody else on the machine reads them.
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
# Linux refuses more buffers than this in one call (IOV_MAX).
BUFFERS_PER_WRITE_MAX = 1024

# "read": existing file, read only. "append": existing file, read and write. "create": new or emptied file.
OpenMode = Literal["read", "append", "create"]

# Out of blocks, out of quota, beyond RLIMIT_FSIZE: space may come back, nothing is broken.
DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


# No descriptor left in the process or on the machine: nothing is broken, some are closed sooner or later.
OUT_OF_FILES_ERRORS = frozenset({errno.EMFILE, errno.ENFILE})


class TryLater(StorageError):
    """Something is used up, nothing is broken: what was tried doesn't count, and may be tried again."""


class DiskFull(TryLater):
    """There is no room for the write. Nothing of it counts; it may be tried again when there is room."""

    reason = "DISK_FULL"


class OutOfFiles(TryLater):
    """No file can be opened now; it may be tried again when others were closed."""

    reason = "OUT_OF_FILES"


def storage_error(what: str, error: OSError) -> StorageError:
    """The error of the kind that says whether it may be tried again, to be raised from `error`."""
    if error.errno in DISK_FULL_ERRORS:
        return DiskFull(f"{what}: no room: {error}")
    if error.errno in OUT_OF_FILES_ERRORS:
        return OutOfFiles(f"{what}: out of file descriptors: {error}")
    return StorageError(f"{what}: {error}")


class DiskFile(Protocol):
    """One open file; positions and sizes in bytes."""

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """Writes the buffers one after the other from offset on, all of them or raises OSError."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Up to size bytes; fewer only at the end of the file."""
        ...

    def fdatasync(self) -> None: ...

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def allocate(self, offset: int, length: int) -> None:
        """Reserves room (reads as zeros, grows the file), so that writing there can't run out of space.

        A file system that can't do it does nothing. Raises OSError(ENOSPC) when there is no room.
        """
        ...

    def forget_cache(self) -> None:
        """Makes later reads come from the device, as far as the system can.

        After a failed fsync Linux marks the pages clean and keeps showing what never reached the disk
        (https://www.usenix.org/conference/atc20/presentation/rebello): a restarted process would trust it.
        """
        ...

    def close(self) -> None: ...


class DiskLock(Protocol):
    def close(self) -> None:
        """Gives the lock back; may be called twice."""
        ...


class Disk(Protocol):
    """Files by path. Every method raises OSError as the operating system does."""

    def open(self, path: str, mode: OpenMode) -> DiskFile: ...

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def mkdir(self, path: str) -> None:
        """Makes the directory and its missing parents, and syncs their names; existing is fine."""
        ...

    def fsync_dir(self, path: str) -> None: ...

    def lock(self, path: str) -> DiskLock:
        """Takes an exclusive lock that ends with the process; raises BlockingIOError when it is taken."""
        ...


class OsFile:
    """DiskFile on a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        for start in range(0, len(buffers), BUFFERS_PER_WRITE_MAX):
            part = buffers[start : start + BUFFERS_PER_WRITE_MAX]
            wanted = sum(map(len, part))
            written = os.pwritev(self._descriptor, part, offset)
            offset += written
            if written != wanted:
                offset = self._write_rest(b"".join(part)[written:], offset)

    def _write_rest(self, rest: bytes, offset: int) -> int:
        # A short write is how Linux announces a full disk: the next call says why.
        view = memoryview(rest)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            if written == 0:
                raise OSError(errno.EIO, "write() wrote nothing")
            view = view[written:]
            offset += written
        return offset

    def read(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = os.pread(self._descriptor, size, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fdatasync(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def allocate(self, offset: int, length: int) -> None:
        try:
            os.posix_fallocate(self._descriptor, offset, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise

    def forget_cache(self) -> None:
        os.fdatasync(self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OsLock:
    """flock on a file that is never removed: removing it would let two processes lock two files."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


OPEN_FLAGS: dict[OpenMode, int] = {
    "read": os.O_RDONLY,
    "append": os.O_RDWR,
    "create": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
}


class OsDisk:
    """The file system of this machine."""

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        return OsFile(os.open(path, OPEN_FLAGS[mode] | os.O_CLOEXEC, FILE_MODE))

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: str) -> None:
        path = os.path.abspath(path)
        parent = os.path.dirname(path)
        if not os.path.isdir(path):
            if not os.path.isdir(parent):
                self.mkdir(parent)
            os.makedirs(path, DIRECTORY_MODE, exist_ok=True)
        # Also for an existing one: the process that made it may have died before this line.
        self.fsync_dir(parent)

    def fsync_dir(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> DiskLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return OsLock(descriptor)
