"""Runs one program against a cluster, kills the leader when it asks for that, and checks what it says."""

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers.wait import scaled

LINE_TIMEOUT_S = 60.0

# Only where tokens are asked for.
GUARDED = [
    "no token: UNAUTHENTICATED may_have_executed=false",
    "no right: PERMISSION_DENIED may_have_executed=false",
]
FIRST = ["hello version 1"]
SCENARIO = [
    "set: version 1",
    'get linearizable: {"name":"Ada"} application/json',
    'get session: {"name":"Ada"}',
    'get one: {"name":"Ada"}',
    "get missing: absent",
    'update: {"name":"Ada","admin":true} version 2',
    "update missing: NOT_FOUND may_have_executed=false",
    "set if absent: CONDITION_FAILED may_have_executed=false",
    "key too long: TOO_LARGE may_have_executed=false",
    "increment twice with one request id: 5 5",
    "batch: 1 6 1",
    "batch undone: BATCH_ABORTED may_have_executed=false",
    "txn: then 6",
    "txn: otherwise 0",
    "fenced write: version 1",
    "lock held by another: LOCK_TIMEOUT may_have_executed=false",
    "later token is larger: true",
    "stale fence: FENCE_REJECTED may_have_executed=false",
    "fenced write: version 2",
    *GUARDED,
    "kill",
    "watch: 20 events in order over a leader kill",
]


class WrongTranscript(Exception):
    """The program said something else than it should, or failed."""


def run(
    command: Sequence[str],
    folder: Path,
    expected: Sequence[str],
    kill: Callable[[str], None] | None = None,
    token: str = "",
) -> None:
    """Runs the program to its end.

    Args:
        kill: called with the node's name when the program says `kill NODE`; then the program gets a line.
    Raises:
        WrongTranscript: a line differs from the expected one, is late, or the program ends with an error.
    """
    environment = os.environ | {
        "REPLCACHE_TOKEN": token,
        "PYTHONPATH": "build",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        lines, errors = _Lines(process.stdout), _Lines(process.stderr)
        try:
            _converse(process, lines, expected, kill)
            code = process.wait(scaled(LINE_TIMEOUT_S))
            if code != 0:
                raise WrongTranscript(f"exit code {code}")
        except (WrongTranscript, subprocess.TimeoutExpired) as error:
            process.kill()
            said = "".join(f"    {line}\n" for line in [*lines.seen, *errors.rest()])
            raise WrongTranscript(f"{' '.join(command)}: {error}; it said:\n{said}") from error


def _converse(
    process: "subprocess.Popen[str]",
    lines: "_Lines",
    expected: Sequence[str],
    kill: Callable[[str], None] | None,
) -> None:
    for wanted in expected:
        line = lines.next(scaled(LINE_TIMEOUT_S))
        if wanted == "kill" and kill is not None and line is not None and line.startswith("kill "):
            kill(line.removeprefix("kill "))
            assert process.stdin is not None
            process.stdin.write("killed\n")
            process.stdin.flush()
        elif line != wanted:
            raise WrongTranscript(f"expected {wanted!r}, got {line!r}")
    if (extra := lines.next(scaled(LINE_TIMEOUT_S))) is not None:
        raise WrongTranscript(f"a line more than expected: {extra!r}")


class _Lines:
    """The lines of a pipe, read by a thread so that each can be waited for with a deadline."""

    def __init__(self, pipe: "object") -> None:
        self.seen: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: "object") -> None:
        for line in pipe:  # type: ignore[attr-defined]  # a text stream
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def next(self, timeout_s: float) -> str | None:
        """None: the program has closed the pipe."""
        try:
            line = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            raise WrongTranscript(f"no line within {timeout_s:g} s") from None
        if line is not None:
            self.seen.append(line)
        return line

    def rest(self) -> list[str]:
        self._thread.join(timeout=5)
        while not self._queue.empty():
            if (line := self._queue.get()) is not None:
                self.seen.append(line)
        return self.seen
