"""Rows of the feature table that are the server's, with full parameters (small ones: tests/integration)."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from replcache.clock import Clock
from tests.helpers import three_servers as rows
from tests.helpers.three_servers import ShiftedClock, ThreeServers


@pytest_asyncio.fixture
async def three(tmp_path: Path) -> AsyncIterator[ThreeServers]:
    async with rows.three_servers(tmp_path) as cluster:
        yield cluster


async def test_row19_expiry_by_access(three: ThreeServers) -> None:
    await rows.touched_by_reads_lives_on(three, idle_s=2.0, lives_s=30.0)


async def test_row20_expiry_by_count(three: ThreeServers) -> None:
    await rows.reads_are_counted_exactly(three, max_reads=100, clients=50)


async def test_row28_transactions(three: ThreeServers) -> None:
    await rows.bank_keeps_its_total(three, accounts=20, transfers=2000, kills=3)


async def test_row30_hottest_keys(three: ThreeServers) -> None:
    # At full speed one read in ten is counted: so many that 10 % is four standard deviations for each key.
    await rows.hottest_keys_are_known(three.any(0), 1_600_000, 20_000, random.Random(30))


async def test_row33_search_by_tags(three: ThreeServers) -> None:
    await rows.find_equals_a_scan(three, 1000, random.Random(33))


async def test_row36_stock_is_sold_exactly(three: ThreeServers) -> None:
    await rows.stock_is_sold_exactly(three, stock=1000, clients=200, kills=3)


async def test_row39_memory_limit(three: ThreeServers) -> None:
    await rows.overfill(three, quota=30_000_000, value_bytes=1000, times=10, batch=200)


async def test_row55_enforced_fencing(three: ThreeServers) -> None:
    await rows.late_writes_are_refused(three, runs=500, at_once=50)


async def test_row58_states_are_equal_under_clock_jumps(tmp_path: Path) -> None:
    """One clock is an hour behind from the start, another jumps an hour ahead twice on the way."""
    ahead = ShiftedClock()
    clocks: dict[str, Clock] = {"n1": ShiftedClock(3600.0), "n2": ShiftedClock(), "n3": ahead}

    def jump() -> None:
        ahead.shift_s += 3600.0

    async with rows.three_servers(tmp_path, clocks) as three:
        await rows.states_are_equal(three, 100_000, random.Random(58), [jump, jump])
