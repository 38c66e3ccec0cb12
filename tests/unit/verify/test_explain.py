"""Explanations are true and small; pictures are well-formed and show what they should."""

import random
from html.parser import HTMLParser
from pathlib import Path

import pytest

from replcache.verify.checker import PartitionResult, Verdict, check
from replcache.verify.explain import Explanation, explain
from replcache.verify.history import INFINITY_NS, Operation, Outcome
from replcache.verify.models import Model, Register
from replcache.verify.picture import picture, write_picture
from tests.helpers.families import FAMILIES
from tests.helpers.linearizability import brute_force, random_history


def op(number: int, name: str, value: object, output: object, start: int, end: int) -> Operation:
    return Operation(number, number % 3, name, "k", value, output, start * 10**6, end * 10**6, Outcome.OK)


def stale_read_among_many() -> list[Operation]:
    """Thirty good writes and reads, one read of a value that was overwritten long ago, and more after it."""
    history = []
    for n in range(30):
        history.append(op(2 * n, "write", n, None, 4 * n, 4 * n + 1))
        seen = 10 if n == 20 else n
        history.append(op(2 * n + 1, "read", None, (seen, None), 4 * n + 2, 4 * n + 3))
    return history


def explained(history: list[Operation], model: Model) -> tuple[PartitionResult, Explanation]:
    result = check(history, model)
    assert result.bad is not None
    return result.bad, explain(result.bad, model)


def test_explain_finds_the_one_wrong_reply() -> None:
    _, explanation = explained(stale_read_among_many(), Register())
    assert explanation.breaking.id == 41
    assert explanation.prefix == 41
    # The value 10 was replaced, and is then read.
    assert len(explanation.core) + len(explanation.others) <= 3
    assert explanation.core[-1].id == 41
    assert explanation.order == tuple(range(41))
    assert explanation.unplaceable == (41,)
    text = explanation.text()
    assert "#41 process 2: read() on 'k' -> [10, null]" in text
    assert "41 of its 60 operations" in text


@pytest.mark.parametrize("name", list(FAMILIES))
def test_explain_core_alone_is_a_violation_and_the_prefix_is_right(name: str, seed: int) -> None:
    """Goal: soundness. What is left over after shrinking is refuted by the oracle too, with the other
    operations free to do anything; and the history up to the breaking reply is the first that is bad."""
    family = FAMILIES[name]
    checked = 0
    for number in range(2000):
        operations = random_history(family, random.Random(f"{seed}/{name}/{number}"))
        result = check(operations, family.model)
        if result.bad is None:
            continue
        explanation = explain(result.bad, family.model)
        left = [*explanation.core, *(other.weakened() for other in explanation.others)]
        assert not brute_force(left, family.model), explanation.text()
        assert_only_reads_were_left_out(name, explanation)
        bad_ns = explanation.breaking.return_ns
        assert not brute_force(known_at(result.bad.operations, bad_ns), family.model)
        assert brute_force(known_at(result.bad.operations, bad_ns - 1), family.model)
        checked += 1
        if checked == 15:
            break
    assert checked >= 10


def assert_only_reads_were_left_out(name: str, explanation: Explanation) -> None:
    """In the families whose effects can't be left out without changing what others may see."""
    if name not in ("counter", "growing", "exactly-once", "append", "set", "mutex"):
        return
    kept = {op.id for op in (*explanation.core, *explanation.others)}
    for operation in explanation.operations:
        if operation.invoke_ns <= explanation.breaking.return_ns and operation.id not in kept:
            assert FAMILIES[name].model.is_read(operation), f"{operation}\n{explanation.text()}"


def known_at(operations: tuple[Operation, ...], time_ns: int) -> list[Operation]:
    started = [op for op in operations if op.invoke_ns <= time_ns]
    return [op if op.return_ns <= time_ns else op.weakened() for op in started]


def test_explain_of_a_good_partition_is_refused() -> None:
    result = check(stale_read_among_many()[:10], Register())
    with pytest.raises(ValueError, match="only violations"):
        explain(result.partitions[0], Register())


def test_explain_without_time_still_names_a_contradiction() -> None:
    result = check(stale_read_among_many(), Register())
    assert result.verdict is Verdict.VIOLATION
    assert result.bad is not None
    explanation = explain(result.bad, Register(), budget_s=0.0)
    assert explanation.core


class _Elements(HTMLParser):
    """Checks nesting and collects what a picture consists of."""

    VOID = ("meta", "rect", "circle", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.bars: list[str] = []
        self.numbers: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "rect" and "bar" in (dict(attrs)["class"] or ""):
            self.bars.append(str(dict(attrs)["class"]))
        if tag == "text" and dict(attrs).get("class") == "num":
            self.numbers.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.titles.append(data)


def test_picture_shows_all_operations_and_marks_the_wrong_ones(tmp_path: Path) -> None:
    history = stale_read_among_many()
    history.append(Operation(90, 9, "write", "k", "</svg><script>", None, 5, INFINITY_NS, Outcome.UNKNOWN))
    _, explanation = explained(history, Register())
    path = tmp_path / "picture.html"
    write_picture(explanation, path)
    text = path.read_text(encoding="utf-8")
    assert text == picture(explanation)
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    elements = _Elements()
    elements.feed(text)
    elements.close()
    assert elements.open == []
    small = len(explanation.core) + len(explanation.others)
    assert len(elements.bars) == small + 61
    assert sum("stuck" in bar for bar in elements.bars) == 2
    assert sum("unknown" in bar for bar in elements.bars) >= 1
    assert len(elements.numbers) == len(explanation.order)
    assert any("read() on 'k' -> [10, null]" in title for title in elements.titles)
    assert "prefers-color-scheme: dark" in text
