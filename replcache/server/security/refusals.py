"""Refusals are counted by metrics and logged rarely: once for each source and cause in an interval.

An attacker must not be able to fill the disk, nor to hide among his own lines: `not_logged_before` says how
many there were. The number of sources that are told apart is bounded, and so is the number of lines.
"""

from collections import OrderedDict

from replcache import constants
from replcache.clock import Clock
from replcache.observability.logs import get_logger

_log = get_logger(__name__)


class RefusalLog:
    """Lines about refused callers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # (source, cause) -> [when it was logged, how many were silent since]
        self._seen: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._window_end = 0.0
        self._lines = 0
        self._dropped = 0

    def note(self, source: str, cause: str, **facts: str) -> None:
        """facts: must not hold secrets, keys or values."""
        now = self._clock.now()
        entry = self._seen.get((source, cause))
        if entry is not None and now - entry[0] < constants.REFUSAL_LOG_INTERVAL_S:
            entry[1] += 1
            return
        silent = int(entry[1]) if entry is not None else 0
        self._seen[source, cause] = [now, 0.0]
        self._seen.move_to_end((source, cause))
        if len(self._seen) > constants.SOURCES_MAX:
            self._seen.popitem(last=False)
        if self._has_room(now):
            _log.warning("refused", source=source, cause=cause, not_logged_before=silent, **facts)

    def _has_room(self, now: float) -> bool:
        """False: so many sources were logged in this interval that one more is only counted."""
        if now >= self._window_end:
            self._window_end = now + constants.REFUSAL_LOG_INTERVAL_S
            if self._dropped:
                _log.warning("refusals_not_logged", number=self._dropped)
            self._lines = self._dropped = 0
        if self._lines >= constants.REFUSAL_LOG_LINES_MAX:
            self._dropped += 1
            return False
        self._lines += 1
        return True


class FailureBrake:
    """Holds back a source that presents one wrong token after the other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # source -> [end of its interval, wrong tokens in it]
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, source: str) -> float:
        """Seconds until the source is listened to again; 0.0: now."""
        entry = self._failures.get(source)
        now = self._clock.now()
        if entry is None or now >= entry[0] or entry[1] < constants.AUTH_FAILURES_MAX:
            return 0.0
        return entry[0] - now

    def note(self, source: str) -> None:
        now = self._clock.now()
        entry = self._failures.get(source)
        if entry is None or now >= entry[0]:
            entry = self._failures[source] = [now + constants.AUTH_FAILURES_INTERVAL_S, 0.0]
            self._failures.move_to_end(source)
            if len(self._failures) > constants.SOURCES_MAX:
                self._failures.popitem(last=False)
        entry[1] += 1
