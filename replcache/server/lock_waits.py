"""Who waits for which lock on this node: one listener on the applied log wakes them by (name, owner)."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from replcache.statemachine.events import LockEvent

_Key = tuple[str, bytes]


class LockWaits:
    """Dispatches lock events. A wake-up says only "look again": the truth is in the state machine, because
    an installed snapshot brings no events and a grant may be gone before its waiter runs (etcd #11456)."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, set[asyncio.Event]] = {}
        self.stopped = False

    def on_applied(self, _: int, events: Sequence[object]) -> None:
        """The listener for RaftPort.add_applied_listener; only hands over."""
        if not self._waiting:
            return
        for event in events:
            if type(event) is LockEvent:
                for wake in self._waiting.get((event.name, event.owner), ()):
                    wake.set()

    @contextmanager
    def watching(self, name: str, owner: bytes) -> Iterator[asyncio.Event]:
        """An event that is set whenever something happened to this owner at this lock. Enter before the
        command that may queue is proposed, or the grant can be missed."""
        wake = asyncio.Event()
        waiting = self._waiting.setdefault((name, owner), set())
        waiting.add(wake)
        try:
            yield wake
        finally:
            waiting.discard(wake)
            if not waiting:
                self._waiting.pop((name, owner), None)

    def stop(self) -> None:
        """Ends all waits of this node: it is stopping."""
        self.stopped = True
        for wakes in self._waiting.values():
            for wake in wakes:
                wake.set()

    def __len__(self) -> int:
        return len(self._waiting)
