"""Peer messages <-> bytes of one frame body (protobuf internal.Frame).

decode(encode(message)) == message. decode() raises PeerProtocolError, and nothing else, for every input that
is not a message of this version: what arrives may come from a stranger. Unknown fields inside a known
message are ignored, as protobuf does, so that a later release may add facts that an older one can do without;
anything that it can't do without needs a new PEER_PROTOCOL_VERSION.
"""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError

from replcache.constants import APPEND_ENTRIES_MAX
from replcache.pb.internal import log_pb2, peer_pb2
from replcache.raft import messages as m
from replcache.raft.peer_framing import PeerProtocolError
from replcache.raft.port import Member

__all__ = ["PeerProtocolError", "decode", "decode_configuration", "encode", "encode_configuration"]

CONFIGURATION_VERSION = 1


def encode(message: m.Message) -> bytes:
    """The frame body of `message`.

    Raises:
        ValueError: a number is out of its range (a programmer error).
    """
    name, fill = _ENCODERS[type(message)]
    frame = peer_pb2.Frame()
    part = getattr(frame, name)
    # A message whose fields all have their defaults must still be named in the frame.
    part.SetInParent()
    fill(part, message)
    return frame.SerializeToString()


def decode(body: bytes) -> m.Message:
    """The message in a frame body.

    Raises:
        PeerProtocolError: not a message that this version knows.
    """
    try:
        frame = peer_pb2.Frame.FromString(body)
    except (DecodeError, RuntimeError) as err:
        raise PeerProtocolError(f"not a peer message: {err}") from err
    kind = frame.WhichOneof("kind")
    if kind is None:
        raise PeerProtocolError(f"unknown kind of peer message in {len(body)} bytes")
    message: m.Message = _DECODERS[kind](getattr(frame, kind))
    return message


def encode_configuration(members: Iterable[Member]) -> bytes:
    """Payload of a membership log entry: internal.Configuration."""
    configuration = log_pb2.Configuration()
    _fill_configuration(configuration, members)
    return configuration.SerializeToString(deterministic=True)


def decode_configuration(payload: bytes) -> tuple[Member, ...]:
    """Members of an internal.Configuration.

    Raises:
        PeerProtocolError: damaged, or of an unknown version.
    """
    try:
        configuration = log_pb2.Configuration.FromString(payload)
    except (DecodeError, RuntimeError) as err:
        raise PeerProtocolError(f"not a configuration: {err}") from err
    return _configuration(configuration)


# --- parts ---


def _fill_member(part: log_pb2.Member, member: Member) -> None:
    part.name = member.name
    part.incarnation = member.incarnation
    part.peer_address = member.peer_address
    part.client_address = member.client_address
    part.voter = member.voter
    part.promote = member.promote


def _member(part: log_pb2.Member) -> Member:
    return Member(
        name=part.name,
        peer_address=part.peer_address,
        client_address=part.client_address,
        incarnation=part.incarnation,
        voter=part.voter,
        promote=part.promote,
    )


def _fill_configuration(part: log_pb2.Configuration, members: Iterable[Member]) -> None:
    part.version = CONFIGURATION_VERSION
    for member in members:
        _fill_member(part.members.add(), member)


def _configuration(part: log_pb2.Configuration) -> tuple[Member, ...]:
    if part.version != CONFIGURATION_VERSION:
        raise PeerProtocolError(f"configuration of version {part.version}, known is {CONFIGURATION_VERSION}")
    return tuple(_member(member) for member in part.members)


# --- messages with structure ---


def _fill_hello(part: peer_pb2.Hello, message: m.Hello) -> None:
    part.protocol = message.protocol
    part.cluster_id = message.cluster_id
    part.node = message.node
    part.incarnation = message.incarnation
    if message.bootstrap is not None:
        _fill_configuration(part.bootstrap, message.bootstrap)
    part.client_address = message.client_address
    part.peer_address = message.peer_address
    part.to_node = message.to_node


