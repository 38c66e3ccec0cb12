"""max_lag of write-behind holds also when nobody says how far the database is."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from replcache.errors import Overloaded
from replcache.patterns.source import Row
from replcache.patterns.through import AsyncThrough
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

MAX_LAG_S = 4.0


class World:
    """A view whose writer can hang."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.cluster = VirtualCluster(clock, seed=1, delay_s=0.002)
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.rows: dict[str, Any] = {}
        self.said_s = 0.0

    async def write(self, rows: Sequence[Row]) -> None:
        await self.is_open.wait()
        self.rows.update({row.key: row.value for row in rows})

    def view(self, **options: Any) -> AsyncThrough:
        options = {"flush_every": "50ms", "max_lag": MAX_LAG_S, "writer": self.write, **options}
        return self.cluster.client().through(mode="write_behind", prefix="row:", **options)

    async def until_refused(self, view: AsyncThrough, key: Callable[[int], str], every_s: float) -> float:
        """Writes until it is refused; returns after how long that was."""
        began = self.clock.now()
        for number in range(1000):
            try:
                await view.set(key(number), number)
            except Overloaded as refused:
                self.said_s = float(refused.metadata["seconds"])
                return self.clock.now() - began
            await self.clock.sleep(every_s)
        raise AssertionError("it was never refused")


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def work(clock: VirtualClock) -> None:
        world = World(clock)
        await scenario(world)
        await world.cluster.close()

    run_virtually(work)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("is_one_key", [False, True])
def test_a_writer_that_hangs_is_noticed(is_one_key: bool, shards: int) -> None:
    async def scenario(world: World) -> None:
        view = world.view(shards=shards)
        for number in range(20):
            await view.set(f"k{number}", 0)
        await view.flush()
        world.is_open.clear()
        # A key that changes all the time has a record that is always young.
        refused_s = await world.until_refused(view, lambda n: "k" if is_one_key else f"k{n}", 0.1)
        assert world.said_s > MAX_LAG_S
        assert MAX_LAG_S <= refused_s <= MAX_LAG_S + 1.5, refused_s
        assert view.stats().refused_writes == 1
        world.is_open.set()
        await view.flush()
        await world.clock.sleep(0.5)
        await view.set("again", 1)
        await view.flush()
        assert world.rows["again"] == 1

    run(scenario)


def test_nobody_drains() -> None:
    async def scenario(world: World) -> None:
        view = world.view(drain=False)
        refused_s = await world.until_refused(view, str, 0.1)
        assert world.said_s > MAX_LAG_S
        assert MAX_LAG_S <= refused_s <= MAX_LAG_S + 1.5, refused_s
        async with world.view() as other:
            await other.flush()
        await world.clock.sleep(0.5)
        await view.set("again", 1)

    run(scenario)


def test_who_writes_rarely_looks_before_the_write() -> None:
    async def scenario(world: World) -> None:
        view = world.view()
        for number in range(3):
            await view.set("k", number)
            await world.clock.sleep(MAX_LAG_S * 3)
        world.is_open.clear()
        await view.set("k", 3)
        await world.clock.sleep(MAX_LAG_S + 0.5)
        with pytest.raises(Overloaded):
            await view.set("k", 4)

    run(scenario)


def test_while_the_database_follows_nobody_looks() -> None:
    async def scenario(world: World) -> None:
        view = world.view()
        looks = 0
        shard_lag = view.steps.queue.shard_lag

        async def counted(shard: int, limit: int | None = None) -> Any:
            nonlocal looks
            looks += 1
            return await shard_lag(shard, limit)

        view.steps.queue.shard_lag = counted  # type: ignore[method-assign]  # to count
        for number in range(200):
            await view.set(f"k{number % 7}", number)
            await world.clock.sleep(0.04)
        assert looks == 0

    run(scenario)
