"""One Raft node on an asyncio loop: the shell that drives the engine and implements port.RaftPort.

Everything of the engine runs on the loop; fdatasync, snapshot writing and snapshot loading run in threads.
An input (message, tick, completed sync, call) is followed once per loop turn by `_pump`, which lets the
engine move on and starts the next WAL sync. Any error that the engine can't answer stops the node: it never
goes on with a state that it can't trust (promise P9).
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from replcache import constants as c
from replcache.clock import Clock, SystemClock
from replcache.errors import (
    NodeHalted,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    ReplcacheError,
    StalenessUnavailable,
)
from replcache.raft.backup import begin_backup
from replcache.raft.disk import Disk, OsDisk
from replcache.raft.engine import Engine
from replcache.raft.log_sync import LogSync
from replcache.raft.membership import Configuration
from replcache.raft.messages import Hint, Message
from replcache.raft.node_config import RaftConfig
from replcache.raft.node_peers import NodePeers
from replcache.raft.node_status import node_counters, node_standing, node_status
from replcache.raft.peers import PeerTransport
from replcache.raft.port import (
    Answerer,
    AppliedListener,
    Backup,
    HintListener,
    Member,
    NodeStatus,
    OnApplied,
    Standing,
)
from replcache.raft.questions import Questions
from replcache.raft.snapshot_jobs import SnapshotJobs
from replcache.raft.storage_open import OpenedStorage, open_storage
from replcache.raft.waiters import Waiters
from replcache.raft.wal import SyncJob
from replcache.statemachine.commands import Command
from replcache.statemachine.machine import Applied, StateMachine
from replcache.statemachine.results import CommandResult
from replcache.tasks import Supervisor

log = structlog.get_logger("replcache.raft")


class RaftNode:
    """Implements port.RaftPort. Nothing happens before start(); close() may be called twice.

    Args:
        on_halt: called once, on the loop, when the node has stopped by itself; the process should exit.
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        on_halt: Callable[[str], None],
        disk: Disk | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self._on_halt = on_halt
        self._disk = disk or OsDisk()
        self.clock = clock or SystemClock()
        # Seeded by the system, and then without a system call for each message of a leader (its deadline).
        self._rng = rng or random.Random()
        self._identity_rng = rng or random.SystemRandom()
        self._supervisor = Supervisor(lambda name, error: self.fail(error))
        self.log_sync = LogSync(self.clock, self._on_synced)
        self._is_news_timed = False
        self._listeners: list[AppliedListener] = []
        self.hint_listener: HintListener | None = None
        self._applied_waiters = Waiters()
        self._revision_waiters = Waiters()
        self._fresh_at = float("-inf")
        self.questions = Questions(self)
        self._is_pump_scheduled = False
        self._is_closed = False
        self._full_until = float("-inf")
        self._started_at = 0.0
        self.halted = ""
        self.storage: OpenedStorage
        self.engine: Engine
        self._peers: NodePeers
        self._snapshots: SnapshotJobs
        self._loop: asyncio.AbstractEventLoop

    @property
    def machine(self) -> StateMachine:
        return self.engine.machine

    @property
    def transport(self) -> PeerTransport:
        """For statistics, and for blocking links where config.fault_injection allows it."""
        return self._peers.transport

    # --- life ---

    async def start(self) -> None:
        """Opens the data directory, listens, and takes part.

        Raises:
            StorageError: the directory can't be used (damaged, of another node or cluster, in use).
            OSError: the peer port can't be bound.
        """
        self._loop = asyncio.get_running_loop()
        config = self.config
        self._started_at = self.clock.now()
        self.storage = await asyncio.to_thread(
            open_storage,
            self._disk,
            config.data_dir,
            cluster_id=config.cluster_id,
            name=config.name,
            members=config.members,
            rng=self._identity_rng,
            fsync=config.durability_fsync,
        )
        identity = self.storage.identity
        report = self.storage.wal.report
        if report.torn_bytes:
            log.warning(
                "wal_tail_repaired",
                file=report.torn_file,
                offset=report.torn_offset,
                dropped_bytes=report.torn_bytes,
            )
        self._snapshots = SnapshotJobs(self, self.storage.snapshots)
        self.engine = Engine(
            name=config.name,
            incarnation=identity.incarnation,
            boot=identity.boot,
            is_bootstrapped=identity.bootstrap is not None,
            config=config.engine,
            wal=self.storage.wal,
            base_configuration=self.storage.configuration,
            machine=self.storage.machine,
            applied_index=self.storage.applied_index,
            snapshots=self._snapshots,
            shell=self,
            clock=self.clock,
            rng=self._rng,
        )
        self.log_sync.start()
        self._peers = NodePeers(self, self._rng)
        await self._peers.start()
        self._supervisor.background("raft-tick", self._tick_forever())
        if config.staleness_probe_s > 0:
            self._supervisor.background("staleness-probe", self._probe_forever())
        log.info(
            "raft_started",
            node=config.name,
            boot=identity.boot,
            term=self.engine.term,
            last_index=self.storage.wal.last_index,
            snapshot_index=self.storage.applied_index,
            is_bootstrapped=self.engine.is_bootstrapped,
        )
        self.kick()

    async def close(self) -> None:
        """Stops; pending calls end with NotApplied or OutcomeUnknown."""
        if self._is_closed:
            return
        self._is_closed = True
        if hasattr(self, "engine"):
            self._end_calls(NotApplied("the node is stopping"))
        await self._supervisor.close()
        if hasattr(self, "_peers"):
            await self._peers.close()
        if hasattr(self, "_snapshots"):
            await self._snapshots.close()
        # A sync under way finishes, so that close() of the log finds no running job.
        await self.log_sync.close()
        if hasattr(self, "storage"):
            self.storage.close()

    def _end_calls(self, error: ReplcacheError) -> None:
        self.engine.proposals.fail_all(error)
        self.engine.reads.fail_all()
        self.engine.remote_reads.fail_all()
        self._applied_waiters.fail_all(error)
        self._revision_waiters.fail_all(error)

    def fail(self, error: BaseException) -> None:
        """Stops the node for good: nothing is sent, served or voted any more."""
        if self.halted or self._is_closed:
            return
        self.halted = str(error) or type(error).__name__
        if hasattr(self, "engine"):
            self.engine.halted = self.halted
            self._end_calls(NodeHalted(self.halted))
        log.critical("node_halted", reason=self.halted, exc_info=error)
        self._on_halt(self.halted)

    # --- the pump ---

    def kick(self) -> None:
        """Runs the pump once in the next loop turn, however many inputs arrive until then."""
        if not self._is_pump_scheduled:
            self._is_pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_scheduled = False
        if self.halted or self._is_closed:
            return
        try:
            self.engine.advance()
            # Before the state machine's work: the disk has time for its own meanwhile.
            self._start_sync()
            applied = self.engine.applied_index
            has_more = self.engine.apply_some()
            if self.engine.applied_index > applied:
                self.wake_waiters()
            if not self._is_news_timed and (news := self.engine.leadership.commit_news):
                self._is_news_timed = True
                self._loop.call_later(c.COMMIT_NEWS_DELAY_S, self._tell_commit, news)
            self._peers.remember_rejoin()
            self._snapshots.maybe_start()
        except Exception as error:  # noqa: BLE001  # the log's state is not known any more, whatever it was
            self.fail(error)
            return
        if has_more:
            self.kick()

    def guard(self, step: Callable[[], None]) -> None:
        """Runs one input; whatever it can't answer stops the node."""
        if self.halted or self._is_closed:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001
            self.fail(error)
            return
        self.kick()

    def _start_sync(self) -> None:
        if self.storage.wal.disk_full and self.clock.now() < self._full_until:
            return  # the next tick after that tries again
        if (job := self.storage.wal.take_sync_job()) is not None:
            self.log_sync.put(job)

    def _on_synced(self, job: SyncJob, error: BaseException | None) -> None:
        if error is not None:
            self.fail(error)
            return

        def step() -> None:
            was_full = self.storage.wal.disk_full
            self.storage.wal.complete(job)
            is_full = self.storage.wal.disk_full
            self._full_until = self.clock.now() + c.DISK_FULL_RETRY_S
            if is_full != was_full:
                log.error("disk_full" if is_full else "disk_has_room_again", node=self.config.name)
            self.engine.on_durable()

        self.guard(step)

    def _tell_commit(self, news: int) -> None:
        self._is_news_timed = False
        self.guard(partial(self.engine.leadership.tell_commit, news))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self.config.tick_s)
            self.guard(self.engine.tick)

    async def _probe_forever(self) -> None:
        """Proves now and then how fresh the local state is, for READ_LEVEL_ONE."""
        while True:
            await asyncio.sleep(self.config.staleness_probe_s)
            now = self.clock.now()
            if now - self._fresh_at >= self.config.staleness_probe_s:
                try:
                    await self.read_index(now + 10 * self.config.staleness_probe_s)
                except (NotApplied, NodeHalted):
                    continue  # no leader: the staleness that is reported goes on growing

    # --- for the snapshot jobs ---

    def short_task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._supervisor.short(name, work)

    @property
    def snapshot_index(self) -> int:
        return self._snapshots.last_index

    @property
    def snapshots_taken(self) -> int:
        return self._snapshots.taken

    # --- engine.Shell ---

    def transmit(self, peer: str, message: Message) -> bool:
        return self.transport.send(peer, message)

    def on_configuration(self, members: Configuration) -> None:
        self._peers.on_configuration(members)

    def on_applied(self, index: int, applied: Applied) -> None:
        for listener in self._listeners:
            listener(index, applied.events)

    def wake_waiters(self) -> None:
        self._applied_waiters.reached(self.engine.applied_index)
        self._revision_waiters.reached(self.machine.revision)

    def install_snapshot(self, index: int, term: int) -> None:
        self._snapshots.install(index, term)

    # --- port ---

    def status(self) -> NodeStatus:
        return node_status(self)

    def standing(self) -> Standing:
        return node_standing(self)

    def counters(self) -> dict[str, int]:
        return node_counters(self)

    async def propose(
        self, command: Command, deadline: float, on_applied: OnApplied | None = None
    ) -> CommandResult:
        """See port.RaftPort.propose."""
        future: asyncio.Future[CommandResult] = self._loop.create_future()

        def done(outcome: CommandResult | ReplcacheError) -> None:
            if on_applied is not None and not isinstance(outcome, ReplcacheError):
                on_applied(self.engine.applied_index, self.engine.apply_began)
            _settle(future, outcome)

        self._check_open()
        proposal = self.engine.submit(command, done)
        self.kick()

        def expire() -> None:
            if not future.done():
                future.set_exception(proposal.abandon())

        timer = self._loop.call_later(max(0.0, deadline - self.clock.now()), expire)
        try:
            return await future
        except asyncio.CancelledError:
            proposal.abandon()
            raise
        finally:
            timer.cancel()

    def _check_open(self) -> None:
        if self.halted:
            raise NodeHalted(self.halted)
        if self._is_closed:
            raise NotApplied("the node is stopping")

    async def read_index(self, deadline: float) -> None:
        """See port.RaftPort.read_index. Also proves the local state fresh as of the call."""
        self._check_open()
        started = self.clock.now()
        try:
            async with asyncio.timeout(max(0.0, deadline - started)):
                index = await self._confirmed_index()
                if self.engine.applied_index < index:
                    await self._applied_waiters.add(index)
        except TimeoutError as error:
            raise NoLeader("no leader confirmed the read within the deadline", retry_after_s=0.2) from error
        self._fresh_at = max(self._fresh_at, started)

    async def _confirmed_index(self) -> int:
        while True:
            future: asyncio.Future[int | None] = self._loop.create_future()

            def done(index: int | None, future: asyncio.Future[int | None] = future) -> None:
                if not future.done():
                    future.set_result(index)

            self.engine.read_index(done)
            self.kick()
            index = await future
            if index is not None:
                return index
            self._check_open()
            await asyncio.sleep(self.config.tick_s)  # the leader is changing

    async def wait_revision(self, revision: int, deadline: float) -> None:
        self._check_open()
        if self.machine.revision >= revision:
            return
        # The leader tells of commits at leisure; asked for a read index, it tells at once.
        self.engine.read_index(lambda index: None)
        self.kick()
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.now())):
                await self._revision_waiters.add(revision)
        except TimeoutError as error:
            raise StalenessUnavailable(
                f"revision {revision} was not reached within the deadline, this node is at "
                f"{self.machine.revision}",
                retry_after_s=0.1,
            ) from error

    def staleness_s(self) -> float | None:
        if self._fresh_at == float("-inf"):
            return None
        return self.clock.now() - self._fresh_at

    def add_applied_listener(self, listener: AppliedListener) -> None:
        self._listeners.append(listener)

    def remove_applied_listener(self, listener: AppliedListener) -> None:
        self._listeners.remove(listener)

    def hint_leader(self, data: bytes) -> bool:
        """See port.RaftPort.hint_leader."""
        leader = self.engine.leader
        return bool(leader) and not self.engine.is_leader and self.transmit(leader, Hint(data))

    def set_hint_listener(self, listener: HintListener | None) -> None:
        """See port.RaftPort.set_hint_listener."""
        self.hint_listener = listener

    async def transfer_leadership(self, to: str, deadline: float) -> str:
        """See port.RaftPort.transfer_leadership."""
        before = self.engine.leader
        await self._administer("transfer", Member(to, "", ""), deadline)
        while not self.engine.leader or (self.engine.leader == before and to != before):
            if self.clock.now() > deadline:
                raise NoLeader("no new leader was known within the deadline")
            await asyncio.sleep(self.config.tick_s)
        return self.engine.leader

    async def change_members(self, action: str, member: Member, deadline: float) -> tuple[Member, ...]:
        """See port.RaftPort.change_members."""
        await self._administer(action, member, deadline)
        # The leader has committed it; this node may hear of it a moment later.
        while (self.engine.configurations.member(member.name) is None) != (action == "remove"):
            if self.clock.now() > deadline:
                raise OutcomeUnknown(f"{action} {member.name}: committed, and not heard of here")
            await asyncio.sleep(self.config.tick_s)
        return self.engine.configurations.current

    def answer(self, question: str, answerer: Answerer) -> None:
        """See port.RaftPort.answer."""
        self.questions.answer(question, answerer)

    async def ask(self, question: str, payload: bytes, deadline: float) -> dict[str, bytes]:
        """See port.RaftPort.ask."""
        return {} if self._is_closed else await self.questions.ask(question, payload, deadline)

    def begin_backup(self) -> Backup:
        """See port.RaftPort.begin_backup."""
        self._check_open()
        return begin_backup(self)

    async def _administer(self, action: str, member: Member, deadline: float) -> None:
        self._check_open()
        future: asyncio.Future[None] = self._loop.create_future()

        self.engine.admin.request(action, member, partial(_settle, future))
        self.kick()
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.now())):
                await future
        except TimeoutError as error:
            raise OutcomeUnknown(f"{action} {member.name}: no answer within the deadline") from error


def _settle(future: "asyncio.Future[Any]", outcome: object) -> None:
    if not future.done():
        if isinstance(outcome, ReplcacheError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
