"""EDN, and the histories of other tools."""

from pathlib import Path

import pytest

from replcache.verify.checker import Verdict
from replcache.verify.edn import EdnError, Keyword, read_all
from replcache.verify.external import judge
from replcache.verify.formats import read_edn, read_jepsen_log, register_shape
from replcache.verify.history import HistoryError, Outcome


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("[true false -12 +3 7N 1.5 -2e3 2M]", (True, False, -12, 3, 7, 1.5, -2000.0, 2.0)),
        ('"a\\"b\\\\\\n\\u00e9"', 'a"b\\\né'),
        ("{:a 1, :b [2 {3 4}]}", {"a": 1, "b": (2, {3: 4})}),
        ("#{1 2}", frozenset({1, 2})),
        ("(foo :bar/baz \\a \\newline)", ("foo", "bar/baz", "a", "\n")),
        ("[1 #_ [2 3] 4] ; the rest", (1, 4)),
        ('#inst "2020-01-01"', "2020-01-01"),
        ("#jepsen.history.Op{:type :ok}", {"type": "ok"}),
    ],
)
def test_read_all_reads_edn(text: str, value: object) -> None:
    assert read_all(text) == [value]


def test_keywords_are_strings_that_say_so() -> None:
    (keyword,) = read_all(":ok")
    assert keyword == "ok"
    assert isinstance(keyword, Keyword)
    assert repr(keyword) == ":ok"


@pytest.mark.parametrize("text", ["[1", "{:a}", "]", "(1]", '"open', "#_", "[1 #_]", ":"])
def test_read_all_of_broken_edn_names_the_offset(text: str) -> None:
    with pytest.raises(EdnError, match="offset"):
        read_all(text)


