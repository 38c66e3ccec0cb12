"""Simulated clients: the product's own retry policy over a lossy way to the nodes, and the record of it all.

One call at a time per client, as a blocking user has it. A write is protected by a session, by a request id
or by nothing; what follows from an error is decided by replcache/client/retry.py.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replcache.client.retry import Action, Backoff, decide
from replcache.errors import (
    DeadlineExceeded,
    NotApplied,
    OutcomeUnknown,
    ReplcacheError,
    SessionExpired,
    Unavailable,
)
from replcache.statemachine.commands import Command, SessionOpen
from replcache.statemachine.results import Refusal, RefusalCode
from replcache.verify.history import Outcome
from tests.simulation.operations import FAILED, QUEUED, Call, Operations

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

TRY_TIMEOUT_S = 0.8
CALL_TIMEOUT_S = 2.5


class Client:
    """Works until `finish()`; then ends its call under way and is done."""

    def __init__(self, world: "World", number: int, rng: random.Random) -> None:
        self.world = world
        self.number = number
        self.rng = rng
        self.name = f"c{number}"
        self.target = rng.choice(world.names)
        self.backoff = Backoff()
        self.operations = Operations(rng, number, world.options.keys, world.ledger.unique)
        self.session_id = 0
        self.sequence = 0
        self.seen_revision = 0
        self.is_finishing = False
        self.is_done = False
        self._kinds = list(world.options.operations)
        self._weights = list(world.options.operations.values())
        self._trying: _Try | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self._trying}"

    def start(self) -> None:
        self.world.after(0.3 + self.rng.random(), self._next)

    def finish(self) -> None:
        self.is_finishing = True

    def _next(self) -> None:
        if self.is_finishing:
            self.is_done = True
            return
        kind = self.rng.choices(self._kinds, self._weights)[0]
        if kind == "burst":
            _Burst(self, self.operations.burst()).start()
            return
        protection = self.rng.choice(["session", "session", "session", "request", "none"])
        self._trying = _Try(self, self.operations.draw(kind), protection)
        self._trying.start()

    def ended(self, call: Call, outcome: Outcome) -> None:
        if outcome is Outcome.UNKNOWN:
            self.operations.forget_lock(call)
        pause = self.world.options.operation_every_s * 2 * self.rng.random()
        self.world.after(pause, self._next)

    def another_node(self) -> None:
        self.target = self.rng.choice(self.world.names)


class _Try:
    """One call with its tries."""

    def __init__(self, client: Client, call: Call, protection: str) -> None:
        self.client = client
        self.world = client.world
        self.call = call
        self.protection = protection
        self.maybe_executed = False
        self.failures = 0
        self.attempt = 0
        self.deadline = self.world.now + CALL_TIMEOUT_S
        self.ids: list[int] = []
        self.identity: dict[str, Any] = {}
        self.since_revision = 0
        self._is_opening = False

    def __str__(self) -> str:
        return f"{self.call.kind} {self.call.record} try {self.attempt}"

    def start(self) -> None:
        ledger = self.world.ledger
        self.ids = [ledger.invoke(op, key, value) for op, key, value in self.call.record]
        self.since_revision = ledger.newest_revision
        if not self.call.is_write:
            self._send()
        elif self.protection == "session" and not self.client.session_id:
            self._open_session()
        else:
            self._identify()
            self._send()

    def _identify(self) -> None:
        client = self.client
        if self.protection == "session":
            client.sequence += 1
            self.identity = {
                "session_id": client.session_id,
                "session_sequence": client.sequence,
                "session_acked_below": client.sequence,
            }
        elif self.protection == "request":
            self.identity = {"request_id": b"%s-%d" % (client.name.encode(), self.world.ledger.unique())}

    # --- one try -------------------------------------------------------------------------------------------

    def _open_session(self) -> None:
        """Not protected against double execution: a session too many does no harm."""
        self._is_opening = True
        self._to_node(
            lambda process, done: process.propose(
                Command(ops=(SessionOpen(self.world.options.session_ttl_ms),)), TRY_TIMEOUT_S, done
            )
        )

    def _send(self) -> None:
        self._is_opening = False
        call = self.call
        if call.is_write:
            command = call.command(**self.identity)
            self._to_node(lambda process, done: process.propose(command, TRY_TIMEOUT_S, done))
        elif call.level == "linearizable":
            self._to_node(self._read_linearizable)
        elif call.level == "session":
            self._to_node(self._read_session)
        else:
            self._to_node(self._read_one)

    def _to_node(self, ask: Callable[["Process", Callable[[Any], None]], None]) -> None:
        """The way there, the call, the way back; each may take its time or fail."""
        self.attempt += 1
        attempt, world = self.attempt, self.world
        target = self.client.target

        def arrive() -> None:
            process = world.process(target)
            if process is None:
                world.after(self._delay(), self._answered, attempt, Unavailable("connection refused"))
                return
            number = world.ledger.call_number()

            def done(outcome: Any) -> None:
                if process.calls.pop(number, None) is not None or process.is_gone:
                    world.after(self._delay(), self._answered, attempt, outcome)

            process.calls[number] = done
            process.run(ask, process, done)

        world.after(self._delay(), arrive)
        world.after(TRY_TIMEOUT_S + 0.1, self._answered, attempt, OutcomeUnknown("no answer"))

    def _delay(self) -> float:
        return self.world.options.delay_s * (0.5 + self.client.rng.random())

    def _read_linearizable(self, process: "Process", done: Callable[[Any], None]) -> None:
        def confirmed(error: ReplcacheError | None) -> None:
            if error is not None:
                done(error)
                return
            self.world.oracles.on_linearizable_read(process, self.since_revision)
            done((process.machine.peek(self.call.read_key), process.machine.revision))

        process.read_index(TRY_TIMEOUT_S, confirmed)

    def _read_session(self, process: "Process", done: Callable[[Any], None]) -> None:
        wanted = self.client.seen_revision

        def reached(error: ReplcacheError | None) -> None:
            if error is not None:
                done(error)
                return
            self.world.oracles.on_session_read(process, wanted)
            done((process.machine.peek(self.call.read_key), process.machine.revision))

        process.wait_revision(wanted, TRY_TIMEOUT_S, reached)

    def _read_one(self, process: "Process", done: Callable[[Any], None]) -> None:
        self.world.oracles.on_one_read(process, process.staleness_s())
        done((process.machine.peek(self.call.read_key), process.machine.revision))

    # --- what came back ------------------------------------------------------------------------------------

    def _answered(self, attempt: int, outcome: Any) -> None:
        if attempt != self.attempt or self.client._trying is not self:
            return
        error = _error_of(outcome)
        if self._is_opening and error is None:
            self.client.session_id = outcome[0].session_id
            self.client.sequence = 0
            self._identify()
            self._send()
            return
        if error is not None:
            self._failed(error)
            return
        self._succeeded(outcome)

    def _succeeded(self, outcome: Any) -> None:
        call, ledger = self.call, self.world.ledger
        if not call.is_write:
            entry, revision = outcome
            self.client.seen_revision = max(self.client.seen_revision, revision)
            output = call.to_output(entry)
        else:
            output = call.to_output(outcome)
        if output is QUEUED:
            self.attempt += 1  # this try is answered: its "no answer" must not start another one
            self._wait_for_grant(self.world.process(self.client.target))
            return
        if output is FAILED:
            self._end(Outcome.FAIL, "refused")
            return
        outputs = output if call.kind == "batch" else [output]
        for number, one in zip(self.ids, outputs, strict=False):
            ledger.complete(number, Outcome.OK, one)
        ledger.succeeded(call)
        self._over(Outcome.OK)

    def _wait_for_grant(self, process: "Process | None") -> None:
        """Looks at the node's own copy, as its server does on each event, until the patience ends."""
        if process is None or process.is_gone or self.world.now >= self.deadline:
            # It may be granted yet, or be granted already: the next acquire will tell.
            self._end(Outcome.UNKNOWN, "still in the queue")
            return
        token = process.machine.held_token(*self.call.lock)
        if token:
            self._succeeded(token)
        else:
            self.world.after(0.02, self._wait_for_grant, process)

    def _failed(self, error: ReplcacheError) -> None:
        call = self.call
        if self._is_opening and isinstance(error, OutcomeUnknown):
            error = Unavailable("the session may be open, but its id is not known")
        decision = decide(error, is_write=call.is_write, maybe_executed=self.maybe_executed, can_split=False)
        if isinstance(error, OutcomeUnknown) and call.is_write:
            self.maybe_executed = True
        is_safe = not (self.maybe_executed and self.protection == "none")
        if decision.action is Action.NEW_SESSION:
            self.client.session_id = 0
            self._again(self._open_session)
        elif decision.action is Action.RETRY and is_safe:
            self._again(self._open_session if self._is_opening else self._send)
        else:
            self._give_up(decision.error)

    def _again(self, send: Callable[[], None]) -> None:
        self.failures += 1
        self.attempt += 1  # answers of the try that failed are not waited for any more
        self.client.another_node()
        wait = self.client.backoff.delay_s(self.failures, self.client.rng)
        if self.world.now + wait >= self.deadline:
            self._give_up(DeadlineExceeded("no time left"))
        else:
            self.world.after(wait, send)

    def _give_up(self, error: ReplcacheError) -> None:
        is_unknown = self.call.is_write and (self.maybe_executed or error.may_have_executed)
        certain = isinstance(error, NotApplied) or not self.call.is_write
        self._end(Outcome.UNKNOWN if is_unknown or not certain else Outcome.FAIL, type(error).__name__)

    def _end(self, outcome: Outcome, detail: str) -> None:
        for number in self.ids:
            self.world.ledger.complete(number, outcome, None, detail)
        self._over(outcome)

    def _over(self, outcome: Outcome) -> None:
        self.world.trace(self.client.name, self.call.kind, outcome.value, self.attempt)
        self.client._trying = None  # what is still to come is of no interest, also before the next call
        self.client.ended(self.call, outcome)


