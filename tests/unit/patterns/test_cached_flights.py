"""One load at a time in a process and in the cluster, races, and a cluster that fails: on virtual time."""

import asyncio
from typing import Any

import pytest

from replcache.errors import InvalidRequest, NoLeader
from replcache.patterns.cached_drivers import PAUSE_S
from replcache.patterns.fill import is_placeholder
from tests.helpers.cached_world import World, run

# --- one load at a time ------------------------------------------------------------------------------------


def test_one_load_in_the_cluster_for_many_processes() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 2.0
        processes = [world.cached(single_flight="cluster", lease="300ms") for _ in range(5)]
        calls = [process(1) for process in processes for _ in range(10)]
        assert await asyncio.gather(*calls) == ["value"] * 50
        assert world.source.loads == [1]
        assert sum(process.cache_info().hits for process in processes) == 49

    run(work)


def test_a_dead_loader_holds_up_the_others_for_its_lease_only() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 60.0
        first = world.cached(single_flight="cluster", lease="1s")
        dead = asyncio.create_task(first(1))
        await world.clock.sleep(5)
        client = first._spec.client
        client._core.is_closed = True
        dead.cancel()
        await client._core.tasks.close()
        entry = await world.client.get("k:1")
        assert is_placeholder(entry)
        world.source.delay_s = 0.0
        began = world.clock.now()
        assert await world.cached(single_flight="cluster", lease="1s")(1) == "value"
        assert world.clock.now() - began < 1.5
        assert world.stored(1).value == b"value"

    run(work)


def test_a_load_slower_than_its_lease_is_stored() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 10.0
        function = world.cached(single_flight="cluster", lease="500ms")
        other = world.cached(single_flight="cluster", lease="500ms")
        assert await asyncio.gather(function(1), other(1)) == ["value", "value"]
        assert world.source.loads == [1]
        assert world.stored(1).value == b"value"

    run(work)


def test_who_has_waited_long_enough_loads_beside() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 10.0
        slow = world.cached(single_flight="cluster", lease="500ms")
        slow_task = asyncio.create_task(slow(1))
        await world.clock.sleep(1)
        world.source.delay_s = 0.0
        began = world.clock.now()
        assert await world.cached(single_flight="cluster", wait="1s")(1) == "value"
        assert 0.9 < world.clock.now() - began < 1.5
        assert await slow_task == "value"

    run(work)


