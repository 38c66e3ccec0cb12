"""One running node in the simulation: the real engine, log, snapshots and state machine on virtual time.

What raft/node.py is for asyncio, this is for the event heap: it hands over messages, runs sync and snapshot
jobs, keeps deadlines. It decides nothing about consensus. A process ends by `kill` (at any moment: also in
the middle of a disk job) or by its own error; its disk stays.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replcache.errors import NoLeader, NotApplied, OutcomeUnknown, ReplcacheError, StalenessUnavailable
from replcache.raft import bootstrap
from replcache.raft.disk import DiskFull, TryLater
from replcache.raft.engine import Engine
from replcache.raft.engine_config import EngineConfig
from replcache.raft.membership import Configuration, decode_configuration, encode_configuration
from replcache.raft.messages import AppendReply, Hello, Message
from replcache.raft.port import Member
from replcache.raft.snapshot_jobs import SnapshotJobs
from replcache.raft.storage_open import open_storage
from replcache.statemachine.commands import Command
from replcache.statemachine.machine import Applied, StateMachine

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

CLUSTER_ID = b"simulated"
DATA_DIR = "/data"
# How long a node whose disk is full waits before its log tries again.
DISK_FULL_RETRY_S = 0.2

Done = Callable[[Any], None]


@dataclass
class _Config:
    """What SnapshotJobs reads of a node's configuration."""

    engine: EngineConfig


