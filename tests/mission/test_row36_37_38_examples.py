"""Stock, feed and stream of the examples at full size, with kills and with partitions."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import feed, sliding_window, stock
from replcache.errors import OutOfRange
from replcache.testing import Cluster

CUTS = 3


@pytest.fixture(name="nodes")
def _nodes(rng: random.Random) -> Iterator[Cluster]:
    with Cluster(3, rng=rng) as nodes:
        yield nodes


@pytest.mark.timeout(300)
def test_row36_stock_is_sold_exactly_while_leaders_are_cut_off(nodes: Cluster) -> None:
    """1,000 articles, 200 clients, three leaders cut off from the others (clients still reach them)."""
    articles, buyers = 1000, 200
    sold: Counter[int] = Counter()

    async def sell() -> None:
        async with nodes.async_client(timeout="60s") as cache:
            await cache.set("stock", articles)
            progress = asyncio.Condition()

            async def buyer() -> None:
                try:
                    while True:
                        article = await cache.incr("stock", -1, minimum=0)
                        sold[article] += 1
                        async with progress:
                            progress.notify_all()
                except OutOfRange:
                    return

            async def cut() -> None:
                for number in range(CUTS):
                    due = articles * (number + 1) // (CUTS + 1)
                    async with progress:
                        await progress.wait_for(lambda due=due: sold.total() >= due)
                    old = await asyncio.to_thread(nodes.leader)
                    await asyncio.to_thread(nodes.partition, old)
                    assert await asyncio.to_thread(nodes.leader) != old
                    await asyncio.to_thread(nodes.heal)

            async with asyncio.TaskGroup() as group:
                group.create_task(cut())
                for _ in range(buyers):
                    group.create_task(buyer())
            assert await cache.get_value("stock") == 0

    asyncio.run(sell())
    assert sold == Counter(range(articles))


@pytest.mark.timeout(300)
def test_row36_stock_example(nodes: Cluster) -> None:
    assert asyncio.run(stock.run(nodes, stock=1000, buyers=200)) == Counter(range(1000))


@pytest.mark.timeout(300)
def test_row37_a_post_reaches_every_follower_and_no_one_else(
    nodes: Cluster, tmp_path: Path, rng: random.Random
) -> None:
    anew, kept = feed.run(nodes, tmp_path, readers=2000, authors=200, rng=rng)
    print(f"{anew} feeds loaded anew, {kept} kept")
    assert anew + kept == 2000
    # Five of 200 authors each: about 50 readers follow one.
    assert 20 <= anew <= 100


@pytest.mark.timeout(300)
def test_row38_window_is_complete_after_three_leader_kills(nodes: Cluster) -> None:
    window = sliding_window.Window(3600.0)
    assert asyncio.run(sliding_window.run(nodes, producers=8, clicks=500, window=window, kills=3))
    assert len(window) == 8 * 500 * 4