def _hello(part: peer_pb2.Hello) -> m.Hello:
    return m.Hello(
        protocol=part.protocol,
        cluster_id=part.cluster_id,
        node=part.node,
        incarnation=part.incarnation,
        bootstrap=_configuration(part.bootstrap) if part.HasField("bootstrap") else None,
        client_address=part.client_address,
        peer_address=part.peer_address,
        to_node=part.to_node,
    )


def _fill_append(part: peer_pb2.Append, message: m.Append) -> None:
    if len(message.entries) > APPEND_ENTRIES_MAX:
        raise ValueError(f"{len(message.entries)} entries in one Append, {APPEND_ENTRIES_MAX} are allowed")
    part.term = message.term
    part.sequence = message.sequence
    part.prev_index = message.prev_index
    part.prev_term = message.prev_term
    part.commit_index = message.commit_index
    add = part.entries.add
    for term, kind, payload in message.entries:
        add(term=term, kind=kind, payload=payload)


def _append(part: peer_pb2.Append) -> m.Append:
    count = len(part.entries)
    if count > APPEND_ENTRIES_MAX:
        raise PeerProtocolError(f"{count} entries in one Append, {APPEND_ENTRIES_MAX} are allowed")
    entries = tuple([m.WireEntry(entry.term, entry.kind, entry.payload) for entry in part.entries])
    for entry in entries:
        if entry.kind > m.ENTRY_MEMBERSHIP:
            # Better no entry than one that nobody here could apply.
            raise PeerProtocolError(f"log entry of unknown kind {entry.kind}")
    return m.Append(part.term, part.sequence, part.prev_index, part.prev_term, part.commit_index, entries)


def _fill_admin_request(part: peer_pb2.AdminRequest, message: m.AdminRequest) -> None:
    part.id = message.id
    part.boot = message.boot
    part.action = message.action
    part.payload = message.payload
    if message.member is not None:
        part.member.SetInParent()
        _fill_member(part.member, message.member)


def _admin_request(part: peer_pb2.AdminRequest) -> m.AdminRequest:
    member = _member(part.member) if part.HasField("member") else None
    return m.AdminRequest(part.id, part.boot, part.action, member, part.payload)


# --- flat messages: the same fields on both sides ---

Fill = Callable[[Any, Any], None]


def _flat_fill(fields: tuple[str, ...]) -> Fill:
    def fill(part: Any, message: Any) -> None:
        for field in fields:
            setattr(part, field, getattr(message, field))

    return fill


def _flat_read(kind: type, fields: tuple[str, ...]) -> Callable[[Any], Any]:
    def read(part: Any) -> Any:
        return kind(*[getattr(part, field) for field in fields])

    return read


_FLAT: dict[str, type] = {
    "pre_vote": m.PreVote,
    "pre_vote_reply": m.PreVoteReply,
    "request_vote": m.RequestVote,
    "vote_reply": m.VoteReply,
    "append_reply": m.AppendReply,
    "heartbeat": m.Heartbeat,
    "heartbeat_reply": m.HeartbeatReply,
    "snapshot_chunk": m.SnapshotChunk,
    "snapshot_reply": m.SnapshotReply,
    "timeout_now": m.TimeoutNow,
    "forward": m.Forward,
    "forward_refused": m.ForwardRefused,
    "read_index_request": m.ReadIndexRequest,
    "read_index_reply": m.ReadIndexReply,
    "admin_reply": m.AdminReply,
    "hint": m.Hint,
}

_ENCODERS: dict[type, tuple[str, Fill]] = {
    m.Hello: ("hello", _fill_hello),
    m.Append: ("append", _fill_append),
    m.AdminRequest: ("admin_request", _fill_admin_request),
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "hello": _hello,
    "append": _append,
    "admin_request": _admin_request,
}
for _name, _kind in _FLAT.items():
    _fields = tuple(_kind.__slots__)  # type: ignore[attr-defined]  # slotted dataclass: names in field order
    _ENCODERS[_kind] = (_name, _flat_fill(_fields))
    _DECODERS[_name] = _flat_read(_kind, _fields)

# Every kind of the protocol has both directions.
assert set(_DECODERS) == {field.name for field in peer_pb2.Frame.DESCRIPTOR.fields}
assert {name for name, _ in _ENCODERS.values()} == set(_DECODERS)
