"""Locks of both clients: waiting, renewal, losing, fencing, giving back."""

import asyncio
import random
import threading
from typing import Any

import pytest

from replcache import AsyncClient, Client, errors
from tests.helpers.client_driver import ClusterThread, Driver
from tests.helpers.fake_server import fake_cluster
from tests.helpers.wait import async_wait_until, scaled, wait_until


def test_lock_is_held_and_given_back(client: Driver, cluster: ClusterThread) -> None:
    lock = client.lock("orders/42", note="test")
    assert not lock.is_held
    assert lock.token == 0
    token = lock.acquire()
    assert token == lock.token > 0
    assert lock.is_held
    lock.check()
    (view,) = client.locks("orders/42")
    assert [holder.token for holder in view.holders] == [token]
    assert lock.release() is True
    assert lock.release() is False
    assert not lock.is_held
    with pytest.raises(errors.LockLost):
        lock.check()
    assert client.locks() == ()


def test_lock_can_be_acquired_again_with_a_higher_token(client: Driver) -> None:
    lock = client.lock("l")
    first = lock.acquire()
    lock.release()
    second = lock.acquire()
    assert second > first
    lock.release()


def test_lock_is_not_reentrant(client: Driver) -> None:
    lock = client.lock("l")
    lock.acquire()
    with pytest.raises(errors.InvalidRequest):
        lock.acquire()
    with pytest.raises(errors.LockTimeout):
        client.lock("l", wait=None).acquire()
    lock.release()


def test_second_holder_waits_its_turn(client: Driver) -> None:
    first, second = client.lock("l"), client.lock("l", wait="10s")
    first.acquire()
    tokens: list[int] = []
    thread = threading.Thread(target=lambda: tokens.append(second.acquire()))
    thread.start()
    wait_until(lambda: any(view.waiters for view in client.locks("l")), what="second in the queue")
    assert tokens == []
    first.release()
    thread.join(10)
    assert tokens[0] > 0
    second.release()


def test_wait_that_is_over_is_a_lock_timeout(client: Driver) -> None:
    first = client.lock("l")
    first.acquire()
    with pytest.raises(errors.LockTimeout) as caught:
        client.lock("l", wait="50ms").acquire()
    assert not caught.value.may_have_executed
    first.release()


def test_semaphore_has_permits(client: Driver) -> None:
    first, second = client.lock("gpu", permits=2), client.lock("gpu", permits=2)
    first.acquire()
    second.acquire()
    with pytest.raises(errors.LockTimeout):
        client.lock("gpu", permits=2, wait=None).acquire()
    first.release()
    second.release()


def test_fence_lets_only_the_holder_write(client: Driver) -> None:
    lock = client.lock("l")
    lock.acquire()
    client.set("state", 1, fence=lock)
    client.update("state", 2, fence=(lock.name, lock.token))
    token = lock.token
    lock.release()
    for call in (
        lambda: client.set("state", 3, fence=("l", token)),
        lambda: client.delete("state", fence=("l", token)),
        lambda: client.incr("state", fence=("l", token)),
        lambda: client.touch("state", fence=("l", token)),
        lambda: client.update("state", 3, fence=("l", token)),
    ):
        with pytest.raises(errors.FenceRejected):
            call()
    assert client.get_value("state") == 2


def test_lock_is_renewed_beyond_its_ttl(client: Driver, cluster: ClusterThread) -> None:
    lock = client.lock("l", ttl="300ms")
    lock.acquire()
    wait_until(lambda: cluster.cluster.calls("Renew") >= 6, what="six renewals")
    assert lock.is_held
    lock.check()
    lock.release()


def test_lock_that_the_cluster_gave_to_others_is_lost(client: Driver, cluster: ClusterThread) -> None:
    lock = client.lock("l", ttl="300ms")
    lock.acquire()
    owner = next(iter(cluster.state.locks["l"].holders))
    cluster.thread.call(cluster.state.free, "l", owner, 0)
    wait_until(lambda: lock.is_lost, what="lost")
    with pytest.raises(errors.LockLost):
        lock.check()
    assert lock.release() is False


def test_lock_is_lost_by_the_own_clock_when_nobody_answers(make_client: Any, cluster: ClusterThread) -> None:
    client = make_client()
    lock = client.lock("l", ttl="500ms")
    lock.acquire()
    for node in cluster.cluster.nodes:
        cluster.hang(node.name)
    wait_until(lambda: lock.is_lost, what="lost", timeout_s=3)
    with pytest.raises(errors.LockLost):
        lock.check()
    for node in cluster.cluster.nodes:
        cluster.resume(node.name)


