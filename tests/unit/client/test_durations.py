"""Durations as callers write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.client.durations import from_proto, parse_seconds, parse_ttl_ms, to_proto
from replcache.errors import InvalidRequest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("10m", 600.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("50us", 5e-5),
        (" 3S ", 3.0),
        (7, 7.0),
        (0.5, 0.5),
        (timedelta(minutes=1), 60.0),
        (0, 0.0),
    ],
)
def test_accepted(value: object, seconds: float) -> None:
    assert parse_seconds(value, "ttl") == pytest.approx(seconds)  # type: ignore[arg-type]  # every kind


@pytest.mark.parametrize(
    "value",
    ["", "10", "m", "10x", "1h foo", "-5s", -1, float("nan"), float("inf"), True, None, [], timedelta(-1)],
)
def test_refused_with_the_field_named(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_seconds(value, "ttl")  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == "ttl"


def test_ttl_is_rounded_up_and_never_zero() -> None:
    assert parse_ttl_ms(None, "ttl") == 0
    assert parse_ttl_ms("1us", "ttl") == 1
    assert parse_ttl_ms(0.0011, "ttl") == 2
    assert parse_ttl_ms(0.25, "ttl") == 250
    for value in (0, "0s", "4000d"):
        with pytest.raises(InvalidRequest):
            parse_ttl_ms(value, "ttl")


@given(st.integers(0, 10**12))
def test_proto_round_trip(milliseconds: int) -> None:
    assert from_proto(to_proto(milliseconds)) == pytest.approx(milliseconds / 1000)
