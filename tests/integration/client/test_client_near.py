"""The near cache against the fake cluster: local hits, changes by others, and never older than the bound."""

import asyncio
import time

import pytest

from replcache import AsyncClient, Client, errors
from tests.helpers.client_driver import ClusterThread
from tests.helpers.fake_server import FakeCluster, abort, fake_cluster
from tests.helpers.wait import async_wait_until, wait_until


async def test_second_read_is_local() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("user:1", {"name": "Ada"})
        async with client.near("user:", max_staleness="5s") as near:
            await until_ready(near)
            assert await near.get_value("user:1") == {"name": "Ada"}
            before = len(cluster.requests())
            for _ in range(100):
                assert await near.get_value("user:1") == {"name": "Ada"}
                assert await near.get("user:2") is None
            stats = near.stats()
            assert stats.hits == 199
            assert len(cluster.requests()) - before == 1


async def until_ready(near: object) -> None:
    await async_wait_until(lambda: near.store.base is not None, what="the watch is there")  # type: ignore[attr-defined]


async def test_known_to_be_missing_is_a_hit_until_it_is_created() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")
        async with client.near(max_staleness="5s") as near:
            await until_ready(near)
            assert await near.get("k") is None
            assert await near.get("k") is None
            assert near.stats().hits == 1
            await client.set("k", 0)

            async def is_seen() -> bool:
                return await near.get_value("k") == 0

            await async_wait_until(is_seen, what="the new key")


async def test_changes_by_others_arrive_within_the_bound() -> None:
    """After an acknowledged write nobody reads the old value longer than the bound."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        async with AsyncClient(cluster.url) as other, client.near(max_staleness="100ms") as near:
            await client.set("k", 0)
            await until_ready(near)
            for number in range(1, 30):
                await other.set("k", number)
                acknowledged_at = time.monotonic()
                while (value := await near.get_value("k")) != number:
                    assert value == number - 1
                    assert time.monotonic() - acknowledged_at < 0.1 + 0.02
                    await asyncio.sleep(0)
            assert near.stats().hits > 0


async def test_nothing_is_served_locally_when_the_watch_is_silent() -> None:
    """The node of the watch is cut off: its silence must not look like freshness."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("k", 0)
        async with client.near(max_staleness="200ms") as near:
            await until_ready(near)
            await warm(near, cluster)
            cluster.watch.flowing.clear()
            async with AsyncClient(cluster.url) as other:
                await other.set("k", 1)
                acknowledged_at = time.monotonic()
                while (value := await near.get_value("k")) == 0:
                    assert time.monotonic() - acknowledged_at < 0.2 + 0.02
                    await asyncio.sleep(0)
                assert value == 1
            await near.get("k")
            assert near.stats().refused_as_stale > 0
            cluster.watch.flowing.set()
            await warm(near, cluster)


async def warm(near: object, cluster: FakeCluster) -> None:
    async def is_hit() -> bool:
        hits = near.stats().hits  # type: ignore[attr-defined]
        await near.get("k")  # type: ignore[attr-defined]
        return bool(near.stats().hits > hits)  # type: ignore[attr-defined]

    await async_wait_until(is_hit, what="a local hit")


async def test_watch_that_resumes_keeps_the_entries() -> None:
    async with fake_cluster(2) as cluster, AsyncClient(cluster.url) as client:
        await client.set("k", 0)
        async with client.near(max_staleness="1s") as near:
            await until_ready(near)
            await warm(near, cluster)
            cluster.watch.break_streams.set()
            await async_wait_until(lambda: cluster.watch.broken >= 1, what="the stream is broken")
            await client.set("k", 1)
            cluster.watch.break_streams.clear()
            await async_wait_until(lambda: cluster.watch.streams >= 2, what="another stream")

            async def is_seen() -> bool:
                return await near.get_value("k") == 1

            await async_wait_until(is_seen, what="the change made meanwhile")
            assert near.stats().restarts == 0


async def test_lost_events_empty_the_near_cache() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("k", 0)
        async with client.near(max_staleness="1s") as near:
            await until_ready(near)
            await warm(near, cluster)

            async def refuse(context: object) -> None:
                await abort(context, errors.Compacted("gone"))

            cluster.watch.refuse = refuse
            cluster.watch.oldest_revision = 10**6
            cluster.watch.break_streams.set()
            await async_wait_until(lambda: near.stats().restarts >= 1, what="a restart")
            cluster.watch.break_streams.clear()
            await client.set("k", 1)
            assert await near.get_value("k") == 1
            await warm(near, cluster)


