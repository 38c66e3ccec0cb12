"""The Raft engine: pysyncobj's SyncObj with its unsafe handlers replaced whole.

Synchronous and driven from outside: `receive`, `tick`, `on_durable`, `submit`, `read_index`, each followed
by `advance` and `apply_some` (`process` is both). No thread, no asyncio, no file and no socket in here;
clock and randomness are parameters. The shell (node.py, or the simulator) carries messages, runs WAL sync
jobs and snapshot jobs.

Invariants: base <= applied <= commit <= last log index; term and vote are durable before any message that
follows from them leaves (`lsn` of `send`); what a follower acknowledges is durable.
Sources: Raft paper figure 2; Raft dissertation 3.10, 4.1-4.2, 6.2-6.4, 9.6, 10.2.1.
"""

import random
from collections import deque
from collections.abc import Sequence
from typing import NoReturn, Protocol

from replcache.clock import Clock
from replcache.errors import NodeHalted
from replcache.raft.admin import Admin
from replcache.raft.apply import apply_command
from replcache.raft.dispatch import ACKS, HANDLERS, LEADER_MESSAGES, OPEN_MESSAGES
from replcache.raft.election import Election
from replcache.raft.engine_config import EngineConfig
from replcache.raft.forwarding import Forwarding
from replcache.raft.library_frame import CANDIDATE, FOLLOWER, LEADER, LibraryFrame
from replcache.raft.log_adapter import LogAdapter
from replcache.raft.membership import (
    Configuration,
    Configurations,
    decode_configuration,
    encode_configuration,
    quorum,
)
from replcache.raft.messages import ENTRY_COMMAND, ENTRY_MEMBERSHIP, ENTRY_NO_OP, Message, WireEntry
from replcache.raft.proposals import Proposal, ProposalDone, Proposals, command_bytes
from replcache.raft.read_index import ReadDone, ReadRounds
from replcache.raft.remote_reads import RemoteReads
from replcache.raft.replication import Follower, Leadership
from replcache.raft.snapshot_transfer import SnapshotPort, SnapshotReceiver, SnapshotSender
from replcache.raft.transfer import Transfer
from replcache.raft.wal import Wal
from replcache.statemachine.commands import Command
from replcache.statemachine.machine import Applied, StateMachine


class Shell(Protocol):
    """What the engine asks of the one who drives it. None of these may call back into the engine."""

    def transmit(self, peer: str, message: Message) -> bool:
        """Hands a message to the network; False: certainly not sent."""
        ...

    def on_applied(self, index: int, applied: Applied) -> None: ...

    def install_snapshot(self, index: int, term: int) -> None:
        """A received snapshot file is complete: verify, make durable, load, then report back."""
        ...

    def on_configuration(self, members: Configuration) -> None: ...


