"""Who observes which election on this node: every change of a leader or its value, handed over in log order.

One listener on the applied log, so nobody polls. An observer's queue is bounded; one that falls behind is cut
off, and so is one whose node installed a snapshot, which brings no events: changes may be missing then.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from replcache import constants
from replcache.errors import Overloaded, ReplcacheError, Unavailable, WatchTooSlow
from replcache.raft.port import RaftPort
from replcache.statemachine.events import LockEvent, LockEventKind
from replcache.statemachine.machine import StateMachine


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, as of `revision`; token 0: nobody."""

    revision: int
    candidate: bytes = b""
    token: int = 0
    value: str = ""


@dataclass(slots=True, eq=False)
class Observer:
    """`leader`: what the end of the queue says; the queue holds what is not sent yet."""

    name: str
    leader: Leader
    queue: deque[Leader] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    error: ReplcacheError | None = None

    def offer(self, leader: Leader) -> None:
        if self.error is not None:
            return
        self.leader = leader
        self.queue.append(leader)
        if len(self.queue) > constants.OBSERVER_QUEUE_MAX:
            self.end(WatchTooSlow(f"the observer fell behind by {len(self.queue)} changes; observe again"))
        self.wake.set()

    def end(self, error: ReplcacheError) -> None:
        self.error = error
        self.queue.clear()
        self.wake.set()


class LeaderWatches:
    """`port.machine` is looked up at each use: a snapshot replaces it."""

    def __init__(self, port: RaftPort) -> None:
        self._port = port
        self._machine: StateMachine | None = None
        self._by_name: dict[str, set[Observer]] = {}
        self._count = 0
        self._is_stopped = False

    def __len__(self) -> int:
        return self._count

    def start(self) -> None:
        self._machine = self._port.machine
        self._port.add_applied_listener(self.on_applied)

    def stop(self) -> None:
        """Ends all observers: they go on at another node."""
        self._is_stopped = True
        if self._machine is not None:
            self._port.remove_applied_listener(self.on_applied)
        self._end_all(Unavailable("the node is stopping", retry_after_s=0.0))

    @contextmanager
    def observing(self, name: str) -> Iterator[Observer]:
        """An observer whose first change is the leader now.

        Raises:
            Overloaded: too many on this node. Unavailable: it is stopping.
        """
        if self._is_stopped:
            raise Unavailable("the node is stopping", retry_after_s=0.0)
        if self._count >= constants.WATCHES_MAX:
            raise Overloaded(f"{self._count} observers on this node, limit {constants.WATCHES_MAX}")
        self.check_machine()
        observer = Observer(name, leader_now(self._port.machine, name))
        observer.offer(observer.leader)
        self._by_name.setdefault(name, set()).add(observer)
        self._count += 1
        try:
            yield observer
        finally:
            self._count -= 1
            observers = self._by_name[name]
            observers.discard(observer)
            if not observers:
                del self._by_name[name]

    def check_machine(self) -> None:
        """An installed snapshot skipped events: who observes here may have missed a leader."""
        machine = self._port.machine
        if machine is not self._machine:
            self._machine = machine
            self._end_all(Unavailable("this node skipped changes; observe again", retry_after_s=0.0))

    def on_applied(self, _: int, events: Sequence[object]) -> None:
        """The listener for RaftPort.add_applied_listener; only hands over."""
        self.check_machine()
        if not self._count:
            return
        for event in events:
            if type(event) is LockEvent and (observers := self._by_name.get(event.name)):
                for observer in tuple(observers):
                    changed = _after(event, observer.leader)
                    if changed is not None:
                        observer.offer(changed)

    def _end_all(self, error: ReplcacheError) -> None:
        for observers in self._by_name.values():
            for observer in observers:
                observer.end(error)


def leader_now(machine: StateMachine, name: str) -> Leader:
    """The election's leader in the local state."""
    for place in machine.lock_holders(name):
        return Leader(machine.revision, place.owner, place.token, place.note)
    return Leader(machine.revision)


def _after(event: LockEvent, leader: Leader) -> Leader | None:
    """The leader after the event; None: it changed nothing."""
    if event.kind in (LockEventKind.GRANTED, LockEventKind.NOTED):
        return Leader(event.revision, event.owner, event.token, event.note)
    if event.kind in (LockEventKind.RELEASED, LockEventKind.EXPIRED) and event.token == leader.token:
        return Leader(event.revision)
    return None
