"""Who watches what on this node, and the fan-out of applied events to them.

One listener on the applied log. Watchers are found by key and by prefix through dicts, so that an event costs
the same with ten watchers as with ten thousand that want something else. Each watcher has a bounded queue;
one that falls behind is cut off with the last revision that it has (overflow policy: cut, never drop).

Invariant: a watcher's queue holds whole revisions, in order, without gaps behind `base_revision`.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from replcache import constants
from replcache.errors import Compacted, Overloaded, ReplcacheError, Unavailable, WatchTooSlow
from replcache.raft.port import RaftPort
from replcache.statemachine.entries import Row
from replcache.statemachine.events import Event, EventKind, PutBatch
from replcache.statemachine.machine import StateMachine

EVENT_OVERHEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class WatchRange:
    """Exactly one key, or all keys with a prefix (b"": every key)."""

    key: bytes | None
    prefix: bytes = b""

    def holds(self, key: bytes) -> bool:
        return key == self.key if self.key is not None else key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Change:
    """One event for one watcher. `row` is None when the key went."""

    revision: int
    kind: EventKind
    key: bytes
    row: Row | None

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
        watcher = Watcher(wanted, self._port.machine.revision)
        place = self._place(wanted)
        place.setdefault(self._name(wanted), set()).add(watcher)
        self._count += 1
        try:
            yield watcher
        finally:
            self._count -= 1
            self._remove(wanted, watcher)

    def describe(self, limit: int) -> list[tuple[str, int, int]]:
        """(what is watched, watches, events that wait to be sent), the most watched first."""
        rows = [(show_range(name, True), watchers) for name, watchers in self._by_key.items()]
        for named in self._by_prefix.values():
            rows += [(show_range(name, False), watchers) for name, watchers in named.items()]
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
                for key, row in zip(event.keys, event.rows, strict=True):
                    self._offer(key, EventKind.PUT, row[2], row)
            elif type(event) is Event:
                self._offer(event.key, event.kind, event.revision, event.row)

    def _offer(self, key: bytes, kind: EventKind, revision: int, row: Row | None) -> None:
        change: Change | None = None
        found = [self._by_key.get(key)]
        found += [named.get(key[:length]) for length, named in self._by_prefix.items()]
        for watchers in found:
            if watchers:
                if change is None:
                    change = Change(revision, kind, key, row)
                for watcher in watchers:
                    watcher.offer(change)

    @staticmethod
    def _name(wanted: WatchRange) -> bytes:
        return wanted.key if wanted.key is not None else wanted.prefix

    def _place(self, wanted: WatchRange) -> dict[bytes, set[Watcher]]:
        if wanted.key is not None:
            return self._by_key
        return self._by_prefix.setdefault(len(wanted.prefix), {})

    def _remove(self, wanted: WatchRange, watcher: Watcher) -> None:
        place, name = self._place(wanted), self._name(wanted)
        place[name].discard(watcher)
        if not place[name]:
            del place[name]
        if wanted.key is None and not place:
            del self._by_prefix[len(wanted.prefix)]

    def _all(self) -> list[Watcher]:
        sets = [*self._by_key.values(), *(s for named in self._by_prefix.values() for s in named.values())]
        return [watcher for watchers in sets for watcher in watchers]


def show_range(name: bytes, is_key: bool) -> str:
    """`key` or `prefix*`, for people."""
    text = name.decode("utf-8", "backslashreplace")
    return text if is_key else f"{text}*"


def compacted(machine: StateMachine) -> Compacted:
    oldest = machine.oldest_revision()
    return Compacted(
        f"events before revision {oldest} are no longer kept on this node",
        metadata={"oldest_revision": str(oldest)},
    )
