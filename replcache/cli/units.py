"""Durations and sizes for people to read."""


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
