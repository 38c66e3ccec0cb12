"""The driver of the programs in other languages sees a program that says something else, or nothing."""

import sys
from pathlib import Path

import pytest

from tests.interop import transcript

KILLS = "print('one'); print('kill n2', flush=True); input(); print('two')"


def run(script: str, expected: list[str], killed: list[str] | None = None) -> None:
    kill = None if killed is None else killed.append
    transcript.run([sys.executable, "-u", "-c", script], Path.cwd(), expected, kill)


def test_what_is_expected_passes_and_the_named_node_is_killed() -> None:
    killed: list[str] = []
    run(KILLS, ["one", "kill", "two"], killed)
    assert killed == ["n2"]


@pytest.mark.parametrize(
    ("script", "expected", "complaint"),
    [
        ("print('one')", ["two"], "expected 'two', got 'one'"),
        ("print('one')", ["one", "two"], "expected 'two', got None"),
        ("print('one'); print('two')", ["one"], "a line more than expected: 'two'"),
        ("print('one'); raise SystemExit(3)", ["one"], "exit code 3"),
        ("print('one'); raise ValueError('why')", ["one"], "ValueError: why"),
        (KILLS, ["one", "two"], "expected 'two', got 'kill n2'"),
    ],
)
def test_everything_else_is_a_failure(script: str, expected: list[str], complaint: str) -> None:
    with pytest.raises(transcript.WrongTranscript, match=complaint):
        run(script, expected, [])


def test_a_program_that_falls_silent_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "LINE_TIMEOUT_S", 0.2)
    with pytest.raises(transcript.WrongTranscript, match=r"no line within"):
        run("input()", ["one"])
