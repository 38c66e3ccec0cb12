"""Arguments of calls -> protobuf operations, checked here so that one caller's mistake never reaches the
message that it would share with others.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from replcache.client.durations import Duration, parse_ttl_ms, to_proto
from replcache.constants import (
    CONTENT_TYPE_BYTES_MAX,
    KEY_BYTES_MAX,
    LOCK_NAME_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_PER_ENTRY_MAX,
    VALUE_BYTES_MAX,
)
from replcache.errors import InvalidRequest, TooLarge
from replcache.pb.v1 import cache_pb2, common_pb2

Key = str | bytes
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class HeldLock(Protocol):
    """What a fence needs to know of a lock."""

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> int: ...


Fence = HeldLock | tuple[str, int]


class GrantedLease(Protocol):
    """What hanging a key on a lease needs to know of it."""

    @property
    def id(self) -> int: ...


LeaseId = GrantedLease | int


class Held(NamedTuple):
    """The lock `name` is held under `token`, as the cluster sees it: a requirement of a transaction."""

    name: str
    token: int


class Unset:
    """Type of UNSET: an argument that was not given, where None is a value like any other."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()


def key_bytes(key: Key) -> bytes:
    """UTF-8 of a str, bytes as they are.

    Raises:
        InvalidRequest, TooLarge: neither, or not 1..KEY_BYTES_MAX bytes long.
    """
    data = _raw_key(key)
    if 0 < len(data) <= KEY_BYTES_MAX:
        return data
    if not data:
        raise InvalidRequest("the key is empty", field="key")
    raise TooLarge(f"the key has {len(data)} bytes; at most {KEY_BYTES_MAX}", field="key")


def prefix_bytes(prefix: Key) -> bytes:
    """As key_bytes, but may be empty."""
    data = _raw_key(prefix)
    if len(data) > KEY_BYTES_MAX:
        raise TooLarge(f"the prefix has {len(data)} bytes; at most {KEY_BYTES_MAX}", field="prefix")
    return data


def _raw_key(key: Key) -> bytes:
    if type(key) is str:
        try:
            return key.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as err:
            raise InvalidRequest(f"the key {key!r} is not encodable: {err}", field="key") from err
    if isinstance(key, bytes | bytearray | memoryview):
        return bytes(key)
    if isinstance(key, str):
        return _raw_key(str(key))
    raise InvalidRequest(f"a key is str or bytes, not {type(key).__name__}", field="key")


def check_value(value: bytes) -> bytes:
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX}", field="value")
    return value


def check_encoded(data: object, content_type: object) -> None:
    """What a codec of the caller, or a Typed, came up with."""
    if not isinstance(data, bytes) or not isinstance(content_type, str):
        kinds = f"{type(data).__name__} and {type(content_type).__name__}"
        raise InvalidRequest(f"the codec must return bytes and str, not {kinds}", field="value")
    try:
        size = len(content_type.encode())
    except UnicodeEncodeError as err:
        raise InvalidRequest(
            f"content_type={content_type!r} is not encodable as UTF-8", field="content_type"
        ) from err
    if size > CONTENT_TYPE_BYTES_MAX:
        raise TooLarge(
            f"the content type has {size} bytes; at most {CONTENT_TYPE_BYTES_MAX}", field="content_type"
        )


def fence_proto(fence: Fence) -> common_pb2.Fence:
    name, token = fence if isinstance(fence, tuple) else (fence.name, fence.token)
    if not 0 < len(name.encode()) <= LOCK_NAME_BYTES_MAX or not 0 < token < 2**64:
        raise InvalidRequest(f"fence={name!r}, {token}: the lock's name and its token", field="fence")
    return common_pb2.Fence(name=name, token=token)


def lease_id_of(lease: LeaseId) -> int:
    lease_id = lease if isinstance(lease, int) else lease.id
    if isinstance(lease_id, bool) or not 0 < lease_id < 2**64:
        raise InvalidRequest(f"lease={lease!r}: the lease is not granted, or was revoked", field="lease")
    return lease_id