def test_an_error_is_shared_by_those_who_wait_for_it() -> None:
    async def work(world: World) -> None:
        world.source.delay_s, world.source.fails = 0.5, OSError("down")
        function = world.cached(single_flight="process")
        results = await asyncio.gather(*(function(1) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(result, OSError) for result in results)
        assert world.source.loads == [1]

    run(work)


def test_a_cancelled_loader_is_followed_by_one_who_waits() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 1.0
        function = world.cached(single_flight="process")
        leader = asyncio.create_task(function(1))
        await world.clock.sleep(0.5)
        followers = [asyncio.create_task(function(1)) for _ in range(5)]
        await world.clock.sleep(0.1)
        leader.cancel()
        assert await asyncio.gather(*followers) == ["value"] * 5
        assert world.source.loads == [1, 1]
        assert leader.cancelled()
        assert world.stored(1).value == b"value"

    run(work)


@pytest.mark.parametrize("mode", ["process", "cluster", None])
def test_a_call_cancelled_while_it_claims_keeps_nobody_from_storing(mode: str | None) -> None:
    async def work(world: World) -> None:
        function = world.cached(single_flight=mode, lease="1m")
        is_claimed = world.cluster.withhold_answer(
            lambda request: world.stored(1) is not None, is_unknown=False
        )
        first = asyncio.create_task(function(1))
        await is_claimed.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await world.clock.sleep(0.1)
        assert await function(1) == "value"
        assert world.stored(1).value == b"value"

    run(work)


@pytest.mark.parametrize("mode", ["process", "cluster", None])
def test_recursion_does_not_deadlock(mode: str | None) -> None:
    """A load that calls cached functions: deeper, crosswise in two tasks, and itself."""

    async def work(world: World) -> None:
        client = world.cluster.client()
        options: dict[str, Any] = {"ttl": "1m", "single_flight": mode, "wait": "1h", "lease": "1s"}
        depth = 0

        @client.cached(key="fib:{n}", **options)
        async def fib(n: int) -> int:
            return n if n < 2 else await fib(n - 1) + await fib(n - 2)

        @client.cached(key="left:{n}", **options)
        async def left(n: int) -> str:
            await world.clock.sleep(0.1)
            return "l" if n == 0 else "l" + await right(n - 1)

        @client.cached(key="right:{n}", **options)
        async def right(n: int) -> str:
            await world.clock.sleep(0.1)
            return "r" if n == 0 else "r" + await cross(n)

        async def cross(n: int) -> str:
            # The same keys again, from inside of their own loads.
            return await left(n + 1) if depth_left() else "."

        def depth_left() -> bool:
            nonlocal depth
            depth += 1
            return depth < 4

        @client.cached(key="self:{n}", **options)
        async def self_call(n: int) -> int:
            return 0 if not depth_left() else await self_call(n)

        async with asyncio.timeout(60):
            assert await fib(15) == 610
            await asyncio.gather(left(2), right(1), left(2), right(1))
            depth = 0
            assert await self_call(1) == 0

    run(work)


def test_two_processes_that_load_crosswise_do_not_deadlock() -> None:
    async def work(world: World) -> None:
        def process() -> tuple[Any, Any]:
            client = world.cluster.client()
            options: dict[str, Any] = {"ttl": "1m", "single_flight": "cluster", "wait": "1h", "lease": "1s"}

            @client.cached(key="a", **options)
            async def a(inner: bool = False) -> str:
                await world.clock.sleep(0.2)
                return "a" if inner else "a" + await b(True)

            @client.cached(key="b", **options)
            async def b(inner: bool = False) -> str:
                await world.clock.sleep(0.2)
                return "b" if inner else "b" + await a(True)

            return a, b

        (a1, b1), (a2, b2) = process(), process()
        async with asyncio.timeout(60):
            await asyncio.gather(a1(), b2(), b1(), a2())

    run(work)


# --- races and failures ------------------------------------------------------------------------------------


def test_a_fill_that_lost_the_race_is_refused() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 1.0
        function = world.cached()
        call = asyncio.create_task(function(1))
        await world.clock.sleep(0.5)
        world.source.value = "newer"
        await function.invalidate(1)
        assert await call == "value"
        assert world.stored(1) is None
        assert function.cache_info().refused == 1
        assert await function(1) == "newer"

    run(work)


def test_without_a_cluster_calls_go_to_the_source() -> None:
    async def work(world: World) -> None:
        strict = world.cached(timeout="200ms")
        lenient = world.cached(timeout="200ms", ignore_errors=True, single_flight="cluster")
        assert await lenient(1) == "value"
        world.cluster.raft.leader = ""
        with pytest.raises(NoLeader):
            await strict(1)
        began = world.clock.now()
        assert [await lenient(1) for _ in range(20)] == ["value"] * 20
        # One timeout, then a pause without the cache.
        assert world.clock.now() - began < 0.5
        assert len(world.source.loads) == 21
        assert lenient.cache_info().errors == 1
        with pytest.raises(NoLeader):
            await lenient.invalidate(1)
        with pytest.raises(NoLeader):
            await lenient.refresh(1)
        world.cluster.raft.leader = "n1"
        world.cluster.raft.wake()
        await world.clock.sleep(PAUSE_S + 1)
        assert [await lenient(1) for _ in range(3)] == ["value"] * 3
        assert len(world.source.loads) == 21

    run(work)


def test_a_cluster_that_fails_during_the_load_does_not_lose_the_answer() -> None:
    async def work(world: World) -> None:
        world.source.delay_s = 1.0
        function = world.cached(timeout="200ms", ignore_errors=True)
        call = asyncio.create_task(function(1))
        await world.clock.sleep(0.5)
        world.cluster.raft.leader = ""
        assert await call == "value"

    run(work)


def test_an_answer_that_can_not_be_stored_does_not_stop_the_cache() -> None:
    """It is the caller's own; the others go on being kept, and no placeholder is left."""

    async def work(world: World) -> None:
        strict, lenient = world.cached(), world.cached(ignore_errors=True)
        world.source.value = object()
        with pytest.raises(InvalidRequest, match="can't be stored"):
            await strict(1)
        assert await lenient(2) is world.source.value
        await world.clock.sleep(0.1)
        assert world.stored(1) is None and world.stored(2) is None
        world.source.value = "small"
        assert [await lenient(3) for _ in range(2)] == ["small"] * 2
        world.source.value = "x" * 2_000_000
        assert len(await lenient(4)) == 2_000_000
        assert world.source.loads == [1, 2, 3, 4]
        assert lenient.cache_info().errors == 2

    run(work)


def test_a_fill_whose_answer_is_lost_is_not_taken_back() -> None:
    """Nobody knows whether it was stored; giving up clears the placeholder only, and it is gone."""

    async def work(world: World) -> None:
        function = world.cached(ignore_errors=True, lease="1h")
        world.source.delay_s = 1.0
        call = asyncio.create_task(function(1))
        await world.clock.sleep(0.5)
        world.cluster.raft.lose_outcomes = 1
        assert await call == "value"
        await world.clock.sleep(PAUSE_S + 1)
        assert world.stored(1).value == b"value"
        assert await function(1) == "value"
        assert world.source.loads == [1]
        assert function.cache_info().errors == 1

    run(work)
