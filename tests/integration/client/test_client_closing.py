"""Closing a client under what waits in other threads and tasks: every wait ends."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from replcache import AsyncClient, Client, errors
from tests.helpers.client_driver import ClusterThread, Driver
from tests.helpers.wait import async_wait_until, scaled, wait_until

# Nobody listens there.
NOWHERE = "127.0.0.1:1"
LONG_S = 3600


class Waiting:
    """A call in a thread of its own, and how it ended."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.outcome: object = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._call()
        except errors.ReplcacheError as err:
            self.outcome = err

    def ended(self) -> object:
        self._thread.join(scaled(10))
        assert not self._thread.is_alive()
        return self.outcome


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.delete_prefix("x", timeout=LONG_S),
        lambda c: c.lock("l", wait="1h").acquire(),
        lambda c: c.lease("1h").grant(),
        lambda c: c.locks(timeout=LONG_S),
        lambda c: c.set("k", b"x" * 2_000_000, timeout=LONG_S),
        lambda c: c.get_many(["a", "b"], timeout=LONG_S),
    ],
)
def test_closing_ends_calls_to_nodes_that_can_not_be_reached(call: Callable[[Client], Any]) -> None:
    client = Client(NOWHERE)
    waiting = Waiting(lambda: call(client))
    stats = client.stats
    wait_until(lambda: stats().retries >= 2 or stats().queued or stats().in_flight, what="a call under way")
    client.close()
    assert isinstance(waiting.ended(), errors.ClientClosed | errors.OutcomeUnknown)


def test_closing_ends_a_call_that_waits_for_a_worker_thread(cluster: ClusterThread) -> None:
    client = Client(cluster.url)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(scaled(30))

    waiting = Waiting(lambda: client._run(lambda: asyncio.to_thread(work), None, float("inf")))
    assert begun.wait(scaled(10))
    client.close()
    try:
        assert isinstance(waiting.ended(), errors.ClientClosed)
    finally:
        go_on.set()


def test_calls_that_come_while_it_closes_end(cluster: ClusterThread) -> None:
    """Many threads that call all the time: none is left behind."""
    for _ in range(20):
        client = Client(cluster.url)
        client.set("k", 1)

        def call(client: Client = client) -> None:
            while True:
                client._run(lambda: asyncio.sleep(0), None, float("inf"))

        waiting = [Waiting(call) for _ in range(4)]
        client.close()
        for one in waiting:
            assert isinstance(one.ended(), errors.ClientClosed)


def test_whoever_waits_for_the_loss_of_a_lock_is_told(client: Driver) -> None:
    lock = client.lock("l", ttl="30s")
    lock.acquire()
    waiting = Waiting(lambda: wait_until(lambda: lock.is_lost, 10, "lost"))
    client.close()
    assert waiting.ended() is True
    assert not lock.is_held


async def test_lost_is_set_when_the_client_is_closed_at_once(cluster: ClusterThread) -> None:
    client = AsyncClient(cluster.url)
    lock = client.lock("l", ttl="30s")
    await lock.acquire()
    await client.close()
    async with asyncio.timeout(scaled(10)):
        await lock.lost.wait()


async def test_a_lock_that_was_given_back_is_not_lost(cluster: ClusterThread) -> None:
    client = AsyncClient(cluster.url)
    lock = client.lock("l", ttl="30s")
    await lock.acquire()
    assert await lock.release()
    await client.close()
    await async_wait_until(lambda: len(asyncio.all_tasks()) >= 1, what="a turn of the loop")
    assert not lock.lost.is_set()
