"""Snapshots: the whole state as a stream of bytes, read while the machine goes on.

`SnapshotView` is made in an instant: the key index's runs never change, so it holds on to them, and from
then on the store keeps the old row of each key that changes (`saved`), once. The reader takes a row from the
table first and then looks whether an older one was saved: a writer saves before it writes, so the reader,
also in another thread, sees each row as it was. Everything but rows is small and copied at once (shallowly).

Stream: magic and version, then blocks of [kind u8][length u32][CRC32 u32][payload in plain form], the last
one END with the SHA-256 of all before it. Rows come in key order and everything else in a fixed order, so
that equal state gives equal bytes: that digest is the state hash. Chunks are slices of the stream at any
place.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from replcache.constants import SNAPSHOT_CHUNK_BYTES
from replcache.errors import CorruptSnapshot
from replcache.statemachine.entries import Meta, Row
from replcache.statemachine.graves import read_grave, write_grave
from replcache.statemachine.groups import read_origin, write_origin
from replcache.statemachine.guards import read_guard, write_guard
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat, require
from replcache.statemachine.keyindex import KeyIndex, merged_blocks
from replcache.statemachine.leases import read_lease, write_lease
from replcache.statemachine.lock_state import read_lock, write_lock
from replcache.statemachine.namespaces import read_namespace, write_namespace
from replcache.statemachine.plain import PlainReader, PlainWriter, read_meta, write_meta
from replcache.statemachine.sessions import (
    read_request,
    read_session,
    write_request,
    write_session,
)

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine

MAGIC: Final = b"replcache snapshot\n"
VERSION: Final = 1
_PREFIX = struct.Struct("<BII")
# Rows and bytes in a block, about.
BLOCK_ROWS: Final = 512
BLOCK_BYTES: Final = 256 * 1024

# Kinds of blocks: never reuse a number. An unknown one is refused.
END: Final = 0
HEADER: Final = 1
ROWS: Final = 2
LOCKS: Final = 3
SESSIONS: Final = 4
REQUESTS: Final = 5
ORIGINS: Final = 6
GRAVES: Final = 7
LEASES: Final = 8
GUARDS: Final = 9
NAMESPACES: Final = 10


class SnapshotView:
    """The state as it was when the view was made. Read it once, by `chunks` or `digest`; or close it.

    Attributes:
        index, revision: of the last applied entry, and of the state.
    """

    def __init__(self, machine: "StateMachine") -> None:
        self.index = machine.applied_index
        self.revision = machine.revision
        self._clock_ms = machine.clock_ms
        self._chain = machine.chain
        store = machine.store
        self._table = store.rows
        self._runs = store.index.runs()
        # Row of each key that changed since, as it was; None: there was none.
        self.saved: dict[bytes, Row | None] = {}
        self._closed = False
        self._started = False
        self._leases = machine.leases.freeze()
        self._locks = machine.locks.freeze()
        self._sessions, self._requests = machine.replies.freeze()
        self._origins = machine.groups.freeze()
        self._tag_epoch = store.tags.epoch
        self._graves = list(store.graveyard.graves)
        self._guards = machine.guards.freeze()
        self._namespaces = store.namespaces.freeze()

    @property
    def finished(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Lets go of everything; the machine stops keeping what was before. May be called twice."""
        self._closed = self._locks.finished = self._sessions.finished = True

    def chunks(self, chunk_bytes: int = SNAPSHOT_CHUNK_BYTES) -> Iterator[bytes]:
        """The stream in pieces of at most `chunk_bytes`; closes the view at its end."""
        pending = bytearray()
        digest = hashlib.sha256()
        for part in self._stream():
            digest.update(part)
            pending += part
            while len(pending) >= chunk_bytes:
                yield bytes(pending[:chunk_bytes])
                del pending[:chunk_bytes]
        pending += _block(END, digest.digest())
        for start in range(0, len(pending), chunk_bytes):
            yield bytes(pending[start : start + chunk_bytes])

    def digest(self) -> bytes:
        """SHA-256 of the state; closes the view."""
        digest = hashlib.sha256()
        for part in self._stream():
            digest.update(part)
        return digest.digest()

    def _stream(self) -> Iterator[bytes]:
        require(not self._started and not self._closed, "a snapshot view is read once")
        self._started = True
        try:
            yield MAGIC + struct.pack("<I", VERSION)
            writer = PlainWriter()
            writer.unsigned_column([self.index, self._clock_ms, self.revision, self._chain, self._tag_epoch])
            yield _block(HEADER, writer.take())
            yield from self._row_blocks()
            yield from self._other_blocks()
        finally:
            self.close()

    def _row_blocks(self) -> Iterator[bytes]:
        keys: list[bytes] = []
        rows: list[Row] = []
        size = 0
        get, saved = self._table.get, self.saved
        for block in merged_blocks(self._runs, [0] * len(self._runs), BLOCK_ROWS):
            for key in block:
                # In this order: see the module's docstring.
                row = get(key)
                if key in saved:
                    row = saved[key]
                if row is None:
                    continue
                keys.append(key)
                rows.append(row)
                size += len(key) + len(row[0])
                if len(rows) >= BLOCK_ROWS or size >= BLOCK_BYTES:
                    yield _block(ROWS, _write_rows(keys, rows))
                    keys, rows, size = [], [], 0
        if rows:
            yield _block(ROWS, _write_rows(keys, rows))

    def _other_blocks(self) -> Iterator[bytes]:
        yield from _list_blocks(NAMESPACES, self._namespaces, write_namespace)
        yield from _list_blocks(GUARDS, self._guards, write_guard)
        yield from _list_blocks(LEASES, self._leases.items(), write_lease)
        yield from _list_blocks(LOCKS, self._locks, write_lock)
        yield from _list_blocks(SESSIONS, self._sessions, write_session)
        yield from _list_blocks(REQUESTS, self._requests, write_request)
        yield from _list_blocks(ORIGINS, self._origins, write_origin)
        yield from _list_blocks(GRAVES, self._graves, write_grave)


