"""The simulated world: one event heap, virtual time, nodes, network, clients, faults.

Deterministic: everything follows from the schedule. Random numbers come from separate streams (network, each
node, each client, ...), so that leaving a fault out changes as little of the rest as can be. Two phases, kept
apart: faults (safety is checked at every event), then all is repaired and the cluster must work again within
a bound (liveness), then the last checks over the whole history.
"""

import contextlib
import heapq
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from replcache.errors import ReplcacheError, StorageError
from replcache.raft.membership import Configuration
from replcache.raft.port import Member
from replcache.raft.wal import Wal
from tests.helpers.sim_disk import PowerCut, SimDisk
from tests.simulation.clients import Client
from tests.simulation.faults import Faults
from tests.simulation.ledger import LONGEST_TTL_MS, Ledger
from tests.simulation.network import Network
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.process import Process, SimClock
from tests.simulation.schedule import Schedule

# After everything is repaired: a leader within this, all nodes equal and all clients done within twice this.
LIVENESS_S = 8.0
# No event of a run may lie behind this: a run that goes on and on is a finding too.
END_S = 60.0
EVENTS_MAX = 400_000


@dataclass
class Report:
    """What came out of one run."""

    schedule: Schedule
    violation: Violation | None
    trace_hash: int
    virtual_s: float
    events: int
    facts: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.violation is None