class Engine(LibraryFrame):
    """One Raft node. See the module docstring for how it is driven."""

    def __init__(
        self,
        *,
        name: str,
        incarnation: int,
        boot: int,
        is_bootstrapped: bool,
        config: EngineConfig,
        wal: Wal,
        base_configuration: Configuration,
        machine: StateMachine,
        applied_index: int,
        snapshots: SnapshotPort,
        shell: Shell,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """
        Args:
            base_configuration: that of the snapshot at `applied_index`, or the bootstrap configuration.
            machine: state after `applied_index` (0: empty).
        """
        assert wal.base_index <= applied_index <= max(wal.last_index, wal.base_index)
        self.name = name
        self.incarnation = incarnation
        self.boot = boot
        self.is_bootstrapped = is_bootstrapped
        self.config = config
        self.wal = wal
        self.machine = machine
        self.shell = shell
        self.clock = clock
        self.rng = rng
        self.halted = ""
        self.leader_changes = 0
        self.term_start_index = 0
        self.term_lsn = wal.durable_lsn
        self.connected: set[str] = set()
        self.peer_incarnations: dict[str, int] = {}
        self._gated: deque[tuple[int, str, Message]] = deque(maxlen=config.gated_max)
        self._clock_base = (machine.clock_ms, clock.now())
        self.configurations = Configurations(applied_index, base_configuration)
        self.election: Election = Election(self)
        self.follower: Follower = Follower(self)
        self.leadership: Leadership = Leadership(self)
        self.snapshots_out: SnapshotSender = SnapshotSender(self, snapshots)
        self.snapshots_in: SnapshotReceiver = SnapshotReceiver(self, snapshots)
        self.transfer: Transfer = Transfer(self)
        self.reads = ReadRounds()
        self.remote_reads: RemoteReads = RemoteReads(self)
        self.forwarding: Forwarding = Forwarding(self)
        # An origin is one data directory: a node that lost its disk counts its boots anew.
        self._origin = f"{name}/{incarnation:x}"
        self.proposals = Proposals(
            self._origin,
            boot,
            bytes_max=config.proposals_bytes_max,
            group_bytes_max=config.entry_bytes_max,
        )
        self.admin: Admin = Admin(self)
        super().__init__(name, config, rng, LogAdapter(wal))
        self.term = wal.term
        self.voted_for = wal.voted_for
        self.commit_index = applied_index
        self.applied_index = applied_index
        self.configurations.read_log(wal)
        self._sync_library_nodes()
        self.set_election_deadline()

    # --- who am I ---

    @property
    def other_voters(self) -> list[str]:
        return [name for name in self.configurations.voters if name != self.name]

    @property
    def is_recognised(self) -> bool:
        """The configuration knows this node under this incarnation: its disk is the one that promised."""
        member = self.configurations.member(self.name)
        return member is not None and member.incarnation == self.incarnation

    @property
    def may_vote(self) -> bool:
        """Never from an empty disk (hazard H8). A removed node still votes, as dissertation 4.2.2 asks."""
        if self.configurations.member(self.name) is None:
            return self.is_bootstrapped
        return self.is_recognised

    def may_campaign(self) -> bool:
        may_lead = self.configurations.may_lead(self.name, self.incarnation, self.commit_index)
        return may_lead and not self.wal.disk_full

    def is_reachable_member(self, peer: str) -> bool:
        """Connected, and the process there has the disk that the configuration means."""
        member = self.configurations.member(peer)
        return (
            member is not None
            and peer in self.connected
            and self.peer_incarnations.get(peer) == member.incarnation
        )

    # --- inputs ---

    def receive(self, peer: str, message: Message) -> None:
        """Takes one message of a peer; the transport has settled that it is from `peer`."""
        if self.halted or not self._is_acceptable(peer, message):
            return
        if isinstance(message, LEADER_MESSAGES):
            if message.term < self.term:
                self.follower.answer_stale_leader(peer)
                return
            if message.term == self.term and self.is_leader:
                self.halt(f"{peer} leads in term {self.term} too")
            self.become_follower(message.term, leader=peer)
        elif isinstance(message, ACKS):
            if message.term > self.term:
                self.become_follower(message.term, leader=None)
                return
            if message.term < self.term or not self.is_leader:
                return
        HANDLERS[type(message)](self, peer, message)

    def _is_acceptable(self, peer: str, message: Message) -> bool:
        """A process with another disk than the configuration's has made none of its promises."""
        if isinstance(message, OPEN_MESSAGES):
            return True
        member = self.configurations.member(peer)
        return member is not None and member.incarnation in (0, self.peer_incarnations.get(peer))

    def on_hello(self, peer: str, incarnation: int) -> None:
        """The peer's messages come from the process with this disk from now on."""
        self.peer_incarnations[peer] = incarnation

    def on_peer_up(self, peer: str, incarnation: int) -> None:
        """Messages to the peer leave from now on."""
        self.connected.add(peer)
        self.on_hello(peer, incarnation)
        progress = self.leadership.progress.get(peer)
        if self.is_leader and progress is not None:
            self.leadership.probe(peer, progress)
            self.leadership.replicate_to(peer, progress)

    def on_peer_down(self, peer: str) -> None:
        self.connected.discard(peer)

    def tick(self) -> None:
        """Time-driven work; call it every few tens of milliseconds."""
        if self.halted:
            return
        now = self.clock.now()
        self.election.tick(now)
        if self.is_leader:
            quiet_since = self.leadership.last_quorum_contact(now)
            if now - quiet_since > self.config.election_max_s:
                # CheckQuorum (dissertation 6.2): whoever can't reach a majority stops leading.
                self.become_follower(self.term, leader=None)
        if self.is_leader:
            self.leadership.tick(now)
            self.transfer.tick(now)
            self.admin.tick(now)
            self._tick_cluster_clock()
        self.remote_reads.tick(now)
        # The own queue loses nothing; a group that went over the network may be lost with its connection.
        lost_before = float("-inf") if self.is_leader else now - self.config.election_max_s
        self.proposals.resend(self.term, lost_before)

    def _tick_cluster_clock(self) -> None:
        due = self.machine.next_due_ms()
        is_idle = self.can_append_commands and self.applied_index == self.wal.last_index
        if due is not None and is_idle and due <= self.cluster_now_ms():
            self.forwarding.append_clock_tick()

    def on_durable(self) -> None:
        """The WAL's durable_lsn has moved."""
        if self.halted:
            return
        gated, self._gated = self._gated, deque(maxlen=self.config.gated_max)
        durable = self.wal.durable_lsn
        for lsn, peer, message in gated:
            if lsn <= durable:
                self.shell.transmit(peer, message)
            else:
                self._gated.append((lsn, peer, message))
        self.election.on_durable()
        if self.is_leader:
            self.leadership.advance_commit()

    def submit(self, command: Command, done: ProposalDone) -> Proposal:
        """Takes a command to be replicated. Raises Overloaded, NodeHalted."""
        if self.halted:
            raise NodeHalted(self.halted)
        return self.proposals.submit(command, command_bytes(command), done)

    def read_index(self, done: ReadDone) -> None:
        """`done(index)`: reading at or behind it is linearizable. It may never be called: keep a deadline."""
        if self.is_leader:
            self.reads.add(done)
        else:
            self.remote_reads.add(done)

    def advance(self) -> None:
        """Moves everything but the state as far as it goes now; call it after each bunch of inputs."""
        if self.halted:
            return
        self.forwarding.flush()
        if self.is_leader:
            self.start_reads()
            self.leadership.tell_awaited_commit()
        else:
            self.remote_reads.flush()

    def start_reads(self) -> None:
        if self.commit_index < self.term_start_index:
            return  # nothing of the own term is committed yet: the commit index may be behind (6.4)
        if self.reads.try_start(self.commit_index):
            self.leadership.broadcast_heartbeat(self.clock.now())
        self.finish_reads()

    def finish_reads(self) -> None:
        voters = self.configurations.voters
        if self.reads.try_finish(voters, self.name, quorum(len(voters))):
            self.start_reads()

    # --- term and role ---

    def set_term(self, term: int, voted_for: str | None) -> None:
        """Term and vote, to be durable before any message that follows from them."""
        assert term >= self.term, (term, self.term)
        self.write_term(term, voted_for)
        self.term_lsn = self.log_lsn

    def become_follower(self, term: int, leader: str | None) -> None:
        """Takes over a term, a leader, or both; stepping down always sets a new election deadline (H21)."""
        now = self.clock.now()
        was_leader = self.is_leader
        if term > self.term:
            self.set_term(term, None)
            # Answers of an earlier term that were not yet durable must never leave: the entries that they
            # vouch for may be cut off by the new term's leader.
            self._gated.clear()
            self.follower.reset()
            self._set_leader(None)
        if was_leader or self.is_candidate:
            self.set_role(FOLLOWER)
            self.set_election_deadline()
        if was_leader:
            self._on_lost_leadership()
        if leader is not None:
            self.election.heard_leader(now)
            self.set_election_deadline()
            self._set_leader(leader)
        elif was_leader:
            self._set_leader(None)
        if leader is None:
            self.election.reset()

    def _on_lost_leadership(self) -> None:
        self.leadership.progress = {}
        self.snapshots_out.reset()
        self.reads.fail_all()
        self.forwarding.on_lost_leadership()
        self.transfer.on_lost_leadership()
        self.admin.on_lost_leadership()

    def become_candidate(self) -> None:
        assert self.may_campaign() and not self.is_leader
        self._set_leader(None)
        self.set_role(CANDIDATE)
        self.set_term(self.term + 1, self.name)
        self._gated.clear()
        self.follower.reset()

    def become_leader(self) -> None:
        """Won the election of the current term: a no-op makes everything before it committable (5.4.2)."""
        assert self.is_candidate and self.voted_for == self.name
        now = self.clock.now()
        self.election.reset()
        self.set_role(LEADER)
        self._set_leader(self.name)
        self.leadership.start(now)
        self.term_start_index = self.wal.last_index + 1
        self.append_as_leader([WireEntry(self.term, ENTRY_NO_OP, b"")])
        self.leadership.broadcast_heartbeat(now)

    def lose_leader(self) -> None:
        """Nothing was heard for an election timeout."""
        self._set_leader(None)

    def _set_leader(self, name: str | None) -> None:
        if (name or "") != self.leader:
            self.write_leader(name)
            self.leader_changes += name is not None

    def set_election_deadline(self) -> None:
        self.election_deadline = self.clock.now() + self.random_election_timeout_s()

    # --- log ---

    @property
    def log_lsn(self) -> int:
        """WAL sequence number of the newest mutation: durable up to it means all of it is durable."""
        return self.wal.next_lsn - 1

    @property
    def can_append_commands(self) -> bool:
        """The leader has applied the first entry of its term: its clock stamps go on from the last."""
        return (
            self.is_leader
            and self.applied_index >= self.term_start_index
            and not self.transfer.is_under_way
            and not self.wal.disk_full
        )

    def append_as_leader(self, entries: Sequence[WireEntry]) -> None:
        assert self.is_leader
        self.append_entries(entries)
        self.leadership.replicate()

    def append_entries(self, entries: Sequence[WireEntry]) -> None:
        first = self.wal.last_index + 1
        self.wal.append([(index, *entry) for index, entry in enumerate(entries, first)])
        for index, entry in enumerate(entries, first):
            if entry.kind == ENTRY_MEMBERSHIP:
                self.configurations.append(index, decode_configuration(entry.payload))
                self._on_configuration()

    def append_configuration(self, members: Configuration) -> int:
        """Appends a membership entry; it is in force at once. Returns its index."""
        index = self.wal.last_index + 1
        self.append_as_leader([WireEntry(self.term, ENTRY_MEMBERSHIP, encode_configuration(members))])
        return index

    def truncate_from(self, index: int) -> None:
        """Cuts a conflicting suffix, with the configurations in it."""
        if index <= self.commit_index:
            self.halt(f"asked to cut the log from {index}, but it is committed up to {self.commit_index}")
        self.wal.truncate_from(index)
        before = self.configurations.current
        self.configurations.truncate_from(index)
        if self.configurations.current != before:
            self._on_configuration()

    def _on_configuration(self) -> None:
        if self.is_leader:
            self.leadership.sync_peers(self.clock.now())
        self._sync_library_nodes()
        self.shell.on_configuration(self.configurations.current)

    def _sync_library_nodes(self) -> None:
        self.write_other_nodes(self.other_voters)

    def set_commit_index(self, index: int) -> None:
        """Only ever forward."""
        if index > self.commit_index:
            assert index <= self.wal.last_index, (index, self.wal.last_index)
            self.commit_index = index
            if self.is_leader:
                self.start_reads()

    def apply_some(self) -> bool:
        """Applies committed entries, for a slice of time; True: there are more, call again soon."""
        if self.halted:
            return False
        self.apply_began = self.clock.now()
        end = self.apply_began + self.config.apply_slice_s
        while self.applied_index < self.commit_index and self.apply_began < end:
            self._apply_next()
            self.apply_began = self.clock.now()
        return bool(self.applied_index < self.commit_index)

    def _apply_next(self) -> None:
        index = self.applied_index + 1
        _, _, kind, payload = self.wal.entry(index)
        if kind == ENTRY_COMMAND:
            applied = self._apply_command(index, payload)
            self.applied_index = index
            self._resolve(applied)
            self.shell.on_applied(index, applied)
        else:
            self.applied_index = index
            if kind == ENTRY_MEMBERSHIP:
                self.admin.on_applied(index)
        if index == self.term_start_index and self.is_leader:
            self.forwarding.flush()

    def _apply_command(self, index: int, payload: bytes) -> Applied:
        try:
            applied = apply_command(self.machine, index, payload)
        except NodeHalted as error:
            self.halt(str(error), error)
        is_own_stamp = self.is_leader and index >= self.term_start_index
        if self.machine.clock_ms != self._clock_base[0] and not is_own_stamp:
            self._clock_base = (self.machine.clock_ms, self.clock.now())
        return applied

    def _resolve(self, applied: Applied) -> None:
        for origin, boot, sequence, results in applied.group_results:
            if origin == self._origin and boot == self.boot:
                if results is None:
                    self.proposals.skipped(sequence)
                else:
                    self.proposals.resolve(sequence, results)

    def cluster_now_ms(self) -> int:
        """The leader's stamp: the last applied stamp plus own monotonic time since it was applied."""
        base_ms, base_at = self._clock_base
        elapsed_ms = int((self.clock.now() - base_at) * 1000)
        return max(self.machine.clock_ms, base_ms + elapsed_ms)

    # --- snapshots and first start ---

    def take_over_snapshot(self, index: int, members: Configuration, machine: StateMachine) -> None:
        """The state, commit and applied index of an installed snapshot; the caller has settled the log."""
        self.machine = machine
        self.commit_index = index
        self.applied_index = index
        self.follower.verified_index = max(self.follower.verified_index, index)
        self._clock_base = (machine.clock_ms, self.clock.now())
        self.configurations.reset(index, members, self.wal.last_index)
        self._on_configuration()
        self.proposals.lost_in_snapshot()

    def bootstrap(self, members: Configuration) -> None:
        """The first start of the cluster: every configured member was heard, with its incarnation."""
        assert not self.is_bootstrapped
        self.is_bootstrapped = True
        if self.configurations.current_index == 0 and self.wal.base_index == 0:
            self.configurations.reset(0, members, 0)
            self._on_configuration()
        self.set_election_deadline()

    # --- output ---

    def send(self, peer: str, message: Message, *, lsn: int = 0) -> bool:
        """Sends when the WAL is durable up to `lsn`; False: certainly not sent."""
        if lsn <= self.wal.durable_lsn:
            return self.shell.transmit(peer, message)
        self._gated.append((lsn, peer, message))
        return True

    def halt(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        """Stops this node for good: its state or its disk can't be trusted (promise P9)."""
        self.halted = reason
        self.proposals.fail_all(NodeHalted(reason))
        self.reads.fail_all()
        raise NodeHalted(reason) from cause
