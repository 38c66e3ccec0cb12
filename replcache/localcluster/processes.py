"""Detached processes that can be found again, and are never confused with somebody else's.

A pid alone names nothing: it is reused. What is written down is (pid, start time, one argument of the
command line), and a process is ours only while all three still match. Start times come from /proc on Linux
and from ps elsewhere; both stay the same for the whole life of a process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# How often a stopping process is looked at.
POLL_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one process from every other; `marker` is an argument that only ours carries."""

    pid: int
    started: str
    marker: str


def spawn_detached(
    command: Sequence[str], log: Path, environment: Mapping[str, str], marker: str
) -> Identity:
    """Starts `command` in its own session, output appended to `log`; it outlives this process.

    Raises:
        OSError: the program or the log file can't be opened.
    """
    assert marker in command
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
            close_fds=True,
        )
    # It is watched by identity from now on, not by this handle, whose destructor would complain.
    process.returncode = 0
    started, _ = _look(process.pid) or ("", None)
    return Identity(process.pid, started, marker)


def is_alive(identity: Identity) -> bool:
    """Whether that very process still runs; a dead child that nobody waited for counts as dead."""
    _reap(identity.pid)
    seen = _look(identity.pid)
    if seen is None:
        return False
    started, arguments = seen
    return started == identity.started and (arguments is None or identity.marker in arguments)


def send(identity: Identity, number: signal.Signals) -> bool:
    """Signals the process if it is still ours; False: it is gone."""
    if not is_alive(identity):
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def stop(
    identities: Sequence[Identity], grace_s: float, say: Callable[[str], None] = lambda text: None
) -> None:
    """TERM to all at once, KILL for those that are still there after grace_s; returns when all are gone."""
    for identity in identities:
        # A frozen process would never see TERM.
        send(identity, signal.SIGCONT)
        send(identity, signal.SIGTERM)
    if not wait_gone(identities, grace_s):
        for identity in identities:
            if send(identity, signal.SIGKILL):
                say(f"pid {identity.pid} did not stop within {grace_s:g} s: killed")
        wait_gone(identities, 10.0)


def wait_gone(identities: Sequence[Identity], timeout_s: float) -> bool:
    """Whether all were gone within timeout_s."""
    end = time.monotonic() + timeout_s
    while any(is_alive(identity) for identity in identities):
        if time.monotonic() > end:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def save(identity: Identity, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    fields = {"pid": identity.pid, "started": identity.started, "marker": identity.marker}
    temporary.write_text(json.dumps(fields) + "\n", encoding="utf-8")
    temporary.replace(path)


def load(path: Path) -> Identity | None:
    """None: never started, stopped, or the file is not one of ours."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        identity = Identity(int(fields["pid"]), str(fields["started"]), str(fields["marker"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    # Zero and negative numbers mean groups of processes to the system.
    return identity if 0 < identity.pid < 2**31 else None


def find(end: Sequence[str]) -> Identity | None:
    """A process of this user whose command line ends so, when what was written down of it is lost.

    The last of `end` is its marker. Only where there is a /proc; elsewhere nothing is found.
    """
    if sys.platform != "linux":
        return None
    for entry in Path("/proc").iterdir():
        try:
            is_mine = entry.name.isdigit() and entry.stat().st_uid == os.getuid()
        except FileNotFoundError:
            continue
        seen = _look_proc(int(entry.name)) if is_mine else None
        # What follows the last argument's end is empty.
        if seen is not None and seen[1] is not None and seen[1][:-1][-len(end) :] == tuple(end):
            return Identity(int(entry.name), seen[0], end[-1])
    return None


def _reap(pid: int) -> None:
    """Takes the exit status of a child of this process, so that it does not stay as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _look(pid: int) -> tuple[str, tuple[str, ...] | None] | None:
    """(start time, arguments) of a living process; arguments None: it is dying and has none any more. None:
    no such process, or only its zombie."""
    if sys.platform == "linux":
        return _look_proc(pid)
    return _look_ps(pid)


def _look_proc(pid: int) -> tuple[str, tuple[str, ...] | None] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the name in parentheses may hold anything, so count fields from the last parenthesis.
    fields = stat.rpartition(")")[2].split()
    state, threads, start_ticks = fields[0], int(fields[17]), fields[19]
    # Ticks count from the boot: with the boot's id they are unique over reboots too.
    started = f"{boot}/{start_ticks}"
    if state in ("Z", "X"):
        # After kill -9 the first thread can be gone while another still sits in an fdatasync: until that
        # returns, the process holds its ports and its lock on the data directory.
        return (started, None) if threads > 1 else None
    if not arguments:
        # A dying process loses its memory, and with it these, before its files and sockets.
        return started, None
    return started, tuple(part.decode("utf-8", "replace") for part in arguments.split(b"\0"))


def _look_ps(pid: int) -> tuple[str, tuple[str, ...] | None] | None:
    done = subprocess.run(
        ["ps", "-ww", "-o", "stat=,lstart=,command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    fields = done.stdout.split()
    if done.returncode != 0 or len(fields) < 7 or fields[0].startswith("Z"):
        return None
    return " ".join(fields[1:6]), tuple(fields[6:])
