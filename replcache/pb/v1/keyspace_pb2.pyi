from replcache.pb.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EvictionPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVICTION_POLICY_UNSPECIFIED: _ClassVar[EvictionPolicy]
    EVICTION_POLICY_NONE: _ClassVar[EvictionPolicy]
    EVICTION_POLICY_LRU: _ClassVar[EvictionPolicy]
    EVICTION_POLICY_LFU: _ClassVar[EvictionPolicy]
EVICTION_POLICY_UNSPECIFIED: EvictionPolicy
EVICTION_POLICY_NONE: EvictionPolicy
EVICTION_POLICY_LRU: EvictionPolicy
EVICTION_POLICY_LFU: EvictionPolicy

class Namespace(_message.Message):
    __slots__ = ("name", "prefix", "max_bytes", "policy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    name: str
    prefix: bytes
    max_bytes: int
    policy: EvictionPolicy
    def __init__(self, name: _Optional[str] = ..., prefix: _Optional[bytes] = ..., max_bytes: _Optional[int] = ..., policy: _Optional[_Union[EvictionPolicy, str]] = ...) -> None: ...

class NamespaceUse(_message.Message):
    __slots__ = ("namespace", "keys", "bytes", "complete")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    keys: int
    bytes: int
    complete: bool
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ..., keys: _Optional[int] = ..., bytes: _Optional[int] = ..., complete: bool = ...) -> None: ...

class SetNamespaceRequest(_message.Message):
    __slots__ = ("namespace", "idempotency")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_FIELD_NUMBER: _ClassVar[int]
    namespace: Namespace
    idempotency: _common_pb2.Idempotency
    def __init__(self, namespace: _Optional[_Union[Namespace, _Mapping]] = ..., idempotency: _Optional[_Union[_common_pb2.Idempotency, _Mapping]] = ...) -> None: ...

class SetNamespaceResponse(_message.Message):
    __slots__ = ("header", "changed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    changed: bool
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., changed: bool = ...) -> None: ...

class RemoveNamespaceRequest(_message.Message):
    __slots__ = ("name", "idempotency")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_FIELD_NUMBER: _ClassVar[int]
    name: str
    idempotency: _common_pb2.Idempotency
    def __init__(self, name: _Optional[str] = ..., idempotency: _Optional[_Union[_common_pb2.Idempotency, _Mapping]] = ...) -> None: ...

class RemoveNamespaceResponse(_message.Message):
    __slots__ = ("header", "removed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    removed: bool
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., removed: bool = ...) -> None: ...

class ListNamespacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNamespacesResponse(_message.Message):
    __slots__ = ("header", "namespaces")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceUse]
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., namespaces: _Optional[_Iterable[_Union[NamespaceUse, _Mapping]]] = ...) -> None: ...

class Guard(_message.Message):
    __slots__ = ("prefix", "lock")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    lock: str
    def __init__(self, prefix: _Optional[bytes] = ..., lock: _Optional[str] = ...) -> None: ...

class SetGuardRequest(_message.Message):
    __slots__ = ("guard", "idempotency")
    GUARD_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_FIELD_NUMBER: _ClassVar[int]
    guard: Guard
    idempotency: _common_pb2.Idempotency
    def __init__(self, guard: _Optional[_Union[Guard, _Mapping]] = ..., idempotency: _Optional[_Union[_common_pb2.Idempotency, _Mapping]] = ...) -> None: ...

class SetGuardResponse(_message.Message):
    __slots__ = ("header", "changed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    changed: bool
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., changed: bool = ...) -> None: ...

class RemoveGuardRequest(_message.Message):
    __slots__ = ("prefix", "idempotency")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    idempotency: _common_pb2.Idempotency
    def __init__(self, prefix: _Optional[bytes] = ..., idempotency: _Optional[_Union[_common_pb2.Idempotency, _Mapping]] = ...) -> None: ...

class RemoveGuardResponse(_message.Message):
    __slots__ = ("header", "removed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    removed: bool
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., removed: bool = ...) -> None: ...

class ListGuardsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGuardsResponse(_message.Message):
    __slots__ = ("header", "guards")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    guards: _containers.RepeatedCompositeFieldContainer[Guard]
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., guards: _Optional[_Iterable[_Union[Guard, _Mapping]]] = ...) -> None: ...

class StatisticsRequest(_message.Message):
    __slots__ = ("hot_keys",)
    HOT_KEYS_FIELD_NUMBER: _ClassVar[int]
    hot_keys: int
    def __init__(self, hot_keys: _Optional[int] = ...) -> None: ...

class HotKey(_message.Message):
    __slots__ = ("key", "count", "error")
    KEY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    count: int
    error: int
    def __init__(self, key: _Optional[bytes] = ..., count: _Optional[int] = ..., error: _Optional[int] = ...) -> None: ...

class NamespaceStatistics(_message.Message):
    __slots__ = ("name", "hits", "misses", "writes", "expired", "evicted")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    hits: int
    misses: int
    writes: int
    expired: int
    evicted: int
    def __init__(self, name: _Optional[str] = ..., hits: _Optional[int] = ..., misses: _Optional[int] = ..., writes: _Optional[int] = ..., expired: _Optional[int] = ..., evicted: _Optional[int] = ...) -> None: ...

class StatisticsResponse(_message.Message):
    __slots__ = ("header", "namespaces", "most_read", "most_written")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    MOST_READ_FIELD_NUMBER: _ClassVar[int]
    MOST_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    header: _common_pb2.ResponseHeader
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceStatistics]
    most_read: _containers.RepeatedCompositeFieldContainer[HotKey]
    most_written: _containers.RepeatedCompositeFieldContainer[HotKey]
    def __init__(self, header: _Optional[_Union[_common_pb2.ResponseHeader, _Mapping]] = ..., namespaces: _Optional[_Iterable[_Union[NamespaceStatistics, _Mapping]]] = ..., most_read: _Optional[_Iterable[_Union[HotKey, _Mapping]]] = ..., most_written: _Optional[_Iterable[_Union[HotKey, _Mapping]]] = ...) -> None: ...
