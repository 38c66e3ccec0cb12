"""`replcache lock NAME -- COMMAND`: runs under the lock, with the token, and never after losing it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Shell
from tests.helpers.wait import wait_until

PYTHON = sys.executable


def test_command_runs_under_the_lock_with_its_token(shell: Shell) -> None:
    program = "import os; print(os.environ['REPLCACHE_FENCE_TOKEN'], os.environ['REPLCACHE_LOCK_NAME'])"
    first = shell("lock", "l/one", "--", PYTHON, "-c", program)
    second = shell("lock", "l/one", "--", PYTHON, "-c", program)
    assert (first.code, second.code) == (0, 0), first.err
    (token1, name), (token2, _) = first.text.split(), second.text.split()
    assert name == "l/one"
    assert int(token2) > int(token1) > 0


def test_exit_code_is_the_commands_own(shell: Shell) -> None:
    assert shell("lock", "l/two", "--", PYTHON, "-c", "raise SystemExit(42)").code == 42
    killed = shell("lock", "l/two", "--", PYTHON, "-c", "import os; os.kill(os.getpid(), 9)")
    assert killed.code == 128 + 9


def test_nothing_to_run_is_wrong_usage(shell: Shell) -> None:
    assert shell("lock", "l/three").code == 2
    assert shell("lock", "l/three", "--", "/no/such/program").code == 2


def hold(shell: Shell, name: str, started: Path, *flags: str) -> "subprocess.Popen[bytes]":
    """Holds the lock until it is told to stop; `started` holds the command's pid then."""
    program = f"import os, signal; open({str(started)!r}, 'w').write(str(os.getpid())); signal.pause()"
    process = shell.start("lock", *flags, name, "--", PYTHON, "-c", program)
    wait_until(lambda: started.exists() and started.read_text(), 20, "the command runs", lambda: name)
    return process


def test_held_lock_is_not_granted_again(shell: Shell, tmp_path: Path) -> None:
    holder = hold(shell, "l/busy", tmp_path / "pid", "--note", "nightly job")
    try:
        refused = shell("lock", "l/busy", "--", PYTHON, "-c", "print('ran')")
        assert (refused.code, refused.out) == (1, b"")
        listed = shell("locks", "l/busy", "--json").json()
        assert [len(lock["holders"]) for lock in listed] == [1]
        assert listed[0]["holders"][0]["note"] == "nightly job"
        assert "nightly job" in shell("locks").text
    finally:
        holder.send_signal(signal.SIGTERM)
        holder.communicate(timeout=20)
    assert shell("lock", "l/busy", "--", PYTHON, "-c", "print('ran')").text == "ran\n"


def test_term_is_passed_on_and_the_lock_given_back(shell: Shell, tmp_path: Path) -> None:
    holder = hold(shell, "l/term", tmp_path / "pid")
    holder.send_signal(signal.SIGTERM)
    holder.communicate(timeout=20)
    assert holder.returncode == 128 + signal.SIGTERM
    assert shell("locks", "l/term", "--json").json() in (
        [],
        [{"name": "l/term", "permits": 1, "holders": [], "waiters": []}],
    )


def test_command_is_stopped_when_the_lock_is_lost(shell: Shell, tmp_path: Path) -> None:
    """The holder is frozen for longer than its ttl: when it wakes up, it must stop its command."""
    holder = hold(shell, "l/lost", tmp_path / "pid", "--ttl", "1s")
    command_pid = int((tmp_path / "pid").read_text())
    holder.send_signal(signal.SIGSTOP)
    try:
        taken = shell("lock", "--wait", "20s", "l/lost", "--", PYTHON, "-c", "print('mine')")
        assert taken.text == "mine\n", taken.err
        os.kill(command_pid, 0)
    finally:
        holder.send_signal(signal.SIGCONT)
    _, error = holder.communicate(timeout=20)
    assert holder.returncode == 8
    assert b"LOCK_LOST" in error


def test_fence_of_a_released_lock_is_refused(shell: Shell) -> None:
    command = " ".join(shell.command("set", "fenced", "v", "--fence"))
    script = f"exec {command} l/f:$REPLCACHE_FENCE_TOKEN"
    assert shell("lock", "l/f", "--", "sh", "-c", script).code == 0
    late = shell("set", "fenced", "late", "--fence", "l/f:1", "--json")
    assert late.code == 4
    assert late.error()["reason"] == "FENCE_REJECTED"
    assert shell("get", "fenced").text == "v"
