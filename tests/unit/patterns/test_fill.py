"""Fills through both clients; the races are in tests/property/test_patterns_fill.py."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from replcache import Client
from replcache.client.types import Entry
from replcache.errors import InvalidRequest, OutcomeUnknown
from replcache.patterns.fill import FILL_CONTENT_TYPE, AsyncFills, Fills, FillTicket, is_placeholder
from tests.helpers.client_driver import ClusterThread
from tests.helpers.virtual_cluster import VirtualCluster, puts_placeholder
from tests.helpers.virtual_loop import VirtualClock, run_virtually


@pytest.fixture(name="client")
def _client() -> Iterator[Client]:
    cluster = ClusterThread()
    with Client(cluster.url) as client:
        yield client
    cluster.close()


def test_a_missing_key_is_filled_once(client: Client) -> None:
    fills = Fills(client)
    ticket = fills.begin_fill("k", tags=["t"])
    assert isinstance(ticket, FillTicket)
    assert is_placeholder(client.get("k"))
    assert fills.finish_fill(ticket, {"a": None}, ttl="1m", tags=["t"])
    assert not fills.finish_fill(ticket, "again")
    found = fills.begin_fill("k")
    assert isinstance(found, Entry) and found.value == {"a": None}


def test_an_invalidated_fill_is_refused_and_an_abandoned_one_leaves_nothing(client: Client) -> None:
    fills = Fills(client)
    ticket = fills.begin_fill("k")
    assert isinstance(ticket, FillTicket)
    assert fills.invalidate("k")
    assert not fills.finish_fill(ticket, 1)
    again = fills.begin_fill("k")
    assert isinstance(again, FillTicket)
    assert fills.abandon_fill(again)
    assert not fills.abandon_fill(again)
    assert client.get("k") is None


def test_stored_falsy_values_are_hits(client: Client) -> None:
    fills = Fills(client)
    for value in (None, 0, "", b"", False, [], {}):
        client.set("k", value)
        found = fills.begin_fill("k")
        assert isinstance(found, Entry) and found.value == value


def test_threads_wait_for_one_load(client: Client) -> None:
    loads: list[int] = []
    seen: list[object] = []
    loading = threading.Event()

    def read(number: int) -> None:
        fills = Fills(client)
        found = fills.begin_fill("k")
        if isinstance(found, FillTicket):
            loads.append(number)
            assert loading.wait(10)
            assert fills.finish_fill(found, "loaded")
        else:
            seen.append(found.value)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    loading.set()
    for thread in threads:
        thread.join(20)
    assert len(loads) == 1
    assert seen == ["loaded"] * 19


def test_the_type_of_placeholders_is_reserved(client: Client) -> None:
    fills = Fills(client)
    ticket = fills.begin_fill("k")
    assert isinstance(ticket, FillTicket)
    with pytest.raises(InvalidRequest):
        client._run(lambda: fills._fills.finish_raw(ticket, b"x", FILL_CONTENT_TYPE), None)


@pytest.mark.parametrize("ending", ["cancelled", "no answer"])
def test_who_goes_before_his_ticket_comes_holds_nobody_up(ending: str) -> None:
    async def work(clock: VirtualClock) -> None:
        cluster = VirtualCluster(clock)
        client = cluster.client()
        fills = AsyncFills(client)
        is_placed = cluster.withhold_answer(puts_placeholder, is_unknown=ending == "no answer")
        first = asyncio.create_task(fills.begin_fill("k", lease="10s"))
        await is_placed.wait()
        if ending == "cancelled":
            first.cancel()
        with pytest.raises((asyncio.CancelledError, OutcomeUnknown)):
            await first
        second = await fills.begin_fill("k", wait="1s")
        assert isinstance(second, FillTicket) and second.may_store
        await cluster.close()

    run_virtually(work)