async def test_own_writes_are_seen_at_once() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        async with client.near(max_staleness="10s") as near:
            await near.set("k", 0)
            await until_ready(near)
            await warm(near, cluster)
            cluster.watch.flowing.clear()
            for number in range(1, 20):
                await near.set("k", number)
                assert await near.get_value("k") == number
            await near.delete("k")
            assert await near.get("k") is None


async def test_entries_whose_reads_matter_are_not_kept() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("counted", 1, max_reads=5)
        await client.set("sliding", 1, idle="1m")
        await client.set("tagged", 1, tags=["t"])
        async with client.near(max_staleness="10s") as near:
            await until_ready(near)
            for key in ("counted", "sliding", "tagged"):
                assert await near.get_value(key) == 1
                assert await near.get_value(key) == 1
            assert near.stats().hits == 0
            assert near.stats().entries == 0


async def test_concurrent_reads_of_a_cold_key_are_one() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("k", 7)
        async with client.near() as near:
            calls = client.stats().calls
            values = await asyncio.gather(*(near.get_value("k") for _ in range(100)))
            assert values == [7] * 100
            assert client.stats().calls == calls + 1


async def test_unused_near_cache_asks_for_no_proofs() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("k", 7)
        async with client.near(max_staleness="50ms") as near:
            await until_ready(near)
            await near.get("k")
            before = near.stats().probes
            end = time.monotonic() + 0.5
            await async_wait_until(lambda: time.monotonic() > end, what="half a second")
            assert near.stats().probes - before <= 2


async def test_mistakes_and_closing() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        near = client.near("user:")
        with pytest.raises(errors.InvalidRequest):
            await near.get("other:1")
        with pytest.raises(errors.InvalidRequest):
            client.near(max_staleness="1ms")
        with pytest.raises(errors.InvalidRequest):
            client.near(max_entries=0)
        await near.get("user:1")
        await near.close()
        await near.close()
        with pytest.raises(errors.ClientClosed):
            await near.get("user:1")
        await client.get("user:1")


def test_threads_are_served_without_the_loop() -> None:
    thread = ClusterThread(1)
    try:
        with Client(thread.url) as client, client.near("k", max_staleness="10s") as near:
            near.set("k1", 5)
            wait_until(lambda: near.get_value("k1") == 5 and near.stats().hits > 0, what="a hit")
            started = time.perf_counter()
            for _ in range(10_000):
                near.get("k1")
            print(f"{(time.perf_counter() - started) / 10_000 * 1e6:.2f} us a hit")
            client.set("k1", 6)
            wait_until(lambda: near.get_value("k1") == 6, what="the change")
            near.invalidate("k1")
            assert near.get_value("k1") == 6
            near.delete("k1")
            assert near.get("k1") is None
            assert near.stats().hit_rate > 0.9
    finally:
        thread.close()


@pytest.mark.parametrize("writer", ["own", "other"])
async def test_a_read_that_may_not_know_of_a_write_is_not_joined(writer: str) -> None:
    """The first read is under way for long: its answer is of before the write."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("k", "old")
        async with client.near(max_staleness="10s" if writer == "own" else "50ms") as near:
            await until_ready(near)
            read, go_on, begun = near._read, asyncio.Event(), 0

            async def held(name: bytes, timeout: object) -> object:
                nonlocal begun
                begun += 1
                is_first = begun == 1
                entry = await read(name, timeout)  # type: ignore[arg-type]
                if is_first:
                    await go_on.wait()
                return entry

            near._read = held  # type: ignore[method-assign, assignment]
            first = asyncio.create_task(near.get_value("k"))
            await async_wait_until(lambda: begun == 1, what="the first read is under way")
            began_at = time.monotonic()
            if writer == "own":
                await near.set("k", "new")
            else:
                await client.set("k", "new")
                await async_wait_until(lambda: time.monotonic() > began_at + 0.06, what="the bound is over")
            assert await near.get_value("k") == "new"
            go_on.set()
            assert await first == "old"
            assert not near._fetches
