"""A disk in memory whose power can be cut: the Disk of replcache/raft/disk.py for tests and the simulator.

What it models:
    * a write is in the page cache at once and on the medium only after fdatasync; when the power goes, every
      512-byte sector of every unsynced write is there or not, independently;
    * created, renamed and unlinked names are on the medium only after fsync_dir; when the power goes, each
      unsynced change of a directory happened or not, independently (what happened, happened in order);
    * a failed fdatasync drops the dirty pages: reading still shows them, later syncs succeed without them,
      and forget_cache() or a power cut reveals the truth (fsyncgate);
    * a full disk takes a part of a write and then says ENOSPC;
    * flipped bits; locks that end with the process.

What it does not: names are lost only as whole changes; mkdir is durable at once.

    disk.kill()        the process dies: page cache stays, open files and locks go
    disk.power_cut(rng)  as kill(), and what was not synced is decided by the random generator
    disk.stop_before = n  the n-th changing operation raises PowerCut instead, and so do all after it
"""

import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from replcache.raft.disk import DiskFile, DiskLock, OpenMode

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """Raised by the operation at which the machine stops. Not an Exception: nothing may survive it."""


@dataclass(slots=True)
class _Node:
    """A file's contents, independent of its names.

    Invariant: without a failed sync, applying `pending` to `medium` gives `cache`.
    """

    cache: bytearray = field(default_factory=bytearray)
    medium: bytearray = field(default_factory=bytearray)
    # (offset, data): one sector or less of a write; (size, None): truncation or growth.
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


# One unsynced change of a directory: (directory, name that goes or "", name that comes or "", its file).
_NameChange = tuple[str, str, str, _Node | None]


