"""The power cut for real: a file system on a loop device that stops in the middle of the work."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from replcache.errors import CorruptLog
from tests.fault.test_storage_kill import check_promises
from tests.helpers.loop_disk import LoopDisk
from tests.helpers.storage_child import Storage

CYCLES = 6

pytestmark = pytest.mark.root


def test_promises_survive_power_cuts(loop_disk: LoopDisk, seed: int) -> None:
    rng = random.Random(seed)
    data = loop_disk.mount_point / "data"
    promises: list[dict[str, Any]] = []
    for cycle in range(CYCLES):
        promises += cut_while_working(loop_disk, data, rng)
        loop_disk.unmount()
        loop_disk.mount()
        storage = Storage(str(data))
        try:
            check_promises(storage, promises, f"seed {seed}, cycle {cycle}")
            promises = [json.loads(json.dumps(storage.promise()))]
        finally:
            storage.wal.close()
            storage.identity.close()


def test_control_a_log_without_sync_loses_promises(loop_disk: LoopDisk, rng: random.Random) -> None:
    """The method can fail: the same run with the log's sync switched off."""
    for cycle in range(20):
        data = loop_disk.mount_point / f"data-{cycle}"
        promises = cut_while_working(loop_disk, data, rng, "--no-sync")
        loop_disk.unmount()
        loop_disk.mount()
        try:
            storage = Storage(str(data))
        except CorruptLog:
            # Later groups reached the disk before earlier ones: nothing is served, but the promise is broken.
            return
        try:
            check_promises(storage, promises, "without sync")
        except AssertionError:
            return
        finally:
            storage.wal.close()
            storage.identity.close()
    raise AssertionError("20 power cuts and nothing was lost: the cut does not cut")


def cut_while_working(disk: LoopDisk, data: Path, rng: random.Random, *options: str) -> list[dict[str, Any]]:
    """The lines that a process printed before machine and disk stopped together.

    The process is halted first and killed afterwards: a shut down file system lets a sync that is under way
    return without error, and a process that lives on would tell of it. A machine without power does not.
    """
    seed = str(rng.randrange(1000))
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.storage_child", str(data), "--seed", seed, "--pause", *options],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(rng.randrange(2, 30))]
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        disk.cut_power()
        child.kill()
        # Not communicate(): it would miss what readline() has read ahead.
        rest = child.stdout.read()
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
    # The last line may be half written.
    lines += [line for line in rest.splitlines() if line.endswith("}")]
    return [json.loads(line) for line in lines]
