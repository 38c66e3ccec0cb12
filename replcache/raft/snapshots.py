"""Snapshots of the state machine on the disk: writing, receiving from a leader, serving, loading.

A snapshot becomes visible by rename, after every byte of it is on the disk; its name carries index and term,
so that an older one that finishes late never replaces a newer one. The newest two are kept. Whatever is
unreadable is refused: the node never starts from nothing, or from something older, because of a damaged
file.

Everything here blocks on files. Methods may run in worker threads, with these rules: SnapshotWriter and
SnapshotReceiver belong to one thread at a time; latest(), open_raw() and load() may be called from any
thread at any time; several writers and receivers may be at work at once.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from replcache.errors import CorruptSnapshot, StorageError
from replcache.raft.disk import Disk, DiskFile, storage_error
from replcache.raft.failpoints import fail_point
from replcache.raft.snapshot_format import (
    SnapshotEncoder,
    SnapshotHeader,
    check_file,
    corrupt,
    read_chunks,
    read_header,
)

SUFFIX = ".snapshot"
TEMPORARY_SUFFIX = ".tmp"
KEPT_SNAPSHOTS = 2
# The log shares the disk: what one fdatasync has to flush is kept small, so that the log's never waits long.
SYNC_EVERY_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot in the store. (index, term): last entry in it; size: bytes of the file."""

    index: int
    term: int
    configuration: bytes
    cluster_id: bytes
    size: int
    path: str


class SnapshotFile:
    """An open snapshot file. Stays readable when newer ones replace it, also after it was deleted."""

    def __init__(self, file: DiskFile, info: SnapshotInfo) -> None:
        self._file = file
        self.info = info
        self.size = info.size

    def read(self, offset: int, size: int) -> bytes:
        """Raw bytes of the file, as a follower receives them."""
        return self._file.read(offset, size)

    def chunks(self) -> Iterator[bytes]:
        """The state's chunks, checked again while read. Raises CorruptSnapshot, OSError."""
        return read_chunks(self._file, self.info.path)

    def close(self) -> None:
        """May be called twice."""
        self._file.close()


class SnapshotStore:
    """The snapshots of one data directory. See the module for threads."""

    def __init__(self, disk: Disk, directory: str, cluster_id: bytes) -> None:
        self._disk = disk
        self._directory = directory
        self._cluster_id = cluster_id
        self._numbers = count(1)
        self._receiver: SnapshotReceiver | None = None

    @classmethod
    def open(cls, disk: Disk, directory: str, cluster_id: bytes) -> "SnapshotStore":
        """Makes the directory if it is missing, and removes what interrupted writers left behind.

        Raises:
            StorageError: the directory can't be used.
        """
        try:
            disk.mkdir(directory)
            for name in disk.listdir(directory):
                if name.endswith(TEMPORARY_SUFFIX):
                    disk.unlink(f"{directory}/{name}")
            # A rename whose directory sync was interrupted becomes durable before anybody relies on it.
            disk.fsync_dir(directory)
        except OSError as error:
            raise StorageError(f"{directory}: the snapshots can't be used: {error}") from error
        return cls(disk, directory, cluster_id)

    def latest(self) -> SnapshotInfo | None:
        """The newest snapshot; None when there is none. Checks its header only.

        Raises:
            CorruptSnapshot: the newest one is damaged; an older one is no substitute, because the log may
                have been compacted behind it.
            StorageError: of another cluster, another version, or not readable. TryLater: out of files.
        """
        path = self._directory
        try:
            found = self._list()
            if not found:
                return None
            index, term, name = found[-1]
            path = f"{self._directory}/{name}"
            file = self._disk.open(path, "read")
            try:
                header, _ = read_header(file, path)
                size = file.size()
            finally:
                file.close()
        except OSError as error:
            raise storage_error(f"{path}: the snapshot can't be read", error) from error
        self._require(header, index, term, path)
        return SnapshotInfo(index, term, header.configuration, header.cluster_id, size, path)

    def load(self, info: SnapshotInfo) -> SnapshotFile:
        """Opens a snapshot after reading and checking all of it; its chunks() may then be used.

        Raises:
            CorruptSnapshot: names file, offset and what to do.
            StorageError: not readable. TryLater: out of files.
        """
        opened = self.open_raw(info)
        try:
            check_file(opened._file, info.path)
        except OSError as error:
            opened.close()
            raise StorageError(f"{info.path}: the snapshot can't be read: {error}") from error
        except BaseException:
            opened.close()
            raise
        return opened

    def open_raw(self, info: SnapshotInfo) -> SnapshotFile:
        """Opens a snapshot for serving its bytes to followers, who check them.

        Raises:
            StorageError: not readable. TryLater: out of files.
        """
        try:
            return SnapshotFile(self._disk.open(info.path, "read"), info)
        except OSError as error:
            raise storage_error(f"{info.path}: the snapshot can't be read", error) from error

    def writer(
        self, index: int, term: int, configuration: bytes, chunks: Iterable[bytes]
    ) -> "SnapshotWriter":
        """A job that writes the state (its chunks: 1 byte to 4 MiB each) as the snapshot of (index, term)."""
        header = SnapshotHeader(self._cluster_id, index, term, configuration)
        return SnapshotWriter(self, header, chunks, self._temporary(index, term))

    def receiver(self, index: int, term: int, total: int) -> "SnapshotReceiver | None":
        """Where to put the bytes of a snapshot that a leader sends; total is the size of its file.

        The same (index, term, total) as before goes on where it stopped, also from another leader: should
        its file differ, the checksum over the whole finds out. Another one abandons the unfinished one.

        Returns:
            None when the store holds this snapshot or a newer one already.
        Raises:
            StorageError: the directory can't be read. TryLater: out of files.
        """
        try:
            if self._is_superseded(index):
                return None
        except OSError as error:
            raise storage_error(f"{self._directory}: the snapshots can't be read", error) from error
        current = self._receiver
        if current is not None:
            if current.usable and (current.index, current.term, current.total) == (index, term, total):
                return current
            current.abandon()
        self._receiver = SnapshotReceiver(self, index, term, total, self._temporary(index, term))
        return self._receiver

    # --- for writer and receiver ---

    def _temporary(self, index: int, term: int) -> str:
        name = snapshot_name(index, term)
        return f"{self._directory}/{name}.{next(self._numbers)}{TEMPORARY_SUFFIX}"

    def _list(self) -> list[tuple[int, int, str]]:
        names = self._disk.listdir(self._directory)
        return sorted((*place, name) for name in names if (place := parse_snapshot_name(name)) is not None)

    def _is_superseded(self, index: int) -> bool:
        newest = self._list()
        return bool(newest) and newest[-1][0] >= index

    def _require(self, header: SnapshotHeader, index: int, term: int, path: str) -> None:
        if (header.index, header.term) != (index, term):
            what = f"the file holds the snapshot of ({header.index}, {header.term}): it was renamed or copied"
            raise corrupt(path, 0, what)
        if header.cluster_id != self._cluster_id:
            raise StorageError(
                f"{path} belongs to cluster {header.cluster_id!r}, this node to cluster {self._cluster_id!r}"
            )

    def _publish(self, temporary: str, header: SnapshotHeader, size: int) -> SnapshotInfo:
        """Gives a synced file its name; then removes what is neither newest nor second newest."""
        path = f"{self._directory}/{snapshot_name(header.index, header.term)}"
        fail_point("snapshot.before_rename")
        self._disk.rename(temporary, path)
        fail_point("snapshot.before_dir_fsync")
        try:
            self._disk.fsync_dir(self._directory)
        except OSError:
            # A name that is there counts as durable, and the log in front of it as superfluous.
            self._unlink_if_there(path)
            raise
        fail_point("snapshot.after_dir_fsync")
        for _, _, name in self._list()[:-KEPT_SNAPSHOTS]:
            self._unlink_if_there(f"{self._directory}/{name}")
        return SnapshotInfo(header.index, header.term, header.configuration, header.cluster_id, size, path)

    def _unlink_if_there(self, path: str) -> None:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            # Another writer or receiver finished at the same time and was faster.
            pass
        except OSError as error:
            raise StorageError(f"{path}: the file can't be removed: {error}") from error

    def _failure(self, path: str, error: OSError) -> StorageError:
        return storage_error(f"{path}: the snapshot can't be written", error)


class SnapshotWriter:
    """Writes one snapshot; made by SnapshotStore.writer(). run() may be called in any thread, once."""

    def __init__(
        self, store: SnapshotStore, header: SnapshotHeader, chunks: Iterable[bytes], temporary: str
    ) -> None:
        self._store = store
        self._header = header
        self._chunks = chunks
        self._temporary = temporary

    def run(self) -> SnapshotInfo | None:
        """Writes, syncs and publishes.

        Returns:
            None when the store holds this snapshot or a newer one (one was installed meanwhile).
        Raises:
            TryLater: no room, or out of files; nothing is left behind, it may be tried again.
            StorageError: the disk failed.
        """
        store = self._store
        try:
            if store._is_superseded(self._header.index):
                return None
            try:
                size = self._write()
                if not store._is_superseded(self._header.index):
                    return store._publish(self._temporary, self._header, size)
            except BaseException:
                store._unlink_if_there(self._temporary)
                raise
            store._unlink_if_there(self._temporary)
            return None
        except OSError as error:
            raise store._failure(self._temporary, error) from error

    def _write(self) -> int:
        encoder = SnapshotEncoder()
        file = self._store._disk.open(self._temporary, "create")
        try:
            synced = 0
            for piece in _pieces(encoder, self._header, self._chunks):
                file.write(encoder.offset - sum(map(len, piece)), piece)
                if encoder.offset - synced >= SYNC_EVERY_BYTES:
                    file.fdatasync()
                    synced = encoder.offset
            file.fdatasync()
        finally:
            file.close()
        return encoder.offset


def _pieces(
    encoder: SnapshotEncoder, header: SnapshotHeader, chunks: Iterable[bytes]
) -> Iterator[list[bytes]]:
    yield encoder.header(header)
    for chunk in chunks:
        yield encoder.chunk(chunk)
    yield encoder.footer()


class SnapshotReceiver:
    """Collects the bytes of one snapshot file in order; made by SnapshotStore.receiver().

    Invariant: the temporary file holds exactly the bytes [0, offset).
    """

    def __init__(self, store: SnapshotStore, index: int, term: int, total: int, temporary: str) -> None:
        self._store = store
        self._temporary = temporary
        self._file: DiskFile | None = None
        self._synced = 0
        self.index = index
        self.term = term
        self.total = total
        self.offset = 0
        self.usable = True

    @property
    def is_whole(self) -> bool:
        """All bytes are there; install() is next."""
        return self.offset == self.total

    def write(self, offset: int, data: bytes) -> int:
        """Takes the bytes if they continue what is there; returns the next offset that is wanted.

        A gap is refused, bytes that are there already are skipped: both by the returned offset.

        Raises:
            CorruptSnapshot: more bytes than announced; the transfer is abandoned.
            TryLater, StorageError: as SnapshotWriter.run; the transfer is abandoned.
        """
        assert self.usable, "the transfer was abandoned"
        if offset + len(data) > self.total:
            self.abandon()
            what = f"bytes up to {offset + len(data)} received, {self.total} announced"
            raise CorruptSnapshot(f"snapshot ({self.index}, {self.term}): {what}")
        if offset != self.offset or not data:
            return self.offset
        try:
            if self._file is None:
                self._file = self._store._disk.open(self._temporary, "create")
            self._file.write(offset, [data])
            self.offset += len(data)
            if self.offset - self._synced >= SYNC_EVERY_BYTES:
                self._file.fdatasync()
                self._synced = self.offset
        except OSError as error:
            self.abandon()
            raise self._store._failure(self._temporary, error) from error
        return self.offset

    def install(self) -> SnapshotInfo | None:
        """Checks the whole file, then makes it durable and visible. The transfer ends in every case.

        Returns:
            None when the store holds this snapshot or a newer one by now.
        Raises:
            CorruptSnapshot: what was received is damaged or not what was announced. The store is
                unchanged; the leader has to send again from offset 0.
            TryLater, StorageError: as SnapshotWriter.run.
        """
        assert self.usable, "the transfer was abandoned"
        assert self.is_whole, f"{self.offset} of {self.total} bytes are there"
        store = self._store
        try:
            if self._file is None:
                raise CorruptSnapshot(f"snapshot ({self.index}, {self.term}): an empty file was announced")
            header = check_file(self._file, self._temporary)
            store._require(header, self.index, self.term, self._temporary)
            self._file.fdatasync()
            if store._is_superseded(self.index):
                return None
            return store._publish(self._temporary, header, self.total)
        except OSError as error:
            raise store._failure(self._temporary, error) from error
        finally:
            # After _publish the temporary name is gone; otherwise nothing of it may stay.
            self.abandon()

    def abandon(self) -> None:
        """Gives the transfer up and removes its file. May be called twice."""
        self.usable = False
        if self._file is not None:
            self._file.close()
            self._file = None
            self._store._unlink_if_there(self._temporary)


def snapshot_name(index: int, term: int) -> str:
    return f"{index:016x}-{term:016x}{SUFFIX}"


def parse_snapshot_name(name: str) -> tuple[int, int] | None:
    """(index, term); None when the name is not that of a snapshot."""
    match = re.fullmatch(r"([0-9a-f]{16})-([0-9a-f]{16})\.snapshot", name)
    return (int(match[1], 16), int(match[2], 16)) if match else None