def _apply(target: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if offset <= len(target):
            del target[offset:]
        else:
            target.extend(bytes(offset - len(target)))
        return
    if offset > len(target):
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


class SimFile:
    """An open file of a SimDisk; dies with the process that opened it."""

    def __init__(self, disk: "SimDisk", path: str, node: _Node, writable: bool) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._writable = writable
        self._life = disk.life
        self._closed = False

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        self._changing("write")
        data = b"".join(buffers)
        room = self._disk.room(max(0, offset + len(data) - len(self._node.cache)))
        fits = data[: len(data) - room]
        at = 0
        while at < len(fits):
            size = SECTOR_BYTES - (offset + at) % SECTOR_BYTES
            self._change(offset + at, fits[at : at + size])
            at += size
        if room:
            raise OSError(errno.ENOSPC, "the simulated disk is full")

    def read(self, offset: int, size: int) -> bytes:
        self._check()
        self._disk.count_read(self._path)
        return bytes(self._node.cache[offset : offset + size])

    def fdatasync(self) -> None:
        node = self._node
        try:
            self._changing("fdatasync")
        except OSError:
            node.pending.clear()
            raise
        for change in node.pending:
            _apply(node.medium, *change)
        node.pending.clear()

    def size(self) -> int:
        self._check()
        return len(self._node.cache)

    def truncate(self, size: int) -> None:
        self._changing("truncate")
        self._change(size, None)

    def allocate(self, offset: int, length: int) -> None:
        self._changing("allocate")
        growth = offset + length - len(self._node.cache)
        if growth > 0:
            if self._disk.room(growth):
                raise OSError(errno.ENOSPC, "the simulated disk is full")
            self._change(offset + length, None)

    def forget_cache(self) -> None:
        self.fdatasync()
        self._node.cache[:] = self._node.medium

    def close(self) -> None:
        self._closed = True

    def _change(self, offset: int, data: bytes | None) -> None:
        _apply(self._node.cache, offset, data)
        self._node.pending.append((offset, data))

    def _check(self) -> None:
        if self._closed or self._life != self._disk.life:
            raise OSError(errno.EBADF, f"{self._path}: file of an earlier life")

    def _changing(self, operation: str) -> None:
        self._check()
        if not self._writable:
            raise OSError(errno.EBADF, f"{self._path}: opened for reading")
        self._disk.changing(operation, self._path)


class SimLock:
    def __init__(self, disk: "SimDisk", path: str) -> None:
        self._disk = disk
        self._path = path
        self._life = disk.life

    def close(self) -> None:
        if self._life == self._disk.life:
            self._disk.locks.discard(self._path)
        self._life = -1


class SimDisk:
    """See the module. One SimDisk is the disk of one machine.

    Attributes:
        life: counts the processes that used the disk.
        operations: changing operations so far. stop_before: the one that does not happen any more.
        capacity_bytes: sum of the file sizes that fits; None: no limit.
        fault: called before each changing operation with (operation, path); raises OSError to inject one.
            Operations: write, fdatasync, truncate, allocate, create, rename, unlink, fsync_dir.
    """

    def __init__(self) -> None:
        self.life = 1
        self.operations = 0
        self.reads = 0
        self.stop_before: int | None = None
        self.capacity_bytes: int | None = None
        self.fault: Callable[[str, str], None] | None = None
        self.locks: set[str] = set()
        self._directories: set[str] = {"", "/"}
        self._names: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._name_changes: list[_NameChange] = []

    # --- the Disk protocol ---

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        node = self._names.get(path)
        if mode == "create":
            self._require_directory(path)
            self.changing("create", path)
            if node is None:
                node = _Node()
                self._rename_entry("", path, node)
            else:
                _apply(node.cache, 0, None)
                node.pending.append((0, None))
        elif node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return SimFile(self, path, node, writable=mode != "read")

    def rename(self, old: str, new: str) -> None:
        self.changing("rename", new)
        node = self._names.get(old)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        assert _parent(old) == _parent(new), "renames stay within a directory"
        self._rename_entry(old, new, node)

    def unlink(self, path: str) -> None:
        self.changing("unlink", path)
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self._rename_entry(path, "", None)

    def exists(self, path: str) -> bool:
        return path in self._names or path in self._directories

    def listdir(self, path: str) -> list[str]:
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        start = path + "/"
        below = [*self._names, *self._directories]
        return sorted(
            name[len(start) :] for name in below if name.startswith(start) and _parent(name) == path
        )

    def mkdir(self, path: str) -> None:
        while path:
            self._directories.add(path)
            path = _parent(path)

    def fsync_dir(self, path: str) -> None:
        self.changing("fsync_dir", path)
        rest = []
        for change in self._name_changes:
            if change[0] == path:
                _apply_name(self._durable_names, change)
            else:
                rest.append(change)
        self._name_changes = rest

    def lock(self, path: str) -> DiskLock:
        self._require_directory(path)
        if path in self.locks:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by another process", path)
        self.locks.add(path)
        if path not in self._names:
            # A lock file without durable name is made anew at the next start.
            self._rename_entry("", path, _Node())
        return SimLock(self, path)

    # --- crashes and faults ---

    def kill(self) -> None:
        """The process dies (kill -9): nothing that it wrote is lost, its files and locks are closed."""
        self.life += 1
        self.locks.clear()
        self.stop_before = None

    def power_cut(self, rng: random.Random) -> None:
        """The machine stops; each unsynced sector and name change is kept with a probability drawn first."""
        keep = rng.choice((0.0, 1.0, 0.5, rng.random()))
        self.power_cut_with([rng.random() < keep for _ in range(self.unsynced())])

    def unsynced(self) -> int:
        """How many sectors and name changes a power cut decides about."""
        return sum(len(node.pending) for node in self._all_nodes()) + len(self._name_changes)

    def power_cut_with(self, kept: Sequence[bool]) -> None:
        """As power_cut, with one decision for each unsynced thing, in a fixed order."""
        decisions = iter(kept)
        for node in self._all_nodes():
            for change in node.pending:
                if next(decisions):
                    _apply(node.medium, *change)
        for name_change in self._name_changes:
            if next(decisions):
                _apply_name(self._durable_names, name_change)
        self._name_changes.clear()
        self._names = dict(self._durable_names)
        for node in self._names.values():
            node.pending.clear()
            node.cache = bytearray(node.medium)
        self.kill()

    def clone(self) -> "SimDisk":
        """An independent copy of contents and unsynced changes; no open files, locks or faults."""
        copies: dict[int, _Node] = {}

        def copy(node: _Node) -> _Node:
            if id(node) not in copies:
                copies[id(node)] = _Node(bytearray(node.cache), bytearray(node.medium), list(node.pending))
            return copies[id(node)]

        other = SimDisk()
        other._directories = set(self._directories)
        other._names = {path: copy(node) for path, node in self._names.items()}
        other._durable_names = {path: copy(node) for path, node in self._durable_names.items()}
        other._name_changes = [
            (directory, old, new, None if node is None else copy(node))
            for directory, old, new, node in self._name_changes
        ]
        return other

    def flip_bit(self, path: str, bit: int) -> None:
        """Damages the medium (and the page cache); bit counts from the start of the file."""
        node = self._names[path]
        node.cache[bit // 8] ^= 1 << bit % 8
        if bit // 8 < len(node.medium):
            node.medium[bit // 8] ^= 1 << bit % 8

    def contents(self, path: str) -> bytes:
        return bytes(self._names[path].cache)

    def put(self, path: str, data: bytes) -> None:
        """Makes the file have these bytes, durably, as if it had always been so."""
        node = _Node(bytearray(data), bytearray(data))
        self._names[path] = self._durable_names[path] = node

    def files(self) -> list[str]:
        return sorted(self._names)

    # --- for files and locks ---

    def changing(self, operation: str, path: str) -> None:
        if self.stop_before is not None and self.operations + 1 >= self.stop_before:
            raise PowerCut(f"before operation {self.operations + 1}: {operation} {path}")
        self.operations += 1
        if self.fault is not None:
            self.fault(operation, path)

    def count_read(self, path: str) -> None:
        self.reads += 1

    def room(self, growth: int) -> int:
        """How many of `growth` more bytes do not fit."""
        if self.capacity_bytes is None or growth <= 0:
            return 0
        used = sum(len(node.cache) for node in self._names.values())
        return min(growth, max(0, used + growth - self.capacity_bytes))

    def _rename_entry(self, old: str, new: str, node: _Node | None) -> None:
        change = (_parent(new or old), old, new, node)
        _apply_name(self._names, change)
        self._name_changes.append(change)

    def _require_directory(self, path: str) -> None:
        if _parent(path) not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)

    def _all_nodes(self) -> list[_Node]:
        nodes: dict[int, _Node] = {}
        for node in [*self._durable_names.values(), *self._names.values()]:
            nodes[id(node)] = node
        for change in self._name_changes:
            if change[3] is not None:
                nodes[id(change[3])] = change[3]
        return list(nodes.values())


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _apply_name(names: dict[str, _Node], change: _NameChange) -> None:
    _, old, new, node = change
    if old:
        names.pop(old, None)
    if new:
        assert node is not None, "a name that comes has a file"
        names[new] = node