class _Burst:
    """Several commands handed to one node in one turn of its loop; each ends for itself, without retry."""

    def __init__(self, client: Client, calls: list[Call]) -> None:
        self.client = client
        self.world = client.world
        self.calls = calls
        self.left = len(calls)

    def start(self) -> None:
        client, ledger = self.client, self.world.ledger
        ids = [ledger.invoke(*call.record[0]) for call in self.calls]
        process = self.world.process(client.target)
        if process is None:
            client.another_node()
        for number, call in zip(ids, self.calls, strict=True):
            if process is None:
                self._ended(number, call, Unavailable("connection refused"))
                continue
            place = ledger.call_number()
            done = self._done(number, call, place, process)
            process.calls[place] = done
            process.run(process.propose, call.command(), call.timeout_s, done)

    def _done(self, number: int, call: Call, place: int, process: "Process") -> Callable[[Any], None]:
        def done(outcome: Any) -> None:
            if process.calls.pop(place, None) is not None or process.is_gone:
                self._ended(number, call, outcome)

        return done

    def _ended(self, number: int, call: Call, outcome: Any) -> None:
        ledger, error = self.world.ledger, _error_of(outcome)
        if error is None:
            output = call.to_output(outcome)
            ledger.complete(number, Outcome.OK, output)
        else:
            is_certain = isinstance(error, NotApplied)
            ledger.complete(
                number, Outcome.FAIL if is_certain else Outcome.UNKNOWN, None, type(error).__name__
            )
            self.client.another_node()
        self.left -= 1
        if not self.left:
            self.world.trace(self.client.name, "burst", len(self.calls))
            self.client.ended(call, Outcome.OK)


def _error_of(outcome: Any) -> ReplcacheError | None:
    """Errors, and refusals of a whole command, as exceptions."""
    if isinstance(outcome, ReplcacheError):
        return outcome
    if isinstance(outcome, Refusal):
        if outcome.code == RefusalCode.SESSION_EXPIRED:
            return SessionExpired(outcome.message)
        return NotApplied(outcome.message)
    return None
