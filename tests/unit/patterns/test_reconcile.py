"""Reconciling: differences are found and repaired, and live writes are neither."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from replcache import AsyncClient, Typed
from replcache.errors import InvalidRequest
from replcache.patterns.reconcile import reconcile_async
from tests.helpers.database import VirtualDatabase
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

Scenario = Callable[[VirtualCluster, VirtualDatabase], Coroutine[Any, Any, None]]


def run(scenario: Scenario, seed: int = 1) -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock, seed, delay_s=0.002)
        await scenario(cluster, VirtualDatabase(clock, random.Random(seed), delay_s=0.005))
        await cluster.close()

    run_virtually(work)


def test_planted_differences_are_found_and_repaired() -> None:
    async def scenario(cluster: VirtualCluster, database: VirtualDatabase) -> None:
        client: AsyncClient = cluster.client()
        database.rows = {f"{number:03}": {"a": number, "b": [1]} for number in range(500)}
        view = client.through(loader=database.load, prefix="r:", negative_ttl="1h")
        await client.set_many({f"r:{key}": value for key, value in database.rows.items()})
        # The same document in another order is the same.
        await client.set("r:200", {"b": [1], "a": 200})
        for number in range(80):
            await client.set(f"r:{number:03}", {"a": -1})
        for number in range(10):
            await client.set(f"r:gone{number}", 1)
            await view.get(f"new{number}")
            database.rows[f"new{number}"] = number
        found = await reconcile_async(view, repair=False)
        assert (found.checked, found.different, found.repaired) == (520, 100, 0)
        assert sorted({one.kind for one in found.differences}) == ["no row", "row", "value"]
        repaired = await reconcile_async(view)
        assert (repaired.different, repaired.repaired) == (100, 100)
        again = await reconcile_async(view)
        assert again.different == 0
        assert await client.get_value("r:000") == {"a": 0, "b": [1]}
        # Remembered again that there is no such row.
        assert (await client.get("r:gone0", full=True)).content_type == "application/x-replcache-absent"  # type: ignore[union-attr]  # there is one
        assert await client.get_value("r:new3") == 3

    run(scenario)


def test_an_entry_that_can_not_be_read_is_a_difference_and_ends_no_run() -> None:
    async def scenario(cluster: VirtualCluster, database: VirtualDatabase) -> None:
        client: AsyncClient = cluster.client()
        database.rows = {"bad": "café", "good": "tea"}
        view = client.through(loader=database.load, prefix="r:")
        await client.set_many({"r:bad": Typed(b"caf\xe9", "text/csv"), "r:good": "coffee"})
        found = await reconcile_async(view)
        assert {one.key: one.kind for one in found.differences} == {"bad": "unreadable", "good": "value"}
        assert found.repaired == 2
        assert await client.get_value("r:bad") == "café"

    run(scenario)


@pytest.mark.parametrize("mode", ["write_through", "write_behind"])
def test_live_writes_are_no_differences_and_are_not_overwritten(mode: str) -> None:
    async def scenario(cluster: VirtualCluster, database: VirtualDatabase) -> None:
        client: AsyncClient = cluster.client()
        view = client.through(
            loader=database.load,
            writer=database.write,
            mode=mode,
            prefix="r:",
            flush_every="20ms",
            wait="60s",
        )
        keys = [str(number) for number in range(20)]
        for key in keys:
            await view.set(key, 0)
        last: dict[str, int] = {}

        async def write() -> None:
            rng = random.Random(2)
            for number in range(1, 120):
                key = rng.choice(keys)
                await view.set(key, number)
                last[key] = number

        writing = asyncio.create_task(write())
        while not writing.done():
            report = await reconcile_async(view, keys, settle="50ms")
            assert report.different == 0, report
        await writing
        await view.flush()
        assert {key: database.rows[key] for key in last} == last
        assert {key: await view.get(key) for key in last} == last

    run(scenario)


def test_what_can_not_be_compared_is_refused() -> None:
    async def scenario(cluster: VirtualCluster, database: VirtualDatabase) -> None:
        client = cluster.client()
        writing = client.through(writer=database.write, mode="write_around", prefix="r:")
        with pytest.raises(InvalidRequest, match="no loader"):
            await reconcile_async(writing)
        with pytest.raises(InvalidRequest, match="needs keys"):
            await reconcile_async(client.through(loader=database.load))

    run(scenario)
