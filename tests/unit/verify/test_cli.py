"""The sub-application: verdicts become exit codes, and files are written where they should be."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from replcache.verify.cli import app
from tests.helpers import memory_store as stores
from tests.unit.verify.test_run import run_against

runner = CliRunner()


def history_of(kind: type[stores.MemoryStore], path: Path) -> Path:
    run_against(kind, "register", random.SystemRandom().randrange(1000), history_path=path)
    return path


def test_replay_of_a_good_history_exits_with_0(tmp_path: Path) -> None:
    path = history_of(stores.MemoryStore, tmp_path / "h.jsonl")
    result = runner.invoke(app, ["replay", str(path)])
    assert result.exit_code == 0, result.output
    assert "register: linearizable" in result.output
    assert not path.with_suffix(".html").exists()


def test_replay_of_a_violation_exits_with_1_and_draws_it(tmp_path: Path) -> None:
    path = history_of(stores.LostWrites, tmp_path / "h.jsonl")
    result = runner.invoke(app, ["replay", str(path), "--json"])
    assert result.exit_code == 1, result.output
    told = json.loads(result.output)
    assert told["verdict"] == "violation"
    assert "can't all be true" in told["explanation"]
    assert Path(told["picture"]).read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"format":"replcache-history","version":1,"meta":{"model":"queue"}}\n', "no model 'queue'"),
        (
            '{"format":"replcache-history","version":1,"meta":{"model":"register","workload":"register"}}\n',
            "",
        ),
    ],
)
def test_replay_without_verdict_exits_with_2(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(text)
    result = runner.invoke(app, ["replay", str(path)])
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_judge_of_another_tools_history(tmp_path: Path) -> None:
    path = tmp_path / "h.edn"
    path.write_text("{:process 0 :type :invoke :f :read :value nil} {:process 0 :type :ok :f :read :value 3}")
    arguments = ["judge", str(path), "--format", "edn", "--model", "cas-register"]
    assert runner.invoke(app, [*arguments, "--options", '{"initial": 3}']).exit_code == 0
    assert runner.invoke(app, arguments).exit_code == 1
    assert runner.invoke(app, [*arguments, "--options", "nonsense"]).exit_code == 2
    assert runner.invoke(app, [*arguments, "--options", '{"colour": 1}']).exit_code == 2


def test_run_without_a_cluster_is_no_pass(tmp_path: Path) -> None:
    """Port 1 of this machine answers nothing."""
    result = runner.invoke(
        app,
        "--url 127.0.0.1:1 --workload register --seconds 0.5 --processes 2 --timeout 0.3 --recovery 0.5 "
        f"--history {tmp_path}",
    )
    assert result.exit_code == 2, result.output
    assert "invalid" in result.output


def test_run_of_an_unknown_workload_is_refused(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--workload", "queue", "--history", str(tmp_path)])
    assert result.exit_code == 2
    assert "queue" in result.output


HEADER = b'{"format":"replcache-history","version":1,"meta":{"model":"register","workload":"register"}}\n'


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\n",
        b"[" * 100_000,
        HEADER + b'{"type":"invoke","id":1,"process":1,"op":"dance","key":"k","time_ns":1}\n',
        HEADER + b'{"type":"invoke","id":1,"process":1,"op":"cas","key":"k","input":3,"time_ns":1}\n',
        HEADER + b'{"type":"invoke","id":1e400,"process":1,"op":"read","key":"k","time_ns":1}\n',
    ],
)
def test_what_is_no_history_is_not_called_a_violation(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(content)
    result = runner.invoke(app, ["replay", str(path)])
    assert (result.exit_code, str(path) in result.stderr) == (2, True), result.output


def test_a_history_that_cannot_be_written_is_not_called_a_violation(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = "--url 127.0.0.1:1 --workload register --seconds 0.3 --timeout 0.2 --recovery 0.3 --history"
    result = runner.invoke(app, [*arguments.split(), str(tmp_path / "file" / "below")])
    assert (result.exit_code, "Not a directory" in result.stderr) == (2, True), result.output
    # The first line fits into no disk that is full; it is written while the processes of the run work.
    (tmp_path / "register.jsonl").symlink_to("/dev/full")
    result = runner.invoke(app, [*arguments.split(), str(tmp_path)])
    assert (result.exit_code, "No space left" in result.stderr) == (2, True), result.output


def test_a_misspelt_read_level_is_refused(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--url", "127.0.0.1:1", "--read", "sesion", "--history", str(tmp_path)])
    assert (result.exit_code, "sesion" in result.output) == (2, True)
