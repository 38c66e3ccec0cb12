"""The port through which the server talks to its Raft node: propose, read, watch the log being applied.

No library and no network here. `raft/node.py` implements it for real; tests may use an in-memory fake that
passes tests/contract/test_raft_port.py. All deadlines are absolute readings of the node's Clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from replcache.statemachine.commands import Command
    from replcache.statemachine.machine import StateMachine
    from replcache.statemachine.results import CommandResult


class Role(IntEnum):
    FOLLOWER = 1
    CANDIDATE = 2
    LEADER = 3
    LEARNER = 4
    # Waits for the first start of the cluster, or to be taken in again after its disk was lost.
    JOINING = 5


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a configuration; `incarnation` is drawn anew with each empty data directory."""

    name: str
    peer_address: str
    client_address: str
    incarnation: int = 0
    voter: bool = True
    promote: bool = False


@dataclass(frozen=True, slots=True)
class PeerStatus:
    name: str
    connected: bool
    match_index: int | None
    since_heard_s: float | None


class Standing(NamedTuple):
    """The part of NodeStatus that goes into the header of every answer."""

    node: str
    cluster_id: bytes
    role: Role
    term: int
    leader: str
    halted: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What this node knows; never waits."""

    node: str
    cluster_id: bytes
    role: Role
    term: int
    leader: str
    has_quorum: bool
    commit_index: int
    applied_index: int
    last_log_index: int
    snapshot_index: int
    leader_changes: int
    halted: str
    peers: tuple[PeerStatus, ...]
    members: tuple[Member, ...]


# Called after each applied log entry, on the loop: (log index, events). Must only hand over and never raise.
AppliedListener = Callable[[int, Sequence[object]], None]
# Called once, on the loop, when this node has just applied a command: (log index, reading of the Clock when
# that began; the entry was committed by then). Must only hand over and never raise.
OnApplied = Callable[[int, float], None]
# Called on the loop with (peer, data); must only hand over and never raise.
HintListener = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """A file with the state as of the applied index `index`, in pieces that may be made in a thread while the
    node goes on. close(): when it is not read to its end; until then old rows are kept."""

    index: int
    pieces: Iterator[bytes]
    close: Callable[[], None]


# A server's answer to a question of another node's server.
Answerer = Callable[[bytes], Awaitable[bytes]]


class RaftPort(Protocol):
    """What the server needs of consensus."""

    @property
    def machine(self) -> StateMachine:
        """The applied state. Look it up at each use: an installed snapshot brings a new object."""
        ...

    def status(self) -> NodeStatus: ...

    def standing(self) -> Standing:
        """What status() says of these things, cheaper."""
        ...

    def counters(self) -> dict[str, int]:
        """Monotone counters for /metrics: entries_deleted_matching, truncated_applied, elections,
        fsyncs, fsync_microseconds, proposals_*, read_rounds, ... (all present from the start, 0)."""
        ...

    async def propose(
        self, command: Command, deadline: float, on_applied: OnApplied | None = None
    ) -> CommandResult:
        """Replicates and applies one command; any node may be asked.

        Args:
            on_applied: told before the result is there; for tracing. Not called when an error is raised.
        Returns:
            The result (also a refusal) of this node's own apply.
        Raises:
            NotApplied (NoLeader, Overloaded, Unavailable): certainly not executed.
            OutcomeUnknown: the deadline passed, or the node stopped, with the command under way.
        Cancellation: the command may still be executed.
        """
        ...

    async def read_index(self, deadline: float) -> None:
        """Returns when this node's state machine holds every write acknowledged before the call
        (ReadIndex, Raft dissertation 6.4; concurrent calls share one round). Raises NoLeader."""
        ...

    async def wait_revision(self, revision: int, deadline: float) -> None:
        """Returns when machine.revision >= revision; raises StalenessUnavailable at the deadline."""
        ...

    def staleness_s(self) -> float | None:
        """The local state holds every write acknowledged longer ago than this; None: no bound known."""
        ...

    def add_applied_listener(self, listener: AppliedListener) -> None: ...

    def remove_applied_listener(self, listener: AppliedListener) -> None: ...

    def hint_leader(self, data: bytes) -> bool:
        """Sends the leader's server something that it may be glad to know; it may get lost on the way.
        False: certainly not sent; this node leads, or knows no leader, or has too much to send it."""
        ...

    def set_hint_listener(self, listener: HintListener | None) -> None:
        """Who takes the hints of other nodes; they may be of anybody in the cluster, and outdated."""
        ...

    async def transfer_leadership(self, to: str, deadline: float) -> str:
        """Hands leadership to `to` ("" = most caught-up voter); returns the new leader's name."""
        ...

    async def change_members(self, action: str, member: Member, deadline: float) -> tuple[Member, ...]:
        """action: "add" (as learner), "promote", "remove". One change at a time; returns the new members."""
        ...

    def answer(self, question: str, answerer: Answerer) -> None:
        """Who answers the question of that name here. It must not raise; what it answers is not for
        strangers, but for every node of the cluster."""
        ...

    async def ask(self, question: str, payload: bytes, deadline: float) -> dict[str, bytes]:
        """Asks the servers of all connected peers, also those of other versions, at the same time.

        Returns:
            Answers by node, of those that knew the question and answered by the deadline; never raises.
        """
        ...

    def begin_backup(self) -> Backup:
        """The state as of now, as a file for raft/backup.py. Raises Unavailable: there is none yet."""
        ...
