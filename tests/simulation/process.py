"""One running node in the simulation: the real engine, log, snapshots and state machine on virtual time.

What raft/node.py is for asyncio, this is for the event heap: it hands over messages, runs sync and snapshot
jobs, keeps deadlines. It decides nothing about consensus. A process ends by `kill` (at any moment: also in
the middle of a disk job) or by its own error; its disk stays.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replcache.errors import (
    CorruptSnapshot,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    ReplcacheError,
    StalenessUnavailable,
)
from replcache.raft import bootstrap
from replcache.raft.disk import DiskFull
from replcache.raft.engine import Engine
from replcache.raft.engine_config import EngineConfig
from replcache.raft.membership import Configuration, decode_configuration, encode_configuration
from replcache.raft.messages import Hello, Message
from replcache.raft.port import Member
from replcache.raft.snapshot_transfer import SnapshotInfo
from replcache.raft.storage_open import open_storage
from replcache.statemachine.commands import Command
from replcache.statemachine.machine import Applied, StateMachine

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

CLUSTER_ID = b"simulated"
DATA_DIR = "/data"
PROBE_S = 0.1
# What the first attempt to write on a full disk waits before the next one.
DISK_FULL_RETRY_S = 0.2

Done = Callable[[Any], None]


class SimClock:
    """Monotonic clock of one machine: an offset of its own, and a rate that may be off."""

    def __init__(self, world: "World", offset_s: float, rate: float) -> None:
        self._world = world
        self._base_local = offset_s
        self._base_global = world.now
        self.rate = rate

    def now(self) -> float:
        return self._base_local + (self._world.now - self._base_global) * self.rate

    def set_rate(self, rate: float) -> None:
        self._base_local, self._base_global = self.now(), self._world.now
        self.rate = rate

    def in_global(self, local_s: float) -> float:
        """Global seconds that pass while this clock counts `local_s`."""
        return local_s / self.rate


class Process:
    """Raises StorageError from the constructor when the data directory is refused."""

    def __init__(self, world: "World", node: "SimNode", rng: random.Random) -> None:
        self.world = world
        self.node = node
        self.name = node.name
        self.clock = node.clock
        self.rng = rng
        self.is_gone = False
        self.is_paused = False
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._is_turn_scheduled = False
        self._heard: dict[str, Hello] = {}
        self._applied_waiters: list[tuple[int, int, Done]] = []
        self._revision_waiters: list[tuple[int, int, Done]] = []
        self._order = itertools.count()
        self._fresh_at = float("-inf")
        self._is_snapshot_busy = False
        self._bytes_at_snapshot = 0
        self.sync_job: Any = None
        # Calls of clients that are not answered: what a crash leaves without an answer.
        self.calls: dict[int, Done] = {}
        options = world.options
        members = world.first_members
        self.storage = open_storage(
            node.disk,
            DATA_DIR,
            cluster_id=CLUSTER_ID,
            name=self.name,
            members=members,
            rng=rng,
            segment_bytes=options.segment_bytes,
            allocate_bytes=min(4096, options.segment_bytes),
        )
        identity = self.storage.identity
        self.incarnation = identity.incarnation
        self.engine = Engine(
            name=self.name,
            incarnation=identity.incarnation,
            boot=identity.boot,
            is_bootstrapped=identity.bootstrap is not None,
            config=EngineConfig(
                heartbeat_s=options.heartbeat_s,
                election_min_s=options.election_min_s,
                election_max_s=options.election_max_s,
                append_bytes_max=options.append_bytes_max,
                appends_in_flight_max=options.appends_in_flight_max,
                entry_bytes_max=options.entry_bytes_max,
                snapshot_chunk_bytes=options.snapshot_chunk_bytes,
                snapshot_after_entries=options.snapshot_after_entries,
                log_kept_entries=options.log_kept_entries,
            ),
            wal=self.storage.wal,
            base_configuration=self.storage.configuration,
            machine=self.storage.machine,
            applied_index=self.storage.applied_index,
            snapshots=self,
            shell=self,
            clock=self.clock,
            rng=rng,
        )
        self._last_snapshot = self.storage.applied_index

    @property
    def machine(self) -> StateMachine:
        return self.engine.machine

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._maybe_bootstrap()
        self._after(self.rng.random() * self.world.options.tick_s, self._tick)
        self._after(PROBE_S * self.rng.random(), self._probe)
        self._want_turn()

    def kill(self) -> None:
        """The process is gone at this instruction."""
        self.is_gone = True
        calls, self.calls = self.calls, {}
        for done in calls.values():
            done(OutcomeUnknown("the connection to the node broke"))

    def _after(self, local_s: float, step: Callable[..., None], *arguments: Any) -> None:
        """Runs a step of this process later, by its own clock; never after its end."""
        self.world.schedule(self.world.now + self.clock.in_global(local_s), self.run, step, *arguments)

    def run(self, step: Callable[..., None], *arguments: Any) -> None:
        """Every input comes through here: not while paused, never after the end, errors stop the node."""
        if self.is_gone:
            return
        if self.is_paused:
            self._backlog.append((step, arguments))
            return
        try:
            step(*arguments)
        except (ReplcacheError, AssertionError, OSError) as error:
            self.world.on_halt(self.node, error)
            return
        self._want_turn()
        self.world.oracles.after_event(self)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        backlog, self._backlog = self._backlog, []
        for step, arguments in backlog:
            self.run(step, *arguments)

    def _want_turn(self) -> None:
        if not self._is_turn_scheduled and not self.is_gone:
            self._is_turn_scheduled = True
            self.world.schedule(self.world.now, self.run, self._turn)

    def _turn(self) -> None:
        """What one turn of the event loop does after its inputs (RaftNode._pump)."""
        self._is_turn_scheduled = False
        if self.engine.process():
            self._want_turn()
        self._start_sync()
        self._wake()
        self._remember_rejoin()
        self._maybe_snapshot()

    def _tick(self) -> None:
        self._after(self.world.options.tick_s, self._tick)
        self.engine.tick()

    # --- disk ----------------------------------------------------------------------------------------------

    def _start_sync(self) -> None:
        job = self.storage.wal.take_sync_job()
        if job is not None:
            self.sync_job = job
            self.world.schedule(self.world.now + self.node.sync_time(), self.run, self._synced, job)

    def _synced(self, job: Any) -> None:
        wal = self.storage.wal
        self.sync_job = None
        try:
            job.run()
        except DiskFull:
            self._after(DISK_FULL_RETRY_S, self._want_turn)
        wal.complete(job)
        self.engine.on_durable()

    def crash_inside_job(self, operations: int) -> None:
        """The power goes while the sync job runs, after this many of its disk operations."""
        if self.sync_job is not None:
            self.node.run_partly(self.sync_job.run, operations)

    # --- network (Shell) -----------------------------------------------------------------------------------

    def transmit(self, peer: str, message: Message) -> bool:
        self.world.oracles.on_send(self, peer, message)
        return self.world.network.send(self.name, peer, message)

    def receive(self, peer: str, message: Message) -> None:
        self.world.trace_message(peer, self.name, message)
        self.run(self.engine.receive, peer, message)

    def on_peer_up(self, peer: str, incarnation: int) -> None:
        other = self.world.process(peer)
        if other is not None:
            self.run(self._peer_up, peer, other.hello())

    def _peer_up(self, peer: str, hello: Hello) -> None:
        self._heard[peer] = hello
        self.engine.on_peer_up(peer, hello.incarnation)
        self._maybe_bootstrap()

    def on_peer_down(self, peer: str) -> None:
        self.run(self.engine.on_peer_down, peer)

    def hello(self) -> Hello:
        identity = self.storage.identity
        known = identity.bootstrap
        return Hello(
            cluster_id=CLUSTER_ID,
            node=self.name,
            incarnation=identity.incarnation,
            bootstrap=decode_configuration(known) if known is not None else None,
        )

    def _maybe_bootstrap(self) -> None:
        if self.engine.is_bootstrapped or self.node.is_late_member:
            return
        members = bootstrap.decide(self.name, self.incarnation, self.world.first_members, self._heard)
        if members is not None:
            self.storage.identity.set_bootstrap(encode_configuration(members))
            self.engine.bootstrap(members)

    def _remember_rejoin(self) -> None:
        if not self.engine.is_bootstrapped and self.engine.is_recognised:
            members = self.engine.configurations.current
            self.storage.identity.set_bootstrap(encode_configuration(members))
            self.engine.is_bootstrapped = True

    def on_configuration(self, members: Configuration) -> None:
        self.world.on_configuration(self, members)

    # --- applied (Shell) -----------------------------------------------------------------------------------

    def on_applied(self, index: int, applied: Applied) -> None:
        self.world.oracles.on_applied(self, index, applied)

    def _wake(self) -> None:
        for heap, reached in (
            (self._applied_waiters, self.engine.applied_index),
            (self._revision_waiters, self.machine.revision),
        ):
            while heap and heap[0][0] <= reached:
                heapq.heappop(heap)[2](None)

    # --- snapshots (SnapshotPort, Shell) -------------------------------------------------------------------

    def latest(self) -> SnapshotInfo | None:
        newest = self.storage.snapshots.latest()
        return SnapshotInfo(newest.index, newest.term, newest.size) if newest is not None else None

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes | None:
        return self.storage.snapshots.read(info.index, info.term, offset, size)

    def receive_chunk(self, index: int, term: int, total: int, offset: int, data: bytes) -> int:
        return self.storage.snapshots.receive(index, term, total, offset, data)

    def _maybe_snapshot(self) -> None:
        engine = self.engine
        if self._is_snapshot_busy or engine.applied_index <= self._last_snapshot:
            return
        if engine.applied_index - self._last_snapshot >= engine.config.snapshot_after_entries:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        if self._is_snapshot_busy or self.engine.applied_index <= self._last_snapshot:
            return
        self._is_snapshot_busy = True
        engine = self.engine
        index = engine.applied_index
        term = engine.wal.term_at(index)
        assert term is not None, index
        members = encode_configuration(engine.configurations.at(index))
        view = engine.machine.begin_snapshot()
        time_s = self.node.sync_time() * (1 + 10 * self.rng.random())
        self.world.schedule(
            self.world.now + time_s, self.run, self._snapshot_written, index, term, members, view
        )

    def _snapshot_written(self, index: int, term: int, members: bytes, view: Any) -> None:
        self._is_snapshot_busy = False
        try:
            self.storage.snapshots.write(index, term, members, view.chunks())
        except DiskFull:
            return
        self._last_snapshot = max(self._last_snapshot, index)
        self.world.oracles.on_snapshot(self, index)
        self.engine.on_snapshot_taken(index)

    def install_snapshot(self, index: int, term: int) -> None:
        time_s = self.node.sync_time() * (1 + 10 * self.rng.random())
        self.world.schedule(self.world.now + time_s, self.run, self._snapshot_received, index, term)

    def _snapshot_received(self, index: int, term: int) -> None:
        engine, store = self.engine, self.storage.snapshots
        try:
            snapshot = store.finish_receive(index, term)
        except CorruptSnapshot:
            engine.on_snapshot_verified(index, term, is_good=False)
            return
        if engine.on_snapshot_verified(index, term, is_good=True):
            time_s = self.node.sync_time() * self.rng.random()
            self.world.schedule(self.world.now + time_s, self.run, self._snapshot_loaded, snapshot)

    def _snapshot_loaded(self, snapshot: Any) -> None:
        machine = StateMachine.restore(self.storage.snapshots.chunks(snapshot))
        members = decode_configuration(snapshot.configuration)
        self.engine.on_snapshot_loaded(snapshot.index, snapshot.term, members, machine)
        self._last_snapshot = max(self._last_snapshot, snapshot.index)
        self.world.oracles.on_installed(self, snapshot.index)
        self._wake()

    # --- calls (the port) ----------------------------------------------------------------------------------

    def propose(self, command: Command, timeout_s: float, done: Done) -> None:
        """`done` is called once with a CommandResult or a ReplcacheError."""
        ended = [False]

        def finish(outcome: Any) -> None:
            if not ended[0]:
                ended[0] = True
                done(outcome)

        try:
            proposal = self.engine.submit(command, finish)
        except ReplcacheError as error:
            finish(error)
            return

        def expire() -> None:
            if not ended[0]:
                finish(proposal.abandon())

        self._after(timeout_s, expire)

    def read_index(self, timeout_s: float, done: Done) -> None:
        """`done(None)` when this node's state holds all that was acknowledged before the call."""
        started = self.clock.now()
        ended = [False]

        def finish(error: ReplcacheError | None) -> None:
            if ended[0]:
                return
            ended[0] = True
            if error is None:
                self._fresh_at = max(self._fresh_at, started)
            done(error)

        def confirmed(index: int | None) -> None:
            if index is None:
                if not ended[0]:
                    self._after(self.world.options.tick_s, self.engine.read_index, confirmed)
            elif self.engine.applied_index >= index:
                finish(None)
            else:
                heapq.heappush(self._applied_waiters, (index, next(self._order), finish))

        self._after(timeout_s, finish, NoLeader("no leader confirmed the read"))
        self.engine.read_index(confirmed)

    def wait_revision(self, revision: int, timeout_s: float, done: Done) -> None:
        if self.machine.revision >= revision:
            done(None)
            return
        ended = [False]

        def finish(error: ReplcacheError | None) -> None:
            if not ended[0]:
                ended[0] = True
                done(error)

        heapq.heappush(self._revision_waiters, (revision, next(self._order), finish))
        self._after(timeout_s, finish, StalenessUnavailable(f"revision {revision} was not reached"))

    def staleness_s(self) -> float | None:
        return None if self._fresh_at == float("-inf") else self.clock.now() - self._fresh_at

    def _probe(self) -> None:
        self._after(PROBE_S, self._probe)
        if self.clock.now() - self._fresh_at >= PROBE_S:
            self.read_index(10 * PROBE_S, lambda _error: None)

    def administer(self, action: str, member: Member, done: Done) -> None:
        try:
            self.engine.admin.request(action, member, done)
        except NotApplied as error:
            done(error)
