"""Objects with time: a lock with fencing tokens and leases, and a register whose values expire.

Time enters only as necessary conditions that hold whatever the clocks do within one machine. A lease that
was given by call A can't have run out before A.invoke + ttl, so an operation that needs it to be over must
return later than that (minus `early_tolerance_ns`). A state also carries `floor`: nothing that comes after
can have returned before that moment. Expiry itself is not an operation; it is assumed at the first
operation that proves it, which keeps the models deterministic.

FencedLock, operations (input -> output):
    acquire  [owner, ttl_ms]         -> token | null (refused: somebody else has it)
    renew    [owner, token, ttl_ms]  -> true | false (lost)
    release  [owner, token]          -> true | false (had nothing); token 0: whatever the owner has
    append   [token, x]              -> length after it | true (not told) | false (fence rejected)
    read     null                    -> list, the one that the lock protects
State: (owner | None, token, exact, expires_ns, floor_ns, list). Tokens grow strictly. After an acquire with
unknown reply the token is only known to be at least `token` (exact is False).

ExpiringRegister, operations:
    write    [value, ttl_ms]  -> null        ttl_ms 0: does not expire
    touch    ttl_ms           -> true | false (missing)
    read     null             -> value | null (missing)
    delete   null             -> true | false | null (not told)
State: (value | None, earliest_gone_ns, latest_gone_ns, floor_ns).
"""

from collections.abc import Sequence
from typing import Final

from replcache.verify.history import INFINITY_NS, Operation
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step, unknown_operation
from replcache.verify.models.collections import PrefixOrder, observed_list

MS: Final = 1_000_000
# The cluster clock counts whole milliseconds, and a monotonic clock may be slewed by 500 ppm.
EARLY_TOLERANCE_NS: Final = 20 * MS
# Election time-out, the failure detection before it, and a tick; beyond it a key counts as never expiring.
LATE_TOLERANCE_NS: Final = 5000 * MS


class FencedLock(Model):
    """Args: early_tolerance_ns: how much earlier than invoke + ttl a lease may end."""

    name = "lock"
    timeless = False

    def __init__(self, early_tolerance_ns: int = EARLY_TOLERANCE_NS) -> None:
        self._tolerance_ns = early_tolerance_ns

    def initial(self) -> State:
        return (None, 0, True, 0, 0, ())

    def step(self, state: State, operation: Operation) -> State:
        if operation.return_ns < state[4]:
            return ILLEGAL
        match operation.op:
            case "acquire":
                return self._acquire(state, operation)
            case "renew":
                return self._renew(state, operation)
            case "release":
                return self._release(state, operation)
            case "append":
                return self._append(state, operation)
            case "read":
                seen = observed_list(operation)
                return state if seen is None or seen == state[5] else ILLEGAL
        raise unknown_operation(self, operation)

    def plan(self, operations: Sequence[Operation]) -> Plan:
        """The list becomes its length, as in AppendList."""
        order = PrefixOrder(
            seen for op in operations if op.op == "read" and (seen := observed_list(op)) is not None
        )
        initial = (*self.initial()[:5], 0)
        return Plan(initial, [self._planned(order, operation) for operation in operations])

    def is_read(self, operation: Operation) -> bool:
        refused = operation.op == "acquire" and operation.is_ok and operation.output is None
        return refused or operation.op == "read"

    def _planned(self, order: PrefixOrder, operation: Operation) -> Step:
        if operation.op not in ("read", "append"):
            return self._bind(operation)
        if operation.op == "read":
            seen = observed_list(operation)
            agrees, length = (seen is None or order.agrees(seen)), len(seen or ())

            def read(state: State) -> State:
                if operation.return_ns < state[4] or not agrees:
                    return ILLEGAL
                return state if seen is None or state[5] == length else ILLEGAL

            return read
        # One element stands for the whole list: the state's last field is a length here.
        element = operation.input[1]

        def append(state: State) -> State:
            if operation.return_ns < state[4]:
                return ILLEGAL
            after = self._append((*state[:5], (None,) * state[5]), operation)
            if after is ILLEGAL:
                return ILLEGAL
            grown = len(after[5])
            if grown > state[5] and not order.may_append(state[5], element):
                return ILLEGAL
            return (*after[:5], grown)

        return append

    def _acquire(self, state: State, operation: Operation) -> State:
        holder, token, exact, expires_ns, floor_ns, data = state
        owner, ttl_ms = operation.input
        granted = operation.output if operation.is_ok else None
        if operation.is_ok and granted is None:
            return state if holder is not None and holder != owner else ILLEGAL
        if holder == owner:
            # The same owner asking again is the same request: the same token once more, the ttl starts anew
            # (also a shorter one). If its lease may be over and the token was not known, this may be a new
            # grant; the old one allows all that it does.
            again_ns = self._expiry(operation, ttl_ms, floor_ns)
            if granted is None:
                return (holder, token, False, again_ns, floor_ns, data)
            if granted == token if exact else granted >= token:
                return (holder, granted, True, again_ns, floor_ns, data)
        if holder is not None:
            if not self._may_be_over(state, operation):
                return ILLEGAL if operation.is_ok else state
            floor_ns = max(floor_ns, expires_ns)
        if granted is not None and granted <= token:
            return ILLEGAL
        expires_ns = self._expiry(operation, ttl_ms, floor_ns)
        if granted is None:
            return (owner, token + 1, False, expires_ns, floor_ns, data)
        return (owner, granted, True, expires_ns, floor_ns, data)

    def _renew(self, state: State, operation: Operation) -> State:
        owner, token, ttl_ms = operation.input
        held = self._holds(state, owner, token)
        if operation.is_ok and not operation.output:
            return self._not_held(state, operation, held)
        if not held:
            return ILLEGAL if operation.is_ok else state
        expires_ns = self._expiry(operation, ttl_ms, state[4])
        return (owner, token or state[1], state[2] or token != 0, expires_ns, *state[4:])

    def _release(self, state: State, operation: Operation) -> State:
        owner, token = operation.input
        held = self._holds(state, owner, token)
        if token == 0 and not held:  # gave up a place in the queue, or nothing
            return state
        if operation.is_ok and not operation.output:
            return self._not_held(state, operation, held)
        if not held:
            return ILLEGAL if operation.is_ok else state
        last = max(token, state[1])
        return (None, last, True, 0, state[4], state[5])

    def _append(self, state: State, operation: Operation) -> State:
        token, element = operation.input
        held = state[0] is not None and (state[1] == token if state[2] else token >= state[1])
        if operation.is_ok and operation.output is False:
            return self._not_held(state, operation, held)
        if not held:
            return ILLEGAL if operation.is_ok else state
        data = (*state[5], element)
        told = operation.is_ok and operation.output is not True and operation.output is not None
        if told and operation.output != len(data):
            return ILLEGAL
        return (state[0], token, True, state[3], state[4], data)

    def _holds(self, state: State, owner: str, token: int) -> bool:
        """Whether `owner` has the lock under `token` (0: under any)."""
        if state[0] != owner:
            return False
        return token == 0 or bool(state[1] == token if state[2] else token >= state[1])

    def _not_held(self, state: State, operation: Operation, held: bool) -> State:
        """A refusal for want of the lock: legal when it is not held so, or may have run out by then."""
        if not held:
            return state
        if not self._may_be_over(state, operation):
            return ILLEGAL
        return (None, state[1], True, 0, max(state[4], state[3]), state[5])

    def _may_be_over(self, state: State, operation: Operation) -> bool:
        return bool(operation.return_ns >= state[3])

    def _expiry(self, operation: Operation, ttl_ms: int, floor_ns: int) -> int:
        return max(operation.invoke_ns, floor_ns) + ttl_ms * MS - self._tolerance_ns

    def removable(self, operations: Sequence[Operation]) -> list[frozenset[int]]:
        """Refusals too: one that proves the end of a lease leaves a floor, after which others prove it."""
        return [frozenset((op.id,)) for op in operations if self.is_read(op) or _refused(op)]


