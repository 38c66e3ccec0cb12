"""Fills against writers, invalidations, expiring leases and dying loaders, in random interleavings."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.client.types import Entry
from replcache.patterns.fill import FILL_CONTENT_TYPE, AsyncFills, FillTicket, is_placeholder
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

KEYS = ("a", "b")


class World:
    """A database whose values only grow, and what each key's value is at least after an announced change."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = VirtualCluster(clock, seed)
        self.rows = dict.fromkeys(KEYS, 0)
        self.announced = dict.fromkeys(KEYS, 0)
        self.stored = self.refused = self.hits = self.loads = 0

    async def pause(self, most_s: float = 0.03) -> None:
        await self.cluster.clock.sleep(self.rng.random() * most_s)

    async def writer(self, rounds: int) -> None:
        client = self.cluster.client()
        fills = AsyncFills(client)
        for _ in range(rounds):
            key = self.rng.choice(KEYS)
            await self.pause()
            self.rows[key] += 1
            value = self.rows[key]
            await self.pause(0.01)
            if self.rng.random() < 0.5:
                await fills.invalidate(key)
            else:
                await client.delete(key)
            self.announced[key] = max(self.announced[key], value)
        await client.close()

    async def reader(self, rounds: int) -> None:
        client = self.cluster.client()
        fills = AsyncFills(client)
        for _ in range(rounds):
            await self.pause()
            await self.read(fills, self.rng.choice(KEYS))
        await client.close()

    async def read(self, fills: AsyncFills, key: str) -> None:
        at_least = self.announced[key]
        found = await fills.begin_fill(key, lease="60ms", wait=self.rng.choice(("0ms", "20ms", "1s")))
        if isinstance(found, Entry):
            self.hits += 1
            assert found.value >= at_least, f"{key}: {found.value} was replaced by {at_least} and announced"
            return
        self.loads += 1
        await self.pause(0.02)
        value = self.rows[key]
        # Sometimes longer than the lease.
        await self.pause(self.rng.choice((0.01, 0.15)))
        chance = self.rng.random()
        if chance < 0.1:
            await fills.abandon_fill(found)
        elif chance > 0.2:
            # Between the two: the loader dies without a word.
            if await fills.finish_fill(found, value, ttl="10s"):
                self.stored += 1
            else:
                self.refused += 1

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self.writer(5))
            for _ in range(4):
                group.create_task(self.reader(8))
        for key, row in self.rows.items():
            entry = self.cluster.raft.machine.peek(key.encode())
            if entry is not None and entry.content_type != FILL_CONTENT_TYPE:
                assert entry.value == str(row).encode(), (
                    f"{key}: cached {entry.value!r}, in the database {row}"
                )
        await self.cluster.close()


def run_world(seed: int) -> World:
    async def work(clock: VirtualClock) -> World:
        world = World(clock, seed)
        await world.run()
        return world

    return run_virtually(work)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_fill_survives_an_announced_change(seed: int) -> None:
    run_world(seed)


def test_the_walk_meets_hits_refusals_and_stores() -> None:
    worlds = [run_world(seed) for seed in range(5)]
    assert sum(world.hits for world in worlds) > 5
    assert sum(world.refused for world in worlds) > 5
    assert sum(world.stored for world in worlds) > 10


@pytest.mark.parametrize("change", ["delete", "set", "expire", "another fill"])
def test_whatever_happens_to_the_key_refuses_the_fill(change: str) -> None:
    """Also when the key looks the same again: another fill in progress has version 1 too."""

    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)
        client = cluster.client()
        fills = AsyncFills(client)
        ticket = await fills.begin_fill("k", lease="1s")
        assert isinstance(ticket, FillTicket) and ticket.may_store
        if change == "set":
            await client.set("k", "newer")
        elif change == "expire":
            await clock.sleep(1.2)
        else:
            assert await fills.invalidate("k")
            if change == "another fill":
                assert isinstance(await fills.begin_fill("k"), FillTicket)
        assert not await fills.finish_fill(ticket, "outdated")
        entry = await client.get("k")
        if change == "another fill":
            assert is_placeholder(entry)
        else:
            assert (entry and entry.value) == ("newer" if change == "set" else None)
        await cluster.close()

    run_virtually(work)


def test_one_caller_loads_and_the_others_wait_for_it() -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock, seed=3)
        loads = 0

        async def read() -> object:
            nonlocal loads
            fills = AsyncFills(cluster.client())
            found = await fills.begin_fill("k")
            if isinstance(found, FillTicket):
                loads += 1
                await clock.sleep(0.5)
                assert await fills.finish_fill(found, "loaded")
                return "loaded"
            return found.value

        assert set(await asyncio.gather(*(read() for _ in range(50)))) == {"loaded"}
        assert loads == 1
        await cluster.close()

    run_virtually(work)


def test_a_dead_loader_is_followed_by_another_after_the_lease() -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)
        fills = AsyncFills(cluster.client())
        dead = await fills.begin_fill("k", lease="500ms")
        began = clock.now()
        heir = await fills.begin_fill("k", wait="5s")
        assert isinstance(heir, FillTicket) and heir.may_store
        assert 0.3 < clock.now() - began < 1.0
        impatient = await fills.begin_fill("k", wait=0)
        assert isinstance(impatient, FillTicket) and not impatient.may_store
        assert not await fills.finish_fill(impatient, 1)
        assert await fills.finish_fill(heir, 2)
        assert isinstance(dead, FillTicket) and not await fills.finish_fill(dead, 3)
        await cluster.close()

    run_virtually(work)
