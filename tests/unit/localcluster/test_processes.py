"""Process identity: never signal somebody else's process, always notice a dead one."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from replcache.localcluster import processes
from replcache.localcluster.processes import Identity
from tests.helpers.wait import wait_until

# Says "ready", then stays until it is told to stop; `stubborn` ignores TERM.
PROGRAM = """
import signal, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def started() -> Iterator[list[Identity]]:
    identities: list[Identity] = []
    yield identities
    for identity in identities:
        processes.send(identity, signal.SIGKILL)


def spawn(folder: Path, started: list[Identity], *arguments: str) -> Identity:
    marker = str(folder / "marker")
    command = [sys.executable, "-c", PROGRAM, marker, *arguments]
    log = folder / "log"
    identity = processes.spawn_detached(command, log, os.environ, marker)
    started.append(identity)
    wait_until(lambda: b"ready" in log.read_bytes(), 10, "program is up")
    return identity


def test_spawned_process_is_alive_until_it_is_stopped(tmp_path: Path, started: list[Identity]) -> None:
    identity = spawn(tmp_path, started)
    assert processes.is_alive(identity)
    processes.stop([identity], grace_s=10)
    assert not processes.is_alive(identity)


def test_spawned_process_is_in_its_own_session(tmp_path: Path, started: list[Identity]) -> None:
    """Ctrl-C in the shell that started it must not reach it."""
    identity = spawn(tmp_path, started)
    assert os.getsid(identity.pid) == identity.pid


def test_process_that_ignores_term_is_killed_after_the_grace(tmp_path: Path, started: list[Identity]) -> None:
    identity = spawn(tmp_path, started, "stubborn")
    said: list[str] = []
    processes.stop([identity], grace_s=0.1, say=said.append)
    assert not processes.is_alive(identity)
    assert len(said) == 1


def test_frozen_process_is_stopped(tmp_path: Path, started: list[Identity]) -> None:
    identity = spawn(tmp_path, started)
    processes.send(identity, signal.SIGSTOP)
    said: list[str] = []
    processes.stop([identity], grace_s=10, say=said.append)
    assert not processes.is_alive(identity)
    assert said == []


def test_other_start_time_is_another_process(tmp_path: Path, started: list[Identity]) -> None:
    """A reused pid: same number, other start. It must not be signalled."""
    identity = spawn(tmp_path, started)
    stranger = replace(identity, started="long ago")
    assert not processes.is_alive(stranger)
    assert not processes.send(stranger, signal.SIGKILL)
    assert processes.is_alive(identity)


def test_other_command_line_is_another_process(tmp_path: Path, started: list[Identity]) -> None:
    identity = spawn(tmp_path, started)
    stranger = replace(identity, marker="/somewhere/else")
    assert not processes.send(stranger, signal.SIGKILL)
    assert processes.is_alive(identity)


def test_killed_child_is_not_alive_though_nobody_waited_for_it(
    tmp_path: Path, started: list[Identity]
) -> None:
    identity = spawn(tmp_path, started)
    os.kill(identity.pid, signal.SIGKILL)
    wait_until(lambda: not processes.is_alive(identity), 10, "death is seen")


def test_identity_survives_the_file(tmp_path: Path) -> None:
    identity = Identity(12, "boot/345", "/a b/c")
    processes.save(identity, tmp_path / "process.json")
    assert processes.load(tmp_path / "process.json") == identity


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"pid": 1}',
        '{"pid": "x", "started": "", "marker": ""}',
        '{"pid": 0, "started": "", "marker": ""}',
        '{"pid": -1, "started": "", "marker": ""}',
        '{"pid": 1e300, "started": "", "marker": ""}',
        '{"pid": Infinity, "started": "", "marker": ""}',
    ],
)
def test_unreadable_file_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "process.json").write_text(text)
    assert processes.load(tmp_path / "process.json") is None
    assert processes.load(tmp_path / "missing.json") is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_process_is_found_by_the_end_of_its_command_line(tmp_path: Path, started: list[Identity]) -> None:
    identity = spawn(tmp_path, started, "serve", "config")
    marker = identity.marker
    found = processes.find([marker, "serve", "config"])
    assert found == replace(identity, marker="config")
    # An editor with the file open carries the path too, and is not to be stopped.
    assert processes.find(["edit", "serve", "config"]) is None
    assert processes.find([marker, "serve"]) is None
