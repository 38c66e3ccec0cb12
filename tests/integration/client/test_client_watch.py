"""Watches whose caller waits in short turns, stops waiting, or is closed under it."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest

from replcache import AsyncClient, Client, errors
from replcache.client.watch import AsyncWatch
from tests.helpers.client_driver import ClusterThread
from tests.helpers.fake_server import FakeCluster, fake_cluster
from tests.helpers.wait import async_wait_until, scaled, wait_until

TURN_S = 0.02


@contextlib.asynccontextmanager
async def cluster_with_client(**settings: object) -> AsyncIterator[tuple[FakeCluster, AsyncClient]]:
    async with fake_cluster() as cluster, AsyncClient(cluster.url, **settings) as client:
        for key in "abcd":
            await client.set(key, 1)
        yield cluster, client


async def polled(watch: AsyncWatch, events: int) -> list[tuple[str, str]]:
    """(kind, key) of the next events, waited for in short turns."""
    seen: list[tuple[str, str]] = []

    async def poll() -> bool:
        event = await watch.next(TURN_S)
        if event is not None:
            seen.append((event.kind.value, event.key.decode()))
        return len(seen) >= events

    await async_wait_until(poll, 10, "events", lambda: seen)
    return seen


async def test_a_snapshot_with_a_slow_page_is_read_once_in_short_turns() -> None:
    async with cluster_with_client() as (cluster, client):
        cluster.watch.paging.clear()
        async with client.watch(start="snapshot") as watch:
            assert await polled(watch, 2) == [("entry", "a"), ("entry", "b")]
            for _ in range(5):
                assert await watch.next(TURN_S) is None
            cluster.watch.paging.set()
            assert await polled(watch, 3) == [("entry", "c"), ("entry", "d"), ("synced", "")]
            await client.set("e", 1)
            assert await polled(watch, 1) == [("put", "e")]
        assert cluster.watch.streams == 1


async def test_looking_without_waiting_makes_progress() -> None:
    async with cluster_with_client() as (cluster, client), client.watch(start="snapshot") as watch:
        kinds: list[str] = []

        async def look() -> bool:
            event = await watch.next(0)
            if event is not None:
                kinds.append(event.kind.value)
            return kinds[-1:] == ["synced"]

        await async_wait_until(look, 10, "a snapshot", lambda: kinds)
        assert kinds == ["entry"] * 4 + ["synced"]
        assert cluster.watch.streams == 1


async def test_a_caller_who_was_away_longer_than_the_stall_timeout_goes_on() -> None:
    async with cluster_with_client() as (cluster, client):
        watch = client.watch(progress="20ms", stall_timeout="200ms")
        await watch.ready(10)
        assert await watch.next(TURN_S) is None
        cluster.watch.break_streams.set()
        away_until = asyncio.get_running_loop().time() + 0.4
        await async_wait_until(
            lambda: cluster.watch.broken and asyncio.get_running_loop().time() > away_until, what="a break"
        )
        cluster.watch.break_streams.clear()
        await client.set("e", 1)
        assert await polled(watch, 1) == [("put", "e")]
        await watch.close()


async def test_a_node_that_goes_silent_is_left_also_in_short_turns() -> None:
    async with cluster_with_client() as (cluster, client), client.watch(progress="20ms") as watch:
        await watch.ready(10)
        cluster.watch.flowing.clear()
        assert cluster.watch.streams == 1

        async def has_moved() -> bool:
            assert await watch.next(TURN_S) is None
            return cluster.watch.streams > 1

        await async_wait_until(has_moved, 10, "another stream")
        cluster.watch.flowing.set()
        await client.set("e", 1)
        assert await polled(watch, 1) == [("put", "e")]


async def test_iterating_goes_on_after_the_waiting_was_cancelled() -> None:
    async with cluster_with_client() as (cluster, client), client.watch() as watch:
        await watch.ready(10)
        for number in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), TURN_S)
            await client.set(f"k{number}", 1)
            assert (await asyncio.wait_for(anext(watch), scaled(10))).key == b"k%d" % number
        assert cluster.watch.streams == 1


async def iterate(watch: AsyncWatch, seen: list[bytes]) -> str:
    try:
        async for event in watch:
            seen.append(event.key)
    except errors.ClientClosed:
        return "client closed"
    return "ended"


@pytest.mark.parametrize("closed", ["watch", "client"])
async def test_closing_ends_an_iteration_that_waits_in_another_task(closed: str) -> None:
    seen: list[bytes] = []
    async with cluster_with_client() as (_, client):
        watch = client.watch()
        iterating = asyncio.create_task(iterate(watch, seen))
        await watch.ready(10)
        await client.set("e", 1)
        await async_wait_until(lambda: seen, what="an event")
        await (watch.close() if closed == "watch" else client.close())
        done, _ = await asyncio.wait([iterating], timeout=scaled(10))
        assert done
        assert not iterating.cancelled()
        assert iterating.result() == ("ended" if closed == "watch" else "client closed")


async def test_two_callers_of_one_watch_get_each_event_once() -> None:
    async with cluster_with_client() as (_, client), client.watch() as watch:
        await watch.ready(10)
        waiting = [asyncio.create_task(watch.next(scaled(10))) for _ in range(2)]
        await asyncio.wait(waiting, timeout=TURN_S)
        await client.set("e", 1)
        await client.set("f", 1)
        events = await asyncio.gather(*waiting)
        assert sorted(event.key for event in events if event is not None) == [b"e", b"f"]


def readers() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "replcache watch"]


async def test_a_watch_that_is_closed_leaves_no_task_behind() -> None:
    async with cluster_with_client() as (_, client):
        watch = client.watch()
        await watch.ready(10)
        assert await watch.next(TURN_S) is None
        assert len(readers()) == 1
        await watch.close()
        await async_wait_until(lambda: not readers(), what="no task of the watch")


@pytest.mark.parametrize("closed", ["watch", "client"])
def test_closing_from_another_thread_ends_the_loop(cluster: ClusterThread, closed: str) -> None:
    ends: list[str] = []
    with Client(cluster.url) as client:
        watch = client.watch()
        seen: list[bytes] = []

        def loop() -> None:
            try:
                for event in watch:
                    seen.append(event.key)
            except errors.ClientClosed:
                ends.append("client closed")
            else:
                ends.append("ended")

        thread = threading.Thread(target=loop)
        thread.start()
        watch.ready("10s")
        client.set("k", 1)
        wait_until(lambda: seen, what="an event")
        (watch if closed == "watch" else client).close()
        thread.join(scaled(10))
        assert ends == ["ended" if closed == "watch" else "client closed"]
        watch.close()