def condition_proto(
    *,
    if_absent: bool = False,
    if_present: bool = False,
    if_version: int | None = None,
    if_value: bytes | None = None,
    if_mod_revision: int | None = None,
) -> cache_pb2.Condition | None:
    """None: no condition was asked for."""
    rest = (if_version, if_value, if_mod_revision)
    if not (if_absent or if_present) and rest == (None, None, None):
        return None
    if if_absent and (if_present or if_value is not None or if_version or if_mod_revision):
        raise InvalidRequest("if_absent excludes the other conditions", field="if_absent")
    if if_version is not None and not 0 <= if_version < 2**64:
        raise InvalidRequest(f"if_version={if_version} is no version", field="if_version")
    if if_mod_revision is not None and not 0 < if_mod_revision < 2**64:
        raise InvalidRequest(f"if_mod_revision={if_mod_revision} is no revision", field="if_mod_revision")
    condition = cache_pb2.Condition(if_absent=if_absent, if_present=if_present)
    if if_version is not None:
        condition.if_version = if_version
    if if_value is not None:
        condition.if_value = if_value
    if if_mod_revision is not None:
        condition.if_mod_revision = if_mod_revision
    return condition


def tag_list(tags: Iterable[str], maximum: int = TAGS_PER_ENTRY_MAX) -> list[str]:
    if isinstance(tags, str):
        raise InvalidRequest(f"tags={tags!r}: a list of str", field="tags")
    found = list(tags)
    if len(found) > maximum:
        raise InvalidRequest(f"{len(found)} tags; at most {maximum}", field="tags")
    for tag in found:
        if not isinstance(tag, str) or not 0 < len(tag.encode()) <= TAG_BYTES_MAX:
            raise InvalidRequest(f"tag {tag!r}: 1 to {TAG_BYTES_MAX} bytes of text", field="tags")
    return found


def set_operation(
    key: bytes,
    value: bytes,
    content_type: str,
    *,
    ttl: Duration | None = None,
    idle: Duration | None = None,
    max_reads: int = 0,
    tags: Iterable[str] = (),
    lease: LeaseId | None = None,
    if_version: int | None = None,
    if_mod_revision: int | None = None,
    if_value: bytes | None = None,
    if_absent: bool = False,
    if_present: bool = False,
    keep_ttl: bool = False,
    fence: Fence | None = None,
    want_previous: bool = False,
) -> cache_pb2.Operation:
    operation = cache_pb2.Operation()
    request = operation.set
    request.key = key
    request.value = value
    if content_type:
        request.content_type = content_type
    if keep_ttl and (ttl is not None or idle is not None):
        raise InvalidRequest("keep_ttl excludes ttl and idle", field="keep_ttl")
    if ttl is not None:
        request.ttl.CopyFrom(to_proto(parse_ttl_ms(ttl, "ttl")))
    if idle is not None:
        request.idle_ttl.CopyFrom(to_proto(parse_ttl_ms(idle, "idle")))
    if max_reads:
        if not 0 < max_reads < 2**63:
            raise InvalidRequest(f"max_reads={max_reads} must be above 0", field="max_reads")
        request.max_reads = max_reads
    if tags:
        request.tags.extend(tag_list(tags))
    if lease is not None:
        request.lease_id = lease_id_of(lease)
    request.keep_ttl = keep_ttl
    request.want_previous = want_previous
    condition = condition_proto(
        if_absent=if_absent,
        if_present=if_present,
        if_version=if_version,
        if_value=if_value,
        if_mod_revision=if_mod_revision,
    )
    if condition is not None:
        request.condition.CopyFrom(condition)
    if fence is not None:
        request.fence.CopyFrom(fence_proto(fence))
    return operation


