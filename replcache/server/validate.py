"""Checks of single request fields: every limit of constants.py, with field, size and limit in the error.

Plain functions that return the checked (sometimes normalized) value and raise InvalidRequest or TooLarge.
Input is checked here and nowhere else; the state machine may rely on it. `field` is the path that the caller
wrote, such as `operations[3].set.key`.
"""

import math
from collections.abc import Collection, Iterable, Sequence

from google.protobuf.duration_pb2 import Duration

from replcache import constants
from replcache.errors import InvalidRequest, TooLarge
from replcache.pb.v1 import common_pb2
from replcache.statemachine.commands import Fence

_NANOS_PER_MS = 1_000_000
_NANOS_PER_S = 1_000_000_000


def too_large(field: str, size: int, limit: int, unit: str = "bytes") -> TooLarge:
    return TooLarge(
        f"{field}: {size} {unit}, limit {limit}",
        field=field,
        metadata={"size": str(size), "limit": str(limit)},
    )


def key(value: bytes, field: str) -> bytes:
    if not value:
        raise InvalidRequest(f"{field}: must not be empty", field=field)
    if len(value) > constants.KEY_BYTES_MAX:
        raise too_large(field, len(value), constants.KEY_BYTES_MAX)
    return value


def keys(values: Sequence[bytes], field: str) -> None:
    """The same for many at once; per-key work only when one of them is wrong."""
    lengths = list(map(len, values))
    if max(lengths) > constants.KEY_BYTES_MAX or min(lengths) == 0:
        for index, one in enumerate(values):
            key(one, f"{field}[{index}]")


def value(content: bytes, field: str) -> bytes:
    if len(content) > constants.VALUE_BYTES_MAX:
        raise too_large(field, len(content), constants.VALUE_BYTES_MAX)
    return content


def values(contents: Sequence[bytes], field: str) -> None:
    if max(map(len, contents)) > constants.VALUE_BYTES_MAX:
        for index, content in enumerate(contents):
            value(content, f"{field}[{index}]")


def count(items: Collection[object], field: str) -> None:
    """1..BATCH_OPERATIONS_MAX."""
    if not items:
        raise InvalidRequest(f"{field}: must not be empty", field=field)
    if len(items) > constants.BATCH_OPERATIONS_MAX:
        raise too_large(field, len(items), constants.BATCH_OPERATIONS_MAX, "items")


def batch_bytes(size: int, field: str) -> None:
    if size > constants.BATCH_BYTES_MAX:
        raise too_large(field, size, constants.BATCH_BYTES_MAX)


def reply_bytes(size: int, field: str) -> None:
    """What would be answered must fit one message of REPLY_BYTES_MAX; ask for fewer keys at once."""
    if size > constants.REPLY_BYTES_MAX:
        raise too_large(f"reply to {field}", size, constants.REPLY_BYTES_MAX)


def text(content: str, field: str, limit: int) -> str:
    if len(content) * 4 > limit:
        size = len(content.encode())
        if size > limit:
            raise too_large(field, size, limit)
    return content


def content_type(content: str, field: str) -> str:
    return text(content, field, constants.CONTENT_TYPE_BYTES_MAX)


def tags(items: Iterable[str], field: str, limit: int = constants.TAGS_PER_ENTRY_MAX) -> tuple[str, ...]:
    """Without repetitions, in the caller's order."""
    unique = tuple(dict.fromkeys(items))
    if len(unique) > limit:
        raise too_large(field, len(unique), limit, "tags")
    for index, one in enumerate(unique):
        tag(one, f"{field}[{index}]")
    return unique


def tag(given: str, field: str) -> str:
    return name(given, field, constants.TAG_BYTES_MAX)


def some_tags(items: Collection[str], field: str) -> tuple[str, ...]:
    """1..TAGS_PER_REQUEST_MAX tags that a request is about."""
    if not items:
        raise InvalidRequest(f"{field}: at least one tag must be given", field=field)
    return tags(items, field, constants.TAGS_PER_REQUEST_MAX)


