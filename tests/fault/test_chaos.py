"""A short chaos run in each test run: linearizable under faults, and the checker sees when reads are not."""

import asyncio
import random

import pytest

from replcache.verify.checker import Verdict
from replcache.verify.run import verify
from tests.fault.nemesis import ENVIRONMENT, FAULTS, Nemesis
from tests.helpers.process_cluster import ProcessCluster


@pytest.mark.timeout(150)
def test_a_register_is_linearizable_under_all_kinds_of_faults(cluster: ProcessCluster, seed: int) -> None:
    cluster.start(**ENVIRONMENT)
    cluster.wait_ready()
    nemesis = Nemesis(cluster, list(FAULTS), least_pause_s=1.0, most_pause_s=3.0)
    report = asyncio.run(
        verify(cluster.url, "register", 25.0, processes=8, seed=seed, faults=nemesis, timeout_s=3.0)
    )
    print(report.text())
    assert report.verdict is Verdict.LINEARIZABLE, report.text()
    assert report.history.counts()["ok"] > 500
    assert len(nemesis.done) >= 4


@pytest.mark.timeout(150)
def test_the_checker_finds_a_violation_when_reads_are_of_level_one(
    cluster: ProcessCluster, seed: int
) -> None:
    """The same workload and faults: what passes with linearizable reads must fail with these."""
    cluster.start(**ENVIRONMENT)
    cluster.wait_ready()
    nemesis = Nemesis(cluster, ["deaf", "isolate"], least_pause_s=1.0, most_pause_s=2.0)
    run = verify(cluster.url, "register", 6.0, 8, seed, "one", nemesis, timeout_s=3.0, strict=True)
    report = asyncio.run(run)
    print(report.text())
    assert report.verdict is Verdict.VIOLATION, report.text()
    assert report.explanation is not None


@pytest.mark.timeout(60)
def test_the_same_seed_gives_the_same_faults(cluster: ProcessCluster, seed: int) -> None:
    """As long as the leader is the same: drawn from the kinds that leave it alone."""
    cluster.start(**ENVIRONMENT)
    cluster.wait_ready()

    async def schedule() -> list[str]:
        nemesis = Nemesis(cluster, ["slow-disk"])
        rng = random.Random(seed)
        for _ in range(3):
            await nemesis.inject(rng)
        await nemesis.heal()
        return nemesis.done

    assert asyncio.run(schedule()) == asyncio.run(schedule())
