"""The messages that nodes of one cluster send each other, as plain immutable data.

One class for each message of proto/replcache/internal/peer.proto, with the same field names. No protobuf, no
socket and no time here: the engine and the simulator speak these, `peer_codec.py` turns them into bytes and
back, `peers.py` carries the bytes. decode(encode(message)) == message for every message.

All numbers are unsigned 64-bit unless said otherwise; indexes and terms start at 1, 0 means "before the log".
"""

from dataclasses import dataclass
from typing import NamedTuple

from replcache.raft.port import Member

# Version of the peer protocol: nodes talk to each other only when it is equal on both sides.
PEER_PROTOCOL_VERSION = 1

# WireEntry.kind
ENTRY_COMMAND = 0
ENTRY_NO_OP = 1
ENTRY_MEMBERSHIP = 2


class WireEntry(NamedTuple):
    """One log entry under way; its index follows from Append.prev_index and its place."""

    term: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """First message in each direction of a connection: who speaks, and to whom it believes to speak.

    `bootstrap` is None while the sender has never been started as part of a cluster; otherwise the members
    that it was first started with (the configuration at index 0).
    """

    protocol: int = PEER_PROTOCOL_VERSION
    cluster_id: bytes = b""
    node: str = ""
    incarnation: int = 0
    bootstrap: tuple[Member, ...] | None = None
    client_address: str = ""
    peer_address: str = ""
    to_node: str = ""


@dataclass(frozen=True, slots=True)
class PreVote:
    """Would you vote for me in `term`? Changes nothing at the receiver (Raft dissertation 9.6)."""

    term: int = 0
    last_index: int = 0
    last_term: int = 0
    round: int = 0


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    """`term` is the receiver's own current term; `round` names the request."""

    term: int = 0
    round: int = 0
    granted: bool = False


@dataclass(frozen=True, slots=True)
class RequestVote:
    """`transfer`: the leader itself asked for this election, so a live leader is no reason to refuse."""

    term: int = 0
    last_index: int = 0
    last_term: int = 0
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class VoteReply:
    term: int = 0
    granted: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """`sequence` counts the leader's requests to this peer; the reply names it."""

    term: int = 0
    sequence: int = 0
    prev_index: int = 0
    prev_term: int = 0
    commit_index: int = 0
    entries: tuple[WireEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class AppendReply:
    """success: the log is verified and durable up to `match_index`. Otherwise the leader should look at
    (conflict_term, conflict_index) next (Raft paper 5.3, fast back-up)."""

    term: int = 0
    sequence: int = 0
    success: bool = False
    match_index: int = 0
    conflict_term: int = 0
    conflict_index: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`round` is the ReadIndex confirmation round; `commit_index` is at most what this peer holds."""

    term: int = 0
    round: int = 0
    commit_index: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """`verified_index`: how far the log is known to match this leader's; behind what the leader believes, an
    Append was lost or the sender was started anew, and the leader probes again."""

    term: int = 0
    round: int = 0
    verified_index: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Bytes [offset, offset + len(data)) of the snapshot (last_index, last_term) of `total` bytes."""

    term: int = 0
    sequence: int = 0
    last_index: int = 0
    last_term: int = 0
    offset: int = 0
    total: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """`offset` is the next byte wanted; `installed`: this snapshot or a newer one is durable in place, and
    `match_index` is what the receiver holds committed."""

    term: int = 0
    sequence: int = 0
    last_index: int = 0
    last_term: int = 0
    offset: int = 0
    installed: bool = False
    match_index: int = 0
    refused: bool = False


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader hands over: campaign at once."""

    term: int = 0


@dataclass(frozen=True, slots=True)
class Forward:
    """A group of commands for the leader of `term`. `group` is an internal.Group, serialized; `attempt`
    counts the sendings of this group by the process `boot`. Each sending arrives at most once."""

    sequence: int = 0
    group: bytes = b""
    boot: int = 0
    attempt: int = 0
    term: int = 0


@dataclass(frozen=True, slots=True)
class ForwardRefused:
    """This sending of the group was certainly not appended."""

    sequence: int = 0
    boot: int = 0
    reason: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class ReadIndexRequest:
    """`id` is never used twice by the process named by `boot`."""

    id: int = 0
    boot: int = 0


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    id: int = 0
    boot: int = 0
    refused: bool = False
    index: int = 0


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """A call that reached a follower. action: "add", "promote", "remove" or "transfer"; "ask NAME" with a
    `payload` is a question of questions.py."""

    id: int = 0
    boot: int = 0
    action: str = ""
    member: Member | None = None
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class AdminReply:
    """`error` is empty when it was done."""

    id: int = 0
    boot: int = 0
    error: str = ""
    leader: str = ""
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that the receiver may be glad to know. The engine has no part in it."""

    data: bytes = b""


Message = (
    Hello
    | PreVote
    | PreVoteReply
    | RequestVote
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | SnapshotChunk
    | SnapshotReply
    | TimeoutNow
    | Forward
    | ForwardRefused
    | ReadIndexRequest
    | ReadIndexReply
    | AdminRequest
    | AdminReply
    | Hint
)
