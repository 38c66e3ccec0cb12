"""Durations and sizes, as people write and read them."""

import re

from replcache.errors import ConfigError

_SIZE = re.compile(r"(\d{1,15})\s*([kmgt]?)(i?b)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def bytes_of_size(text: str) -> int:
    """Bytes of "64MiB", "64M", "1 GB" (all powers of 1,024) or a plain number.

    Raises:
        ConfigError: not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no size: write for example 64MiB or 1g")
    return int(match[1]) << 10 * _POWERS[match[2].lower()]


def short_duration(value_s: float) -> str:
    """A duration for a table cell: 3 significant places at most."""
    if value_s < 1:
        return f"{value_s * 1000:.0f} ms"
    if value_s < 120:
        return f"{value_s:.1f} s"
    if value_s < 2 * 3600:
        return f"{value_s / 60:.0f} min"
    if value_s < 2 * 86400:
        return f"{value_s / 3600:.1f} h"
    return f"{value_s / 86400:.1f} d"


def short_size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def short_count(value: float) -> str:
    """A rate or a number of things: 3 significant places, k and M above."""
    for factor, unit in ((1e6, " M"), (1e3, " k")):
        if value >= 10 * factor or (factor == 1e6 and value >= factor):
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def short_latency(value_s: float | None) -> str:
    if value_s is None:
        return "–"
    if value_s < 0.001:
        return f"{value_s * 1e6:.0f} µs"
    return f"{value_s * 1000:.3g} ms" if value_s < 1 else f"{value_s:.2f} s"
