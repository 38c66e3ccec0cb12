"""The newest events of this process in memory, for the status page: what the log says, without a log viewer.

Only what replcache itself logs at INFO and above, which by rule holds no keys and values of users.
"""

from collections import deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

EVENTS_KEPT = 100
TEXT_CHARS_MAX = 300
_LEVELS = frozenset({"info", "warning", "error", "critical"})
_NOT_FIELDS = frozenset({"event", "level", "logger", "timestamp", "exc_info", "stack_info", "stack", "node"})


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """number: counts this process's events; at: ISO 8601 in UTC, for people; text: `key=value` pairs."""

    number: int
    at: str
    level: str
    event: str
    text: str


class RecentEvents:
    """A bounded list; the oldest go. Any thread may add: appending to a deque is atomic."""

    def __init__(self, kept: int = EVENTS_KEPT) -> None:
        self._events: deque[RecentEvent] = deque(maxlen=kept)
        self._number = 0

    def newest(self, count: int) -> list[RecentEvent]:
        """Oldest first."""
        return list(self._events)[-count:]

    def remember(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """A processor of structlog; passes everything on unchanged."""
        if event.get("level") in _LEVELS and str(event.get("logger", "")).startswith("replcache"):
            self._number += 1
            self._events.append(
                RecentEvent(
                    self._number,
                    str(event.get("timestamp", "")),
                    str(event["level"]),
                    str(event.get("event", ""))[:TEXT_CHARS_MAX],
                    _text(event),
                )
            )
        return event


def _text(event: Mapping[str, Any]) -> str:
    pairs = [
        f"{name}={value}"
        for name, value in event.items()
        if name not in _NOT_FIELDS and not name.startswith("_") and value is not None
    ]
    return " ".join(pairs)[:TEXT_CHARS_MAX]
