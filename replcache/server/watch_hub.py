"""Who watches what on this node, and the fan-out of applied events to them.

One listener on the applied log. Watchers are found by key, by prefix and by tag through dicts, so that an
event costs the same with ten watchers as with ten thousand that want something else. Each watcher has a
bounded queue; one that falls behind is cut off with the last revision that it has (overflow policy: cut,
never drop).

Invariant: a watcher's queue holds whole revisions, in order, without gaps behind `base_revision`.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from replcache import constants
from replcache.errors import Compacted, Overloaded, ReplcacheError, Unavailable, WatchTooSlow
from replcache.raft.port import RaftPort
from replcache.statemachine.entries import Row, tags_of
from replcache.statemachine.events import Event, EventKind, PutBatch
from replcache.statemachine.machine import StateMachine

EVENT_OVERHEAD_BYTES = 64
Name = TypeVar("Name", bytes, str)


@dataclass(frozen=True, slots=True)
class WatchRange:
    """Exactly one key, or the entries that carry a tag, or all keys with a prefix (b"": every key)."""

    key: bytes | None = None
    prefix: bytes = b""
    tag: str | None = None

    def seen(self, change: "Change") -> "Change | None":
        """The change as a watcher of this range sees it; None: it does not."""
        if self.key is not None:
            return change if change.key == self.key else None
        if self.tag is None:
            return change if change.key.startswith(self.prefix) else None
        if self.tag in tags_of(change.row):
            return change
        return change.gone() if self.tag in change.tags_before else None


@dataclass(frozen=True, slots=True)
class Change:
    """One event for one watcher. `row` is None when the key went."""

    revision: int
    kind: EventKind
    key: bytes
    row: Row | None
    tags_before: tuple[str, ...] = ()

    def gone(self) -> "Change":
        """For those who watch a tag that it had and has no more."""
        kind = EventKind.DELETE if self.row is not None else self.kind
        return Change(self.revision, kind, self.key, None)

    @property
    def size(self) -> int:
        return len(self.key) + (len(self.row[0]) if self.row is not None else 0) + EVENT_OVERHEAD_BYTES


@dataclass(slots=True, eq=False)
class Watcher:
    """One watch. `delivered` is the last revision that its stream has sent completely."""

    range: WatchRange
    base_revision: int
    queue: deque[Change] = field(default_factory=deque)
    queue_bytes: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    error: ReplcacheError | None = None
    delivered: int = 0

    def offer(self, change: Change) -> None:
        if self.error is not None:
            return
        self.queue.append(change)
        self.queue_bytes += change.size
        if len(self.queue) > constants.WATCH_QUEUE_EVENTS_MAX or self.queue_bytes > (
            constants.WATCH_QUEUE_BYTES_MAX
        ):
            self.end(
                WatchTooSlow(
                    f"the watch fell behind by {len(self.queue)} events; it has everything up to revision "
                    f"{self.delivered}",
                    metadata={"last_revision": str(self.delivered)},
                )
            )
        self.wake.set()

    def end(self, error: ReplcacheError) -> None:
        """Nothing more is delivered; the stream ends with the error."""
        self.error = error
        self.queue.clear()
        self.queue_bytes = 0
        self.wake.set()

    def take(self, bytes_max: int) -> list[Change]:
        """Whole revisions from the front of the queue, about bytes_max of them."""
        taken: list[Change] = []
        size = 0
        while self.queue:
            if size >= bytes_max and self.queue[0].revision != taken[-1].revision:
                break
            change = self.queue.popleft()
            taken.append(change)
            size += change.size
        self.queue_bytes -= size
        return taken


class WatchHub:
    """See the module docstring. `port.machine` is looked up at each use: a snapshot replaces it."""

    def __init__(self, port: RaftPort) -> None:
        self._port = port
        self._machine: StateMachine | None = None
        self._by_key: dict[bytes, set[Watcher]] = {}
        # Prefixes by their length, so that an event looks up one slice of its key for each length in use.
        self._by_prefix: dict[int, dict[bytes, set[Watcher]]] = {}
        self._by_tag: dict[str, set[Watcher]] = {}
        self._count = 0
        self._is_stopped = False

    def __len__(self) -> int:
        return self._count

    def start(self) -> None:
        self._machine = self._port.machine
        self._port.add_applied_listener(self._on_applied)

    def stop(self) -> None:
        """Ends all watches: they go on at another node."""
        self._is_stopped = True
        for watcher in self._all():
            watcher.end(Unavailable("the node is stopping", retry_after_s=0.0))

    @contextmanager
    def watching(self, wanted: WatchRange) -> Iterator[Watcher]:
        """A watcher that gets everything behind the present revision.

        Raises:
            Overloaded: too many watches on this node. Unavailable: it is stopping.
        """
        if self._is_stopped:
            raise Unavailable("the node is stopping", retry_after_s=0.0)
        if self._count >= constants.WATCHES_MAX:
            raise Overloaded(f"{self._count} watches on this node, limit {constants.WATCHES_MAX}")
        self.check_machine()
        watcher = Watcher(wanted, self._port.machine.revision)
        self._add(wanted, watcher)
        self._count += 1
        try:
            yield watcher
        finally:
            self._count -= 1
            self._remove(wanted, watcher)

    def describe(self, limit: int) -> list[tuple[str, int, int]]:
        """(what is watched, watches, events that wait to be sent), the most watched first."""
        rows = [(_text(name), watchers) for name, watchers in self._by_key.items()]
        for named in self._by_prefix.values():
            rows += [(_text(name) + "*", watchers) for name, watchers in named.items()]
        rows += [(f"tag {name}", watchers) for name, watchers in self._by_tag.items()]
        rows.sort(key=lambda row: -len(row[1]))
        return [(what, len(found), sum(len(one.queue) for one in found)) for what, found in rows[:limit]]

    def check_machine(self) -> None:
        """An installed snapshot skipped events: watches here have a gap and must begin anew."""
        machine = self._port.machine
        if machine is self._machine:
            return
        self._machine = machine
        for watcher in self._all():
            watcher.end(compacted(machine))

    def _on_applied(self, _: int, events: Sequence[object]) -> None:
        self.check_machine()
        if not self._count:
            return
        for event in events:
            if type(event) is PutBatch:
                before = event.tags_before
                for number, (key, row) in enumerate(zip(event.keys, event.rows, strict=True)):
                    self._offer(key, EventKind.PUT, row[2], row, before.get(number, ()))
            elif type(event) is Event:
                self._offer(event.key, event.kind, event.revision, event.row, event.tags_before)

    def _offer(
        self, key: bytes, kind: EventKind, revision: int, row: Row | None, tags_before: tuple[str, ...]
    ) -> None:
        found = [self._by_key.get(key)]
        found += [named.get(key[:length]) for length, named in self._by_prefix.items()]
        tags: tuple[str, ...] = ()
        if self._by_tag:
            tags = tags_of(row)
            found += [self._by_tag.get(tag) for tag in tags]
        change: Change | None = None
        for watchers in found:
            if watchers:
                if change is None:
                    change = Change(revision, kind, key, row)
                for watcher in watchers:
                    watcher.offer(change)
        if tags_before and self._by_tag:
            gone = Change(revision, kind, key, row).gone()
            for tag in set(tags_before).difference(tags):
                for watcher in self._by_tag.get(tag, ()):
                    watcher.offer(gone)

    def _add(self, wanted: WatchRange, watcher: Watcher) -> None:
        if wanted.key is not None:
            self._by_key.setdefault(wanted.key, set()).add(watcher)
        elif wanted.tag is not None:
            self._by_tag.setdefault(wanted.tag, set()).add(watcher)
        else:
            named = self._by_prefix.setdefault(len(wanted.prefix), {})
            named.setdefault(wanted.prefix, set()).add(watcher)

    def _remove(self, wanted: WatchRange, watcher: Watcher) -> None:
        if wanted.key is not None:
            _take_out(self._by_key, wanted.key, watcher)
        elif wanted.tag is not None:
            _take_out(self._by_tag, wanted.tag, watcher)
        else:
            named = self._by_prefix[len(wanted.prefix)]
            _take_out(named, wanted.prefix, watcher)
            if not named:
                del self._by_prefix[len(wanted.prefix)]

    def _all(self) -> list[Watcher]:
        sets = [
            *self._by_key.values(),
            *self._by_tag.values(),
            *(found for named in self._by_prefix.values() for found in named.values()),
        ]
        return [watcher for watchers in sets for watcher in watchers]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _take_out(place: dict[Name, set[Watcher]], name: Name, watcher: Watcher) -> None:
    place[name].discard(watcher)
    if not place[name]:
        del place[name]


def changes_of(event: object) -> Iterator[Change]:
    """What watches see of an applied event; of one about a lock nothing."""
    if type(event) is PutBatch:
        before = event.tags_before
        for number, (key, row) in enumerate(zip(event.keys, event.rows, strict=True)):
            yield Change(row[2], EventKind.PUT, key, row, before.get(number, ()))
    elif type(event) is Event:
        yield Change(event.revision, event.kind, event.key, event.row, event.tags_before)


def compacted(machine: StateMachine) -> Compacted:
    oldest = machine.oldest_revision()
    return Compacted(
        f"events before revision {oldest} are no longer kept on this node",
        metadata={"oldest_revision": str(oldest)},
    )
