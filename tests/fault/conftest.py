"""Fixtures of the fault tests: every node that a test starts is gone after it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.process_cluster import ProcessCluster


@pytest.fixture
def cluster(tmp_path: Path, seed: int) -> Iterator[ProcessCluster]:
    made = ProcessCluster(tmp_path / "cluster", random.Random(seed))
    try:
        yield made
    finally:
        made.stop()
