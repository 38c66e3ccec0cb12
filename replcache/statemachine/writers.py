"""How operations on keys change the table: directly, or into an overlay that takes effect as a whole.

An operation is a function of (machine, writer, op). It reads and writes through the writer only, so the same
function serves single operations and atomic batches, and nothing ever has to be undone.
"""

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Protocol

from replcache.statemachine.entries import TAGS, Row
from replcache.statemachine.events import Event, EventKind
from replcache.statemachine.namespaces import ENTRY_OVERHEAD_BYTES
from replcache.statemachine.store import Store
from replcache.statemachine.turn import Turn


class Writer(Protocol):
    """Attributes:
    clock_ms: cluster time of the operation.
    revision: what a change made by this operation gets.
    """

    @property
    def clock_ms(self) -> int: ...

    @property
    def revision(self) -> int: ...

    @property
    def settled_revision(self) -> int:
        """What an operation that changed nothing answers: the revision of what it saw."""
        ...

    @property
    def tag_epoch(self) -> int:
        """What an entry notes when tags are put on it now (tags.py)."""
        ...

    def get(self, key: bytes) -> Row | None:
        """The living row."""
        ...

    def peek(self, key: bytes) -> Row | None:
        """The living row, without burying a dead one; for operations that meet many."""
        ...

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        """Keys >= start of all rows, also of dead ones, in byte order."""
        ...

    @property
    def grown_bytes(self) -> int:
        """What the changes that have not taken effect yet will add to the store, at most."""
        ...

    def grown_bytes_beside(self, key: bytes) -> int:
        """The same of those in the key's namespace; for a key in none: of those in none."""
        ...

    def put(self, key: bytes, row: Row, kind: EventKind = EventKind.PUT) -> None: ...

    def remove(self, key: bytes, kind: EventKind = EventKind.DELETE) -> None:
        """`key` must be living."""
        ...

    def invalidate_tags(self, tags: Sequence[str]) -> int:
        """Kills all entries that have one of the tags; returns about how many."""
        ...


class DirectWriter:
    """Each operation takes effect at once, under its own revision.

    One object for the life of a machine; `begin` starts an operation.
    """

    __slots__ = ("_changed", "_store", "_turn", "revision")

    def __init__(self, store: Store, turn: Turn) -> None:
        self._store = store
        self._turn = turn
        self._changed = False
        self.revision = 0

    def begin(self) -> None:
        self._changed = False
        self.revision = self._turn.revision + 1

    @property
    def clock_ms(self) -> int:
        return self._turn.clock_ms

    @property
    def settled_revision(self) -> int:
        return self._turn.revision

    @property
    def tag_epoch(self) -> int:
        return self._store.tags.epoch

    def get(self, key: bytes) -> Row | None:
        store = self._store
        row = store.rows.get(key)
        if row is None or row[4] is None or not store.is_dead(row[4]):
            return row
        if not self._changed:
            # Its end comes before this operation in the order of revisions.
            store.bury(key)
            self.revision = self._turn.revision + 1
        return None

    def peek(self, key: bytes) -> Row | None:
        return self._store.peek(key)

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        return self._store.keys_from(start)

    @property
    def grown_bytes(self) -> int:
        return 0

    def grown_bytes_beside(self, key: bytes) -> int:
        return 0

    def put(self, key: bytes, row: Row, kind: EventKind = EventKind.PUT) -> None:
        before = self._store.put(key, row)
        self._took_effect(Event(self.revision, kind, key, row, before))

    def remove(self, key: bytes, kind: EventKind = EventKind.DELETE) -> None:
        before = self._store.remove(key)
        self._took_effect(Event(self.revision, kind, key, None, before))

    def invalidate_tags(self, tags: Sequence[str]) -> int:
        count = 0
        for tag in tags:
            killed = self._store.invalidate_tag(tag, self.revision)
            if killed:
                self._changed = True
                self._turn.revision = self.revision
            count += killed
        return count

    def _took_effect(self, event: Event) -> None:
        self._changed = True
        self._turn.revision = self.revision
        self._turn.events.append(event)


class AtomicWriter:
    """Collects the changes of an atomic batch; `commit` makes them, dropping the object undoes them.

    The batch has one revision, and each key one event: what it is after the batch. Dead rows of the keys must
    be buried before (their ends have revisions of their own).
    """

    __slots__ = ("_changes", "_grown_bytes", "_invalidated", "_store", "_turn", "revision")

    def __init__(self, store: Store, turn: Turn) -> None:
        self._store = store
        self._turn = turn
        self.revision = turn.revision + 1
        # The last change of each key.
        self._changes: dict[bytes, tuple[Row | None, EventKind]] = {}
        # Tags to invalidate, in order; each takes one epoch when the batch is committed.
        self._invalidated: list[str] = []
        # By the prefix of the namespace; b"": in none.
        self._grown_bytes: dict[bytes, int] = {}

    @property
    def clock_ms(self) -> int:
        return self._turn.clock_ms

    @property
    def settled_revision(self) -> int:
        return self.revision if self._changes or self._invalidated else self._turn.revision

    @property
    def tag_epoch(self) -> int:
        return self._store.tags.epoch + len(self._invalidated)

    def get(self, key: bytes) -> Row | None:
        change = self._changes.get(key)
        if change is not None:
            return change[0]
        row = self._store.peek(key)
        if row is None or row[4] is None or not self._invalidated:
            return row
        return None if any(tag in row[4][TAGS] for tag in self._invalidated) else row

    def peek(self, key: bytes) -> Row | None:
        return self.get(key)

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        stored = self._store.keys_from(start)
        own = sorted([key for key in self._changes if key >= start and key not in self._store.rows])
        return merge(stored, own) if own else stored

    @property
    def grown_bytes(self) -> int:
        return sum(self._grown_bytes.values())

    def grown_bytes_beside(self, key: bytes) -> int:
        return self._grown_bytes.get(self._namespace_of(key), 0)

    def _namespace_of(self, key: bytes) -> bytes:
        namespace = self._store.namespaces.find(key)
        return b"" if namespace is None else namespace.prefix

    def put(self, key: bytes, row: Row, kind: EventKind = EventKind.PUT) -> None:
        old = self.get(key)
        if old is None:
            growth = len(key) + len(row[0]) + ENTRY_OVERHEAD_BYTES
        else:
            growth = max(len(row[0]) - len(old[0]), 0)
        if growth and self._store.namespaces.active:
            where = self._namespace_of(key)
            self._grown_bytes[where] = self._grown_bytes.get(where, 0) + growth
        if kind is EventKind.TOUCH and key in self._changes:
            # The batch also wrote the value: that is the larger news.
            kind = self._changes[key][1]
        self._changes[key] = (row, kind)

    def remove(self, key: bytes, kind: EventKind = EventKind.DELETE) -> None:
        self._changes[key] = (None, kind)

    def invalidate_tags(self, tags: Sequence[str]) -> int:
        sets = self._store.tags.sets
        count = 0
        for tag in tags:
            if tag in sets and tag not in self._invalidated:
                self._invalidated.append(tag)
                count += len(sets[tag])
            for key, (row, _) in self._changes.items():
                if row is not None and row[4] is not None and tag in row[4][TAGS]:
                    self._changes[key] = (None, EventKind.INVALIDATE)
                    count += 1
        return count

    def commit(self) -> None:
        if not self._changes and not self._invalidated:
            return
        store, turn = self._store, self._turn
        turn.revision = self.revision
        for tag in self._invalidated:
            store.invalidate_tag(tag, self.revision)
        for key, (row, kind) in self._changes.items():
            if row is not None:
                before = store.put(key, row)
            elif key in store.rows:
                before = store.remove(key)
            else:
                # Made and taken away within the batch: nobody ever saw it.
                continue
            turn.events.append(Event(self.revision, kind, key, row, before))