def update_operation(
    key: bytes,
    *,
    replace: tuple[bytes, str] | None = None,
    append: bytes | None = None,
    add: int | float | None = None,
    merge: bytes | None = None,
    ttl: Duration | None = None,
    if_version: int | None = None,
    if_mod_revision: int | None = None,
    if_value: bytes | None = None,
    fence: Fence | None = None,
) -> cache_pb2.Operation:
    if sum(change is not None for change in (replace, append, add, merge)) != 1:
        raise InvalidRequest("exactly one of value, append=, add=, merge= and fn=", field="value")
    operation = cache_pb2.Operation()
    request = operation.update
    request.key = key
    if replace is not None:
        request.replace, content_type = replace
        # An empty one would keep that of the old value.
        request.content_type = content_type or "application/octet-stream"
    elif append is not None:
        request.append = append
    elif merge is not None:
        request.merge_json = merge
    elif isinstance(add, bool) or not isinstance(add, int | float):
        raise InvalidRequest(f"add={add!r} is no number", field="add")
    elif isinstance(add, int):
        request.add_integer = int64(add, "add")
    else:
        if add != add or add in (float("inf"), float("-inf")):
            raise InvalidRequest(f"add={add} is not finite", field="add")
        request.add_float = add
    if ttl is not None:
        request.ttl.CopyFrom(to_proto(parse_ttl_ms(ttl, "ttl")))
    condition = condition_proto(if_version=if_version, if_value=if_value, if_mod_revision=if_mod_revision)
    if condition is not None:
        request.condition.CopyFrom(condition)
    if fence is not None:
        request.fence.CopyFrom(fence_proto(fence))
    return operation


def delete_operation(
    key: bytes,
    *,
    if_version: int | None = None,
    if_mod_revision: int | None = None,
    if_value: bytes | None = None,
    fence: Fence | None = None,
    want_previous: bool = False,
) -> cache_pb2.Operation:
    operation = cache_pb2.Operation()
    request = operation.delete
    request.key = key
    request.want_previous = want_previous
    condition = condition_proto(if_version=if_version, if_value=if_value, if_mod_revision=if_mod_revision)
    if condition is not None:
        request.condition.CopyFrom(condition)
    if fence is not None:
        request.fence.CopyFrom(fence_proto(fence))
    return operation


def touch_operation(
    key: bytes,
    *,
    ttl: Duration | None = None,
    idle: Duration | None = None,
    if_version: int | None = None,
    if_mod_revision: int | None = None,
    fence: Fence | None = None,
) -> cache_pb2.Operation:
    operation = cache_pb2.Operation()
    request = operation.touch
    request.key = key
    if ttl is not None:
        request.ttl.CopyFrom(to_proto(parse_ttl_ms(ttl, "ttl")))
    if idle is not None:
        request.idle_ttl.CopyFrom(to_proto(parse_ttl_ms(idle, "idle")))
    condition = condition_proto(if_version=if_version, if_mod_revision=if_mod_revision)
    if condition is not None:
        request.condition.CopyFrom(condition)
    if fence is not None:
        request.fence.CopyFrom(fence_proto(fence))
    return operation


def increment_operation(
    key: bytes,
    delta: int,
    *,
    initial: int = 0,
    ttl: Duration | None = None,
    minimum: int | None = None,
    maximum: int | None = None,
    fence: Fence | None = None,
) -> cache_pb2.Operation:
    operation = cache_pb2.Operation()
    request = operation.increment
    request.key = key
    request.delta = int64(delta, "delta")
    request.initial = int64(initial, "initial")
    if ttl is not None:
        request.ttl.CopyFrom(to_proto(parse_ttl_ms(ttl, "ttl")))
    if minimum is not None:
        request.minimum = int64(minimum, "minimum")
    if maximum is not None:
        request.maximum = int64(maximum, "maximum")
    if fence is not None:
        request.fence.CopyFrom(fence_proto(fence))
    return operation


def get_operation(key: bytes) -> cache_pb2.Operation:
    operation = cache_pb2.Operation()
    operation.get.key = key
    return operation


def int64(value: int, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{field}={value!r} is no int", field=field)
    if not INT64_MIN <= value <= INT64_MAX:
        raise InvalidRequest(f"{field}={value} does not fit 64 bits", field=field)
    return value