class SimNode:
    """A machine: its disk, its clock, and the process on it, if any."""

    def __init__(self, world: "World", name: str, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.rng = rng
        self.disk = SimDisk()
        self.disk_rng = random.Random(f"disk:{world.schedule_.seed}:{name}")
        # The members in its configuration file.
        self.members = world.first_members
        # The log of the last process: what it had durable is what the disk has.
        self.last_log: Wal | None = None
        # Of the last process: its incarnation, and the voters as it knew them.
        self.last_incarnation = 0
        self.last_voters: tuple[str, ...] = ()
        # The log that went with a disk, and whose it was.
        self.lost_log: Wal | None = None
        self.lost_incarnation = 0
        drift = world.options.clock_drift
        self.clock = SimClock(world, rng.uniform(0.0, 1e5), 1.0 + drift * rng.uniform(-1, 1))
        self.process: Process | None = None
        self.lives = 0
        self.extra_sync_s = 0.0
        # Added after the first start: never part of the bootstrap.
        self.is_late_member = False
        # Refuses to start until an operator acts (damaged files); or is down by a fault.
        self.refused = ""
        self.disk_was_hurt = False
        # The disk is a new one since the last process.
        self.is_fresh = False
        # For directed schedules: no sync begins.
        self.is_disk_held = False
        # A bit was flipped: whether the node notices is what is tested.
        self.is_damaged = False

    def used_bytes(self) -> int:
        return sum(len(self.disk.contents(path)) for path in self.disk.files())

    def sync_time(self) -> float:
        base = self.world.options.sync_s
        return base * (0.5 + self.rng.random()) + self.extra_sync_s * (0.5 + self.rng.random())

    def start(self) -> None:
        if self.process is not None:
            return
        self.lives += 1
        try:
            rng = random.Random(f"process:{self.world.schedule_.seed}:{self.name}:{self.lives}")
            process = Process(self.world, self, rng)
        except (StorageError, OSError) as error:
            self.refused = str(error)
            self.world.trace("refused", self.name, type(error).__name__)
            self.world.oracles.on_refused(self, error)
            if not self.is_damaged:
                self.world.after(0.3, self.start)  # no room, an error: whoever runs the node starts it again
            return
        self.refused = ""
        self.process = process
        self.world.oracles.on_started(process)
        self.is_fresh = False
        self.world.trace("start", self.name, process.engine.term, process.storage.wal.last_index)
        process.start()
        self.world.network.on_started(self.name, self.world.names)

    def stop(self, *, power: bool) -> None:
        """kill -9, or with power=True the loss of all that was not synced."""
        process = self.process
        if process is None:
            return
        if process.sync_job is not None and self.rng.random() < 0.7:
            self._run_partly(process.sync_job.run, self.rng.randrange(1, 8))
        self.world.oracles.on_stopped(process)
        self.last_log = process.storage.wal
        self.last_incarnation = process.incarnation
        self.last_voters = process.engine.configurations.voters
        self.process = None
        process.kill()
        self.world.network.on_stopped(self.name)
        if power:
            self.disk.power_cut(self.disk_rng)
        else:
            self.disk.kill()
        self.world.trace("stop", self.name, power)

    def wipe(self) -> None:
        """The disk is lost; the next start finds an empty one."""
        self.stop(power=True)
        self.disk = SimDisk()
        self.refused = ""
        if self.last_log is not None:
            self.lost_log, self.lost_incarnation = self.last_log, self.last_incarnation
        self.disk_was_hurt = True
        self.is_damaged = False
        self.is_fresh = True
        self.world.oracles.on_wiped(self.name)

    def _run_partly(self, run: Callable[[], None], operations: int) -> None:
        """Runs disk work up to the instruction at which the process dies."""
        self.disk.stop_before = self.disk.operations + operations
        try:
            run()
        except (PowerCut, OSError, ReplcacheError):
            pass  # the process that would handle it is gone
        finally:
            self.disk.stop_before = None


class World:
    """One run. `run()` plays it and returns the report."""

    def __init__(self, schedule: Schedule, *, keep_trace: bool = False) -> None:
        self.schedule_ = schedule
        self.options = schedule.options
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self.events = 0
        self._hash = 0
        self._keep_trace = keep_trace
        self._trace: list[str] = []
        seed = schedule.seed
        self.names = [f"n{number}" for number in range(1, self.options.nodes + 1)]
        self.first_members = tuple(Member(name, f"{name}:1", f"{name}:2") for name in self.names)
        self.oracles = Oracles(self)
        self.ledger = Ledger(self)
        self.nodes = {name: SimNode(self, name, random.Random(f"node:{seed}:{name}")) for name in self.names}
        self.network = Network(
            self.options, random.Random(f"network:{seed}"), lambda: self.now, self.schedule, self.process
        )
        self.clients = [
            Client(self, number, random.Random(f"client:{seed}:{number}"))
            for number in range(self.options.clients)
        ]
        self.faults = Faults(self, random.Random(f"faults:{seed}"))
        self.is_healed = False

    def add_node(self, name: str) -> None:
        """A machine that is to be added to the cluster: it waits until the leader takes it in."""
        node = SimNode(self, name, random.Random(f"node:{self.schedule_.seed}:{name}"))
        leader = self.leader()
        known = leader.engine.configurations.current if leader is not None else self.first_members
        node.members = (*known, Member(name, f"{name}:1", f"{name}:2"))
        node.is_late_member = True
        self.nodes[name] = node
        self.names.append(name)
        node.start()

    # --- events --------------------------------------------------------------------------------------------

    def schedule(self, at: float, function: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, function, arguments))

    def after(self, delay_s: float, function: Callable[..., None], *arguments: Any) -> None:
        self.schedule(self.now + delay_s, function, *arguments)

    def process(self, name: str) -> Process | None:
        node = self.nodes.get(name)
        return node.process if node is not None else None

    def run_until(self, end: float, stop: Callable[[], bool] | None = None) -> bool:
        """Plays events up to a time; True when `stop()` held before (looked at after each event)."""
        heap, pop = self._heap, heapq.heappop
        left = EVENTS_MAX - self.events
        while heap and heap[0][0] <= end:
            self.now, _, function, arguments = pop(heap)
            self.events += 1
            function(*arguments)
            if stop is not None and stop():
                return True
            left -= 1
            if left < 0:
                raise Violation("endless", f"{EVENTS_MAX} events by {self.now:.3f} s")
        self.now = max(self.now, end)
        return False

    # --- trace ---------------------------------------------------------------------------------------------

    def trace(self, *words: Any) -> None:
        line = f"{self.now:.6f} {' '.join(map(str, words))}"
        self._hash = zlib.crc32(line.encode(), self._hash)
        if self._keep_trace:
            self._trace.append(line)

    def trace_number(self, number: int) -> None:
        self._hash = zlib.crc32(number.to_bytes(8, "little"), self._hash)

    def trace_message(self, source: str, target: str, message: Any) -> None:
        # What the message is, not all that is in it: its effects are in the trace too.
        line = f"{self.now:.6f} {source} -> {target} {type(message).__name__} {getattr(message, 'term', 0)}"
        self._hash = zlib.crc32(line.encode(), self._hash)
        if self._keep_trace:
            self._trace.append(f"{self.now:.6f} {source} -> {target} {message}")

    # --- what processes tell -------------------------------------------------------------------------------

    def on_halt(self, node: SimNode, error: BaseException) -> None:
        """A process stopped by itself. Legitimate only when its disk was hurt."""
        process = node.process
        if process is None:
            return
        self.trace("halt", node.name, f"{type(error).__name__}: {error}")
        is_disk = isinstance(error, StorageError | OSError)
        if isinstance(error, AssertionError) or not (is_disk and node.disk_was_hurt):
            raise Violation("halted", f"{node.name} stopped: {type(error).__name__}: {error}") from error
        node.stop(power=False)
        node.refused = f"halted: {error}"

    def on_configuration(self, process: Process, members: Configuration) -> None:
        self.trace("configuration", process.name, [(m.name, m.voter, m.incarnation) for m in members])

    # --- the run -------------------------------------------------------------------------------------------

    def run(self) -> Report:
        violation: Violation | None = None
        try:
            self._play()
        except Violation as found:
            violation = found
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            violation = Violation("exception", f"{type(error).__name__}: {error}")
            violation.__cause__ = error
        return Report(
            self.schedule_,
            violation,
            self._hash,
            self.now,
            self.events,
            self._facts(),
            self._trace,
        )

    def _play(self) -> None:
        for node in self.nodes.values():
            node.start()
        for client in self.clients:
            client.start()
        for fault in self.schedule_.faults:
            self.schedule(fault.at_s, self.faults.begin, fault)
        self.run_until(self.options.faults_to_s)
        self._heal()
        self._let_expire()
        self.oracles.check_end()
        self.ledger.check_end()

    def _heal(self) -> None:
        """Everything is repaired; now the cluster must serve again."""
        self.trace("heal")
        self.is_healed = True
        self.faults.repair_all()
        for client in self.clients:
            client.finish()
        end = self.now + LIVENESS_S
        if not self.run_until(end, self._has_leader):
            raise Violation("no leader", f"none {LIVENESS_S} s after everything was repaired")
        if not self.run_until(end + LIVENESS_S, self._is_settled):
            raise Violation("not settled", self.describe())

    def _let_expire(self) -> None:
        """Longer than any ttl, with nobody writing: what is due must go by itself."""
        if {"ttl", "lock", "mixed"} & set(self.options.operations):
            # A place in a queue, then the lock; on a slow clock.
            self.run_until(self.now + 2 * LONGEST_TTL_MS / 1000 * 1.15 + 0.8)
            if not self.run_until(self.now + LIVENESS_S, self._is_settled):
                raise Violation("not settled", f"after waiting for what is due: {self.describe()}")

    def leader(self) -> Process | None:
        processes = [n.process for n in self.nodes.values() if n.process is not None]
        leaders = [process for process in processes if process.engine.is_leader]
        return max(leaders, key=lambda p: p.engine.term, default=None)

    def _has_leader(self) -> bool:
        leader = self.leader()
        return leader is not None and leader.engine.commit_index >= leader.engine.term_start_index

    def _is_settled(self) -> bool:
        """Clients are done, and every member has applied all that the leader has."""
        if not all(client.is_done for client in self.clients):
            return False
        leader = self.leader()
        if leader is None or leader.engine.applied_index != leader.storage.wal.last_index:
            return False
        names = [member.name for member in leader.engine.configurations.current]
        processes = [self.process(name) for name in names]
        return all(p is not None and p.engine.applied_index == leader.engine.applied_index for p in processes)

    def describe(self) -> str:
        """The state of all nodes, for messages."""
        parts = []
        for name, node in self.nodes.items():
            process = node.process
            if process is None:
                parts.append(f"{name}: down {node.refused}")
                continue
            engine = process.engine
            parts.append(
                f"{name}: term {engine.term}{' LEADER' if engine.is_leader else ''} commit "
                f"{engine.commit_index} applied {engine.applied_index} log {process.storage.wal.base_index}.."
                f"{process.storage.wal.last_index} durable {process.storage.wal.durable_index}"
            )
        busy = [str(client) for client in self.clients if not client.is_done]
        return "; ".join(parts) + (f"; clients busy: {busy}" if busy else "")

    def _facts(self) -> dict[str, int]:
        return {
            "events": self.events,
            "delivered": self.network.delivered,
            "lost": self.network.lost,
            "faults": len(self.schedule_.faults),
            **self.oracles.facts(),
            **self.ledger.facts(),
        }


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """The product's log lines go nowhere: a run has its own trace."""
    before = structlog.get_config()
    only_critical = structlog.make_filtering_bound_logger(50)
    structlog.configure(wrapper_class=only_critical, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def play(schedule: Schedule, *, keep_trace: bool = False) -> Report:
    """Runs one schedule."""
    with quiet_logs():
        return World(schedule, keep_trace=keep_trace).run()
