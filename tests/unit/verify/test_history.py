"""Recording, files, and the assumptions that a history must fulfil."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from replcache.verify.history import (
    INFINITY_NS,
    Assumptions,
    History,
    HistoryError,
    Operation,
    Outcome,
    Recorder,
    broken_assumptions,
    freeze,
    parse_history,
    read_history,
    write_history,
)


def recorded(sink: io.StringIO | None = None) -> Recorder:
    """A write, a read with facts, a write without end, and one that failed."""
    recorder = Recorder({"workload": "register", "model": "register"}, sink)
    first, second = recorder.new_process(), recorder.new_process()
    write = recorder.invoke(first, "write", "k", [1, {"b": 2, "a": None}], 100)
    read = recorder.invoke(second, "read", "k", None, 100, level="one")
    recorder.complete(write, Outcome.OK, 7, 50, detail="n1", revision=9)
    recorder.complete(read, Outcome.OK, [[1], None], 300, staleness_ns=5)
    lost = recorder.invoke(first, "write", "k", 2, 400)
    failed = recorder.invoke(second, "write", "k", 3, 400)
    recorder.complete(failed, Outcome.FAIL, None, 500, detail="NO_LEADER: none")
    recorder.complete(lost, Outcome.UNKNOWN, None, 600)
    return recorder


def test_recorder_makes_times_strictly_increasing_and_unknown_infinite() -> None:
    operations = recorded().history().operations
    times = [op.invoke_ns for op in operations] + [
        op.return_ns for op in operations if op.return_ns != INFINITY_NS
    ]
    assert len(set(times)) == len(times)
    assert operations[0].return_ns > operations[1].invoke_ns > operations[0].invoke_ns
    assert operations[2].outcome is Outcome.UNKNOWN
    assert operations[2].return_ns == INFINITY_NS
    assert operations[0].input == (1, (("a", None), ("b", 2)))


def test_recorder_refuses_a_second_call_of_a_busy_process() -> None:
    recorder = recorded()
    with pytest.raises(HistoryError, match="process 0 has a call under way"):
        recorder.invoke(0, "read", "k", None, 700)


def test_recorded_lines_read_back_as_the_same_history(tmp_path: Path) -> None:
    sink = io.StringIO()
    history = recorded(sink).history()
    again = parse_history(sink.getvalue().splitlines())
    assert again.operations == history.operations
    assert again.meta == history.meta
    path = tmp_path / "history.jsonl"
    write_history(history, path)
    assert read_history(path).operations == history.operations


def test_parse_history_cut_off_in_the_middle_keeps_what_is_there() -> None:
    sink = io.StringIO()
    recorded(sink)
    text = sink.getvalue()
    lines = text[: text.index('"failed"') if '"failed"' in text else len(text) - 20].splitlines()
    history = parse_history(lines)
    assert len(history) == 4
    assert history.operations[2].outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], "is empty"),
        (lambda lines: lines[1:], "line 1: not a replcache-history"),
        (lambda lines: [lines[0].replace('"version":1', '"version":2'), *lines[1:]], "version 2"),
        (lambda lines: [*lines[:3], "{", *lines[3:]], "line 4: not JSON"),
        (lambda lines: [*lines[:3], "[]", *lines[3:]], "line 4: a JSON object"),
        (lambda lines: [*lines, lines[1]], "called twice"),
        (lambda lines: [*lines, lines[3]], "ends twice"),
        (lambda lines: [*lines, '{"type":"ok","id":99,"time_ns":1}'], "KeyError"),
        (lambda lines: [*lines, '{"type":"maybe","id":0,"time_ns":1}'], "maybe"),
    ],
)
def test_parse_history_of_something_else_names_the_line(change: object, message: str) -> None:
    sink = io.StringIO()
    recorded(sink)
    with pytest.raises(HistoryError, match=message):
        parse_history(change(sink.getvalue().splitlines()))  # type: ignore[operator]  # a lambda above


def test_parse_history_ignores_fields_that_it_does_not_know() -> None:
    sink = io.StringIO()
    expected = recorded(sink).history()
    lines = [json.dumps(json.loads(line) | {"new": 1}) for line in sink.getvalue().splitlines()]
    assert parse_history(lines).operations == expected.operations


def test_freeze_makes_json_hashable() -> None:
    assert hash(freeze({"b": [1, {"c": []}], "a": "x"})) == hash((("a", "x"), ("b", (1, (("c", ()),)))))


def op(
    number: int, process: int, start: int, end: int, outcome: Outcome = Outcome.OK, value: int = 0
) -> Operation:
    return Operation(number, process, "write", "k", value, None, start, end, outcome)


GOOD = (op(0, 0, 1, 2, value=1), op(1, 1, 1, 3, value=2), op(2, 0, 4, INFINITY_NS, Outcome.UNKNOWN, 3))


@pytest.mark.parametrize(
    ("operations", "assumptions", "message"),
    [
        (GOOD, Assumptions(("write",), ok_min=2, ok_share_min=0.6, per_key_max=3), None),
        ((*GOOD, op(3, 0, 9, 10, value=4)), Assumptions(), "while"),
        ((op(0, 0, 5, 4),), Assumptions(), "returns before it is called"),
        ((replace(GOOD[2], return_ns=9),), Assumptions(ok_min=0), "return at infinity"),
        ((*GOOD, op(3, 5, 6, 7, value=1)), Assumptions(("write",)), "must be unique"),
        (GOOD, Assumptions(ok_min=3), "only 2 operations succeeded"),
        (GOOD, Assumptions(ok_share_min=0.7), "66.7 %"),
        (GOOD, Assumptions(per_key_max=2), "has 3 operations"),
    ],
)
def test_broken_assumptions(
    operations: tuple[Operation, ...], assumptions: Assumptions, message: str | None
) -> None:
    problems = broken_assumptions(History(operations), assumptions)
    assert bool(problems) == (message is not None), problems
    assert message is None or message in problems[0]
