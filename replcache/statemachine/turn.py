"""The turn: where in the log's order the machine stands while it applies an entry, and what it has to tell.

One object for the life of a machine. Everything that changes replicated state takes its revision here.
"""

from replcache.statemachine.events import AnyEvent


class Turn:
    """Attributes:
    clock_ms: cluster clock, milliseconds; only the log moves it.
    revision: of the last change.
    events: of the entry that is being applied, in revision order.
    """

    __slots__ = ("clock_ms", "events", "revision")

    def __init__(self, clock_ms: int = 0, revision: int = 0) -> None:
        self.clock_ms = clock_ms
        self.revision = revision
        self.events: list[AnyEvent] = []

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision
