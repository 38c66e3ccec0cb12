"""A write that is cancelled while its thread commits: the cache never keeps what was before it."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from replcache.errors import OutcomeUnknown
from replcache.patterns.source import Row, call_source
from tests.helpers.virtual_cluster import VirtualCluster, puts_placeholder
from tests.helpers.virtual_loop import VirtualClock, run_virtually


class SlowTable:
    """A database of threads. A commit takes until `may_commit`."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {"a": "old"}
        self.loop = asyncio.get_running_loop()
        self.entered = asyncio.Event()
        self.may_commit = threading.Event()

    async def load(self, key: str) -> Any:
        return self.rows.get(key)

    def write(self, rows: Sequence[Row]) -> None:
        self.loop.call_soon_threadsafe(self.entered.set)
        assert self.may_commit.wait(5)
        for row in rows:
            self.rows[row.key] = row.value


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("with_loader", [False, True])
@pytest.mark.parametrize("mode", ["write_around", "write_through"])
def test_a_cancelled_write_tidies_up_after_its_commit(mode: str, with_loader: bool, is_cached: bool) -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock, delay_s=0.002)
        table = SlowTable()
        client = cluster.client()
        # The time of this loop runs ahead while only a thread works: long enough for any of it.
        view = client.through(
            loader=table.load if with_loader else None,
            writer=table.write,
            mode=mode,
            prefix="row:",
            lease="1h",
            wait="100ms",
        )
        if is_cached:
            await client.set("row:a", "old")
        writing = asyncio.create_task(view.set("a", "new"))
        await table.entered.wait()
        for _ in range(2):
            writing.cancel()
            await clock.sleep(0.5)
            # It is not committed: the old one is right, if it is not kept.
            assert await view.get("a") in ("old", None)
        assert not writing.done()
        table.may_commit.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert table.rows == {"a": "new"}
        assert await view.get("a") == ("new" if with_loader else None)
        assert [lock.name for lock in await client.locks()] == []
        await cluster.close()

    run_virtually(work)


@pytest.mark.parametrize("ending", ["cancelled", "no answer"])
@pytest.mark.parametrize("mode", ["write_around", "write_through"])
def test_a_write_that_ends_before_the_database_is_asked_holds_nobody_up(mode: str, ending: str) -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)

        async def load(key: str) -> str:
            return "old"

        async def write(rows: Sequence[Row]) -> None:
            raise AssertionError("never asked")

        view = cluster.client().through(loader=load, writer=write, mode=mode, prefix="row:", wait="5s")
        is_placed = cluster.withhold_answer(puts_placeholder, is_unknown=ending == "no answer")
        writing = asyncio.create_task(view.set("a", "new"))
        await is_placed.wait()
        if ending == "cancelled":
            writing.cancel()
        with pytest.raises((asyncio.CancelledError, OutcomeUnknown)):
            await writing
        began = clock.now()
        assert await view.get("a") == "old"
        assert clock.now() - began < 1
        await cluster.close()

    run_virtually(work)


def test_a_load_that_is_cancelled_is_left_to_itself() -> None:
    async def work(clock: VirtualClock) -> None:
        table = SlowTable()
        loading = asyncio.create_task(call_source(table.write, [Row("a", "new", 1)]))
        await table.entered.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert table.rows == {"a": "old"}
        table.may_commit.set()

    run_virtually(work)


def test_an_error_after_the_cancellation_does_not_hide_it() -> None:
    async def work(clock: VirtualClock) -> None:
        table = SlowTable()

        def fail(rows: Sequence[Row]) -> None:
            table.write(rows)
            raise ValueError("the database refuses")

        table.may_commit.set()
        with pytest.raises(ValueError, match="refuses"):
            await call_source(fail, [], to_end=True)
        table.may_commit.clear()
        table.entered.clear()
        writing = asyncio.create_task(call_source(fail, [], to_end=True))
        await table.entered.wait()
        writing.cancel()
        await clock.sleep(0.1)
        table.may_commit.set()
        with pytest.raises(asyncio.CancelledError):
            await writing

    run_virtually(work)
