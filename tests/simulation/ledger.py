"""The record of all client calls of a run, and the verdict on it after the run."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from replcache.verify.checker import Verdict, check
from replcache.verify.history import Operation, Outcome, Recorder, show
from replcache.verify.models import AppendList, ExpiringRegister, FencedLock, Model, Register
from replcache.verify.models import Counter as CounterModel
from tests.simulation.operations import Call, list_of, number_of
from tests.simulation.oracles import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

NS = 1_000_000_000
MS = 1_000_000
LONGEST_TTL_MS = 1500


class Ledger:
    """Collects; judges at the end."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._recorder = Recorder()
        self._values = 0
        self._calls = 0
        self._under_way: set[int] = set()
        self.newest_revision = 0
        self.ok: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    def unique(self) -> int:
        self._values += 1
        return self._values

    def call_number(self) -> int:
        self._calls += 1
        return self._calls

    @property
    def _now_ns(self) -> int:
        return int(self._world.now * NS)

    def invoke(self, op: str, key: str, value: Any) -> int:
        # A process of its own for each call: clients go on after an unknown outcome.
        number = self._recorder.invoke(self._recorder.new_process(), op, key, value, self._now_ns)
        self._under_way.add(number)
        return number

    def complete(self, number: int, outcome: Outcome, output: Any, detail: str = "") -> None:
        # A second ending would overwrite what the caller was told first.
        assert number in self._under_way, f"call {number} has ended before, now {outcome.value} {output}"
        self._under_way.remove(number)
        self.ended[outcome.value] += 1
        self._recorder.complete(number, outcome, output, self._now_ns, detail=detail)

    def succeeded(self, call: Call) -> None:
        self.ok[call.kind] += 1

    def facts(self) -> dict[str, int]:
        return {f"calls_{outcome}": count for outcome, count in sorted(self.ended.items())}

    # --- the end -------------------------------------------------------------------------------------------

    def check_end(self) -> None:
        self._final_reads()
        operations = self._recorder.history().operations
        self._check_never(operations)
        for prefix, model in self._models().items():
            chosen = [op for op in operations if op.key[0] == prefix]
            if chosen:
                self._judge(model, chosen)

    def _models(self) -> dict[str, Model]:
        drift = self._world.options.clock_drift
        # A leader's clock that runs fast by the drift ends a lease that much earlier.
        early_ns = 20 * MS + int(LONGEST_TTL_MS * MS * drift * 2)
        return {
            "r": Register(),
            "a": AppendList(),
            "c": CounterModel(),
            "t": ExpiringRegister(early_tolerance_ns=early_ns, late_tolerance_ns=None),
            "l": FencedLock(early_tolerance_ns=early_ns),
        }

    def _final_reads(self) -> None:
        """What the cluster holds after all: read from the leader, after everything has settled."""
        leader = self._world.leader()
        assert leader is not None
        machine = leader.machine
        for number in range(self._world.options.keys):
            for prefix in "raclt":
                key = f"{prefix}{number}"
                entry = machine.peek((f"p{number}" if prefix == "l" else key).encode())
                output: Any
                if prefix == "r":
                    output = (int(entry.value), entry.version) if entry is not None else None
                elif prefix in "al":
                    output = list_of(entry.value) if entry is not None else ()
                else:
                    output = number_of(entry)
                if prefix == "t" and output is not None:
                    raise Violation("never expires", f"{key} is still there: {entry}")
                self.complete(self.invoke("read", key, None), Outcome.OK, output)
        locks = machine.describe_locks()
        if locks:
            raise Violation("never expires", f"still held or waited for: {locks}")

    def _judge(self, model: Model, operations: list[Operation]) -> None:
        result = check(operations, model, time_budget_s=20.0)
        if result.verdict is Verdict.LINEARIZABLE:
            return
        bad = result.bad
        partition = bad.partition if bad is not None else "?"
        history = "; ".join(
            f"[{op.invoke_ns / NS:.3f}..{op.return_ns / NS if op.return_ns < 1 << 62 else 9999:.3f}] {op}"
            for op in (bad.operations if bad is not None else ())
        )
        raise Violation(
            "not linearizable" if result.verdict is Verdict.VIOLATION else "undecided",
            f"{model.name} {partition}: {history}",
        )

    def _check_never(self, operations: tuple[Operation, ...]) -> None:
        """What ended as certainly not executed must never be seen; what was appended once, not twice."""
        never = {
            (op.key, _written(op))
            for op in operations
            if op.outcome is Outcome.FAIL and _written(op) is not None
        }
        for op in operations:
            for value in _seen(op):
                if (op.key, value) in never:
                    raise Violation("never applied", f"value {value} ended as not applied, but {op} saw it")
            seen = _seen(op)
            if len(seen) != len(set(seen)):
                raise Violation("applied twice", f"{op} shows {show(seen)}")


def _written(op: Operation) -> Any:
    """The unique value that a write carried."""
    match op.op:
        case "write":
            return op.input[0] if op.key[0] == "t" else op.input
        case "write_if":
            return op.input[2]
        case "append":
            return op.input[1] if op.key[0] == "l" else op.input
    return None


def _seen(op: Operation) -> tuple[Any, ...]:
    """The unique values that a reply showed."""
    if not op.is_ok or op.output is None:
        return ()
    if op.op == "read":
        if op.key[0] in "al":
            return tuple(op.output)
        if op.key[0] == "r":
            return (op.output[0],)
        return (op.output,) if op.key[0] == "t" else ()
    return tuple(op.output) if op.op == "append" and op.key[0] == "a" else ()
