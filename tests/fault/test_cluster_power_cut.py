"""Power cuts of all nodes at once: a cluster on one file system that stops in the middle of the writes (P1).

A few cuts in every run, more on demand (`make power-cuts CYCLES=100`). The control switches the syncs of all
nodes off, and must lose acknowledged writes: the method can see.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcache.client import Client
from tests.fault.nemesis import post_fault
from tests.fault.test_kill_all import SMALL, Writer, check, wait_for_writes
from tests.helpers.loop_disk import LoopDisk
from tests.helpers.process_cluster import ProcessCluster

CYCLES = int(os.environ.get("REPLCACHE_TEST_POWER_CUTS", "5"))
CONTROL_CYCLES = 20

pytestmark = pytest.mark.root


@pytest.fixture
def cluster_on_disk(loop_disk: LoopDisk, tmp_path: Path, seed: int) -> Iterator[ProcessCluster]:
    """Logs, snapshots and identities are on the disk whose power is cut; process files are not."""
    made = ProcessCluster(tmp_path / "cluster", random.Random(seed))
    for name in made.names:
        target = loop_disk.mount_point / name
        target.mkdir()
        made.local.layout(name).data.symlink_to(target)
    try:
        yield made
    finally:
        made.stop()


def cut_power_while_writing(
    cluster: ProcessCluster, disk: LoopDisk, acknowledged: dict[str, str], rng: random.Random
) -> None:
    """Everybody stops at the same moment: no process lives on to tell of a sync that never was."""
    before = dict(acknowledged)
    writers = [Writer(cluster.url, number, acknowledged) for number in range(4)]
    for writer in writers:
        writer.start()
    wait_for_writes(cluster, acknowledged, before, rng.randint(20, 400))
    for name in cluster.names:
        cluster.pause(name)
    disk.cut_power()
    for name in cluster.names:
        cluster.kill(name)
    for writer in writers:
        writer.stop()
    disk.unmount()
    disk.mount()


@pytest.mark.timeout(60 + 30 * CYCLES)
def test_acknowledged_writes_survive_power_cuts_of_all_nodes(
    cluster_on_disk: ProcessCluster, loop_disk: LoopDisk, seed: int
) -> None:
    rng = random.Random(seed)
    cluster, acknowledged = cluster_on_disk, {}
    for cycle in range(CYCLES + 1):
        cluster.start(**SMALL)
        cluster.wait_ready()
        with Client(cluster.url, timeout="20s") as reader:
            lost = check(reader, acknowledged)
            assert not lost, f"cut {cycle}: {lost[:5]} of {len(acknowledged)}\n{cluster.dump()}"
        if cycle < CYCLES:
            cut_power_while_writing(cluster, loop_disk, acknowledged, rng)
    print(f"seed {seed}: {CYCLES} power cuts of 3 nodes, {len(acknowledged)} keys, 0 lost")


@pytest.mark.timeout(300)
def test_control_without_sync_loses_acknowledged_writes(
    cluster_on_disk: ProcessCluster, loop_disk: LoopDisk, rng: random.Random
) -> None:
    cluster, acknowledged = cluster_on_disk, {}
    for _ in range(CONTROL_CYCLES):
        cluster.start(REPLCACHE_FAULT_INJECTION="true")
        cluster.wait_ready()
        with Client(cluster.url, timeout="20s") as reader:
            if check(reader, acknowledged):
                return
        for name in cluster.names:
            post_fault(cluster, name, {"skip_syncs": True})
        cut_power_while_writing(cluster, loop_disk, acknowledged, rng)
        if not can_start(cluster):
            return
    raise AssertionError(f"{CONTROL_CYCLES} power cuts without sync lost nothing: the cut does not cut")


def can_start(cluster: ProcessCluster) -> bool:
    """Whether the nodes come up: one that finds its log damaged refuses, which is a loss too."""
    cluster.start()
    try:
        cluster.wait_ready(timeout_s=10)
    except AssertionError:
        return False
    for name in cluster.names:
        cluster.kill(name)
    return True
