"""Processes that cache one source, on virtual time over the real server code and state machine."""

from collections.abc import Awaitable, Callable
from typing import Any

from replcache.patterns.cached import AsyncCachedFunction
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually


class Source:
    """What is cached: counts its loads, can be slow, and can fail."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.loads: list[Any] = []
        self.delay_s = 0.0
        self.fails: Exception | None = None
        self.value: Any = "value"

    async def load(self, key: Any) -> Any:
        self.loads.append(key)
        value = self.value
        if self.delay_s:
            await self.clock.sleep(self.delay_s)
        if self.fails is not None:
            raise self.fails
        return value


class World:
    """A cluster, a source, and processes that cache it."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.cluster = VirtualCluster(clock, seed=1, delay_s=0.002)
        self.client = self.cluster.client()
        self.source = Source(clock)

    def cached(self, **options: Any) -> AsyncCachedFunction[..., Any]:
        """The source as cached by one more process."""
        client = self.cluster.client()

        async def load(key: Any) -> Any:
            return await self.source.load(key)

        return client.cached(key="k:{key}", **{"ttl": "10s", **options})(load)

    def stored(self, key: object) -> Any:
        return self.cluster.raft.machine.peek(f"k:{key}".encode())


def run(work: Callable[[World], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock)
        await work(world)
        await world.cluster.close()
        assert not world.cluster.failures

    run_virtually(main)