ItemT = TypeVar("ItemT")


def _list_blocks(
    kind: int, items: Iterable[ItemT], write: Callable[[PlainWriter, ItemT], None]
) -> Iterator[bytes]:
    writer = PlainWriter()
    for item in items:
        write(writer, item)
        if writer.size >= BLOCK_BYTES:
            yield _block(kind, writer.take())
    if writer.size:
        yield _block(kind, writer.take())


def _block(kind: int, payload: bytes) -> bytes:
    return _PREFIX.pack(kind, len(payload), zlib.crc32(payload)) + payload


def _write_rows(keys: list[bytes], rows: list[Row]) -> bytes:
    """In columns. Metas are written once each, in the order in which rows first have them."""
    writer = PlainWriter()
    writer.unsigned(len(rows))
    writer.blob_column(keys)
    writer.blob_column([row[0] for row in rows])
    writer.unsigned_column([row[1] for row in rows])
    writer.unsigned_column([row[2] for row in rows])
    writer.unsigned_column([row[3] for row in rows])
    # By value, not by identity: which rows share one tuple differs between nodes.
    numbers: dict[Meta, int] = {}
    column = [0 if row[4] is None else numbers.setdefault(row[4], len(numbers) + 1) for row in rows]
    writer.unsigned(len(numbers))
    for meta in numbers:
        write_meta(writer, meta)
    writer.unsigned_column(column)
    return writer.take()


def _read_rows(reader: PlainReader, table: dict[bytes, Row], keys_in_order: list[bytes]) -> None:
    count = reader.unsigned()
    keys = reader.blob_column(count)
    values = reader.blob_column(count)
    creates, mods, versions = (reader.unsigned_column(count) for _ in range(3))
    metas: list[Meta | None] = [None]
    metas += [read_meta(reader) for _ in range(reader.unsigned())]
    # A revision made in one write is one number object in memory, as it was before.
    for key, value, create, mod, version, meta in zip(
        keys, values, creates, mods, versions, reader.unsigned_column(count), strict=True
    ):
        table[key] = (value, create, create if mod == create else mod, version, metas[meta])
    keys_in_order += keys


