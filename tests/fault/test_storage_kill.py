"""Real processes killed (SIGKILL) at every failpoint of the storage layer: what was promised is there."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import replcache.raft.failpoints
from replcache.raft.failpoints import VARIABLE
from tests.helpers.storage_child import Storage
from tests.helpers.wait import scaled

POINTS = sorted(
    set(re.findall(r"\b(?:wal|snapshot|identity)\.[a-z_]+", replcache.raft.failpoints.__doc__ or ""))
)
# Which hits of a point kill; the rarest points are reached only a few times in one life.
HITS = {"wal": (2, 9), "snapshot": (1, 2), "identity": (1,)}


def run_child(directory: Path, seed: int, failpoints: str) -> tuple[int, list[dict[str, Any]]]:
    """(exit code, what the process was promised before it ended)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.storage_child", str(directory), "--seed", str(seed)],
        env={**os.environ, VARIABLE: failpoints},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=scaled(30),
        check=False,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def check_promises(storage: Storage, lines: list[dict[str, Any]], label: str) -> None:
    """Everything promised is there, but for what the process said that it was about to truncate."""
    promise = next(line for line in reversed(lines) if "boot" in line)
    kept = lines[-1].get("truncating_from", promise["last_index"] + 1) - 1
    assert storage.identity.incarnation == promise["incarnation"], label
    assert storage.identity.boot > promise["boot"], label
    assert storage.snapshot_index >= promise["snapshot"], label
    wal = storage.wal
    assert wal.term >= promise["term"], label
    if wal.term == promise["term"]:
        assert wal.voted_for == promise["vote"], label
    assert wal.last_index >= kept, f"{label}: {kept} was promised"
    for index, term in promise["terms"].items():
        if storage.snapshot_index < int(index) <= kept:
            assert wal.term_at(int(index)) == term, f"{label}: entry {index}"


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_failpoint(point: str, tmp_path: Path) -> None:
    kills = 0
    area = point.partition(".")[0]
    for hit in HITS[area]:
        directory = tmp_path / f"{hit}"
        lines: list[dict[str, Any]] = []
        if area == "identity":
            lines = run_child(directory, hit, "")[1]
        code, more = run_child(directory, hit + 100, f"{point}=kill:{hit}")
        kills += code != 0
        lines += more
        storage = Storage(str(directory))
        check_promises(storage, lines, f"{point}=kill:{hit}")
        storage.append(3)
        storage.wal.sync()
        storage.wal.close()
        storage.identity.close()
        Storage(str(directory)).identity.close()
    assert kills > 0, f"{point} was never reached"
