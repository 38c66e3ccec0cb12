"""Origin versions in random interleavings: a stale one never overwrites a newer one."""

import asyncio
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.errors import InvalidRequest
from replcache.patterns import origin
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
