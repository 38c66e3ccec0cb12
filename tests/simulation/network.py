"""The simulated network between nodes.

Stream mode (the default) is TCP as the peer link uses it: each ordered pair has one connection, dialled by
the sender; messages stay in order; a message waits behind a stalled one; when the connection breaks, what is
under way is lost; a new connection has a new epoch. Datagram mode is harsher than TCP: every message has a
delay of its own, some arrive twice or again much later, also ones of an earlier connection (but never of an
earlier data directory: the handshake binds the incarnation). One promise of TCP it keeps: each sending
of a Forward arrives at most once, which is what makes a refusal certain (replcache/raft/forwarding.py).

A direction is in one of three states: open; stalled (messages wait, the sender notices nothing until its
connection times out); refused (connections break and can't be made).
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from replcache.raft.messages import Forward
from tests.simulation.schedule import Options

# A stalled connection is given up after this long without progress, by heartbeat, not by TCP.
STALL_TIMEOUT_S = 3.0
# Dialling again: PEER_RECONNECT_MIN_S of the product, and how long a dial takes on top of the network delay.
RECONNECT_S = 0.05


class Endpoint(Protocol):
    """What the network needs of a process."""

    name: str
    incarnation: int

    def receive(self, peer: str, message: Any) -> None: ...

    def on_peer_up(self, peer: str, incarnation: int) -> None: ...

    def on_peer_down(self, peer: str) -> None: ...

    def on_accepted(self, peer: str) -> None: ...

    def knows(self, peer: str) -> bool: ...


@dataclass
class _Connection:
    """One direction. `epoch` counts connections; `at` keeps the order of a stream."""

    source: str
    target: str
    epoch: int = 0
    is_up: bool = False
    is_stalled: bool = False
    is_refused: bool = False
    stalled_since: float = 0.0
    last_arrival: float = 0.0
    waiting: deque[Any] = field(default_factory=deque)


class Network:
    """Connections and messages under way. `schedule(at, function, *arguments)` is the world's event heap."""

    def __init__(
        self,
        options: Options,
        rng: random.Random,
        now: Callable[[], float],
        schedule: Callable[..., None],
        endpoint: Callable[[str], Endpoint | None],
    ) -> None:
        self._options = options
        self._rng = rng
        self._now = now
        self._schedule = schedule
        self._endpoint = endpoint
        self._connections: dict[tuple[str, str], _Connection] = {}
        self.delivered = 0
        self.lost = 0
        self.duplicated = 0
        # Seen by tests: (source, target, message) before it is handed over; False: drop it.
        self.filter: Callable[[str, str, Any], bool] | None = None

    def connection(self, source: str, target: str) -> _Connection:
        key = (source, target)
        if key not in self._connections:
            self._connections[key] = _Connection(source, target)
        return self._connections[key]

    # --- processes come and go -----------------------------------------------------------------------------

    def on_started(self, name: str, names: list[str]) -> None:
        """A process is up: it dials everybody, everybody dials it."""
        for other in names:
            if other != name:
                self._dial(name, other)
                self._dial(other, name)

    def on_stopped(self, name: str) -> None:
        """A process is gone: its connections break; the others notice after one delay."""
        for (source, target), connection in sorted(self._connections.items()):
            if name in (source, target):
                self._break(connection)

    def _delay(self) -> float:
        options = self._options
        return options.delay_s * (1.0 + options.jitter * self._rng.random())

    def _dial(self, source: str, target: str) -> None:
        connection = self.connection(source, target)
        if not connection.is_up:
            self._schedule(self._now() + self._delay(), self._connect, connection)

    def _connect(self, connection: _Connection) -> None:
        if connection.is_up:
            return
        source, target = self._endpoint(connection.source), self._endpoint(connection.target)
        if source is None:
            return
        if target is None:
            return  # it dials and is dialled when it starts
        is_cut = connection.is_refused or connection.is_stalled
        if is_cut or not source.knows(target.name):
            self._schedule(self._now() + RECONNECT_S * (1.0 + self._rng.random()), self._connect, connection)
            return
        connection.is_up = True
        connection.epoch += 1
        connection.last_arrival = self._now()
        connection.waiting.clear()
        target.on_accepted(connection.source)
        source.on_peer_up(connection.target, target.incarnation)

    def _break(self, connection: _Connection) -> None:
        """Both ends lose the connection; what is under way in it never arrives."""
        if not connection.is_up:
            return
        connection.is_up = False
        self.lost += len(connection.waiting)
        connection.waiting.clear()
        source = self._endpoint(connection.source)
        if source is not None:
            source.on_peer_down(connection.target)
            self._schedule(self._now() + RECONNECT_S * (1.0 + self._rng.random()), self._connect, connection)

    # --- messages ------------------------------------------------------------------------------------------

    def send(self, source: str, target: str, message: Any) -> bool:
        """False: certainly not sent."""
        connection = self._connections.get((source, target))
        if connection is None or not connection.is_up:
            return False
        if self._options.is_datagram:
            self._send_datagram(connection, message)
            return True
        at = max(self._now() + self._delay(), connection.last_arrival)
        connection.last_arrival = at
        self._schedule(at, self._arrive, connection, connection.epoch, message)
        return True

    def _arrive(self, connection: _Connection, epoch: int, message: Any) -> None:
        if not connection.is_up or connection.epoch != epoch:
            self.lost += 1
            return
        if connection.is_stalled:
            connection.waiting.append(message)
            return
        self._hand_over(connection, message)

    def _hand_over(self, connection: _Connection, message: Any) -> None:
        target = self._endpoint(connection.target)
        if target is None:
            self.lost += 1
            return
        if self.filter is not None and not self.filter(connection.source, connection.target, message):
            return
        self.delivered += 1
        target.receive(connection.source, message)

    def _send_datagram(self, connection: _Connection, message: Any) -> None:
        source, target = self._endpoint(connection.source), self._endpoint(connection.target)
        if source is None or target is None:
            return
        copies = 1
        if self._rng.random() < self._options.duplicate_share and not isinstance(message, Forward):
            copies = 2
            self.duplicated += 1
        disks = (source.incarnation, target.incarnation)
        for copy in range(copies):
            delay = self._delay()
            if self._rng.random() < 0.02 or copy:
                delay += self._rng.choice([0.05, 0.5, 3.0]) * self._rng.random()
            self._schedule(self._now() + delay, self._arrive_datagram, connection, disks, message)

    def _arrive_datagram(self, connection: _Connection, disks: tuple[int, int], message: Any) -> None:
        source, target = self._endpoint(connection.source), self._endpoint(connection.target)
        if target is None or connection.is_stalled or connection.is_refused:
            self.lost += 1
            return
        if target.incarnation != disks[1] or (source is not None and source.incarnation != disks[0]):
            self.lost += 1
            return
        self._hand_over(connection, message)

    # --- faults --------------------------------------------------------------------------------------------

    def refuse(self, source: str, target: str) -> None:
        connection = self.connection(source, target)
        connection.is_refused = True
        self._break(connection)

    def stall(self, source: str, target: str) -> None:
        connection = self.connection(source, target)
        if not connection.is_stalled:
            connection.is_stalled = True
            connection.stalled_since = self._now()
            self._schedule(self._now() + STALL_TIMEOUT_S, self._stall_timeout, connection)

    def _stall_timeout(self, connection: _Connection) -> None:
        if connection.is_stalled and self._now() - connection.stalled_since >= STALL_TIMEOUT_S - 1e-6:
            self._break(connection)

    def open(self, source: str, target: str) -> None:
        """The direction works again: what waited in a stalled stream arrives now, in order."""
        connection = self.connection(source, target)
        connection.is_refused = False
        if connection.is_stalled:
            connection.is_stalled = False
            waiting, connection.waiting = connection.waiting, deque()
            for message in waiting:
                self._hand_over(connection, message)
        if not connection.is_up:
            self._dial(source, target)

    def reset(self, source: str, target: str) -> None:
        """The connection breaks; a new one is dialled at once."""
        self._break(self.connection(source, target))

    def heal(self, names: list[str]) -> None:
        for source in names:
            for target in names:
                if source != target:
                    self.open(source, target)
