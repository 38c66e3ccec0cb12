"""Decisions that need no cluster: early refreshes by lot, jitter, what is stored, arithmetic."""

import math
import random
from typing import Any

import pytest

from replcache.errors import InvalidRequest
from replcache.patterns.cached_info import Counts, expected_latency_s
from replcache.patterns.cached_policy import Policy, parse_policy
from replcache.patterns.cached_stored import (
    Found,
    Kind,
    Outcome,
    decode_error,
    encode_error,
    stamped,
    unstamped,
)

DRAWS = 20_000
OPTIONS: dict[str, Any] = {
    "ttl": "10m",
    "jitter": 0.0,
    "single_flight": None,
    "early": None,
    "beta": 1.0,
    "stale_on_error": None,
    "negative_ttl": None,
    "cache_exceptions": (),
    "when": None,
    "codec": None,
    "lease": "10s",
    "wait": "30s",
    "ignore_errors": False,
    "read": None,
    "max_staleness": None,
    "timeout": None,
}


def policy(**options: Any) -> Policy:
    return parse_policy(**{**OPTIONS, **options})


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("left_s", "load_s"), [(0.1, 1.0), (1.0, 1.0), (1.5, 0.5), (4.0, 1.0)])
def test_xfetch_refreshes_with_the_probability_of_the_paper(
    beta: float, left_s: float, load_s: float
) -> None:
    """exp(-left / (beta * load)), within 3 sigma. One seed, as twelve such tests fail now and then."""
    rng = random.Random(2015)
    rules = policy(early="xfetch", beta=beta)
    found = Found(Kind.FILLED, 1, Outcome("v", load_s=load_s), left_s)
    share = sum(rules.is_early(found, rng) for _ in range(DRAWS)) / DRAWS
    expected = math.exp(-left_s / (beta * load_s))
    sigma = math.sqrt(expected * (1 - expected) / DRAWS)
    assert abs(share - expected) < 3 * sigma, (share, expected)


def test_xfetch_never_refreshes_what_does_not_end_or_took_no_time(rng: random.Random) -> None:
    rules = policy(early="xfetch")
    for found in (
        Found(Kind.FILLED, 1, Outcome("v", load_s=100.0), None),
        Found(Kind.FILLED, 1, Outcome("v", load_s=0.0), 0.001),
    ):
        assert not any(rules.is_early(found, rng) for _ in range(1000))


def test_early_by_age_leaves_negative_answers_alone(rng: random.Random) -> None:
    rules = policy(early="7m", negative_ttl="30s", jitter=0.1)
    assert rules.is_early(Found(Kind.FILLED, 1, Outcome("v"), 179.0), rng)
    assert not rules.is_early(Found(Kind.FILLED, 1, Outcome("v"), 181.0), rng)
    assert not rules.is_early(Found(Kind.FILLED, 1, Outcome(None), 29.0), rng)


def test_jitter_shortens_evenly_and_never_lengthens(rng: random.Random) -> None:
    rules = policy(ttl="100s", jitter=0.2, negative_ttl="10s")
    drawn = sorted(rules.draw_ttl_ms(Outcome("v"), rng) for _ in range(2000))
    assert 80_000 <= drawn[0] < 81_000
    assert 99_000 < drawn[-1] <= 100_000
    # Kolmogorov-Smirnov against the uniform distribution; 1.95 is passed once in a thousand runs.
    distance = max(abs((i + 1) / 2000 - (ttl - 80_000) / 20_000) for i, ttl in enumerate(drawn))
    assert distance * math.sqrt(2000) < 1.95
    assert 8000 <= rules.draw_ttl_ms(Outcome(None), rng) <= 10_000


def test_what_is_stored() -> None:
    rules = policy(when=lambda value: value > 3, negative_ttl=1, cache_exceptions=(KeyError,))
    assert rules.is_stored(Outcome(4)) and not rules.is_stored(Outcome(3))
    assert rules.is_answer(Outcome(3))
    assert rules.is_stored(Outcome(error=KeyError("k"))) and rules.is_answer(Outcome(error=KeyError("k")))
    assert not rules.is_answer(Outcome(error=ValueError()))


@pytest.mark.parametrize(
    "options", [{"ttl": "x"}, {"jitter": -0.1}, {"beta": math.inf}, {"early": "10m"}, {"read": "some"}]
)
def test_options_that_are_not_acceptable(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidRequest, ValueError)):
        policy(**options)


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json;charset=utf-8", "a/b;load=x"])
def test_stamps_stand_beside_the_content_type(content_type: str) -> None:
    marked = stamped(content_type, 0.25, 3_600_000)
    assert marked == (content_type or "application/octet-stream") + ";load=0.250000;stale=3600"
    assert unstamped(marked) == (content_type or "application/octet-stream", 0.25, 3600.0)
    assert stamped(content_type, None, 0) == content_type


def test_exceptions_keep_their_arguments_as_far_as_json_has_them() -> None:
    error = decode_error(encode_error(KeyError("a", 1, None)), (LookupError,))
    assert type(error) is KeyError and error.args == ("a", 1, None)
    assert decode_error(encode_error(KeyError(object)), (KeyError,)) is not None
    assert decode_error(encode_error(KeyError("a")), (OSError,)) is None
    for document in (b"", b"[]", b'{"class":"builtins.KeyError"}', b'{"class":3,"args":3}', b"\xff"):
        assert decode_error(document, (KeyError,)) is None


def test_hit_rate_is_a_share_of_requests_not_of_data() -> None:
    """One reads the formula stored entries / (stored entries + rows): on this trace 0.5 instead of 0.9."""
    counts = Counts()
    cached: set[int] = set()
    rows = range(10)
    for key in [1, 2, 3, 4, 5] * 10:
        counts.add("hits" if key in cached else "misses")
        cached.add(key)
    by_requests = counts.info().hit_rate
    by_data = len(cached) / (len(cached) + len(set(rows) - cached))
    assert by_requests == pytest.approx(0.9)
    assert by_data == pytest.approx(0.5)
    assert Counts().info().hit_rate == 0.0


def test_expected_latency() -> None:
    """99 % at 1 ms and a database of 50 ms: 1.5 ms. (49.99 ms, as one reads, has the weights exchanged.)"""
    assert expected_latency_s(0.99, 0.001, 0.050) == pytest.approx(0.0015)
    assert expected_latency_s(0.0, 0.001, 0.050) == pytest.approx(0.051)
    with pytest.raises(ValueError, match="hit_rate"):
        expected_latency_s(99, 1, 1)
