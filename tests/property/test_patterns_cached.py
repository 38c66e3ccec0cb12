"""Cached functions against writers, invalidations, failing, slow and dying loaders, in random interleavings.

Real state machine and server code on virtual time; each client is a process of its own. The rule that must
hold for every answer, however it came about (hit, shared load, early refresh, stale on error): it is not
older than what was announced before the call began.
"""

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replcache import AsyncClient
from replcache.patterns.cached_info import CacheInfo
from replcache.patterns.fill import FILL_CONTENT_TYPE
from replcache.statemachine.commands import Command, InvalidateTags
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

KEYS = (1, 2)


class SourceDown(Exception):
    """What the loader raises now and then."""


class World:
    """A source whose rows only grow, what was announced of each, and processes that read through caches."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = VirtualCluster(clock, seed)
        self.rows = dict.fromkeys(KEYS, 0)
        self.announced = dict.fromkeys(KEYS, 0)
        choose = self.rng.choice
        self.options: dict[str, Any] = {
            "single_flight": choose((None, "process", "cluster")),
            "early": choose((None, "xfetch", "60ms")),
            "beta": choose((1.0, 5.0)),
            "stale_on_error": choose((None, "1s")),
            "negative_ttl": "100ms",
            "jitter": choose((0.0, 0.5)),
            "lease": "100ms",
            "wait": choose(("20ms", "5s")),
        }
        self.functions: list[Any] = []

    async def pause(self, most_s: float) -> None:
        await self.cluster.clock.sleep(self.rng.random() * most_s)

    async def load(self, key: int) -> int | None:
        await self.pause(0.02)
        value = self.rows[key]
        # Sometimes far longer than the lease.
        await self.pause(self.rng.choice((0.0, 0.02, 0.4)))
        if self.rng.random() < 0.15:
            raise SourceDown
        return value or None

    def process(self) -> tuple[AsyncClient, Any]:
        client = self.cluster.client()
        decorate = client.cached(ttl="200ms", key="row:{key}", tags=["of:{key}"], **self.options)

        async def load(key: int) -> int | None:
            return await self.load(key)

        function = decorate(load)
        self.functions.append(function)
        return client, function

    async def writer(self, rounds: int) -> None:
        client, function = self.process()
        for _ in range(rounds):
            key = self.rng.choice(KEYS)
            await self.pause(0.1)
            self.rows[key] += 1
            value = self.rows[key]
            await self.pause(0.02)
            way = self.rng.randrange(4)
            if way == 0:
                await function.invalidate(key)
            elif way == 1:
                await client.delete(f"row:{key}")
            elif way == 2:
                command = Command((InvalidateTags((f"of:{key}",)),))
                await self.cluster.raft.propose(command, self.cluster.clock.now() + 1)
            else:
                try:
                    await function.refresh(key)
                except SourceDown:
                    await function.invalidate(key)
            self.announced[key] = max(self.announced[key], value)
        await client.close()

    async def reader(self, function: Any, rounds: int) -> None:
        for _ in range(rounds):
            await self.pause(0.06)
            key = self.rng.choice(KEYS)
            at_least = self.announced[key]
            try:
                value = await function(key) or 0
            except SourceDown:
                continue
            assert value >= at_least, f"{key}: {value} although {at_least} was announced; {self.options}"

    async def readers(self, rounds: int) -> None:
        """A process with two tasks; one in three dies on the way."""
        client, function = self.process()
        tasks = [asyncio.create_task(self.reader(function, rounds)) for _ in range(2)]
        if self.rng.random() < 0.3:
            await self.pause(0.5)
            client._core.is_closed = True
            for task in tasks:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception) and not client._core.is_closed:
                raise result
        await client._core.tasks.close()

    async def run(self) -> "World":
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self.writer(6))
            for _ in range(3):
                group.create_task(self.readers(12))
        for key, row in self.rows.items():
            entry = self.cluster.raft.machine.peek(f"row:{key}".encode())
            if entry is not None and entry.content_type != FILL_CONTENT_TYPE:
                assert int(entry.value.replace(b"null", b"0")) == row, self.options
        await self.cluster.close()
        return self

    def sum_of(self, field: str) -> int:
        infos: list[CacheInfo] = [function.cache_info() for function in self.functions]
        return sum(getattr(info, field) for info in infos)


def run_world(seed: int) -> World:
    return run_virtually(lambda clock: World(clock, seed).run())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_answer_is_older_than_what_was_announced_before_the_call(seed: int) -> None:
    run_world(seed)


def test_the_walk_meets_all_that_can_happen() -> None:
    worlds = [run_world(seed) for seed in range(25)]
    for field in ("hits", "waits", "early", "stale", "negative", "stored", "refused"):
        assert sum(world.sum_of(field) for world in worlds) > 2, field
