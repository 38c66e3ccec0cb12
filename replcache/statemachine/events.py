"""Events: what applying an entry changed, for watches and for those who wait on this node.

Cheap first: a batch of plain sets is one `PutBatch` with columns, made readable by `expand` only when
somebody looks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from replcache.statemachine.entries import Entry, Row, as_optional_entry, tags_of


class EventKind(IntEnum):
    PUT = 1
    DELETE = 2
    # Gone by time, with its last counted read, or with its lease.
    EXPIRE = 3
    EVICT = 4
    # The expiry changed, not the value: version and mod_revision are the old ones.
    TOUCH = 5
    # One of its tags was invalidated.
    INVALIDATE = 6


class LockEventKind(IntEnum):
    GRANTED = 1
    RELEASED = 2
    # The holder's ttl was over.
    EXPIRED = 3
    # A waiter's time was over; it has left the queue.
    WAIT_ENDED = 4
    # The holder's note was replaced.
    NOTED = 5


class Event:
    """One change of one key. `row` (and `entry`) is None when the key went. `tags_before` are those of the
    row that was replaced or removed: so a watch of a tag knows what left it. They follow from the events
    before, and so are no part of what is compared."""

    __slots__ = ("key", "kind", "revision", "row", "tags_before")

    def __init__(
        self, revision: int, kind: EventKind, key: bytes, row: Row | None, before: Row | None = None
    ) -> None:
        self.revision = revision
        self.kind = kind
        self.key = key
        self.row = row
        self.tags_before = tags_of(before)

    @property
    def entry(self) -> Entry | None:
        return as_optional_entry(self.row)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Event)
            and self.revision == other.revision
            and self.kind == other.kind
            and self.key == other.key
            and self.row == other.row
        )

    __hash__ = None  # type: ignore[assignment]  # compared in tests, never a key

    def __repr__(self) -> str:
        return f"Event({self.revision}, {self.kind.name}, {self.key!r}, {self.entry})"

    @property
    def last_revision(self) -> int:
        return self.revision


class PutBatch:
    """Sets in columns: key i was put as row i. The revisions are in the rows.

    tags_before: by i, where the row that was replaced had tags.
    """

    __slots__ = ("keys", "last_revision", "revision", "rows", "tags_before")

    def __init__(
        self,
        revision: int,
        last_revision: int,
        keys: list[bytes],
        rows: list[Row],
        tags_before: dict[int, tuple[str, ...]] | None = None,
    ) -> None:
        self.revision = revision
        self.last_revision = last_revision
        self.keys = keys
        self.rows = rows
        self.tags_before = tags_before or {}

    def __repr__(self) -> str:
        return f"PutBatch({self.revision}..{self.last_revision}, {len(self.keys)} keys)"


@dataclass(frozen=True, slots=True)
class LockEvent:
    """Something about lock `name`; `token` is that of the holder (WAIT_ENDED: 0)."""

    revision: int
    kind: LockEventKind
    name: str
    owner: bytes
    token: int
    # GRANTED and NOTED only.
    note: str = ""

    @property
    def last_revision(self) -> int:
        return self.revision


@dataclass(frozen=True, slots=True)
class TagEvent:
    """All that had the tag is gone as of this revision; each key's own event follows, maybe some entries
    later
    (`count` of them, less what had died otherwise)."""

    revision: int
    tag: str
    count: int

    @property
    def last_revision(self) -> int:
        return self.revision


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """The lease has ended. Its locks' events follow at once, those of its `count` keys maybe some entries
    later."""

    revision: int
    lease_id: int
    count: int

    @property
    def last_revision(self) -> int:
        return self.revision


SingleEvent = Event | LockEvent | TagEvent | LeaseEvent
AnyEvent = SingleEvent | PutBatch


def expand(events: Iterable[AnyEvent]) -> Iterator[SingleEvent]:
    """The events one by one; those of an atomic batch share their revision."""
    put = EventKind.PUT
    for event in events:
        if isinstance(event, PutBatch):
            before = event.tags_before
            for number, (key, row) in enumerate(zip(event.keys, event.rows, strict=True)):
                single = Event(row[2], put, key, row)
                single.tags_before = before.get(number, ())
                yield single
        else:
            yield event
