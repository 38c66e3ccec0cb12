"""Origin versions in random interleavings: a stale one never overwrites a newer one."""

import asyncio
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.errors import InvalidRequest, QuotaExceeded
from replcache.patterns import origin
from replcache.statemachine.commands import Command, NamespaceSet
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

KEY = "row"


def walk(seed: int, actors: int = 4, steps: int = 6) -> int:
    """Loads and messages arrive in any order; returns how many were refused."""

    async def work(clock: VirtualClock) -> int:
        rng = random.Random(seed)
        cluster = VirtualCluster(clock, seed)
        newest = refused = 0
        seen: list[int] = []

        async def act() -> None:
            nonlocal newest, refused
            client = cluster.client(timeout="60s")
            for _ in range(steps):
                await clock.sleep(rng.random() * 0.02)
                version = rng.randint(1, 12)
                chance = rng.random()
                if chance < 0.6:
                    done = await origin.set_if_newer(client, KEY, {"from": version}, version, ttl="1h")
                elif chance < 0.8:
                    done = await origin.invalidate_if_older(client, KEY, version)
                elif chance < 0.9:
                    # Expiry, eviction, or somebody who knows nothing of versions.
                    await client.delete(KEY)
                    continue
                else:
                    at_least = newest
                    value = await client.get_value(KEY)
                    assert value is None or value["from"] >= at_least, (value, at_least)
                    continue
                refused += not done
                newest = max(newest, version)

        def watch() -> None:
            entry = cluster.raft.machine.peek(KEY.encode())
            if entry is not None:
                seen.append(int(entry.value.split(b":")[1].rstrip(b"}")))

        cluster.raft.add_applied_listener(lambda index, events: watch())
        await asyncio.gather(*(act() for _ in range(actors)))
        assert seen == sorted(seen), seen
        client = cluster.client()
        assert await origin.origin_version_of(client, KEY) == (newest or None)
        await cluster.close()
        return refused

    return run_virtually(work)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_older_version_never_replaces_a_newer_one(seed: int) -> None:
    walk(seed)


def test_the_walk_meets_refusals() -> None:
    assert sum(walk(seed) for seed in range(3)) > 5


def test_what_is_refused_and_what_is_not() -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)
        client = cluster.client()

        async def set_version(version: origin.OriginVersion) -> bool:
            return await origin.set_if_newer(client, "k", "value", version, ttl="10s", remember="50s")

        assert await set_version(5)
        assert not await set_version(5)
        assert not await set_version(4)
        assert not await origin.invalidate_if_older(client, "k", 5)
        assert await origin.invalidate_if_older(client, "k", 7)
        assert await client.get("k") is None
        assert not await set_version(6)
        assert await set_version(7)
        await clock.sleep(20)
        assert await client.get("k") is None
        # The entry has expired, its version is remembered.
        assert not await set_version(6)
        assert await set_version(7)
        await clock.sleep(90)
        assert await set_version(1)
        moment = datetime(2026, 1, 2, tzinfo=UTC)
        assert origin.origin_number(moment) == moment.timestamp() * 1e6
        assert await set_version(moment)
        for bad in ("5", True, datetime(2026, 1, 2)):
            with pytest.raises(InvalidRequest):
                await set_version(bad)  # type: ignore[arg-type]  # on purpose
        await cluster.close()

    run_virtually(work)


class Outbox:
    """A database that commits each row together with an outbox record, the relay that brings the records to
    the
    cache and dies now and then, and readers that load what is missing."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.clock = clock
        self.rng = random.Random(seed)
        self.cluster = VirtualCluster(clock, seed)
        self.rows = dict.fromkeys("abc", 0)
        self.outbox: list[tuple[str, int]] = []
        # How far the relay is, as it has written down: a crash repeats what came after.
        self.position = 0
        self.relayed = dict.fromkeys("abc", 0)
        self.is_over = False
        self.reads = self.crashes = 0

    async def pause(self, most_s: float = 0.02) -> None:
        await self.clock.sleep(self.rng.random() * most_s)

    async def writer(self, writes: int) -> None:
        for _ in range(writes):
            await self.pause()
            key = self.rng.choice("abc")
            self.rows[key] += 1
            self.outbox.append((key, self.rows[key]))

    async def relay(self) -> None:
        while not (self.is_over and self.position == len(self.outbox)):
            client = self.cluster.client(timeout="60s")
            at = self.position - 1
            for at in range(self.position, len(self.outbox)):
                key, version = self.outbox[at]
                await origin.invalidate_if_older(client, key, version)
                self.relayed[key] = max(self.relayed[key], version)
                if self.rng.random() < 0.2:
                    self.crashes += 1
                    break
                if self.rng.random() < 0.5:
                    self.position = at + 1
            else:
                self.position = at + 1
            await client.close()
            await self.pause()

    async def reader(self, reads: int) -> None:
        client = self.cluster.client(timeout="60s")
        for _ in range(reads):
            await self.pause()
            key = self.rng.choice("abc")
            at_least = self.relayed[key]
            version = await client.get_value(key)
            if version is not None:
                self.reads += 1
                assert at_least <= version <= self.rows[key], (key, at_least, version, self.rows[key])
                continue
            version = self.rows[key]
            # Long enough for newer ones to pass it.
            await self.pause(0.1)
            await origin.set_if_newer(client, key, version, version, ttl="1h")
        await client.close()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.relay())
            readers = [group.create_task(self.reader(15)) for _ in range(3)]
            await self.writer(25)
            await asyncio.gather(*readers)
            self.is_over = True
        client = self.cluster.client()
        for key, version in self.rows.items():
            assert await client.get_value(key) in (None, version)
        await self.cluster.close()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_outbox_keeps_the_cache_between_committed_and_relayed(seed: int) -> None:
    """Row and outbox record are committed together, so whatever crashes, the cache never holds a version
    that is
    newer than the committed one, nor one that is older than what was relayed."""

    async def work(clock: VirtualClock) -> None:
        world = Outbox(clock, seed)
        await world.run()
        assert world.reads > 3

    run_virtually(work)


def test_a_refusal_that_is_no_race_is_raised_at_once() -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)
        client = cluster.client()
        quota = Command((NamespaceSet("small", b"row", 1000),))
        await cluster.raft.propose(quota, clock.now() + 1)
        assert await origin.set_if_newer(client, "row:1", "short", 1)
        asked = len(cluster.raft.proposed)
        with pytest.raises(QuotaExceeded, match="small") as refused:
            await origin.set_if_newer(client, "row:1", "long" * 500, 2)
        assert not refused.value.may_have_executed
        assert len(cluster.raft.proposed) == asked + 1
        assert await origin.origin_version_of(client, "row:1") == 1
        assert await client.get_value("row:1") == "short"
        await cluster.close()

    run_virtually(work)