def test_acquire_is_sent_again_with_the_same_owner(client: Driver, cluster: ClusterThread) -> None:
    """The grant's answer is lost: the same request gets the same lock, not a second place in the queue."""
    cluster.cluster.break_acquires = 1
    lock = client.lock("l", wait="5s")
    token = lock.acquire()
    assert cluster.cluster.calls("Acquire") == 2
    (view,) = client.locks("l")
    assert [holder.token for holder in view.holders] == [token]
    lock.release()


def test_context_managers() -> None:
    """`with` and `async with` release also when the block raises."""
    thread = ClusterThread(1)
    try:
        with Client(thread.url) as client:
            with pytest.raises(RuntimeError), client.lock("l") as lock:
                assert lock.is_held
                raise RuntimeError
            assert client.locks() == ()
            assert not lock.lost.is_set()

        async def main() -> None:
            async with AsyncClient(thread.url) as client:
                with pytest.raises(RuntimeError):
                    async with client.lock("l") as lock:
                        assert lock.is_held
                        raise RuntimeError
                assert await client.locks() == ()

        asyncio.run(main())
    finally:
        thread.close()


async def test_cancelled_waiter_leaves_the_queue() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        async with client.lock("l"):
            waiting = asyncio.ensure_future(client.lock("l", wait="1m").acquire())
            await async_wait_until(lambda: cluster.state.locks["l"].waiters, what="the waiter")
            waiting.cancel()
            await async_wait_until(lambda: not cluster.state.locks["l"].waiters, what="an empty queue")
        async with client.lock("l", wait=None) as lock:
            assert lock.is_held


async def test_grant_after_a_long_wait_is_renewed_before_it_is_used() -> None:
    """Counted from the sending of the request, nothing of the ttl would be left."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        first = client.lock("l", ttl="200ms")
        await first.acquire()
        second = client.lock("l", ttl="200ms", wait="10s")
        waiting = asyncio.ensure_future(second.acquire())
        await async_wait_until(lambda: cluster.calls("Renew") >= 5, what="a long wait")
        await first.release()
        await waiting
        assert second.is_held
        second.check()
        await second.release()


async def test_close_of_the_client_ends_renewal() -> None:
    async with fake_cluster(1) as cluster:
        client = AsyncClient(cluster.url)
        lock = client.lock("l", ttl="300ms")
        await lock.acquire()
        await client.close()
        assert await lock.release() is False
        await async_wait_until(lambda: not cluster.state.locks["l"].holders, what="freed by its ttl")


async def test_hung_node_does_not_use_up_the_wait() -> None:
    """The lock is free, but the node that was asked first answers nothing: another one is asked in time."""
    async with fake_cluster(2) as cluster, AsyncClient(cluster.url) as client:
        await client.set("key", 1)
        cluster.nodes[0].running.clear()
        lock = client.lock("l", wait="1m")
        async with asyncio.timeout(scaled(20)):
            await lock.acquire()
        assert lock.is_held
        cluster.nodes[0].running.set()
        await lock.release()


async def test_long_wait_at_a_healthy_node_is_left_alone() -> None:
    """It is asked from time to time whether it is there; the place in the queue stays."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        first = client.lock("l")
        await first.acquire()
        second = client.lock("l", wait="1m")
        waiting = asyncio.ensure_future(second.acquire())
        await async_wait_until(lambda: cluster.calls("Status") >= 2, what="two looks", timeout_s=10)
        await first.release()
        await waiting
        assert cluster.calls("Acquire") == 2
        await second.release()


async def test_close_while_waiting_for_a_lock_ends_the_wait() -> None:
    async with fake_cluster(1) as cluster:
        client = AsyncClient(cluster.url)
        async with AsyncClient(cluster.url) as other, other.lock("l"):
            waiting = asyncio.ensure_future(client.lock("l", wait="1m").acquire())
            await async_wait_until(lambda: cluster.state.locks["l"].waiters, what="the waiter")
            await client.close()
            with pytest.raises(errors.OutcomeUnknown):
                await waiting
            assert not waiting.cancelled()


def test_clients_with_the_same_random_numbers_are_still_two(cluster: ClusterThread) -> None:
    """As after os.fork() of a process that had made its client, but not yet used it."""
    with (
        Client(cluster.url, rng=random.Random(1)) as first,
        Client(cluster.url, rng=random.Random(1)) as second,
        first.lock("l"),
    ):
        with pytest.raises(errors.LockTimeout):
            second.lock("l", wait=None).acquire()