def _refused(operation: Operation) -> bool:
    return operation.is_ok and (operation.output is False or operation.output is None)


class ExpiringRegister(Model):
    """Args: early_tolerance_ns, late_tolerance_ns: slack before and after the ttl; late None: not checked."""

    name = "ttl"
    timeless = False

    def __init__(
        self,
        early_tolerance_ns: int = EARLY_TOLERANCE_NS,
        late_tolerance_ns: int | None = LATE_TOLERANCE_NS,
    ) -> None:
        self._early_ns = early_tolerance_ns
        self._late_ns = late_tolerance_ns

    def initial(self) -> State:
        return (None, INFINITY_NS, INFINITY_NS, 0)

    def step(self, state: State, operation: Operation) -> State:
        value, earliest_ns, latest_ns, floor_ns = state
        if operation.return_ns < floor_ns:
            return ILLEGAL
        may_be_gone = value is None or operation.return_ns >= earliest_ns
        may_be_there = value is not None and operation.invoke_ns <= latest_ns
        missing = (
            None,
            INFINITY_NS,
            INFINITY_NS,
            max(floor_ns, earliest_ns) if value is not None else floor_ns,
        )
        match operation.op:
            case "write":
                return (operation.input[0], *self._bounds(operation, operation.input[1], floor_ns), floor_ns)
            case "read":
                if not operation.is_ok:
                    return state
                if operation.output is None:
                    return ILLEGAL if not may_be_gone else state if value is None else missing
                return state if may_be_there and operation.output == value else ILLEGAL
            case "touch" | "delete":
                told = operation.output if operation.is_ok else None
                if told is False or (told is None and value is None):
                    return ILLEGAL if not may_be_gone else state if value is None else missing
                if told is True and not may_be_there:
                    return ILLEGAL
                if operation.op == "delete":
                    return (None, INFINITY_NS, INFINITY_NS, floor_ns)
                return (value, *self._bounds(operation, operation.input, floor_ns), floor_ns)
        raise unknown_operation(self, operation)

    def _bounds(self, operation: Operation, ttl_ms: int, floor_ns: int) -> tuple[int, int]:
        if not ttl_ms:
            return INFINITY_NS, INFINITY_NS
        earliest_ns = max(operation.invoke_ns, floor_ns) + ttl_ms * MS - self._early_ns
        if self._late_ns is None or operation.is_unknown:
            return earliest_ns, INFINITY_NS
        return earliest_ns, operation.return_ns + ttl_ms * MS + self._late_ns

    def is_read(self, operation: Operation) -> bool:
        """A read that finds nothing may be the first to prove that the value expired."""
        return operation.op == "read" and operation.output is not None

    def removable(self, operations: Sequence[Operation]) -> list[frozenset[int]]:
        """All reads: what a missing value proves, the floor of the state lets others prove."""
        return [frozenset((op.id,)) for op in operations if op.op == "read"]