def test_read_jepsen_log_keeps_failed_cas_and_renumbers_processes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        "\n".join(
            f"INFO  jepsen.util - {process}\t:{kind}\t:{name}\t{value}"
            for process, kind, name, value in [
                (0, "invoke", "write", "1"),
                (1, "invoke", "cas", "[2 3]"),
                (1, "fail", "cas", "[2 3]"),
                (0, "info", "write", ":timed-out"),
                (0, "invoke", "read", "nil"),
                (0, "ok", "read", "1"),
                (1, "invoke", "read", "nil"),
            ]
        )
        + "\nINFO something else\n"
    )
    write, cas, read, last = read_jepsen_log(path).operations
    assert (write.outcome, write.input, write.process) == (Outcome.UNKNOWN, 1, 0)
    assert (cas.outcome, cas.output, cas.input) == (Outcome.OK, False, (2, 3))
    assert (read.outcome, read.output, read.process) == (Outcome.OK, (1, None), 2)
    assert last.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "h.edn",
            "[{:process 0 :type :invoke :f :write :value 4}\n{:process :nemesis :type :info :f :kill}\n"
            "{:process 0 :type :ok :f :write :value 4}]",
        ),
        (
            "h.json",
            '[{"process": 0, "type": "invoke", "f": "write", "value": 4},'
            '{"process": 0, "type": "ok", "f": "write", "value": 4}]',
        ),
        (
            "h.jsonl",
            '{"process": 0, "type": ":invoke", "f": ":write", "value": 4}\n'
            '{"process": 0, "type": ":ok", "f": ":write", "value": 4}\n',
        ),
    ],
)
def test_read_edn_and_json_forms(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    (write,) = read_edn(path, register_shape).operations
    assert (write.op, write.input, write.outcome) == ("write", 4, Outcome.OK)


def test_read_edn_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.edn"
    path.write_text("[1 2 3]")
    with pytest.raises(HistoryError, match="event 0"):
        read_edn(path)
    path.write_text("[1 2")
    with pytest.raises(HistoryError, match="never closed"):
        read_edn(path)
    for name in ("h.edn", "h.json"):
        (tmp_path / name).write_text("[" * 100_000)
        with pytest.raises(HistoryError, match="recursion"):
            read_edn(tmp_path / name)


def test_a_log_without_a_call_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("[{:process 0 :type :invoke :f :read :value nil}]")
    with pytest.raises(HistoryError, match="no line of a call"):
        read_jepsen_log(path)


def test_a_call_without_end_keeps_what_it_was_called_with(tmp_path: Path) -> None:
    path = tmp_path / "h.edn"
    path.write_text(
        edn((0, "invoke", "write", "1"), (0, "invoke", "read", "nil"), (0, "ok", "read", "1"))
        + edn((1, "invoke", "write", "2"))
    )
    first, read, last = read_edn(path, register_shape).operations
    assert (first.input, first.outcome, first.process) == (1, Outcome.UNKNOWN, 0)
    assert (read.process, last.input) == (1, 2)
    assert judge(path, "edn", "register").verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("before", [(), ((0, "invoke", "write", "1"), (0, "ok", "write", "1"))])
def test_an_answer_to_no_call_is_refused(
    before: tuple[tuple[int, str, str, str], ...], tmp_path: Path
) -> None:
    """It was left out: the read of a value that nobody wrote passed."""
    path = tmp_path / "h.edn"
    path.write_text(edn(*before, (0, "ok", "read", "7")))
    with pytest.raises(HistoryError, match=f"event {len(before)}: process 0 ends a read"):
        judge(path, "edn", "register")


def edn(*events: tuple[int, str, str, str]) -> str:
    return "\n".join(
        f"{{:process {process}, :type :{kind}, :f :{name}, :value {value}}}"
        for process, kind, name, value in events
    )


@pytest.mark.parametrize(
    ("model", "text", "verdict"),
    [
        (
            "mutex",
            edn((0, "invoke", "acquire", "nil"), (0, "ok", "acquire", "nil"))
            + edn((1, "invoke", "acquire", "nil"), (1, "ok", "acquire", "nil")),
            Verdict.VIOLATION,
        ),
        (
            "counter",
            edn((0, "invoke", "add", "2"), (0, "info", "add", "2"))
            + edn((1, "invoke", "read", "nil"), (1, "ok", "read", "2")),
            Verdict.LINEARIZABLE,
        ),
        ("counter", edn((1, "invoke", "read", "nil"), (1, "ok", "read", "2")), Verdict.VIOLATION),
        (
            "set",
            edn((0, "invoke", "add", "1"), (0, "ok", "add", "1"))
            + edn((0, "invoke", "read", "nil"), (0, "ok", "read", "#{1}")),
            Verdict.LINEARIZABLE,
        ),
        (
            "set",
            edn((0, "invoke", "add", "1"), (0, "ok", "add", "1"))
            + edn((0, "invoke", "read", "nil"), (0, "ok", "read", "#{}")),
            Verdict.VIOLATION,
        ),
        (
            "long-fork",
            edn((0, "invoke", "write", "[[:w :x 1]]"), (1, "invoke", "write", "[[:w :y 1]]"))
            + edn((2, "invoke", "read", "nil"), (2, "ok", "read", "[[:r :x 1] [:r :y nil]]"))
            + edn((2, "invoke", "read", "nil"), (2, "ok", "read", "[[:r :y 1] [:r :x nil]]")),
            Verdict.VIOLATION,
        ),
        (
            "bank",
            edn((0, "invoke", "read", "nil"), (0, "ok", "read", "{0 5, 1 5}"))
            + edn((0, "invoke", "read", "nil"), (0, "ok", "read", "{0 4, 1 5}")),
            Verdict.VIOLATION,
        ),
        ("cas-register", "", Verdict.LINEARIZABLE),
    ],
)
def test_judge_knows_the_models_of_other_tools(
    model: str, text: str, verdict: Verdict, tmp_path: Path
) -> None:
    path = tmp_path / "h.edn"
    path.write_text(text)
    judgement = judge(path, "edn", model)
    assert judgement.verdict is verdict, judgement.problems


def test_judge_refuses_unknown_names(tmp_path: Path) -> None:
    path = tmp_path / "h.edn"
    path.write_text("")
    with pytest.raises(ValueError, match="no format 'xml'"):
        judge(path, "xml", "counter")
    with pytest.raises(ValueError, match="no model 'queue'"):
        judge(path, "edn", "queue")
