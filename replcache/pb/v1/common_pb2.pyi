import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    READ_LEVEL_UNSPECIFIED: _ClassVar[ReadLevel]
    READ_LEVEL_LINEARIZABLE: _ClassVar[ReadLevel]
    READ_LEVEL_SESSION: _ClassVar[ReadLevel]
    READ_LEVEL_ONE: _ClassVar[ReadLevel]
READ_LEVEL_UNSPECIFIED: ReadLevel
READ_LEVEL_LINEARIZABLE: ReadLevel
READ_LEVEL_SESSION: ReadLevel
READ_LEVEL_ONE: ReadLevel

class ResponseHeader(_message.Message):
    __slots__ = ("cluster_id", "node", "revision", "term", "served_as", "staleness", "leader")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    SERVED_AS_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    node: str
    revision: int
    term: int
    served_as: ReadLevel
    staleness: _duration_pb2.Duration
    leader: str
    def __init__(self, cluster_id: _Optional[bytes] = ..., node: _Optional[str] = ..., revision: _Optional[int] = ..., term: _Optional[int] = ..., served_as: _Optional[_Union[ReadLevel, str]] = ..., staleness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., leader: _Optional[str] = ...) -> None: ...

class ReadOptions(_message.Message):
    __slots__ = ("level", "min_revision", "max_staleness")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_FIELD_NUMBER: _ClassVar[int]
    level: ReadLevel
    min_revision: int
    max_staleness: _duration_pb2.Duration
    def __init__(self, level: _Optional[_Union[ReadLevel, str]] = ..., min_revision: _Optional[int] = ..., max_staleness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Idempotency(_message.Message):
    __slots__ = ("session_id", "sequence", "acked_below", "request_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKED_BELOW_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    sequence: int
    acked_below: int
    request_id: bytes
    def __init__(self, session_id: _Optional[int] = ..., sequence: _Optional[int] = ..., acked_below: _Optional[int] = ..., request_id: _Optional[bytes] = ...) -> None: ...

class Fence(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...
