"""An in-memory RaftPort: the real state machine, applied at once, without a cluster, a disk or a network.

Passes tests/contract/test_raft_port.py as the real node does. A test can take the leader away, hold proposals
or reads back, let outcomes get lost, freeze the staleness, move the cluster's clock, install a "snapshot"
(another machine, without events) and halt the node.
"""

import asyncio
from collections.abc import Callable

from replcache.clock import Clock, SystemClock
from replcache.errors import (
    InvalidRequest,
    NodeHalted,
    NoLeader,
    OutcomeUnknown,
    Refused,
    ReplcacheError,
    StalenessUnavailable,
    Unavailable,
)
from replcache.raft.backup import encoded
from replcache.raft.membership import encode_configuration
from replcache.raft.port import (
    Answerer,
    AppliedListener,
    Backup,
    HintListener,
    Member,
    NodeStatus,
    OnApplied,
    PeerStatus,
    Role,
    Standing,
)
from replcache.raft.snapshot_format import SnapshotHeader
from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import CommandResult

CLUSTER_ID = b"fake cluster id."


class FakeRaft:
    """One node that is a whole cluster. All switches may be changed at any time.

    Attributes:
        leader: name of the leader; "" means that there is none, so writes and rounds wait and then fail.
        proposals_open, reads_open: cleared to hold what arrives; of proposals only those that `holds` names.
        lose_outcomes: so many proposals are applied, but their callers are told OutcomeUnknown.
        refuse_with: raised by the next propose() calls instead of anything else.
        staleness: what staleness_s() answers, "auto": since the last read_index round.
        proposed: all commands that were applied, in order.
    """

    def __init__(self, name: str = "n1", clock: Clock | None = None) -> None:
        self.name = name
        self.clock = clock or SystemClock()
        self.machine = StateMachine()
        self.leader = name
        self.role = Role.LEADER
        self.term = 1
        self.has_quorum = True
        self.halted = ""
        self.members: tuple[Member, ...] = (Member(name, "127.0.0.1:1", "127.0.0.1:2", 7),)
        self.peers: tuple[PeerStatus, ...] = ()
        self.proposals_open = asyncio.Event()
        self.proposals_open.set()
        self.holds: Callable[[Command], bool] = lambda _: True
        self.reads_open = asyncio.Event()
        self.reads_open.set()
        self.lose_outcomes = 0
        self.refuse_with: ReplcacheError | None = None
        self.staleness: float | str | None = "auto"
        self.proposed: list[Command] = []
        self.rounds = 0
        self.transfers: list[str] = []
        self.clock_offset_ms = 0
        # What the peers answer, by question and name; and who answers here.
        self.peer_answers: dict[str, dict[str, bytes]] = {}
        self.answerers: dict[str, Answerer] = {}
        self._fresh_at: float | None = None
        self._started = self.clock.now()
        self._sequence = 0
        self._listeners: list[AppliedListener] = []
        self.hint_listener: HintListener | None = None
        # What was sent to a leader that is another node.
        self.hints: list[bytes] = []
        self._changed = asyncio.Event()

    # --- what tests do to it ---

    def advance_ms(self, milliseconds: int) -> None:
        """Moves the cluster's clock and lets due things end, as the leader's tick does."""
        self.clock_offset_ms += milliseconds
        self._apply([])

    def install_machine(self, machine: StateMachine) -> None:
        """An installed snapshot: another state, and no events."""
        self.machine = machine

    def wake(self) -> None:
        """Lets waiting calls look at the switches again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # --- the port ---

    def status(self) -> NodeStatus:
        machine = self.machine
        return NodeStatus(
            node=self.name,
            cluster_id=CLUSTER_ID,
            role=self.role,
            term=self.term,
            leader=self.leader,
            has_quorum=self.has_quorum,
            commit_index=machine.applied_index,
            applied_index=machine.applied_index,
            last_log_index=machine.applied_index,
            snapshot_index=0,
            leader_changes=1,
            halted=self.halted,
            peers=self.peers,
            members=self.members,
        )

    def standing(self) -> Standing:
        return Standing(self.name, CLUSTER_ID, self.role, self.term, self.leader, self.halted)

    def counters(self) -> dict[str, int]:
        return {"read_rounds": self.rounds, "proposals_applied": len(self.proposed), "fsync_microseconds": 0}

    async def propose(
        self, command: Command, deadline: float, on_applied: OnApplied | None = None
    ) -> CommandResult:
        self._check()
        if self.refuse_with is not None:
            raise self.refuse_with
        await self._until(lambda: bool(self.leader), deadline, NoLeader("no leader within the deadline"))
        if not self.proposals_open.is_set() and self.holds(command):
            unknown = OutcomeUnknown("the deadline passed with the command under way")
            await self._until_set(self.proposals_open, deadline, unknown)
        began = self.clock.now()
        result = self._apply([command])
        if on_applied is not None:
            on_applied(self.machine.applied_index, began)
        if self.lose_outcomes > 0:
            self.lose_outcomes -= 1
            raise OutcomeUnknown("the outcome was lost on purpose")
        return result

    async def read_index(self, deadline: float) -> None:
        self._check()
        started = self.clock.now()
        no_leader = NoLeader("no leader confirmed the read within the deadline")
        await self._until(lambda: bool(self.leader) and self.has_quorum, deadline, no_leader)
        await self._until_set(self.reads_open, deadline, no_leader)
        self.rounds += 1
        self._fresh_at = started

    async def wait_revision(self, revision: int, deadline: float) -> None:
        self._check()
        await self._until(
            lambda: self.machine.revision >= revision,
            deadline,
            StalenessUnavailable(
                f"revision {revision} was not reached, this node is at {self.machine.revision}"
            ),
        )

    def staleness_s(self) -> float | None:
        if self.staleness == "auto":
            return None if self._fresh_at is None else self.clock.now() - self._fresh_at
        assert not isinstance(self.staleness, str)
        return self.staleness

    def add_applied_listener(self, listener: AppliedListener) -> None:
        self._listeners.append(listener)

    def remove_applied_listener(self, listener: AppliedListener) -> None:
        self._listeners.remove(listener)

    def hint_leader(self, data: bytes) -> bool:
        if not self.leader or self.leader == self.name:
            return False
        self.hints.append(data)
        return True

    def set_hint_listener(self, listener: HintListener | None) -> None:
        self.hint_listener = listener

    def answer(self, question: str, answerer: Answerer) -> None:
        self.answerers[question] = answerer

    async def ask(self, question: str, payload: bytes, deadline: float) -> dict[str, bytes]:
        return dict(self.peer_answers.get(question, {}))

    def begin_backup(self) -> Backup:
        machine = self.machine
        if not machine.applied_index:
            raise Unavailable("this node has no state yet")
        view = machine.begin_snapshot()
        header = SnapshotHeader(
            CLUSTER_ID, machine.applied_index, self.term, encode_configuration(self.members)
        )
        return Backup(machine.applied_index, encoded(header, view.chunks()), view.close)

    async def transfer_leadership(self, to: str, deadline: float) -> str:
        others = [member.name for member in self.members if member.voter and member.name != self.leader]
        if to and to not in [member.name for member in self.members]:
            raise Refused(f"{to} is not another voter of this cluster")
        if not to and not others:
            raise Refused("no other voter is connected")
        self.transfers.append(to)
        self.leader = to or others[0]
        self.role = Role.LEADER if self.leader == self.name else Role.FOLLOWER
        self.term += 1
        return self.leader

    async def change_members(self, action: str, member: Member, deadline: float) -> tuple[Member, ...]:
        names = [one.name for one in self.members]
        if action == "add":
            if member.name in names:
                raise InvalidRequest(f"{member.name} is a member already", field="name")
            self.members = (*self.members, member)
        elif member.name not in names:
            raise InvalidRequest(f"{member.name} is not a member", field="name")
        elif action == "remove":
            self.members = tuple(one for one in self.members if one.name != member.name)
        else:
            assert action == "promote"
            self.members = tuple(
                Member(one.name, one.peer_address, one.client_address, one.incarnation, voter=True)
                if one.name == member.name
                else one
                for one in self.members
            )
        return self.members

    # --- inside ---

    def _check(self) -> None:
        if self.halted:
            raise NodeHalted(self.halted)

    def _apply(self, commands: list[Command]) -> CommandResult:
        machine = self.machine
        groups = []
        if commands:
            self._sequence += 1
            group = Group(self.name, 1, self._sequence, self._sequence, tuple(commands))
            groups = [codec.encode_group(group)]
            self.proposed += commands
        clock_ms = int((self.clock.now() - self._started) * 1000) + self.clock_offset_ms
        index = machine.applied_index + 1
        applied = machine.apply(index, codec.encode_entry(clock_ms, groups))
        for listener in self._listeners:
            listener(index, applied.events)
        self.wake()
        if not commands:
            return ()
        results = applied.group_results[0][3]
        assert results is not None
        return results[0]

    async def _until(self, ready: Callable[[], bool], deadline: float, error: ReplcacheError) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.now())):
                while not ready():
                    self._check()
                    await self._changed.wait()
        except TimeoutError:
            raise error from None

    async def _until_set(self, event: asyncio.Event, deadline: float, error: ReplcacheError) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.now())):
                await event.wait()
        except TimeoutError:
            raise error from None
