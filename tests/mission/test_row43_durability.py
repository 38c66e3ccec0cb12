"""kill -9 of all nodes in twenty rounds, and a minute of plain load (tests/fault has shorter ones)."""

import random

import pytest

from tests.fault.test_kill_all import write_and_kill_all
from tests.fault.test_plain_load import load_without_faults
from tests.helpers.process_cluster import ProcessCluster


@pytest.mark.timeout(400)
def test_row43_twenty_kills_of_all_nodes(cluster: ProcessCluster, seed: int) -> None:
    write_and_kill_all(cluster, random.Random(seed), rounds=20)


@pytest.mark.timeout(180)
def test_row43_a_minute_of_plain_load(cluster: ProcessCluster) -> None:
    load_without_faults(cluster, 60.0)
