"""Drives a StateMachine as the log would: encodes, applies, counts indexes and sequences."""

from collections.abc import Sequence

from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group, Op
from replcache.statemachine.events import Event, LockEvent, expand
from replcache.statemachine.machine import Applied, StateMachine
from replcache.statemachine.results import CommandResult, OpResult


class Driver:
    """Every call is one log entry. `clock_ms` is what the leader would stamp."""

    def __init__(self, machine: StateMachine | None = None) -> None:
        self.machine = machine if machine is not None else StateMachine()
        self.clock_ms = self.machine.clock_ms
        self.sequence = 0
        self.payloads: list[bytes] = []
        self.applied: Applied | None = None

    def apply_groups(self, *groups: Group) -> Applied:
        payload = codec.encode_entry(self.clock_ms, [codec.encode_group(group) for group in groups])
        self.payloads.append(payload)
        self.applied = self.machine.apply(self.machine.applied_index + 1, payload)
        return self.applied

    def run(self, *commands: Command) -> list[CommandResult]:
        """Commands in one group; their results."""
        self.sequence += 1
        applied = self.apply_groups(Group("n1", 1, self.sequence, self.sequence, commands))
        results = applied.group_results[0][3]
        assert results is not None
        return results

    def do(self, *ops: Op) -> Sequence[OpResult]:
        """Operations in one command, each for itself."""
        result = self.run(Command(ops=ops))[0]
        assert isinstance(result, tuple)
        return result

    def one(self, op: Op) -> OpResult:
        return self.do(op)[0]

    def atomic(self, *ops: Op) -> CommandResult:
        return self.run(Command(ops=ops, atomic=True))[0]

    def pass_ms(self, milliseconds: int) -> Applied:
        """Cluster time goes on; a tick is applied."""
        self.clock_ms += milliseconds
        return self.apply_groups()

    @property
    def events(self) -> list[Event | LockEvent]:
        """Of the last entry."""
        assert self.applied is not None
        return list(expand(self.applied.events))


def replay(payloads: Sequence[bytes]) -> StateMachine:
    """A fresh machine that applied the payloads at indexes 1, 2, ..."""
    machine = StateMachine()
    for index, payload in enumerate(payloads, 1):
        machine.apply(index, payload)
    return machine
