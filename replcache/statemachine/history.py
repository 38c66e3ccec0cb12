"""The last changes, for watches that come back: bounded by count and by bytes.

Not replicated state: a node restored from a snapshot starts with an empty history, and says so by
`oldest_revision`. A watch that asks for less gets a clear "compacted" instead of a gap.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from replcache.constants import HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX
from replcache.statemachine.events import AnyEvent, Event, PutBatch

# What an event costs besides key and value: its object, row and list slots.
EVENT_OVERHEAD_BYTES: Final = 200
# Dropped items are cut off the lists only in blocks: each cut moves the rest.
CUT_ITEMS: Final = 4096


def event_size(event: AnyEvent) -> tuple[int, int]:
    """(events, bytes) that `event` counts for."""
    if isinstance(event, PutBatch):
        count = len(event.keys)
        size = sum(map(len, event.keys)) + sum([len(row[0]) for row in event.rows])
        return count, size + count * EVENT_OVERHEAD_BYTES
    if isinstance(event, Event):
        size = len(event.key) + (len(event.row[0]) if event.row is not None else 0)
        return 1, size + EVENT_OVERHEAD_BYTES
    return 1, EVENT_OVERHEAD_BYTES


class History:
    """Invariant: it holds every event with revision >= oldest_revision, in order."""

    __slots__ = (
        "_bytes_max",
        "_events",
        "_events_max",
        "_head",
        "_items",
        "_lasts",
        "_sizes",
        "bytes",
        "oldest_revision",
    )

    def __init__(
        self, oldest_revision: int, events_max: int = HISTORY_EVENTS_MAX, bytes_max: int = HISTORY_BYTES_MAX
    ) -> None:
        self.oldest_revision = oldest_revision
        self.bytes = 0
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._events = 0
        # Parallel lists; what is before _head is dropped.
        self._items: list[AnyEvent] = []
        self._lasts: list[int] = []
        self._sizes: list[tuple[int, int]] = []
        self._head = 0

    def __len__(self) -> int:
        return self._events

    def extend(self, events: Sequence[AnyEvent]) -> None:
        """Takes the events of one applied entry."""
        for event in events:
            size = event_size(event)
            self._items.append(event)
            self._lasts.append(event.last_revision)
            self._sizes.append(size)
            self._events += size[0]
            self.bytes += size[1]
        if self._events > self._events_max or self.bytes > self._bytes_max:
            self._shrink()

    def since(self, revision: int, limit: int) -> list[AnyEvent] | None:
        """Events from `revision` on, oldest first, about `limit` of them: all of one revision come together.

        Batches are not cut: the first one may begin before `revision`, expand and filter.
        Returns None when some of them are gone: compacted up to oldest_revision.
        """
        if revision < self.oldest_revision:
            return None
        found: list[AnyEvent] = []
        count = 0
        position = bisect_left(self._lasts, revision, self._head)
        while position < len(self._items):
            if count >= limit and self._lasts[position] != self._lasts[position - 1]:
                break
            found.append(self._items[position])
            count += self._sizes[position][0]
            position += 1
        return found

    def _shrink(self) -> None:
        """Drops the oldest; always all events of a revision, so that none is ever seen in part."""
        while self._head < len(self._items) and (
            self._events > self._events_max
            or self.bytes > self._bytes_max
            or (self._head > 0 and self._lasts[self._head] < self.oldest_revision)
        ):
            count, size = self._sizes[self._head]
            self._events -= count
            self.bytes -= size
            self.oldest_revision = self._lasts[self._head] + 1
            # The list keeps its length until the next cut; the event itself goes now.
            self._items[self._head] = _DROPPED
            self._head += 1
        if self._head >= CUT_ITEMS and self._head * 2 >= len(self._items):
            del self._items[: self._head], self._lasts[: self._head], self._sizes[: self._head]
            self._head = 0


_DROPPED: Final[AnyEvent] = PutBatch(0, 0, [], [])
