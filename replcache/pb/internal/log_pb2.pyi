from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LogEntry(_message.Message):
    __slots__ = ("version", "clock_ms", "groups")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    version: int
    clock_ms: int
    groups: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, version: _Optional[int] = ..., clock_ms: _Optional[int] = ..., groups: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("origin", "boot", "sequence", "done_below", "commands", "format")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DONE_BELOW_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    origin: str
    boot: int
    sequence: int
    done_below: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    format: int
    def __init__(self, origin: _Optional[str] = ..., boot: _Optional[int] = ..., sequence: _Optional[int] = ..., done_below: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., format: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("session_id", "session_sequence", "session_acked_below", "request_id", "atomic", "set_many", "ops")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ACKED_BELOW_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    SET_MANY_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    session_sequence: int
    session_acked_below: int
    request_id: bytes
    atomic: bool
    set_many: SetMany
    ops: _containers.RepeatedCompositeFieldContainer[Op]
    def __init__(self, session_id: _Optional[int] = ..., session_sequence: _Optional[int] = ..., session_acked_below: _Optional[int] = ..., request_id: _Optional[bytes] = ..., atomic: bool = ..., set_many: _Optional[_Union[SetMany, _Mapping]] = ..., ops: _Optional[_Iterable[_Union[Op, _Mapping]]] = ...) -> None: ...

class SetMany(_message.Message):
    __slots__ = ("keys", "values", "content_type", "ttl_ms")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    content_type: str
    ttl_ms: int
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., values: _Optional[_Iterable[bytes]] = ..., content_type: _Optional[str] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class Op(_message.Message):
    __slots__ = ("set", "update", "delete", "touch", "increment", "get", "lock_acquire", "lock_renew", "lock_release", "session_open", "session_keep", "session_close", "invalidate_tags", "lock_note", "lease_grant", "lease_keep", "lease_revoke", "delete_range", "accessed", "evict", "txn", "guard_set", "guard_remove", "namespace_set", "namespace_remove")
    SET_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    TOUCH_FIELD_NUMBER: _ClassVar[int]
    INCREMENT_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    LOCK_ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    LOCK_RENEW_FIELD_NUMBER: _ClassVar[int]
    LOCK_RELEASE_FIELD_NUMBER: _ClassVar[int]
    SESSION_OPEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_KEEP_FIELD_NUMBER: _ClassVar[int]
    SESSION_CLOSE_FIELD_NUMBER: _ClassVar[int]
    INVALIDATE_TAGS_FIELD_NUMBER: _ClassVar[int]
    LOCK_NOTE_FIELD_NUMBER: _ClassVar[int]
    LEASE_GRANT_FIELD_NUMBER: _ClassVar[int]
    LEASE_KEEP_FIELD_NUMBER: _ClassVar[int]
    LEASE_REVOKE_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    ACCESSED_FIELD_NUMBER: _ClassVar[int]
    EVICT_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    GUARD_SET_FIELD_NUMBER: _ClassVar[int]
    GUARD_REMOVE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_SET_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_REMOVE_FIELD_NUMBER: _ClassVar[int]
    set: Set
    update: Update
    delete: Delete
    touch: Touch
    increment: Increment
    get: Get
    lock_acquire: LockAcquire
    lock_renew: LockRenew
    lock_release: LockRelease
    session_open: SessionOpen
    session_keep: SessionKeep
    session_close: SessionClose
    invalidate_tags: InvalidateTags
    lock_note: LockNote
    lease_grant: LeaseGrant
    lease_keep: LeaseKeep
    lease_revoke: LeaseRevoke
    delete_range: DeleteRange
    accessed: Accessed
    evict: Evict
    txn: Txn
    guard_set: GuardSet
    guard_remove: GuardRemove
    namespace_set: NamespaceSet
    namespace_remove: NamespaceRemove
    def __init__(self, set: _Optional[_Union[Set, _Mapping]] = ..., update: _Optional[_Union[Update, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., touch: _Optional[_Union[Touch, _Mapping]] = ..., increment: _Optional[_Union[Increment, _Mapping]] = ..., get: _Optional[_Union[Get, _Mapping]] = ..., lock_acquire: _Optional[_Union[LockAcquire, _Mapping]] = ..., lock_renew: _Optional[_Union[LockRenew, _Mapping]] = ..., lock_release: _Optional[_Union[LockRelease, _Mapping]] = ..., session_open: _Optional[_Union[SessionOpen, _Mapping]] = ..., session_keep: _Optional[_Union[SessionKeep, _Mapping]] = ..., session_close: _Optional[_Union[SessionClose, _Mapping]] = ..., invalidate_tags: _Optional[_Union[InvalidateTags, _Mapping]] = ..., lock_note: _Optional[_Union[LockNote, _Mapping]] = ..., lease_grant: _Optional[_Union[LeaseGrant, _Mapping]] = ..., lease_keep: _Optional[_Union[LeaseKeep, _Mapping]] = ..., lease_revoke: _Optional[_Union[LeaseRevoke, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRange, _Mapping]] = ..., accessed: _Optional[_Union[Accessed, _Mapping]] = ..., evict: _Optional[_Union[Evict, _Mapping]] = ..., txn: _Optional[_Union[Txn, _Mapping]] = ..., guard_set: _Optional[_Union[GuardSet, _Mapping]] = ..., guard_remove: _Optional[_Union[GuardRemove, _Mapping]] = ..., namespace_set: _Optional[_Union[NamespaceSet, _Mapping]] = ..., namespace_remove: _Optional[_Union[NamespaceRemove, _Mapping]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("if_absent", "if_present", "if_version", "if_value", "if_mod_revision")
    IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
    IF_PRESENT_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    IF_VALUE_FIELD_NUMBER: _ClassVar[int]
    IF_MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    if_absent: bool
    if_present: bool
    if_version: int
    if_value: bytes
    if_mod_revision: int
    def __init__(self, if_absent: bool = ..., if_present: bool = ..., if_version: _Optional[int] = ..., if_value: _Optional[bytes] = ..., if_mod_revision: _Optional[int] = ...) -> None: ...

class Fence(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class Set(_message.Message):
    __slots__ = ("key", "value", "content_type", "ttl_ms", "idle_ttl_ms", "max_reads", "tags", "lease_id", "keep_ttl", "condition", "fence", "want_previous")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_READS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_TTL_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    WANT_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    content_type: str
    ttl_ms: int
    idle_ttl_ms: int
    max_reads: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    lease_id: int
    keep_ttl: bool
    condition: Condition
    fence: Fence
    want_previous: bool
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., content_type: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., idle_ttl_ms: _Optional[int] = ..., max_reads: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., lease_id: _Optional[int] = ..., keep_ttl: bool = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ..., want_previous: bool = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("key", "replace", "append", "add_integer", "add_decimal", "merge_json", "content_type", "ttl_ms", "condition", "fence")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    ADD_INTEGER_FIELD_NUMBER: _ClassVar[int]
    ADD_DECIMAL_FIELD_NUMBER: _ClassVar[int]
    MERGE_JSON_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    replace: bytes
    append: bytes
    add_integer: int
    add_decimal: str
    merge_json: bytes
    content_type: str
    ttl_ms: int
    condition: Condition
    fence: Fence
    def __init__(self, key: _Optional[bytes] = ..., replace: _Optional[bytes] = ..., append: _Optional[bytes] = ..., add_integer: _Optional[int] = ..., add_decimal: _Optional[str] = ..., merge_json: _Optional[bytes] = ..., content_type: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("key", "condition", "fence", "want_previous")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    WANT_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    condition: Condition
    fence: Fence
    want_previous: bool
    def __init__(self, key: _Optional[bytes] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ..., want_previous: bool = ...) -> None: ...

class Touch(_message.Message):
    __slots__ = ("key", "ttl_ms", "idle_ttl_ms", "condition", "fence")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_MS_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    ttl_ms: int
    idle_ttl_ms: int
    condition: Condition
    fence: Fence
    def __init__(self, key: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., idle_ttl_ms: _Optional[int] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ...) -> None: ...

class Increment(_message.Message):
    __slots__ = ("key", "delta", "initial", "ttl_ms", "fence", "minimum", "maximum")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    INITIAL_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    delta: int
    initial: int
    ttl_ms: int
    fence: Fence
    minimum: int
    maximum: int
    def __init__(self, key: _Optional[bytes] = ..., delta: _Optional[int] = ..., initial: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ..., minimum: _Optional[int] = ..., maximum: _Optional[int] = ...) -> None: ...

class Get(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    def __init__(self, key: _Optional[bytes] = ...) -> None: ...

class InvalidateTags(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tags: _Optional[_Iterable[str]] = ...) -> None: ...

class LockAcquire(_message.Message):
    __slots__ = ("name", "owner", "ttl_ms", "wait_ms", "shared", "permits", "note", "attempt", "lease_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    PERMITS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    owner: bytes
    ttl_ms: int
    wait_ms: int
    shared: bool
    permits: int
    note: str
    attempt: int
    lease_id: int
    def __init__(self, name: _Optional[str] = ..., owner: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., wait_ms: _Optional[int] = ..., shared: bool = ..., permits: _Optional[int] = ..., note: _Optional[str] = ..., attempt: _Optional[int] = ..., lease_id: _Optional[int] = ...) -> None: ...

class LockRenew(_message.Message):
    __slots__ = ("name", "owner", "token", "ttl_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    owner: bytes
    token: int
    ttl_ms: int
    def __init__(self, name: _Optional[str] = ..., owner: _Optional[bytes] = ..., token: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class LockRelease(_message.Message):
    __slots__ = ("name", "owner", "token", "attempt")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    owner: bytes
    token: int
    attempt: int
    def __init__(self, name: _Optional[str] = ..., owner: _Optional[bytes] = ..., token: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class DeleteRange(_message.Message):
    __slots__ = ("start", "end", "limit", "fence")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    start: bytes
    end: bytes
    limit: int
    fence: Fence
    def __init__(self, start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., limit: _Optional[int] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ...) -> None: ...

class Accessed(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Evict(_message.Message):
    __slots__ = ("keys", "mod_revisions", "reason")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    mod_revisions: _containers.RepeatedScalarFieldContainer[int]
    reason: str
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., mod_revisions: _Optional[_Iterable[int]] = ..., reason: _Optional[str] = ...) -> None: ...

class Compare(_message.Message):
    __slots__ = ("key", "condition")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    condition: Condition
    def __init__(self, key: _Optional[bytes] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ...) -> None: ...

class Txn(_message.Message):
    __slots__ = ("compares", "held", "then_ops", "else_ops")
    COMPARES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    THEN_OPS_FIELD_NUMBER: _ClassVar[int]
    ELSE_OPS_FIELD_NUMBER: _ClassVar[int]
    compares: _containers.RepeatedCompositeFieldContainer[Compare]
    held: _containers.RepeatedCompositeFieldContainer[Fence]
    then_ops: _containers.RepeatedCompositeFieldContainer[Op]
    else_ops: _containers.RepeatedCompositeFieldContainer[Op]
    def __init__(self, compares: _Optional[_Iterable[_Union[Compare, _Mapping]]] = ..., held: _Optional[_Iterable[_Union[Fence, _Mapping]]] = ..., then_ops: _Optional[_Iterable[_Union[Op, _Mapping]]] = ..., else_ops: _Optional[_Iterable[_Union[Op, _Mapping]]] = ...) -> None: ...

class GuardSet(_message.Message):
    __slots__ = ("prefix", "lock")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    lock: str
    def __init__(self, prefix: _Optional[bytes] = ..., lock: _Optional[str] = ...) -> None: ...

class GuardRemove(_message.Message):
    __slots__ = ("prefix",)
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    def __init__(self, prefix: _Optional[bytes] = ...) -> None: ...

class NamespaceSet(_message.Message):
    __slots__ = ("name", "prefix", "max_bytes", "policy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    name: str
    prefix: bytes
    max_bytes: int
    policy: int
    def __init__(self, name: _Optional[str] = ..., prefix: _Optional[bytes] = ..., max_bytes: _Optional[int] = ..., policy: _Optional[int] = ...) -> None: ...

class NamespaceRemove(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class LockNote(_message.Message):
    __slots__ = ("name", "owner", "token", "note")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    owner: bytes
    token: int
    note: str
    def __init__(self, name: _Optional[str] = ..., owner: _Optional[bytes] = ..., token: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class LeaseGrant(_message.Message):
    __slots__ = ("ttl_ms",)
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    ttl_ms: int
    def __init__(self, ttl_ms: _Optional[int] = ...) -> None: ...

class LeaseKeep(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    def __init__(self, lease_id: _Optional[int] = ...) -> None: ...

class LeaseRevoke(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: int
    def __init__(self, lease_id: _Optional[int] = ...) -> None: ...

class SessionOpen(_message.Message):
    __slots__ = ("ttl_ms", "secret_id")
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    SECRET_ID_FIELD_NUMBER: _ClassVar[int]
    ttl_ms: int
    secret_id: int
    def __init__(self, ttl_ms: _Optional[int] = ..., secret_id: _Optional[int] = ...) -> None: ...

class SessionKeep(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    def __init__(self, session_id: _Optional[int] = ...) -> None: ...

class SessionClose(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    def __init__(self, session_id: _Optional[int] = ...) -> None: ...

class Configuration(_message.Message):
    __slots__ = ("version", "members")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    version: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, version: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("name", "incarnation", "peer_address", "client_address", "voter", "promote")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    PROMOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    incarnation: int
    peer_address: str
    client_address: str
    voter: bool
    promote: bool
    def __init__(self, name: _Optional[str] = ..., incarnation: _Optional[int] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., voter: bool = ..., promote: bool = ...) -> None: ...
