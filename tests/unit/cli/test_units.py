"""Durations and sizes for people."""

import pytest

from replcache.cli.units import short_duration, short_size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1.0, "1.0 s"),
        (119.96, "120.0 s"),
        (300, "5 min"),
        (7200, "2.0 h"),
        (3 * 86400, "3.0 d"),
    ],
)
def test_duration_is_short(value: float, expected: str) -> None:
    assert short_duration(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")],
)
def test_size_is_short(value: int, expected: str) -> None:
    assert short_size(value) == expected