class _Job:
    """Work that the product gives to a thread; awaited by a coroutine of the product."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments

    def __await__(self) -> Any:
        return (yield self)


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
        self._ticks = 0
        self._snapshot_looked_at = -1
        self.is_paused = False
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._is_turn_scheduled = False
        self._heard: dict[str, Hello] = {}
        self._applied_waiters: list[tuple[int, int, Done]] = []
        self._revision_waiters: list[tuple[int, int, Done]] = []
        self._order = itertools.count()
        self._fresh_at = float("-inf")
        self.sync_job: Any = None
        self._jobs: deque[tuple[Coroutine[Any, Any, None], _Job]] = deque()
        # Calls of clients that are not answered: what a crash leaves without an answer.
        self.calls: dict[int, Done] = {}
        options = world.options
        self.members = node.members
        self.storage = open_storage(
            node.disk,
            DATA_DIR,
            cluster_id=CLUSTER_ID,
            name=self.name,
            members=self.members,
            rng=rng,
            segment_bytes=options.segment_bytes,
            allocate_bytes=min(4096, options.segment_bytes),
        )
        identity = self.storage.identity
        self.incarnation = identity.incarnation
        config = EngineConfig(
            heartbeat_s=options.heartbeat_s,
            election_min_s=options.election_min_s,
            election_max_s=options.election_max_s,
            append_bytes_max=options.append_bytes_max,
            appends_in_flight_max=options.appends_in_flight_max,
            entry_bytes_max=options.entry_bytes_max,
            snapshot_chunk_bytes=options.snapshot_chunk_bytes,
            snapshot_after_entries=options.snapshot_after_entries,
            log_kept_entries=options.log_kept_entries,
        )
        self.config = _Config(config)
        self.snapshots = SnapshotJobs(self, self.storage.snapshots)  # type: ignore[arg-type]
        self.engine = Engine(
            name=self.name,
            incarnation=identity.incarnation,
            boot=identity.boot,
            is_bootstrapped=identity.bootstrap is not None,
            config=config,
            wal=self.storage.wal,
            base_configuration=self.storage.configuration,
            machine=self.storage.machine,
            applied_index=self.storage.applied_index,
            snapshots=self.snapshots,
            shell=self,
            clock=self.clock,
            rng=rng,
        )

    @property
    def machine(self) -> StateMachine:
        return self.engine.machine

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._maybe_bootstrap()
        self._after(self.rng.random() * self.world.options.tick_s, self._tick)
        self._after(self.world.options.probe_s * self.rng.random(), self._probe)
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
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            world = self.world
            world.schedule(world.now + world.options.turn_s, self._run_turn)
        self.world.oracles.after_event(self)

    def _run_lazily(self, step: Callable[..., None], *arguments: Any) -> None:
        """As run(), for ticks and messages: no turn when nothing is left to do, as after most of them.

        Only an economy, a third of a run's time: every fourth tick has its turn, whatever _has_work says.
        """
        if self.is_paused or self.is_gone:
            self.run(step, *arguments)
            return
        try:
            step(*arguments)
        except (ReplcacheError, AssertionError, OSError) as error:
            self.world.on_halt(self.node, error)
            return
        if not self._is_turn_scheduled and self._has_work():
            self._want_turn()
        self.world.oracles.after_event(self)

    def _has_work(self) -> bool:
        wal, state = self.storage.wal, vars(self.engine)
        return bool(
            state["_SyncObj__raftCommitIndex"] != state["_SyncObj__raftLastApplied"]
            or wal.next_lsn - 1 != wal.durable_lsn
            or self.engine.proposals.pending
            or self.engine.reads.has_reads
            or self.engine.forwarding.has_groups
            or self._applied_waiters
            or self._revision_waiters
            or self._ticks % 4 == 0
        )

    def _run_turn(self) -> None:
        """As run(), but asks for no further turn by itself."""
        if self.is_gone:
            return
        if self.is_paused:
            self._backlog.append((self._turn, ()))
            return
        try:
            self._turn()
        except (ReplcacheError, AssertionError, OSError) as error:
            self.world.on_halt(self.node, error)
            return
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
            self.world.schedule(self.world.now + self.world.options.turn_s, self._run_turn)

    def _turn(self) -> None:
        """What one turn of the event loop does after its inputs (RaftNode._pump)."""
        self._is_turn_scheduled = False
        if self.engine.process():
            self._want_turn()
        self._start_sync()
        if self._applied_waiters or self._revision_waiters:
            self.wake_waiters()
        self._remember_rejoin()
        applied = self.engine.applied_index
        if applied != self._snapshot_looked_at:
            self._snapshot_looked_at = applied
            self.snapshots.maybe_start()

    def _tick(self) -> None:
        self._ticks += 1
        at = self.world.now + self.clock.in_global(self.world.options.tick_s)
        self.world.schedule(at, self._run_lazily, self._tick)
        self.engine.tick()

    # --- disk ----------------------------------------------------------------------------------------------

    def _start_sync(self) -> None:
        if self.node.is_disk_held:
            return
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

    # --- network (Shell) -----------------------------------------------------------------------------------

    def transmit(self, peer: str, message: Message) -> bool:
        self.world.oracles.on_send(self, peer, message)
        return self.world.network.send(self.name, peer, message)

    def receive(self, peer: str, message: Message) -> None:
        self.world.trace_message(peer, self.name, message)
        # What an acknowledgement changes shows only in a turn: others are told of the commit.
        run = self.run if isinstance(message, AppendReply) else self._run_lazily
        run(self.engine.receive, peer, message)

    def on_peer_up(self, peer: str, incarnation: int) -> None:
        other = self.world.process(peer)
        if other is not None:
            self.run(self._peer_up, peer, other.hello())

    def _peer_up(self, peer: str, hello: Hello) -> None:
        self._heard[peer] = hello
        self.engine.on_peer_up(peer, hello.incarnation)
        self._maybe_bootstrap()

    def on_accepted(self, peer: str) -> None:
        """The peer has dialled: its Hello is the first that it says."""
        other = self.world.process(peer)
        if other is not None:
            self.run(self._accepted, peer, other.hello())

    def _accepted(self, peer: str, hello: Hello) -> None:
        self._heard[peer] = hello
        self.engine.on_hello(peer, hello.incarnation)
        self._maybe_bootstrap()

    def knows(self, peer: str) -> bool:
        """Members by the configuration in force, those of the file, and who has dialled (NodePeers)."""
        known = (*self.members, *self.engine.configurations.current)
        return peer in self._heard or any(member.name == peer for member in known)

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
        if self.engine.is_bootstrapped:
            return
        members = bootstrap.decide(
            self.name,
            self.incarnation,
            self.members,
            self._heard,
            may_found=not self.node.is_late_member,
        )
        if members is not None:
            self.storage.identity.set_bootstrap(encode_configuration(members))
            self.engine.bootstrap(members)

    def _remember_rejoin(self) -> None:
        if not self.engine.is_bootstrapped and self.engine.is_recognised:
            members = encode_configuration(self.engine.configurations.current)
            with suppress(TryLater):
                self.storage.identity.set_bootstrap(members)
                self.engine.is_bootstrapped = True

    def on_configuration(self, members: Configuration) -> None:
        self.world.on_configuration(self, members)

    # --- applied (Shell) -----------------------------------------------------------------------------------

    def on_applied(self, index: int, applied: Applied) -> None:
        self.world.oracles.on_applied(self, index, applied)

    def wake_waiters(self) -> None:
        for heap, reached in (
            (self._applied_waiters, self.engine.applied_index),
            (self._revision_waiters, self.machine.revision),
        ):
            while heap and heap[0][0] <= reached:
                heapq.heappop(heap)[2](None)

    # --- snapshots: the product's SnapshotJobs, its threads as events --------------------------------

    def kick(self) -> None:
        self._want_turn()

    def install_snapshot(self, index: int, term: int) -> None:
        self.snapshots.install(index, term)

    def take_snapshot(self) -> None:
        if not self.snapshots.is_busy and self.engine.applied_index > self.snapshots.last_index:
            self.snapshots.take()

    def short_task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._drive(work, None, None)

    def run_in_executor(self, _executor: object, function: Callable[..., Any], *arguments: Any) -> _Job:
        """This object is the running loop of the product's coroutines."""
        return _Job(function, arguments)

    def _drive(self, work: Coroutine[Any, Any, None], result: Any, error: BaseException | None) -> None:
        """Lets a coroutine go on to its next job; the job is done a little later."""
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        try:
            job = work.throw(error) if error is not None else work.send(result)
        except StopIteration:
            return
        finally:
            asyncio._set_running_loop(None)
        self._jobs.append((work, job))
        if len(self._jobs) == 1:
            self._start_job()

    def _start_job(self) -> None:
        """One worker thread: jobs are done one after the other."""
        time_s = self.node.sync_time() * (1 + 10 * self.rng.random())
        self.world.schedule(self.world.now + time_s, self.run, self._do_job)

    def _do_job(self) -> None:
        work, job = self._jobs[0]
        result, failure = None, None
        try:
            result = job.function(*job.arguments)
        except (ReplcacheError, OSError) as error:
            failure = error
        self._jobs.popleft()
        if self._jobs:
            self._start_job()
        self._drive(work, result, failure)
        self.world.oracles.on_snapshots(self)

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
        probe_s = self.world.options.probe_s
        self._after(probe_s, self._probe)
        if self.clock.now() - self._fresh_at >= probe_s:
            self.read_index(1.0, lambda _error: None)

    def administer(self, action: str, member: Member, done: Done) -> None:
        try:
            self.engine.admin.request(action, member, done)
        except NotApplied as error:
            done(error)
