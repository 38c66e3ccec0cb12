"""The turn: where in the log's order the machine stands while it applies an entry, and what it has to tell.

One object for the life of a machine. Everything that changes replicated state takes its revision here.
"""

from replcache.constants import COMMAND_WORK_MAX
from replcache.statemachine.events import AnyEvent
from replcache.statemachine.results import Refusal, RefusalCode

_TOO_MUCH = Refusal(
    RefusalCode.INVALID,
    "the command reads, merges or appends to more bytes than one may: give it fewer operations",
)


class Turn:
    """Attributes:
    clock_ms: cluster clock, milliseconds; only the log moves it.
    revision: of the last change.
    events: of the entry that is being applied, in revision order.
    work: what the command that is being executed has cost so far, see `spend`.
    """

    __slots__ = ("clock_ms", "events", "revision", "work")

    def __init__(self, clock_ms: int = 0, revision: int = 0) -> None:
        self.clock_ms = clock_ms
        self.revision = revision
        self.events: list[AnyEvent] = []
        self.work = 0

    def spend(self, work: int) -> Refusal | None:
        """Counts the work of an operation; refuses it when its command has had enough.

        A command is bounded in operations and in its own bytes, but what it makes of values that are there
        is not: without this one small command could hold up and fill every replica at once.
        """
        if self.work + work > COMMAND_WORK_MAX:
            return _TOO_MUCH
        self.work += work
        return None

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision
