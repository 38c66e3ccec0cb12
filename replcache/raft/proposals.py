"""Proposals of this node under way: group commit, forwarding, and the three endings.

Commands that arrive in one loop turn become one Group, named (origin, boot, sequence). A group is sent to the
leader, again after each leader change, until this node has applied it: the state machine applies it once.
The result comes from this node's own apply, so a stale answer can't acknowledge anything (hazards H16, H17),
and nothing waits for ever (H24): the caller gives up at its deadline, and `abandon()` says whether the
command was certainly not executed.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from replcache.errors import NoLeader, NotApplied, OutcomeUnknown, Overloaded, ReplcacheError
from replcache.statemachine.codec import encode_group
from replcache.statemachine.commands import Command, Group
from replcache.statemachine.results import CommandResult

# Called once with the result, or with the error that ends the proposal.
ProposalDone = Callable[[CommandResult | ReplcacheError], None]
# Between two sendings of a group to a leader that refuses it: a tick or two, far below an election.
REFUSED_PAUSE_S = 0.02


@dataclass(slots=True)
class _Waiting:
    command: Command
    size: int
    done: ProposalDone
    group: "_InFlight | None" = None
    finished: bool = False


@dataclass(slots=True)
class _InFlight:
    """A group that was formed. Invariant: `refused` holds attempts 1..sent only."""

    sequence: int
    payload: bytes
    waiting: list[_Waiting]
    sent: int = 0
    refused: set[int] = field(default_factory=set)
    sent_at: float = 0.0
    sent_term: int = 0
    live: int = field(default=0)

    @property
    def is_certainly_not_appended(self) -> bool:
        return self.sent == len(self.refused)


class Proposal:
    """Handle of one submitted command."""

    __slots__ = ("_owner", "_waiting")

    def __init__(self, owner: "Proposals", waiting: _Waiting) -> None:
        self._owner = owner
        self._waiting = waiting

    def abandon(self) -> NotApplied | OutcomeUnknown:
        """The caller's deadline passed: `done` is not called any more. Returns the error to raise."""
        return self._owner.abandon(self._waiting)


class Proposals:
    """In-flight table of one node. The engine asks it for groups and tells it what was applied."""

    def __init__(self, origin: str, boot: int, *, bytes_max: int, group_bytes_max: int) -> None:
        self._origin = origin
        self._boot = boot
        self._bytes_max = bytes_max
        self._group_bytes_max = group_bytes_max
        self._open: list[_Waiting] = []
        self._open_bytes = 0
        self._bytes = 0
        self._sequence = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._unsent: deque[_InFlight] = deque()
        self.submitted = 0
        self.applied = 0
        self.unknown = 0
        self.not_applied = 0

    @property
    def pending(self) -> int:
        return len(self._open) + sum(len(group.waiting) for group in self._in_flight.values())

    @property
    def has_open(self) -> bool:
        return bool(self._open)

    def submit(self, command: Command, size: int, done: ProposalDone) -> Proposal:
        """Takes a command; `size` is its rough size in bytes. Raises Overloaded above the bound."""
        if self._bytes + self._open_bytes + size > self._bytes_max:
            raise Overloaded(
                f"{self._bytes + self._open_bytes} bytes of proposals are under way on this node, the limit "
                f"is {self._bytes_max}",
                retry_after_s=0.1,
            )
        waiting = _Waiting(command, size, done)
        self._open.append(waiting)
        self._open_bytes += size
        self.submitted += 1
        return Proposal(self, waiting)

    def form_groups(self) -> None:
        """Packs what is open into groups of at most group_bytes_max."""
        if not self._open:
            return
        open_now, self._open, self._open_bytes = self._open, [], 0
        open_now = [waiting for waiting in open_now if not waiting.finished]
        while open_now:
            take: list[_Waiting] = []
            size = 0
            for waiting in open_now:
                size += waiting.size
                if take and size > self._group_bytes_max:
                    break
                take.append(waiting)
            open_now = open_now[len(take) :]
            self._sequence += 1
            commands = tuple(waiting.command for waiting in take)
            done_below = next(iter(self._in_flight), self._sequence)
            payload = encode_group(Group(self._origin, self._boot, self._sequence, done_below, commands))
            group = _InFlight(self._sequence, payload, take, live=len(take))
            for waiting in take:
                waiting.group = group
            self._in_flight[self._sequence] = group
            self._bytes += len(payload)
            self._unsent.append(group)

    def take_unsent(self, term: int, now: float) -> list[tuple[int, int, bytes]]:
        """(sequence, attempt, group) to hand to the leader of `term` now, in order of sequence.

        What the leader of this term has just refused waits a little: it is being replaced, or overloaded.
        """
        out: list[tuple[int, int, bytes]] = []
        if not self._unsent:
            return out
        unsent, self._unsent = self._unsent, deque()
        for group in unsent:
            if group.refused and group.sent_term == term and now < group.sent_at + REFUSED_PAUSE_S:
                self._unsent.append(group)
            elif group.sequence in self._in_flight:
                group.sent += 1
                group.sent_at = now
                group.sent_term = term
                out.append((group.sequence, group.sent, group.payload))
        return out

    def resend(self, term: int, sent_before: float) -> None:
        """Queues again what went to the leader of another term, or was sent before a point in time."""
        again = [
            group
            for group in self._in_flight.values()
            if group.sent and (group.sent_term != term or group.sent_at <= sent_before)
        ]
        queued = {id(group) for group in self._unsent}
        fresh = [group for group in again if id(group) not in queued]
        self._unsent = deque(sorted([*fresh, *self._unsent], key=lambda group: group.sequence))

    def refused(self, sequence: int, attempt: int) -> None:
        """The receiver certainly did not append this copy."""
        group = self._in_flight.get(sequence)
        if group is not None and 0 < attempt <= group.sent and attempt not in group.refused:
            group.refused.add(attempt)
            if all(other is not group for other in self._unsent):
                self._unsent.append(group)

    def resolve(self, sequence: int, results: list[CommandResult]) -> None:
        """This node applied the group: the results go to the callers."""
        group = self._in_flight.pop(sequence, None)
        if group is None:
            return
        self._bytes -= len(group.payload)
        assert len(results) == len(group.waiting), (len(results), len(group.waiting))
        for waiting, result in zip(group.waiting, results, strict=True):
            if not waiting.finished:
                waiting.finished = True
                self.applied += 1
                waiting.done(result)

    def abandon(self, waiting: _Waiting) -> NotApplied | OutcomeUnknown:
        if waiting.finished:
            # It has its ending: deadline, cancellation and answer may all fall into one loop turn. Counted
            # twice, it would take the group away from the others that wait for it.
            return OutcomeUnknown("the command has ended already")
        waiting.finished = True
        group = waiting.group
        if group is None:
            self.not_applied += 1
            return NoLeader("no leader was known within the deadline", retry_after_s=0.2)
        group.live -= 1
        if group.live == 0:
            # Nobody waits for the group any more, so it is not sent again. With others in it, it will be,
            # and this command with them: then nothing is certain.
            self._drop(group)
            if group.is_certainly_not_appended:
                self.not_applied += 1
                return NoLeader("no leader took the command within the deadline", retry_after_s=0.2)
        self.unknown += 1
        return OutcomeUnknown("the deadline passed while the command was under way: it may be executed yet")

    def lost_in_snapshot(self) -> None:
        """An installed snapshot may have covered any group that was sent: those outcomes are unknown here.

        Sending them again is still safe, but the answer "applied before" has lost its results.
        """
        for group in [g for g in self._in_flight.values() if not g.is_certainly_not_appended]:
            self._finish(group, OutcomeUnknown("this node skipped over the command by a snapshot"))

    def fail_all(self, error: ReplcacheError) -> None:
        """The node stops: commands that were never sent end as not applied, the rest as unknown."""
        for waiting in self._open:
            if not waiting.finished:
                waiting.finished = True
                self.not_applied += 1
                waiting.done(NotApplied(str(error)))
        self._open, self._open_bytes = [], 0
        for group in list(self._in_flight.values()):
            if group.is_certainly_not_appended:
                self._finish(group, NotApplied(str(error)))
            else:
                self._finish(group, OutcomeUnknown(str(error)))

    def skipped(self, sequence: int) -> None:
        """A duplicate of the group was skipped by the state machine.

        When it is still in flight here, its first copy was covered by a snapshot: the outcome is unknown.
        """
        group = self._in_flight.get(sequence)
        if group is not None:
            self._finish(group, OutcomeUnknown("the command was applied, its result is not known here"))

    def _finish(self, group: _InFlight, error: ReplcacheError) -> None:
        self._drop(group)
        for waiting in group.waiting:
            if not waiting.finished:
                waiting.finished = True
                if isinstance(error, OutcomeUnknown):
                    self.unknown += 1
                else:
                    self.not_applied += 1
                waiting.done(error)

    def _drop(self, group: _InFlight) -> None:
        if self._in_flight.pop(group.sequence, None) is not None:
            self._bytes -= len(group.payload)


def command_bytes(command: Command) -> int:
    """At least what the command takes in the log, in bytes: what may go into one group is decided by it."""
    if command.set_many is not None:
        many = command.set_many
        parts = sum(map(len, many.keys)) + sum(map(len, many.values)) + 4 * len(many.content_type)
        return parts + 12 * len(many.keys) + _COMMAND_BYTES
    return _COMMAND_BYTES + sum(map(_part_bytes, command.ops))


# The ids of a session or request, flags, and the frame around them.
_COMMAND_BYTES = 192
# A varint of 64 bits and its tag; a length and its tag.
_NUMBER_BYTES = 12
_FRAME_BYTES = 8
# By type of operation or part: the constant share, and the names of the fields that can be long.
_plans: dict[type, tuple[int, tuple[str, ...]]] = {}


def _part_bytes(part: Any) -> int:
    """At least the encoded size of an operation, or of something in one."""
    kind = type(part)
    if kind is bytes:
        return len(part) + _FRAME_BYTES
    if kind is str:
        return 4 * len(part) + _FRAME_BYTES  # in UTF-8 at most
    if kind is tuple:
        return sum(map(_part_bytes, part))
    if not is_dataclass(kind):
        return _NUMBER_BYTES
    plan = _plans.get(kind)
    if plan is None:
        names = [one.name for one in fields(kind)]
        numbers = [one.name for one in fields(kind) if one.type in ("int", "bool", "int | None", int, bool)]
        long = tuple(name for name in names if name not in numbers)
        plan = _plans[kind] = (2 * _FRAME_BYTES + _NUMBER_BYTES * len(numbers), long)
    size, names_of_long = plan
    for name in names_of_long:
        value = getattr(part, name)
        if value:
            size += len(value) + _FRAME_BYTES if type(value) is bytes else _part_bytes(value)
        elif value is not None:
            size += _FRAME_BYTES
    return size