# --- restoring ---


def restore_into(machine: "StateMachine", chunks: Iterable[bytes]) -> None:
    """Fills an empty machine from a snapshot's chunks.

    Raises:
        CorruptSnapshot: damaged, cut short, or not a snapshot at all.
        UnknownFormat: made by a later version.
    """
    keys_in_order: list[bytes] = []
    table = machine.store.rows
    # Everything but rows, by kind; read by the function that _READERS has for it.
    found: dict[int, list[Any]] = {kind: [] for kind in _READERS}
    tag_epoch = 0
    for kind, payload in _read_blocks(chunks):
        reader = PlainReader(payload)
        if kind == HEADER:
            index, clock_ms, revision, chain, tag_epoch = reader.unsigned_column(5)
            machine.load_header(index, clock_ms, revision, chain)
        elif kind == ROWS:
            _read_rows(reader, table, keys_in_order)
        elif kind in _READERS:
            while not reader.at_end:
                found[kind].append(_READERS[kind](reader))
        else:
            raise UnknownFormat(f"snapshot block of kind {kind} is not known to this version")
        if not reader.at_end:
            raise InvariantBroken(f"snapshot block of kind {kind} is longer than what it holds")
    machine.guards.load(found[GUARDS])
    machine.leases.load(found[LEASES])
    machine.store.namespaces.load(found[NAMESPACES])
    machine.store.load(KeyIndex.from_sorted(table, keys_in_order), tag_epoch, found[GRAVES])
    machine.locks.load(found[LOCKS])
    machine.replies.load(found[SESSIONS], found[REQUESTS])
    machine.groups.load(found[ORIGINS])


_READERS: Final[dict[int, Callable[[PlainReader], object]]] = {
    NAMESPACES: read_namespace,
    GUARDS: read_guard,
    LEASES: read_lease,
    LOCKS: read_lock,
    SESSIONS: read_session,
    REQUESTS: read_request,
    ORIGINS: read_origin,
    GRAVES: read_grave,
}


def _read_blocks(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Blocks before END; checks magic, version and digest."""
    buffer = bytearray()
    digest = hashlib.sha256()
    source = iter(chunks)

    def take(size: int) -> bytes:
        while len(buffer) < size:
            chunk = next(source, None)
            if chunk is None:
                raise CorruptSnapshot(f"the snapshot ends early: {size - len(buffer)} bytes are missing")
            buffer.extend(chunk)
        data = bytes(buffer[:size])
        del buffer[:size]
        return data

    head = take(len(MAGIC) + 4)
    if not head.startswith(MAGIC):
        raise CorruptSnapshot("this is not a snapshot: its first bytes are wrong")
    version = struct.unpack("<I", head[len(MAGIC) :])[0]
    if version != VERSION:
        raise UnknownFormat(f"snapshot of version {version}; this node knows {VERSION}")
    digest.update(head)
    while True:
        prefix = take(_PREFIX.size)
        kind, size, checksum = _PREFIX.unpack(prefix)
        payload = take(size)
        # Before anything is made of it; the digest at the end can only say so when it is too late.
        if zlib.crc32(payload) != checksum:
            raise CorruptSnapshot(f"a block of kind {kind}, {size} bytes: its checksum does not fit")
        if kind == END:
            break
        digest.update(prefix)
        digest.update(payload)
        yield kind, payload
    if payload != digest.digest():
        raise CorruptSnapshot("the snapshot's SHA-256 does not fit its content")
    if buffer or next(source, None) is not None:
        raise CorruptSnapshot("the snapshot goes on behind its end")
