"""Prewarming: the rate, what is left alone, and going on after a kill."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from replcache import AsyncClient
from replcache.errors import InvalidRequest
from replcache.patterns.prewarm import PrewarmProgress
from replcache.patterns.rate import parse_rate
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

KEYS = [f"k{number:04}" for number in range(300)]
Scenario = Callable[[AsyncClient, VirtualClock], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock, seed=1, delay_s=0.002)
        await scenario(cluster.client(), clock)
        await cluster.close()

    run_virtually(work)


async def load(key: str) -> Any:
    number = int(key[1:])
    if number % 10 == 9:
        return None
    return {"number": number}


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2k/s", 2000), ("500", 500), ("90/m", 1.5), (7, 7), ("1.5M/h", 1.5e6 / 3600), (None, float("inf"))],
)
def test_rates(text: Any, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "fast", "2k/day", 0, -1, "0/s", True])
def test_bad_rates(text: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_rate(text)


def test_missing_keys_are_filled_at_the_rate_and_the_others_left_alone() -> None:
    async def scenario(client: AsyncClient, clock: VirtualClock) -> None:
        await client.set("p:k0001", "live")
        seen: list[PrewarmProgress] = []
        began = clock.now()
        done = await client.prewarm(load, KEYS, rate="100/s", prefix="p:", ttl="1h", progress=seen.append)
        assert 2.5 < clock.now() - began < 3.5
        assert (done.done, done.stored, done.present, done.absent, done.failed) == (300, 269, 1, 30, 0)
        assert [progress.done for progress in seen] == sorted({progress.done for progress in seen})
        assert await client.get_value("p:k0001") == "live"
        assert await client.get_value("p:k0002") == {"number": 2}
        assert await client.get("p:k0009") is None

    run(scenario)


def test_a_key_that_is_invalidated_while_it_is_loaded_is_not_filled() -> None:
    async def scenario(client: AsyncClient, clock: VirtualClock) -> None:
        async def slow(key: str) -> Any:
            await clock.sleep(0.5)
            return "outdated"

        warming = asyncio.create_task(client.prewarm(slow, ["a", "b", "c"]))
        await clock.sleep(0.2)
        await client.delete("a")
        await client.set("b", "newer")
        done = await warming
        assert (done.stored, done.present) == (1, 2)
        values = {key: await client.get_value(key) for key in "abc"}
        assert values == {"a": None, "b": "newer", "c": "outdated"}

    run(scenario)


def test_a_failing_loader_is_counted_and_leaves_no_placeholder() -> None:
    async def scenario(client: AsyncClient, clock: VirtualClock) -> None:
        def broken(key: str) -> Any:
            raise ValueError("no database")

        done = await client.prewarm(broken, KEYS[:3])
        assert (done.failed, done.stored) == (3, 0)
        assert "no database" in done.error
        assert await client.get("k0000") is None

    run(scenario)


def test_what_cannot_be_stored_is_counted_and_holds_up_nothing() -> None:
    async def scenario(client: AsyncClient, clock: VirtualClock) -> None:
        async def odd(key: str) -> Any:
            return object() if key == "b" else "x" * (2 << 20) if key == "c" else key

        long = "k" * 2000
        done = await client.prewarm(odd, ["a", "b", "c", long, "d"])
        assert (done.done, done.stored, done.failed) == (5, 2, 3)
        assert done.error
        assert [await client.get(key) for key in "bc"] == [None, None]
        assert [await client.get_value(key) for key in "ad"] == ["a", "d"]
        done = await client.prewarm([("e", 1), ("f", object()), (long, 1), ("g", 2)])
        assert (done.done, done.stored, done.failed) == (4, 2, 2)
        assert await client.get_value("g") == 2

    run(scenario)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scenario(client: AsyncClient, clock: VirtualClock) -> None:
        state = tmp_path / "state"
        warming = asyncio.create_task(client.prewarm(load, KEYS, rate="100/s", state=state))
        await clock.sleep(1.5)
        warming.cancel()
        done = json.loads(state.read_text())["done"]
        assert 0 < done < 300
        loaded: list[str] = []

        async def counting(key: str) -> Any:
            loaded.append(key)
            return await load(key)

        rest = await client.prewarm(counting, KEYS, state=state)
        assert (rest.skipped, rest.done) == (done, 300)
        # The chunk that was under way is repeated, nothing before it.
        assert loaded[0] >= KEYS[done]
        with pytest.raises(InvalidRequest, match="another list"):
            await client.prewarm(load, ["x"] * 400, state=state)
        state.write_text("not a state")
        with pytest.raises(InvalidRequest, match="no state of a prewarm"):
            await client.prewarm(load, KEYS, state=state)

    run(scenario)


def test_pairs_need_no_loader() -> None:
    async def scenario(client: AsyncClient, clock: VirtualClock) -> None:
        await client.set("a", 1)
        done = await client.prewarm([("a", 2), ("b", 2)])
        assert (done.stored, done.present) == (1, 1)
        assert (await client.get_value("a"), await client.get_value("b")) == (1, 2)
        for arguments in ((load,), ([("a", 1)], ["a"])):
            with pytest.raises(InvalidRequest):
                await client.prewarm(*arguments)

    run(scenario)
