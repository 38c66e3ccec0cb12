"""Fixtures of the fault tests: every node that a test starts is gone after it."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.loop_disk import LoopDisk
from tests.helpers.process_cluster import ProcessCluster


@pytest.fixture
def cluster(tmp_path: Path, seed: int) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path / "cluster", random.Random(seed))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def loop_disk(tmp_path: Path) -> Iterator[LoopDisk]:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    disk = LoopDisk(tmp_path)
    try:
        disk.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"can't mount a loop device here: {error.stderr}")
    yield disk
    disk.unmount()
