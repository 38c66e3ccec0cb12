"""How operations on keys change the table: directly, or into an overlay that takes effect as a whole.

An operation is a function of (machine, writer, op). It reads and writes through the writer only, so the same
function serves single operations and atomic batches, and nothing ever has to be undone.
"""

from typing import Protocol

from replcache.statemachine.entries import Row
from replcache.statemachine.events import Event, EventKind
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

    def get(self, key: bytes) -> Row | None:
        """The living row."""
        ...

    def put(self, key: bytes, row: Row, kind: EventKind = EventKind.PUT) -> None: ...

    def remove(self, key: bytes, kind: EventKind = EventKind.DELETE) -> None:
        """`key` must be living."""
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

    def put(self, key: bytes, row: Row, kind: EventKind = EventKind.PUT) -> None:
        self._store.put(key, row)
        self._took_effect(Event(self.revision, kind, key, row))

    def remove(self, key: bytes, kind: EventKind = EventKind.DELETE) -> None:
        self._store.remove(key)
        self._took_effect(Event(self.revision, kind, key, None))

    def _took_effect(self, event: Event) -> None:
        self._changed = True
        self._turn.revision = self.revision
        self._turn.events.append(event)


class AtomicWriter:
    """Collects the changes of an atomic batch; `commit` makes them, dropping the object undoes them.

    The batch has one revision, and each key one event: what it is after the batch. Dead rows of the keys must
    be buried before (their ends have revisions of their own).
    """

    __slots__ = ("_changes", "_store", "_turn", "revision")

    def __init__(self, store: Store, turn: Turn) -> None:
        self._store = store
        self._turn = turn
        self.revision = turn.revision + 1
        # The last change of each key.
        self._changes: dict[bytes, tuple[Row | None, EventKind]] = {}

    @property
    def clock_ms(self) -> int:
        return self._turn.clock_ms

    @property
    def settled_revision(self) -> int:
        return self.revision if self._changes else self._turn.revision

    def get(self, key: bytes) -> Row | None:
        change = self._changes.get(key)
        return self._store.peek(key) if change is None else change[0]

    def put(self, key: bytes, row: Row, kind: EventKind = EventKind.PUT) -> None:
        if kind is EventKind.TOUCH and key in self._changes:
            # The batch also wrote the value: that is the larger news.
            kind = self._changes[key][1]
        self._changes[key] = (row, kind)

    def remove(self, key: bytes, kind: EventKind = EventKind.DELETE) -> None:
        self._changes[key] = (None, kind)

    def commit(self) -> None:
        if not self._changes:
            return
        store, turn = self._store, self._turn
        turn.revision = self.revision
        for key, (row, kind) in self._changes.items():
            if row is not None:
                store.put(key, row)
            elif key in store.rows:
                store.remove(key)
            else:
                # Made and taken away within the batch: nobody ever saw it.
                continue
            turn.events.append(Event(self.revision, kind, key, row))