def prefix(given: bytes, field: str) -> bytes:
    """The beginning of keys; may be empty."""
    if len(given) > constants.KEY_BYTES_MAX:
        raise too_large(field, len(given), constants.KEY_BYTES_MAX)
    return given


def duration_nanos(duration: Duration, field: str) -> int:
    """Nanoseconds of a well-formed Duration that is not negative."""
    if not 0 <= duration.nanos < _NANOS_PER_S:
        if duration.seconds <= 0 and -_NANOS_PER_S < duration.nanos < 0:
            raise InvalidRequest(f"{field}: must not be negative", field=field)
        raise InvalidRequest(f"{field}: nanos {duration.nanos} is out of its range", field=field)
    if duration.seconds < 0:
        raise InvalidRequest(f"{field}: must not be negative ({duration.seconds} s)", field=field)
    return duration.seconds * _NANOS_PER_S + duration.nanos


def duration_ms(duration: Duration, field: str, minimum_ms: int, maximum_ms: int) -> int:
    """Milliseconds, a part of one counted as a whole: nobody's ttl becomes 0 by rounding."""
    nanos = duration_nanos(duration, field)
    milliseconds = -(-nanos // _NANOS_PER_MS)
    if not minimum_ms <= milliseconds <= maximum_ms:
        raise InvalidRequest(
            f"{field}: {milliseconds} ms is outside {minimum_ms}..{maximum_ms} ms",
            field=field,
            metadata={"minimum_ms": str(minimum_ms), "limit": str(maximum_ms)},
        )
    return milliseconds


def ttl_ms(duration: Duration, field: str) -> int:
    """A ttl that was given: at least 1 ms. Leaving the field away means no limit, 0 is a mistake."""
    return duration_ms(duration, field, 1, constants.TTL_MS_MAX)


def finite(number: float, field: str) -> float:
    if not math.isfinite(number):
        raise InvalidRequest(f"{field}: {number} is not a finite number", field=field)
    return number


def fence(message: common_pb2.Fence, field: str) -> Fence:
    lock_name(message.name, f"{field}.name")
    return Fence(message.name, not_zero(message.token, f"{field}.token"))


def lock_name(given: str, field: str) -> str:
    return name(given, field, constants.LOCK_NAME_BYTES_MAX)


def lock_owner(owner: bytes, field: str) -> bytes:
    if not owner:
        raise InvalidRequest(f"{field}: must not be empty", field=field)
    if len(owner) > constants.LOCK_OWNER_BYTES_MAX:
        raise too_large(field, len(owner), constants.LOCK_OWNER_BYTES_MAX)
    return owner


def lock_permits(permits: int, field: str) -> int:
    """0 and 1 both mean a plain lock."""
    if permits > constants.LOCK_PERMITS_MAX:
        raise InvalidRequest(
            f"{field}: {permits}, limit {constants.LOCK_PERMITS_MAX}",
            field=field,
            metadata={"limit": str(constants.LOCK_PERMITS_MAX)},
        )
    return max(permits, 1)


def known_enum(number: int, known: Collection[int], field: str) -> int:
    """Protobuf keeps unknown enum numbers; guessing what a newer client meant could weaken a read."""
    if number not in known:
        raise InvalidRequest(f"{field}: unknown value {number}", field=field)
    return number


def present(given: bool, field: str) -> None:
    if not given:
        raise InvalidRequest(f"{field}: must be given", field=field)


def at_most(number: int, limit: int, field: str) -> int:
    if number > limit:
        raise InvalidRequest(f"{field}: {number}, limit {limit}", field=field, metadata={"limit": str(limit)})
    return number


def not_zero(number: int, field: str) -> int:
    if number == 0:
        raise InvalidRequest(f"{field}: must not be 0", field=field)
    return number


def name(text_given: str, field: str, limit: int) -> str:
    """A text that must be there."""
    if not text_given:
        raise InvalidRequest(f"{field}: must not be empty", field=field)
    return text(text_given, field, limit)
