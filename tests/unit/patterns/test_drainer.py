"""The drainer of write-behind: what can't be decoded, and what nobody expects, holds up nothing else."""

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from replcache import AsyncClient
from replcache.client.codec import AutoCodec, Typed
from replcache.errors import DeadlineExceeded
from replcache.patterns.source import Row
from replcache.patterns.through import AsyncThrough
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

BAD = Typed(b"caf\xe9", "text/csv")


class OddCodec(AutoCodec):
    """A codec of somebody: its error is no ReplcacheError."""

    def decode(self, data: bytes, content_type: str) -> Any:
        if content_type == "application/x-odd":
            raise EOFError("no data left")
        return super().decode(data, content_type)


class World:
    """One process with a view whose writer keeps the rows."""

    def __init__(self, clock: VirtualClock, **settings: Any) -> None:
        self.clock = clock
        self.cluster = VirtualCluster(clock, seed=1, delay_s=0.002)
        self.client = self.cluster.client(**settings)
        self.rows: dict[str, Any] = {}

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.rows[row.key] = row.value

    def view(self, client: AsyncClient | None = None, **options: Any) -> AsyncThrough:
        async def write(rows: Sequence[Row]) -> None:
            self.write(rows)

        options = {"flush_every": "20ms", "writer": write, "prefix": "row:", **options}
        return (client or self.client).through(mode="write_behind", **options)

    async def until(self, condition: Callable[[], bool], longest_s: float = 30) -> None:
        end = self.clock.now() + longest_s
        while not condition():
            assert self.clock.now() < end, self.rows
            await self.clock.sleep(0.02)


def run(scenario: Callable[[VirtualClock], Coroutine[Any, Any, None]]) -> None:
    run_virtually(scenario)


@pytest.mark.parametrize("bad", [BAD, Typed(b"", "application/x-odd"), Typed(b"", "application/x-npy")])
def test_a_record_that_cannot_be_decoded_stays_and_holds_up_nothing(
    bad: Typed, caplog: pytest.LogCaptureFixture
) -> None:
    if bad.content_type == "application/x-npy":
        pytest.importorskip("numpy")

    async def scenario(clock: VirtualClock) -> None:
        world = World(clock, codec=OddCodec())
        view = world.view(max_batch=2, max_lag="3s")
        await view.set("a", 1)
        spoilt = await view.set("bad", bad)
        for number in range(5):
            await view.set(f"k{number}", number)
        await world.until(lambda: len(world.rows) == 6)
        assert view.stats().drain_failures == 1
        assert "like bad: " in caplog.text
        status = await view.steps.queue.status(0)
        assert (status.left, status.failures) == (1, 1)
        assert "1 rows can't be decoded, like bad: " in status.error
        assert status.flushed_revision < spoilt <= status.swept_revision
        assert (await view.lag()).rows == 1
        with pytest.raises(DeadlineExceeded, match="can't be decoded, like bad"):
            await view.flush(timeout="1s")
        # The others are not refused because this one is old, and it costs nothing while nobody writes.
        await clock.sleep(8)
        await view.set("k1", "again")
        await view.set("k2", "again")
        await world.until(lambda: world.rows["k2"] == "again")
        proposed = len(world.cluster.raft.proposed)
        await clock.sleep(5)
        assert len(world.cluster.raft.proposed) - proposed < 20
        # A newer change of the key is written, and then nothing is left.
        await view.set("bad", "good")
        await view.flush()
        assert world.rows["bad"] == "good"
        status = await view.steps.queue.status(0)
        assert (status.left, status.error, (await view.lag()).rows) == (0, "", 0)
        await world.cluster.close()

    with caplog.at_level(logging.ERROR, "replcache.patterns"):
        run(scenario)


def test_what_this_process_cannot_decode_another_one_writes() -> None:
    async def scenario(clock: VirtualClock) -> None:
        world = World(clock)
        view = world.view()
        trusting = world.cluster.client(codec="pickle")
        async with world.view(trusting, drain=False) as producer:
            await producer.set("pickled", {1, 2})
        await view.set("plain", 1)
        await world.until(lambda: world.rows == {"plain": 1})
        await view.close()
        async with world.view(trusting) as other:
            await other.flush()
        assert world.rows == {"plain": 1, "pickled": {1, 2}}
        await world.cluster.close()

    run(scenario)


def test_a_record_is_tried_again_after_a_while() -> None:
    async def scenario(clock: VirtualClock) -> None:
        codec = OddCodec()
        world = World(clock, codec=codec)
        view = world.view()
        await view.set("odd", Typed(b"x", "application/x-odd"))
        await clock.sleep(1)
        assert world.rows == {}
        codec.decode = AutoCodec("json").decode  # type: ignore[method-assign]  # what was missing is there
        await world.until(lambda: world.rows == {"odd": b"x"}, 100)
        assert view.stats().drain_failures == 1
        await world.cluster.close()

    run(scenario)


def test_an_error_that_nobody_thought_of_is_logged_and_the_drainer_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(clock: VirtualClock) -> None:
        world = World(clock)
        view = world.view()
        await view.start()
        queue = view.steps.queue
        # Not a status: the drainer that reads it raises what is no ReplcacheError.
        await world.client.set(queue.status_key(0), b"{")
        await world.client.set(queue.record_key("a"), 1, ttl="1d")
        await clock.sleep(2)
        assert 2 <= view.stats().drain_failures < 20
        await world.client.delete(queue.status_key(0))
        await world.until(lambda: world.rows == {"a": 1})
        await world.cluster.close()

    with caplog.at_level(logging.ERROR, "replcache.patterns"):
        run(scenario)
    assert "failed and goes on" in caplog.text
    assert "JSONDecodeError" in caplog.text
