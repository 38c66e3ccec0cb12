import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from replcache.pb.v1 import cache_pb2 as _cache_pb2
from replcache.pb.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("key", "prefix", "tag", "start_revision", "snapshot", "progress_interval", "keys_only", "snapshot_level")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    START_REVISION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_LEVEL_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    prefix: bytes
    tag: str
    start_revision: int
    snapshot: bool
    progress_interval: _duration_pb2.Duration
    keys_only: bool
    snapshot_level: _common_pb2.ReadLevel
    def __init__(self, key: _Optional[bytes] = ..., prefix: _Optional[bytes] = ..., tag: _Optional[str] = ..., start_revision: _Optional[int] = ..., snapshot: bool = ..., progress_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., keys_only: bool = ..., snapshot_level: _Optional[_Union[_common_pb2.ReadLevel, str]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("header", "created", "entries", "snapshot_done", "events", "progress_revision")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DONE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_REVISION_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    created: bool
    entries: _containers.RepeatedCompositeFieldContainer[_cache_pb2.Entry]
    snapshot_done: bool
    events: _containers.RepeatedCompositeFieldContainer[WatchEvent]
    progress_revision: int
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., created: bool = ..., entries: _Optional[_Iterable[_Union[_cache_pb2.Entry, _Mapping]]] = ..., snapshot_done: bool = ..., events: _Optional[_Iterable[_Union[WatchEvent, _Mapping]]] = ..., progress_revision: _Optional[int] = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("kind", "revision", "key", "entry")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[WatchEvent.Kind]
        PUT: _ClassVar[WatchEvent.Kind]
        DELETE: _ClassVar[WatchEvent.Kind]
        EXPIRE: _ClassVar[WatchEvent.Kind]
        EVICT: _ClassVar[WatchEvent.Kind]
        TOUCH: _ClassVar[WatchEvent.Kind]
    KIND_UNSPECIFIED: WatchEvent.Kind
    PUT: WatchEvent.Kind
    DELETE: WatchEvent.Kind
    EXPIRE: WatchEvent.Kind
    EVICT: WatchEvent.Kind
    TOUCH: WatchEvent.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    kind: WatchEvent.Kind
    revision: int
    key: bytes
    entry: _cache_pb2.Entry
    def __init__(self, kind: _Optional[_Union[WatchEvent.Kind, str]] = ..., revision: _Optional[int] = ..., key: _Optional[bytes] = ..., entry: _Optional[_Union[_cache_pb2.Entry, _Mapping]] = ...) -> None: ...
