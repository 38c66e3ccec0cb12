"""How a decorated function is cached: the options, checked, and the decisions that need no I/O.

Early refresh by lot (XFetch): Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede
Prevention", VLDB 2015. Each reader refreshes early with probability exp(-left / (beta * load)), where `left`
is the time until the entry is outdated and `load` what its load took.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from replcache.client.codec import Codec
from replcache.client.durations import Duration, parse_seconds, parse_ttl_ms
from replcache.client.types import Consistency
from replcache.constants import LOCK_TTL_MS_MAX, LOCK_TTL_MS_MIN, LOCK_WAIT_MS_MAX, TTL_MS_MAX
from replcache.errors import InvalidRequest
from replcache.patterns.cached_stored import Found, Outcome

SingleFlight = Literal["process", "cluster"] | None
XFETCH = "xfetch"


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of `cached`, see there. 0 milliseconds: not asked for."""

    ttl_ms: int
    jitter: float
    single_flight: SingleFlight
    is_xfetch: bool
    beta: float
    # Refresh when less than this is left; 0: no.
    early_left_s: float
    stale_ms: int
    negative_ttl_ms: int
    cache_exceptions: tuple[type[Exception], ...]
    when: Callable[[Any], bool] | None
    codec: Codec | None
    lease_ms: int
    wait_s: float
    ignore_errors: bool
    read: Consistency | None
    max_staleness: Duration | None
    timeout: Duration | None

    @property
    def lease(self) -> timedelta:
        return timedelta(milliseconds=self.lease_ms)

    # --- decisions ---

    def is_early(self, found: Found, rng: random.Random) -> bool:
        """Whether this reader is to refresh an entry that is still fresh."""
        if found.fresh_s is None or found.outcome is None:
            return False
        if self.early_left_s:
            # A negative entry lives less than that from the beginning.
            return found.fresh_s < self.early_left_s and not self._is_negative(found.outcome)
        if not self.is_xfetch:
            return False
        # -log(u) is exponentially distributed: above x with probability exp(-x).
        return -math.log(1.0 - rng.random()) * self.beta * found.outcome.load_s >= found.fresh_s

    def is_answer(self, outcome: Outcome) -> bool:
        """Whether the load ended with something that callers can be given later on; else it failed."""
        return outcome.error is None or isinstance(outcome.error, self.cache_exceptions)

    def is_stored(self, outcome: Outcome) -> bool:
        if outcome.error is not None:
            return isinstance(outcome.error, self.cache_exceptions)
        return self.when is None or bool(self.when(outcome.value))

    def draw_ttl_ms(self, outcome: Outcome, rng: random.Random) -> int:
        """Until the entry is outdated: between (1 - jitter) * ttl and ttl, evenly, so that what was stored
        together does not end together; never longer than was asked for."""
        ttl_ms = self.negative_ttl_ms if self._is_negative(outcome) else self.ttl_ms
        if not self.jitter:
            return ttl_ms
        return max(1, round(ttl_ms * (1.0 - self.jitter * rng.random())))

    def _is_negative(self, outcome: Outcome) -> bool:
        return bool(self.negative_ttl_ms) and (outcome.error is not None or outcome.value is None)

    def stale_ms_of(self, outcome: Outcome) -> int:
        """An exception is not served beyond its time."""
        return self.stale_ms if outcome.error is None else 0


def parse_policy(
    *,
    ttl: Duration,
    jitter: float,
    single_flight: SingleFlight,
    early: Duration | None,
    beta: float,
    stale_on_error: Duration | None,
    negative_ttl: Duration | None,
    cache_exceptions: type[Exception] | tuple[type[Exception], ...],
    when: Callable[[Any], bool] | None,
    codec: Codec | None,
    lease: Duration,
    wait: Duration,
    ignore_errors: bool,
    read: Consistency | str | None,
    max_staleness: Duration | None,
    timeout: Duration | None,
) -> Policy:
    """
    Raises:
        InvalidRequest: names the option.
    """
    ttl_ms = parse_ttl_ms(ttl, "ttl")
    if not ttl_ms:
        raise InvalidRequest("ttl=None: what is cached needs a time limit", field="ttl")
    if not 0 <= jitter < 1:
        raise InvalidRequest(f"jitter={jitter!r}: a part of the ttl, 0 <= jitter < 1", field="jitter")
    if single_flight not in (None, "process", "cluster"):
        raise InvalidRequest(
            f'single_flight={single_flight!r}: "process", "cluster" or None', field="single_flight"
        )
    if not beta > 0 or not math.isfinite(beta):
        raise InvalidRequest(f"beta={beta!r} must be above 0", field="beta")
    is_xfetch = early == XFETCH
    negative_ttl_ms = parse_ttl_ms(negative_ttl, "negative_ttl")
    errors = _exceptions(cache_exceptions)
    if errors and not negative_ttl_ms:
        raise InvalidRequest(
            "cache_exceptions needs negative_ttl: how long they are kept", field="negative_ttl"
        )
    stale_ms = parse_ttl_ms(stale_on_error, "stale_on_error")
    if ttl_ms + stale_ms > TTL_MS_MAX:
        raise InvalidRequest(f"ttl and stale_on_error are above {TTL_MS_MAX} ms", field="stale_on_error")
    lease_ms = parse_ttl_ms(lease, "lease", LOCK_TTL_MS_MAX)
    if lease_ms < LOCK_TTL_MS_MIN:
        raise InvalidRequest(f"lease={lease!r} is below {LOCK_TTL_MS_MIN} ms", field="lease")
    wait_s = parse_seconds(wait, "wait")
    if wait_s * 1000 > LOCK_WAIT_MS_MAX:
        raise InvalidRequest(f"wait={wait!r} is above {LOCK_WAIT_MS_MAX} ms", field="wait")
    return Policy(
        ttl_ms=ttl_ms,
        jitter=float(jitter),
        single_flight=single_flight,
        is_xfetch=is_xfetch,
        beta=float(beta),
        early_left_s=0.0 if early is None or is_xfetch else _early_left_s(early, ttl_ms),
        stale_ms=stale_ms,
        negative_ttl_ms=negative_ttl_ms,
        cache_exceptions=errors,
        when=when,
        codec=codec,
        lease_ms=lease_ms,
        wait_s=wait_s,
        ignore_errors=ignore_errors,
        read=None if read is None else Consistency(read),
        max_staleness=max_staleness,
        timeout=timeout,
    )


def _early_left_s(early: Duration, ttl_ms: int) -> float:
    early_ms = parse_ttl_ms(early, "early")
    if early_ms >= ttl_ms:
        raise InvalidRequest(f"early={early!r} must be below the ttl", field="early")
    return (ttl_ms - early_ms) / 1000


def _exceptions(given: type[Exception] | tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    found = given if isinstance(given, tuple) else (given,)
    for kind in found:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise InvalidRequest(
                f"cache_exceptions: {kind!r} is no class of exceptions", field="cache_exceptions"
            )
    return found
