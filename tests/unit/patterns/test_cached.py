"""What a cached function stores and answers; loads at the same time are in test_cached_flights.py."""

import asyncio
from typing import Any

import pytest

from replcache.client.codec import AutoCodec
from replcache.errors import InvalidRequest
from replcache.patterns.cached import Peeked
from tests.helpers.cached_world import World, run

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
            ({"wait": "2h"}, "wait"),
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
