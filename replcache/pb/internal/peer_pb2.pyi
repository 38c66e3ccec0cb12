from replcache.pb.internal import log_pb2 as _log_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("protocol", "cluster_id", "node", "incarnation", "bootstrap", "client_address", "peer_address", "to_node")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BOOTSTRAP_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TO_NODE_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    cluster_id: bytes
    node: str
    incarnation: int
    bootstrap: _log_pb2.Configuration
    client_address: str
    peer_address: str
    to_node: str
    def __init__(self, protocol: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., node: _Optional[str] = ..., incarnation: _Optional[int] = ..., bootstrap: _Optional[_Union[_log_pb2.Configuration, _Mapping]] = ..., client_address: _Optional[str] = ..., peer_address: _Optional[str] = ..., to_node: _Optional[str] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("term", "kind", "payload")
    TERM_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    term: int
    kind: int
    payload: bytes
    def __init__(self, term: _Optional[int] = ..., kind: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class PreVote(_message.Message):
    __slots__ = ("term", "last_index", "last_term", "round")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    last_term: int
    round: int
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class PreVoteReply(_message.Message):
    __slots__ = ("term", "round", "granted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    granted: bool
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ..., granted: bool = ...) -> None: ...

class RequestVote(_message.Message):
    __slots__ = ("term", "last_index", "last_term", "transfer")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    last_term: int
    transfer: bool
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., transfer: bool = ...) -> None: ...

class VoteReply(_message.Message):
    __slots__ = ("term", "granted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    granted: bool
    def __init__(self, term: _Optional[int] = ..., granted: bool = ...) -> None: ...

class Append(_message.Message):
    __slots__ = ("term", "sequence", "prev_index", "prev_term", "commit_index", "entries")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PREV_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    term: int
    sequence: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, term: _Optional[int] = ..., sequence: _Optional[int] = ..., prev_index: _Optional[int] = ..., prev_term: _Optional[int] = ..., commit_index: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("term", "sequence", "success", "match_index", "conflict_term", "conflict_index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_TERM_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    sequence: int
    success: bool
    match_index: int
    conflict_term: int
    conflict_index: int
    def __init__(self, term: _Optional[int] = ..., sequence: _Optional[int] = ..., success: bool = ..., match_index: _Optional[int] = ..., conflict_term: _Optional[int] = ..., conflict_index: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("term", "round", "commit_index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    commit_index: int
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ..., commit_index: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("term", "round", "verified_index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    round: int
    verified_index: int
    def __init__(self, term: _Optional[int] = ..., round: _Optional[int] = ..., verified_index: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("term", "sequence", "last_index", "last_term", "offset", "total", "data")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    term: int
    sequence: int
    last_index: int
    last_term: int
    offset: int
    total: int
    data: bytes
    def __init__(self, term: _Optional[int] = ..., sequence: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., offset: _Optional[int] = ..., total: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotReply(_message.Message):
    __slots__ = ("term", "sequence", "last_index", "last_term", "offset", "installed", "match_index", "refused")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    INSTALLED_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    term: int
    sequence: int
    last_index: int
    last_term: int
    offset: int
    installed: bool
    match_index: int
    refused: bool
    def __init__(self, term: _Optional[int] = ..., sequence: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., offset: _Optional[int] = ..., installed: bool = ..., match_index: _Optional[int] = ..., refused: bool = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("sequence", "group", "boot", "attempt", "term")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    group: bytes
    boot: int
    attempt: int
    term: int
    def __init__(self, sequence: _Optional[int] = ..., group: _Optional[bytes] = ..., boot: _Optional[int] = ..., attempt: _Optional[int] = ..., term: _Optional[int] = ...) -> None: ...

class ForwardRefused(_message.Message):
    __slots__ = ("sequence", "boot", "reason", "attempt")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    boot: int
    reason: str
    attempt: int
    def __init__(self, sequence: _Optional[int] = ..., boot: _Optional[int] = ..., reason: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class ReadIndexRequest(_message.Message):
    __slots__ = ("id", "boot")
    ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    id: int
    boot: int
    def __init__(self, id: _Optional[int] = ..., boot: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("id", "boot", "refused", "index")
    ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    id: int
    boot: int
    refused: bool
    index: int
    def __init__(self, id: _Optional[int] = ..., boot: _Optional[int] = ..., refused: bool = ..., index: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("hello", "pre_vote", "pre_vote_reply", "request_vote", "vote_reply", "append", "append_reply", "heartbeat", "heartbeat_reply", "snapshot_chunk", "snapshot_reply", "timeout_now", "forward", "forward_refused", "read_index_request", "read_index_reply", "admin_request", "admin_reply", "hint")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_FIELD_NUMBER: _ClassVar[int]
    VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    APPEND_REPLY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    FORWARD_REFUSED_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REQUEST_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    ADMIN_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ADMIN_REPLY_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    pre_vote: PreVote
    pre_vote_reply: PreVoteReply
    request_vote: RequestVote
    vote_reply: VoteReply
    append: Append
    append_reply: AppendReply
    heartbeat: Heartbeat
    heartbeat_reply: HeartbeatReply
    snapshot_chunk: SnapshotChunk
    snapshot_reply: SnapshotReply
    timeout_now: TimeoutNow
    forward: Forward
    forward_refused: ForwardRefused
    read_index_request: ReadIndexRequest
    read_index_reply: ReadIndexReply
    admin_request: AdminRequest
    admin_reply: AdminReply
    hint: Hint
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., pre_vote: _Optional[_Union[PreVote, _Mapping]] = ..., pre_vote_reply: _Optional[_Union[PreVoteReply, _Mapping]] = ..., request_vote: _Optional[_Union[RequestVote, _Mapping]] = ..., vote_reply: _Optional[_Union[VoteReply, _Mapping]] = ..., append: _Optional[_Union[Append, _Mapping]] = ..., append_reply: _Optional[_Union[AppendReply, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_reply: _Optional[_Union[SnapshotReply, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ..., forward: _Optional[_Union[Forward, _Mapping]] = ..., forward_refused: _Optional[_Union[ForwardRefused, _Mapping]] = ..., read_index_request: _Optional[_Union[ReadIndexRequest, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ..., admin_request: _Optional[_Union[AdminRequest, _Mapping]] = ..., admin_reply: _Optional[_Union[AdminReply, _Mapping]] = ..., hint: _Optional[_Union[Hint, _Mapping]] = ...) -> None: ...

class Hint(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class AccessDigest(_message.Message):
    __slots__ = ("keys", "counts")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class AdminRequest(_message.Message):
    __slots__ = ("id", "boot", "action", "member", "payload")
    ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    id: int
    boot: int
    action: str
    member: _log_pb2.Member
    payload: bytes
    def __init__(self, id: _Optional[int] = ..., boot: _Optional[int] = ..., action: _Optional[str] = ..., member: _Optional[_Union[_log_pb2.Member, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class AdminReply(_message.Message):
    __slots__ = ("id", "boot", "error", "leader", "payload")
    ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    id: int
    boot: int
    error: str
    leader: str
    payload: bytes
    def __init__(self, id: _Optional[int] = ..., boot: _Optional[int] = ..., error: _Optional[str] = ..., leader: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...
