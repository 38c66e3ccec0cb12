"""What commands print: bytes stay bytes, JSON is one document, errors go to stderr."""

import json

import pytest

from replcache import errors
from replcache.cli import output


def test_text_is_text_and_the_rest_is_base64() -> None:
    assert output.bytes_fields("value", "grün".encode()) == {"value": "grün"}
    assert output.bytes_fields("value", b"\xff\x00") == {"value": "/wA=", "value_encoding": "base64"}


def test_table_cell_is_one_short_line() -> None:
    assert output.printable(b"a\nb\x1b[31m") == "a·b·[31m"
    assert output.printable(b"x" * 100, limit=10) == "x" * 9 + "…"


def test_error_says_whether_the_write_may_have_been_executed(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error(errors.OutcomeUnknown("no reply"), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no reply [OUTCOME_UNKNOWN]" in captured.err
    assert "may or may not have been executed" in captured.err


def test_error_as_json_has_reason_and_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.TooLarge("too big", field="value", metadata={"limit": "5"}, retry_after_s=1.5)
    output.print_error(error, as_json=True)
    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "reason": "TOO_LARGE",
            "message": "too big",
            "may_have_executed": False,
            "retry_after_s": 1.5,
            "metadata": {"field": "value", "limit": "5"},
        }
    }


def test_table_keeps_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["key", "n"], [("[red]x[/red]", 5)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_progress_without_a_terminal_prints_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_line("waiting") as show:
        for text in ("a", "a", "b"):
            show(text)
    assert capsys.readouterr().err == "waiting: a\nwaiting: b\n"
