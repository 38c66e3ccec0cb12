"""Durations as callers write them: "10m", seconds, or timedelta; inside the client only seconds and
whole milliseconds exist.
"""

import math
import re
from datetime import timedelta

from google.protobuf import duration_pb2

from replcache.constants import TTL_MS_MAX
from replcache.errors import InvalidRequest

Duration = str | float | int | timedelta

_UNIT_S = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)", re.ASCII)


def parse_seconds(value: Duration, field: str) -> float:
    """Seconds of a duration such as "10m", "1h30m", "250ms", 2.5 or timedelta(minutes=1).

    Raises:
        InvalidRequest: not a duration, negative, or not finite; `field` names the argument.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse_text(value, field)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
    else:
        raise InvalidRequest(
            f'{field}={value!r} is no duration: write "10m", seconds or a timedelta', field=field
        )
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidRequest(f"{field}={value!r} must be finite and not negative", field=field)
    return seconds


def _parse_text(text: str, field: str) -> float:
    compact = text.strip().lower()
    seconds = 0.0
    position = 0
    while match := _PART.match(compact, position):
        seconds += float(match[1]) * _UNIT_S[match[2]]
        position = match.end()
    if position == 0 or position != len(compact):
        raise InvalidRequest(
            f'{field}={text!r} is no duration: write for example "250ms", "10s", "1h30m" or "7d"', field=field
        )
    return seconds


def parse_ttl_ms(value: Duration | None, field: str, maximum_ms: int = TTL_MS_MAX) -> int:
    """Whole milliseconds, rounded up so that a short ttl never becomes none; None: 0.

    Raises:
        InvalidRequest: zero (None means "no limit", zero means nothing), or above `maximum_ms`.
    """
    if value is None:
        return 0
    ttl_ms = math.ceil(parse_seconds(value, field) * 1000 - 1e-6)
    if not 0 < ttl_ms <= maximum_ms:
        raise InvalidRequest(
            f"{field}={value!r} must be above 0 and at most {maximum_ms / 1000:g} s; None: no limit",
            field=field,
        )
    return ttl_ms


def to_proto(milliseconds: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def from_proto(duration: duration_pb2.Duration) -> float:
    """Seconds."""
    return float(duration.seconds) + duration.nanos * 1e-9
