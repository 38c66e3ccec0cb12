"""What a cached function does, on virtual time over the real state machine; races are in tests/property."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from replcache.client.codec import AutoCodec
from replcache.errors import InvalidRequest, NoLeader
from replcache.patterns.cached import AsyncCachedFunction, Peeked
from replcache.patterns.cached_drivers import PAUSE_S
from replcache.patterns.fill import is_placeholder
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


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", b"", False, [], {}, "text", b"\x89PNG", {"a": [1.5, None]}])
def test_every_value_is_loaded_once_and_readable_by_everybody(value: object) -> None:
    async def work(world: World) -> None:
        world.source.value = value
        function = world.cached(early="xfetch", stale_on_error="1m")
        assert [await function(1) for _ in range(3)] == [value] * 3
        assert world.source.loads == [1]
        entry = await world.client.get("k:1")
        assert entry is not None and entry.value == value
        assert (await function.peek(1)) == Peeked(value, None, pytest.approx(10, abs=0.5))
        assert await world.cached()(1) == value
        assert world.source.loads == [1]

    run(work)


def test_a_codec_of_its_own() -> None:
    class Reversed(AutoCodec):
        def encode(self, value: object) -> tuple[bytes, str]:
            return str(value).encode()[::-1], "text/x-reversed"

        def decode(self, data: bytes, content_type: str) -> Any:
            assert content_type == "text/x-reversed"
            return data[::-1].decode()

    async def work(world: World) -> None:
        function = world.cached(codec=Reversed(), early="xfetch")
        assert await function(1) == "value"
        assert await function(1) == "value"
        assert world.stored(1).value == b"eulav"
        assert world.stored(1).content_type.startswith("text/x-reversed;load=")

    run(work)


def test_attached_functions() -> None:
    async def work(world: World) -> None:
        function = world.cached()
        assert function.key_for("a/b") == "k:a/b"
        assert await function.peek(1) is None
        assert (await function.set("given", 1)).version == 1
        assert await function(1) == "given"
        assert await function.refresh(1) == "value"
        assert await function(1) == "value"
        assert await function.invalidate(1)
        assert not await function.invalidate(1)
        assert world.source.loads == [1]
        info = function.cache_info()
        assert (info.hits, info.misses, info.loads, info.stored) == (2, 1, 1, 1)
        assert info.hit_rate == pytest.approx(2 / 3)
        assert function.__name__ == "load" and asyncio.iscoroutinefunction(function.__call__)

    run(work)


def test_methods_are_bound_and_self_is_no_argument() -> None:
    async def work(world: World) -> None:
        client = world.cluster.client()

        class Users:
            loads = 0

            def __init__(self, region: str) -> None:
                self.region = region

            @client.cached(ttl="1m")
            async def load(self, uid: int) -> list[object]:
                Users.loads += 1
                return [self.region, uid]

            @client.cached(ttl="1m", key="u:{self.region}:{uid}")
            async def regional(self, uid: int) -> list[object]:
                return [self.region, uid]

            @client.cached(ttl="1m")
            @classmethod
            async def of_class(cls, uid: int) -> list[object]:
                return [cls.__name__, uid]

            @client.cached(ttl="1m")
            @staticmethod
            async def of_nobody(uid: int) -> int:
                return uid

        north, south = Users("north"), Users("south")
        assert await north.load(1) == await south.load(1) == ["north", 1]
        assert Users.loads == 1
        assert await north.regional(1) != await south.regional(1)
        assert north.regional.key_for(1) == "u:north:1"
        assert await north.regional.invalidate(1)
        assert await south.regional.peek(1) and not await north.regional.peek(1)
        assert await Users.of_class(1) == await north.of_class(1) == ["Users", 1]
        assert await Users.of_nobody(3) == await north.of_nobody(3) == 3
        assert await Users.load(north, 1) == ["north", 1]

    run(work)


def test_mistakes_are_found_when_decorating() -> None:
    async def work(world: World) -> None:
        def plain(key: int) -> int:
            return key

        for options, message in (
            ({"key": "k:{id}"}, "no parameter 'id'"),
            ({"jitter": 1.0}, "jitter"),
            ({"single_flight": "world"}, "single_flight"),
            ({"early": "11s"}, "below the ttl"),
            ({"beta": 0}, "beta"),
            ({"cache_exceptions": KeyError}, "needs negative_ttl"),
            ({"cache_exceptions": "KeyError", "negative_ttl": 1}, "no class of exceptions"),
            ({"lease": "1ms"}, "lease"),
            ({"ttl": None}, "time limit"),
        ):
            with pytest.raises(InvalidRequest, match=message):
                world.client.cached(**{"ttl": "10s", **options})(world.source.load)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="async def"):
            world.client.cached(ttl=1)(plain)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="cached already"):
            world.client.cached(ttl=1)(world.cached())

    run(work)


# --- negative answers --------------------------------------------------------------------------------------


class Missing(Exception):
    """An answer of the source."""


class Gone(Missing):
    def __init__(self, key: int, since: str) -> None:
        super().__init__(f"{key} is gone")
        self.key = key


def test_negative_answers_expire_alone() -> None:
    async def work(world: World) -> None:
        function = world.cached(negative_ttl="1s", cache_exceptions=(Missing,))
        await function("there")
        world.source.value = None
        assert [await function("none") for _ in range(3)] == [None] * 3
        world.source.fails = Missing("no row", 7)
        for _ in range(3):
            with pytest.raises(Missing) as caught:
                await function("missing")
            assert caught.value.args == ("no row", 7)
        assert world.source.loads == ["there", "none", "missing"]
        assert (await function.peek("missing")).error.args == ("no row", 7)  # type: ignore[union-attr]
        world.source.fails, world.source.value = None, "now"
        await world.clock.sleep(1.2)
        assert [await function(key) for key in ("there", "none", "missing")] == ["value", "now", "now"]
        assert function.cache_info().negative == 4

    run(work)


def test_a_subclass_with_another_constructor_comes_back() -> None:
    async def work(world: World) -> None:
        function = world.cached(negative_ttl="1m", cache_exceptions=Missing)
        world.source.fails = Gone(7, "monday")
        for _ in range(2):
            with pytest.raises(Gone, match="7 is gone"):
                await function(7)
        assert len(world.source.loads) == 1

    run(work)


def test_only_listed_classes_are_made_from_what_is_stored() -> None:
    async def work(world: World) -> None:
        document = b'{"class":"builtins.SystemExit","args":["from the network"]}'
        entry = await world.client.set("k:1", document)
        assert entry.version == 1
        operation = world.cluster.raft.machine.peek(b"k:1")
        assert operation is not None
        writer = world.cached(negative_ttl="1m", cache_exceptions=OSError)
        world.source.fails = OSError("x")
        await writer.invalidate(1)
        with pytest.raises(OSError):
            await writer(1)
        world.source.fails = None
        # Another process that does not know the class loads anew, and its answer takes the place.
        assert await world.cached(negative_ttl="1m", cache_exceptions=Missing)(1) == "value"
        assert await writer(1) == "value"

    run(work)


def test_other_exceptions_and_results_that_are_not_wanted_are_not_kept() -> None:
    async def work(world: World) -> None:
        function = world.cached(when=lambda value: value != "not this", negative_ttl="1m")
        world.source.fails = OSError("down")
        for _ in range(2):
            with pytest.raises(OSError):
                await function(1)
        assert world.stored(1) is None
        world.source.fails, world.source.value = None, "not this"
        assert [await function(1) for _ in range(2)] == ["not this"] * 2
        assert world.stored(1) is None
        assert len(world.source.loads) == 4

    run(work)


# --- time --------------------------------------------------------------------------------------------------


def test_stale_answers_are_given_while_the_source_fails_and_not_after() -> None:
    async def work(world: World) -> None:
        function = world.cached(ttl="1s", stale_on_error="10s")
        await function(1)
        await world.clock.sleep(1.5)
        world.source.fails = OSError("down")
        assert await function(1) == "value"
        assert (await function.peek(1)).fresh_s < 0  # type: ignore[union-attr,operator]
        world.source.fails, world.source.value = None, "new"
        assert await function(1) == "new"
        world.source.fails = OSError("down")
        await world.clock.sleep(11.5)
        with pytest.raises(OSError):
            await function(1)
        assert function.cache_info().stale == 1

    run(work)


def test_an_invalidated_answer_is_not_served_when_the_source_fails() -> None:
    async def work(world: World) -> None:
        function = world.cached(ttl="1s", stale_on_error="10s")
        await function(1)
        world.source.fails = OSError("down")
        await function.invalidate(1)
        with pytest.raises(OSError):
            await function(1)

    run(work)


def test_early_refresh_by_age_is_done_by_one_while_the_others_get_the_old_answer() -> None:
    async def work(world: World) -> None:
        function = world.cached(ttl="10s", early="7s", single_flight="process")
        await function(1)
        await world.clock.sleep(6)
        await function(1)
        assert len(world.source.loads) == 1
        await world.clock.sleep(1.5)
        world.source.value, world.source.delay_s = "new", 0.5
        answers = await asyncio.gather(*(function(1) for _ in range(10)))
        assert sorted(answers) == ["new"] + ["value"] * 9
        assert len(world.source.loads) == 2
        await world.clock.sleep(5)
        assert await function(1) == "new"

    run(work)


def test_a_failed_early_refresh_gives_the_answer_that_is_still_good() -> None:
    async def work(world: World) -> None:
        function = world.cached(ttl="10s", early="1s")
        await function(1)
        await world.clock.sleep(2)
        world.source.fails = OSError("down")
        assert await function(1) == "value"
        assert len(world.source.loads) == 2

    run(work)


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
