"""Arguments and results as redis-py has them: keys, values, times, patterns."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from replcache.compat.exceptions import DataError, ResponseError

# Keys of replcache's own bookkeeping (queues, origin versions): not shown, not flushed.
RESERVED = b"\0"


def encoded(value: Any) -> bytes:
    """bytes, str, int or float as redis-py sends them.

    Raises:
        DataError: anything else, also bool and None.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value).encode()
    kind = type(value).__name__
    raise DataError(f"Invalid input of type: '{kind}'. Convert to a bytes, string, int or float first.")


def milliseconds(value: int | timedelta, factor: int) -> int:
    if isinstance(value, timedelta):
        return int(value.total_seconds() * 1000)
    return int(value) * factor


def until(moment: int | datetime, factor: int) -> int:
    """Milliseconds from now to a point of wall-clock time; may be negative."""
    now = datetime.now(UTC)
    if isinstance(moment, datetime):
        return int((moment.astimezone(UTC) - now).total_seconds() * 1000)
    return int(moment) * factor - int(now.timestamp() * 1000)


def expiry_ms(ex: Any, px: Any, exat: Any, pxat: Any, command: str) -> int | None:
    """Of the four ways to say it; None: none was given.

    Raises:
        ResponseError: not above 0.
        DataError: more than one.
    """
    given = [value for value in (ex, px, exat, pxat) if value is not None]
    if len(given) > 1:
        raise DataError("``ex``, ``px``, ``exat`` and ``pxat`` are mutually exclusive.")
    if ex is not None or px is not None:
        ttl_ms = milliseconds(ex, 1000) if ex is not None else milliseconds(px, 1)
        if ttl_ms <= 0:
            raise ResponseError(f"invalid expire time in '{command}' command")
        return ttl_ms
    if exat is not None:
        return until(exat, 1000)
    if pxat is not None:
        return until(pxat, 1)
    return None


def ttl_left_ms(expires_in_s: float | None) -> int:
    """As PTTL has it: -1 for a key that does not expire."""
    return -1 if expires_in_s is None else max(0, round(expires_in_s * 1000))


def glob(pattern: bytes) -> tuple[bytes, "re.Pattern[bytes]"]:
    """A pattern of KEYS and SCAN: its literal beginning, and what the whole key must match."""
    out: list[bytes] = []
    prefix = bytearray()
    is_literal = True
    position = 0
    while position < len(pattern):
        one = pattern[position : position + 1]
        position += 1
        if one == b"*":
            out.append(b".*")
        elif one == b"?":
            out.append(b".")
        elif one == b"[":
            text, position = _character_class(pattern, position)
            out.append(text)
        else:
            if one == b"\\" and position < len(pattern):
                one = pattern[position : position + 1]
                position += 1
            out.append(re.escape(one))
            if is_literal:
                prefix += one
            continue
        is_literal = False
    return bytes(prefix), re.compile(b"".join(out), re.S)


def _character_class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """The regular expression of [abc], [^a] or [a-z], and the position behind it."""
    is_negated = pattern[position : position + 1] == b"^"
    position += is_negated
    parts: list[bytes] = []
    while position < len(pattern) and pattern[position : position + 1] != b"]":
        if pattern[position : position + 1] == b"\\" and position + 1 < len(pattern):
            position += 1
            parts.append(re.escape(pattern[position : position + 1]))
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            ends = sorted((pattern[position : position + 1], pattern[position + 2 : position + 3]))
            parts.append(re.escape(ends[0]) + b"-" + re.escape(ends[1]))
            position += 2
        else:
            parts.append(re.escape(pattern[position : position + 1]))
        position += 1
    if not parts:
        return (b"." if is_negated else b"(?!)"), position + 1
    return b"[" + (b"^" if is_negated else b"") + b"".join(parts) + b"]", position + 1
