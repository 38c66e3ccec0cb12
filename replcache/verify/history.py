"""Histories: what each process called, what it was told, and when.

A history is a list of Operations. An operation is one call of one process: it has an interval (invoke to
return, monotonic nanoseconds of ONE clock) and one of three outcomes:

    ok       the reply is known; the operation took effect once, within its interval. A refusal that the
             state machine decided (condition not met, lock lost) is also `ok`: it tells of the state.
    fail     it certainly never took effect (NotApplied). Checkers drop it.
    unknown  the reply never came: it may take effect at any time from the call on, or never. It returns
             at INFINITY_NS.

Times are only compared, never subtracted, except by models with a ttl. The file form is described at
`write_history`. Nothing here knows gRPC, the client or a clock.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

FORMAT_NAME: Final = "replcache-history"
FORMAT_VERSION: Final = 1
# Later than every real time: an operation that never returned is concurrent with all that follows.
INFINITY_NS: Final = 1 << 63

# JSON values with lists as tuples, so that operations can be states, keys of dicts and members of sets.
Value = Any


class Outcome(StrEnum):
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class HistoryError(ValueError):
    """A history file can't be read as one; the message names the line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `input` and `output` are in the words of the model (replcache/verify/models).

    level: consistency asked for, where it is not linearizable ("session", "one"); levels.py judges such
        reads. revision: of the reply, 0 when not told. staleness_ns: bound that came with a read; -1: none.

    Invariant: invoke_ns <= return_ns; return_ns == INFINITY_NS exactly when the outcome is unknown.
    """

    id: int
    process: int
    op: str
    key: str
    input: Value = None
    output: Value = None
    invoke_ns: int = 0
    return_ns: int = INFINITY_NS
    outcome: Outcome = Outcome.UNKNOWN
    detail: str = ""
    level: str = ""
    revision: int = 0
    staleness_ns: int = -1

    @property
    def is_ok(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def is_unknown(self) -> bool:
        return self.outcome is Outcome.UNKNOWN

    def weakened(self) -> "Operation":
        """The same call with its reply forgotten: allows all that the original allows, and more."""
        return replace(self, output=None, return_ns=INFINITY_NS, outcome=Outcome.UNKNOWN)

    def __str__(self) -> str:
        call = f"{self.op}({'' if self.input is None else show(self.input)})"
        end = show(self.output) if self.is_ok else self.outcome.value
        return f"#{self.id} process {self.process}: {call} on {self.key!r} -> {end}"


@dataclass(frozen=True, slots=True)
class History:
    """Operations in the order of their calls, and what is known of the run (workload, seed, model, ...)."""

    operations: tuple[Operation, ...]
    meta: Mapping[str, Value] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.operations)

    def counts(self) -> dict[str, int]:
        """Number of operations by outcome; all three keys are always there."""
        result = {outcome.value: 0 for outcome in Outcome}
        for operation in self.operations:
            result[operation.outcome.value] += 1
        return result


def show(value: Value) -> str:
    """Short JSON-like text of a value, for people."""
    return json.dumps(_thaw(value), ensure_ascii=False, default=str)


def freeze(value: Value) -> Value:
    """Lists become tuples, maps become sorted tuples of pairs: the hashable form of a JSON value."""
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((str(name), freeze(item)) for name, item in value.items()))
    return value


def _thaw(value: Value) -> Value:
    if isinstance(value, tuple | frozenset):
        return [_thaw(item) for item in value]
    return value


# --- recording ---------------------------------------------------------------------------------------------


class Recorder:
    """Collects the operations of one run, in memory and, when `sink` is given, line by line in a file.

    One thread only. Times passed in are made strictly increasing, which is sound because all events are
    recorded in the order in which they happened: a call before it is sent, a reply after it was received.
    A process whose call ended unknown must not be used again (Jepsen's rule: its call is still under way);
    `new_process` hands out numbers.
    """

    def __init__(self, meta: Mapping[str, Value] | None = None, sink: IO[str] | None = None) -> None:
        self.meta = dict(meta or {})
        self._sink = sink
        self._operations: dict[int, Operation] = {}
        self._last_ns = -1
        self._next_process = 0
        self._busy: set[int] = set()
        self._write({"format": FORMAT_NAME, "version": FORMAT_VERSION, "meta": self.meta})

    def new_process(self) -> int:
        self._next_process += 1
        return self._next_process - 1

    def invoke(self, process: int, op: str, key: str, value: Value, time_ns: int, level: str = "") -> int:
        """Records a call and returns its id.

        Raises:
            HistoryError: the process still has a call under way.
        """
        if process in self._busy:
            raise HistoryError(f"process {process} has a call under way")
        self._busy.add(process)
        number = len(self._operations)
        time_ns = self._tick(time_ns)
        started = Operation(number, process, op, key, freeze(value), None, time_ns, level=level)
        self._operations[number] = started
        self._write(_invoke_event(started))
        return number

    def complete(
        self,
        number: int,
        outcome: Outcome,
        output: Value,
        time_ns: int,
        *,
        detail: str = "",
        revision: int = 0,
        staleness_ns: int = -1,
    ) -> Operation:
        """Records how call `number` ended. An unknown end leaves its process busy for ever."""
        operation = self._operations[number]
        if outcome is not Outcome.UNKNOWN:
            self._busy.discard(operation.process)
        time_ns = self._tick(time_ns)
        returned = INFINITY_NS if outcome is Outcome.UNKNOWN else time_ns
        done = replace(
            operation,
            output=freeze(output),
            return_ns=returned,
            outcome=outcome,
            detail=detail,
            revision=revision,
            staleness_ns=staleness_ns,
        )
        self._operations[number] = done
        self._write(_end_event(done) | {"time_ns": time_ns})
        return done

    def history(self) -> History:
        """What was recorded so far; calls without an end are unknown."""
        return History(tuple(self._operations.values()), dict(self.meta))

    def _tick(self, time_ns: int) -> int:
        self._last_ns = max(self._last_ns + 1, time_ns)
        return self._last_ns

    def _write(self, event: Mapping[str, Value]) -> None:
        if self._sink is not None:
            self._sink.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


# --- files -------------------------------------------------------------------------------------------------


def _invoke_event(operation: Operation) -> dict[str, Value]:
    event = {"type": "invoke", "id": operation.id, "process": operation.process, "op": operation.op}
    event |= {"key": operation.key, "input": operation.input, "time_ns": operation.invoke_ns}
    return event | ({"level": operation.level} if operation.level else {})


def _end_event(operation: Operation) -> dict[str, Value]:
    event = {"type": operation.outcome.value, "id": operation.id, "process": operation.process}
    event["output"] = operation.output
    if operation.revision:
        event["revision"] = operation.revision
    if operation.staleness_ns >= 0:
        event["staleness_ns"] = operation.staleness_ns
    return event | ({"detail": operation.detail} if operation.detail else {})


def write_history(history: History, path: Path) -> None:
    """Writes JSON lines, UTF-8.

    First line: {"format": "replcache-history", "version": 1, "meta": {...}}. Then events in time order:

        {"type": "invoke", "id": 7, "process": 3, "op": "write", "key": "k1", "input": 5, "time_ns": 123}
        {"type": "ok" | "fail" | "unknown", "id": 7, "process": 3, "output": 5, "time_ns": 456, "detail": ""}

    `id` joins the two. An invoke without an end is an unknown outcome, so a file that was cut off by a kill
    is a valid history. Optional: "level" of a call; "revision" and "staleness_ns" of a reply (Operation).
    `detail` is free text for people (error, node). Unknown fields are ignored.
    """
    events: list[tuple[int, int, dict[str, Value]]] = []
    for done in history.operations:
        events.append((done.invoke_ns, 0, _invoke_event(done)))
        end = _end_event(done)
        if done.return_ns != INFINITY_NS:
            end["time_ns"] = done.return_ns
        if done.return_ns != INFINITY_NS or done.detail:
            events.append((done.return_ns, 1, end))
    events.sort(key=lambda event: event[:2])
    with path.open("w", encoding="utf-8") as sink:
        header = {"format": FORMAT_NAME, "version": FORMAT_VERSION, "meta": dict(history.meta)}
        for line in (header, *(event for _, _, event in events)):
            sink.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_history(path: Path) -> History:
    """Reads what `write_history` or `Recorder` wrote.

    Raises:
        HistoryError: not such a file, or of a newer version; names file and line.
        OSError: the file can't be opened.
    """
    with path.open(encoding="utf-8") as source:
        return parse_history(source, str(path))


def parse_history(lines: Iterable[str], name: str = "history") -> History:
    """As read_history, from lines. A last line that is cut off in the middle is left out."""
    meta: Mapping[str, Value] | None = None
    operations: dict[int, Operation] = {}
    for number, event in _events(lines, name):
        where = f"{name}, line {number}"
        if meta is None:
            meta = _header(event, where)
            continue
        try:
            _add_event(operations, event)
        except (KeyError, ValueError, TypeError) as err:
            raise HistoryError(f"{where}: not an event of a history: {err!r}") from err
    if meta is None:
        raise HistoryError(f"{name} is empty: the first line must be the header of a {FORMAT_NAME}")
    return History(tuple(sorted(operations.values(), key=lambda op: op.invoke_ns)), meta)


def _events(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Value]]]:
    held: tuple[int, json.JSONDecodeError] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if held is not None:  # only the very last line may be torn
            raise HistoryError(f"{name}, line {held[0]}: not JSON: {held[1]}")
        try:
            event = json.loads(line)
        except json.JSONDecodeError as err:
            held = (number, err)
            continue
        if not isinstance(event, dict):
            raise HistoryError(f"{name}, line {number}: a JSON object is expected")
        yield number, event


def _header(event: Mapping[str, Value], where: str) -> Mapping[str, Value]:
    if event.get("format") != FORMAT_NAME:
        raise HistoryError(f'{where}: not a {FORMAT_NAME} (its first line has no such "format")')
    version = event.get("version")
    if version != FORMAT_VERSION:
        raise HistoryError(f"{where}: version {version!r} of the format; this program reads {FORMAT_VERSION}")
    meta = event.get("meta", {})
    if not isinstance(meta, dict):
        raise HistoryError(f"{where}: meta must be an object")
    return meta


def _add_event(operations: dict[int, Operation], event: Mapping[str, Value]) -> None:
    number = int(event["id"])
    if event["type"] == "invoke":
        if number in operations:
            raise ValueError(f"id {number} is called twice")
        operations[number] = Operation(
            number,
            int(event["process"]),
            str(event["op"]),
            str(event["key"]),
            freeze(event.get("input")),
            None,
            int(event["time_ns"]),
            level=str(event.get("level", "")),
        )
        return
    outcome = Outcome(event["type"])
    started = operations[number]
    if started.return_ns != INFINITY_NS:
        raise ValueError(f"id {number} ends twice")
    operations[number] = replace(
        started,
        outcome=outcome,
        output=freeze(event.get("output")),
        return_ns=INFINITY_NS if outcome is Outcome.UNKNOWN else int(event["time_ns"]),
        detail=str(event.get("detail", "")),
        revision=int(event.get("revision", 0)),
        staleness_ns=int(event.get("staleness_ns", -1)),
    )


# --- assumptions -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a history must fulfil before its verdict means anything.

    unique_inputs: names of operations whose (key, input) must never repeat.
    ok_min / ok_share_min: a run in which almost nothing succeeded proves nothing.
    per_key_max: more operations on one key than this make the check slow; 0: no limit.
    """

    unique_inputs: tuple[str, ...] = ()
    ok_min: int = 1
    ok_share_min: float = 0.0
    per_key_max: int = 0


def broken_assumptions(history: History, assumptions: Assumptions) -> list[str]:
    """One sentence for each thing that is wrong with the history; empty: it can be judged."""
    problems = [*_broken_intervals(history.operations), *_overlaps(history.operations)]
    problems += _repeated_inputs(history.operations, assumptions.unique_inputs)
    ok = history.counts()["ok"]
    if ok < assumptions.ok_min:
        problems.append(f"only {ok} operations succeeded; at least {assumptions.ok_min} are needed")
    if history.operations and ok / len(history.operations) < assumptions.ok_share_min:
        share, least = 100 * ok / len(history.operations), 100 * assumptions.ok_share_min
        problems.append(f"only {share:.1f} % of the operations succeeded; at least {least:.1f} % are needed")
    if assumptions.per_key_max:
        sizes: dict[str, int] = {}
        for operation in history.operations:
            sizes[operation.key] = sizes.get(operation.key, 0) + 1
        problems += [
            f"key {key!r} has {size} operations; at most {assumptions.per_key_max} are asked for"
            for key, size in sizes.items()
            if size > assumptions.per_key_max
        ]
    return problems


def _broken_intervals(operations: Sequence[Operation]) -> Iterator[str]:
    for operation in operations:
        if operation.return_ns < operation.invoke_ns:
            yield f"{operation} returns before it is called"
        if (operation.return_ns == INFINITY_NS) != operation.is_unknown:
            yield f"{operation}: exactly the unknown outcomes return at infinity"


def _overlaps(operations: Sequence[Operation]) -> Iterator[str]:
    """A process does one thing at a time; after an unknown outcome it does nothing any more."""
    last: dict[int, Operation] = {}
    for operation in sorted(operations, key=lambda op: op.invoke_ns):
        before = last.get(operation.process)
        if before is not None and before.return_ns > operation.invoke_ns:
            yield f"process {operation.process} calls {operation} while {before} is under way"
        last[operation.process] = operation


def _repeated_inputs(operations: Sequence[Operation], names: Sequence[str]) -> Iterator[str]:
    seen: dict[tuple[str, Value], Operation] = {}
    for operation in operations:
        if operation.op not in names:
            continue
        first = seen.setdefault((operation.key, operation.input), operation)
        if first is not operation:
            yield f"{operation} writes the same as {first}; writes must be unique here"
