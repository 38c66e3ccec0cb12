"""Writes are executed exactly once whatever happens to streams and nodes, or say that nobody knows."""

import asyncio
import random
import threading
from collections import Counter
from typing import Any

import pytest

from replcache import AsyncClient, errors
from tests.helpers.client_driver import ClusterThread, Driver
from tests.helpers.fake_server import Fault, fake_cluster
from tests.helpers.wait import async_wait_until, wait_until

RETRIED = [
    Fault.DROP_REPLY,
    Fault.BREAK,
    Fault.UNAVAILABLE,
    Fault.OVERLOADED,
    Fault.UNKNOWN_EXECUTED,
    Fault.UNKNOWN_LOST,
    Fault.SLOW,
]


def script(cluster: ClusterThread, *faults: Fault) -> None:
    cluster.thread.call(cluster.faults.script.extend, faults)


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: fault.value)
def test_each_fault_is_invisible_to_the_caller(client: Driver, cluster: ClusterThread, fault: Fault) -> None:
    assert client.incr("n") == 1
    script(cluster, fault)
    assert client.incr("n") == 2
    assert client.incr("n") == 3
    assert len(cluster.state.executed) == 3
    assert len(set(cluster.state.executed)) == 3


@pytest.mark.parametrize("fault", [Fault.SWALLOW, Fault.SWALLOW_REPLY], ids=lambda fault: fault.value)
def test_a_silent_node_is_given_up_and_another_one_asked(
    client: Driver, cluster: ClusterThread, fault: Fault
) -> None:
    """The stream stays open and nothing comes: only the time of a try can tell."""
    assert client.incr("n") == 1
    script(cluster, fault)
    assert client.incr("n") == 2
    assert client.stats().retries == 1
    assert len(cluster.state.executed) == 2


def test_random_faults_keep_counters_exact(
    make_client: Any, cluster: ClusterThread, rng: random.Random
) -> None:
    """32 callers, 30 % of the messages meet a fault; each increment answers with its own number."""
    client = make_client(timeout=30)
    rates = {fault: 0.3 / len(RETRIED) for fault in RETRIED}
    cluster.thread.call(cluster.faults.rates.update, rates)
    answers: list[int] = []

    async def work_async(ac: AsyncClient) -> None:
        async def caller() -> None:
            for _ in range(25):
                answers.append(await ac.incr("n"))

        await asyncio.gather(*(caller() for _ in range(32)))

    def caller() -> None:
        for _ in range(25):
            answers.append(client.incr("n"))

    if client.colour == "async":
        client.thread.run(work_async(client.client))
    else:
        threads = [threading.Thread(target=caller) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(answers) == list(range(1, 801))
    assert cluster.faults.seen
    assert Counter(cluster.state.executed).most_common(1)[0][1] == 1


def test_sequence_stays_the_same_over_retries_and_acked_below_moves(
    client: Driver, cluster: ClusterThread
) -> None:
    script(cluster, Fault.DROP_REPLY, Fault.UNAVAILABLE)
    client.set("a", 1)
    client.set("b", 2)
    client.set("c", 3)
    sent = [request.idempotency for request in cluster.cluster.requests()]
    sent.sort(key=lambda idempotency: idempotency.sequence)
    assert [idempotency.sequence for idempotency in sent] == [1, 1, 1, 2, 3]
    assert [idempotency.acked_below for idempotency in sent] == [1, 1, 1, 2, 3]
    assert len({idempotency.session_id for idempotency in sent}) == 1


def test_no_session_before_the_first_write(client: Driver, cluster: ClusterThread) -> None:
    client.get("key")
    client.get_many(["a", "b"])
    assert cluster.cluster.calls("Open") == 0
    client.set("key", 1)
    assert cluster.cluster.calls("Open") == 1


def test_close_gives_the_session_back(make_client: Any, cluster: ClusterThread) -> None:
    client = make_client()
    client.set("key", 1)
    assert len(cluster.state.sessions) == 1
    client.close()
    assert cluster.state.sessions == {}
    client.close()


def test_expired_session_with_nothing_at_stake_is_replaced(client: Driver, cluster: ClusterThread) -> None:
    """The write was sent once and refused: it certainly did not execute, so a new session may carry it."""
    assert client.incr("n") == 1
    script(cluster, Fault.SESSION_EXPIRED)
    assert client.incr("n") == 2
    assert client.incr("n") == 3
    assert client.stats().sessions_opened == 2


def test_expired_session_after_an_unanswered_try_is_an_unknown_outcome(
    client: Driver, cluster: ClusterThread
) -> None:
    assert client.incr("n") == 1
    script(cluster, Fault.DROP_REPLY, Fault.SESSION_EXPIRED)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        client.incr("n")
    assert caught.value.may_have_executed
    # It did execute here, and must not be executed once more.
    assert client.get_value("n") == 2
    assert client.incr("n") == 3


def test_expired_session_after_certain_refusals_is_replaced(client: Driver, cluster: ClusterThread) -> None:
    """UNAVAILABLE says "not executed", so nothing is at stake afterwards either."""
    assert client.incr("n") == 1
    script(cluster, Fault.UNAVAILABLE, Fault.SESSION_EXPIRED)
    assert client.incr("n") == 2


def test_write_without_an_answer_is_unknown_and_read_is_unavailable(
    make_client: Any, cluster: ClusterThread
) -> None:
    client = make_client(timeout=0.5)
    client.set("key", 1)
    client.get("key")
    for node in cluster.cluster.nodes:
        cluster.hang(node.name)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        client.set("key", 2)
    assert caught.value.may_have_executed
    with pytest.raises(errors.NotApplied) as refused:
        client.get("key")
    assert not refused.value.may_have_executed
    for node in cluster.cluster.nodes:
        cluster.resume(node.name)
    assert client.set("key", 3, timeout=10).version in (2, 3)


def test_nobody_there_is_certainly_not_executed(make_client: Any) -> None:
    client = make_client("127.0.0.1:1,127.0.0.1:2", timeout=0.4)
    for call in (lambda: client.set("key", 1), lambda: client.get("key"), lambda: client.incr("n")):
        with pytest.raises(errors.NotApplied) as caught:
            call()
        assert not caught.value.may_have_executed


def test_refused_for_good_fails_at_once(make_client: Any, cluster: ClusterThread) -> None:
    client = make_client(timeout=20)
    client.set("key", 1)

    def refuse(request: Any) -> None:
        raise errors.PermissionDenied("no")

    cluster.thread.call(cluster.cluster.checks.append, refuse)
    with pytest.raises(errors.PermissionDenied):
        client.set("key", 2)
    with pytest.raises(errors.PermissionDenied):
        client.get("key")
    assert client.stats().retries == 0


def test_session_that_is_refused_for_good_fails_the_writes(make_client: Any, cluster: ClusterThread) -> None:
    client = make_client(timeout=20)
    for node in cluster.cluster.nodes:
        node.refuse = errors.PermissionDenied("no")
    with pytest.raises(errors.PermissionDenied):
        client.set("key", 1)
    for node in cluster.cluster.nodes:
        node.refuse = None
    assert client.set("key", 1).version == 1


def test_death_of_the_leader_is_invisible(client: Driver, cluster: ClusterThread) -> None:
    """Callers go on while the node that they write to stops and another one leads."""
    answers: list[int] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def caller() -> None:
        try:
            while not stop.is_set():
                answers.append(client.incr("n"))
        except BaseException as err:  # noqa: BLE001  # shown by the assertion below
            failed.append(err)

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for name, next_name in (("n1", "n2"), ("n2", "n3")):
        before = len(answers)
        wait_until(lambda start=before: len(answers) > start + 20, what="progress", describe=lambda: failed)
        cluster.stop_node(name)
        cluster.cluster.leader = next_name
    before = len(answers)
    wait_until(lambda: len(answers) > before + 20, what="progress after both", describe=lambda: failed)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert sorted(answers) == list(range(1, len(answers) + 1))


def test_node_that_comes_back_is_used_again(client: Driver, cluster: ClusterThread) -> None:
    client.set("key", 1)
    for name in ("n1", "n2", "n3"):
        cluster.stop_node(name)
    with pytest.raises(errors.ReplcacheError):
        client.get("key", timeout=0.3)
    cluster.start_node("n2")
    cluster.cluster.leader = "n2"
    assert client.get_value("key") == 1
    assert client.set("key", 2).version == 2


def test_hung_leader_costs_one_try(client: Driver, cluster: ClusterThread) -> None:
    """Like SIGSTOP: connections stay, nothing is answered; within the default timeout nobody notices."""
    client.set("key", 1)
    cluster.hang("n1")
    assert client.set("key", 2).version == 2
    assert client.get_value("key") == 2
    cluster.resume("n1")


async def test_late_answer_to_an_earlier_try_counts() -> None:
    """The first node is slow with this write only, the second try is lost: the first one's answer counts."""
    async with fake_cluster(2, delay_s=0.001) as cluster, AsyncClient(cluster.url, timeout=10) as client:
        await client.set("key", 0)
        cluster.faults.slow_s = 2.0
        cluster.faults.script.extend([Fault.SLOW, Fault.SWALLOW])
        write = asyncio.ensure_future(client.set("key", 1))

        async def is_written() -> bool:
            # Shows that the first node is alive: its stream is kept.
            await client.get("key")
            return write.done()

        await async_wait_until(is_written, what="the slow answer")
        assert (await write).version == 2
        assert client.stats().retries == 1
        assert client.stats().reconnects == 0
        assert len(cluster.state.executed) == 2


async def test_cancelled_caller_leaves_the_stream_alone() -> None:
    """Nobody else notices; the cancelled write itself may be executed."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("key", 0)
        cluster.nodes[0].running.clear()
        doomed = [asyncio.ensure_future(client.set(f"d{n}", n)) for n in range(10)]
        kept = [asyncio.ensure_future(client.incr("n")) for _ in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in doomed[:5]:
            task.cancel()
        cluster.nodes[0].running.set()
        assert sorted(await asyncio.gather(*kept)) == list(range(1, 11))
        results = await asyncio.gather(*doomed, return_exceptions=True)
        assert [isinstance(r, asyncio.CancelledError) for r in results] == [True] * 5 + [False] * 5
        assert client.stats().reconnects == 0


async def test_write_that_nobody_waits_for_any_more_is_not_sent() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("key", 0)
        task = asyncio.ensure_future(client.set("never", 1))
        task.cancel()
        await client.set("key", 1)
        assert b"never" not in cluster.state.entries


async def test_close_with_calls_under_way_says_what_is_known() -> None:
    async with fake_cluster(1) as cluster:
        client = AsyncClient(cluster.url)
        await client.set("key", 0)
        cluster.nodes[0].running.clear()
        write = asyncio.ensure_future(client.set("key", 1))
        read = asyncio.ensure_future(client.get("key"))
        await async_wait_until(lambda: client.stats().in_flight == 2, what="both are under way")
        await client.close()
        with pytest.raises(errors.OutcomeUnknown):
            await write
        with pytest.raises(errors.ClientClosed):
            await read
        with pytest.raises(errors.ClientClosed):
            await client.get("key")
        cluster.nodes[0].running.set()


async def test_keep_alive_keeps_an_idle_session() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url, session_ttl=1) as client:
        await client.set("key", 0)
        await async_wait_until(lambda: cluster.calls("KeepAlive") >= 2, what="two keep-alives")
        await client.set("key", 1)
        assert client.stats().sessions_opened == 1


async def test_keep_alive_finds_out_that_the_session_is_gone() -> None:
    """The next write opens a new one without a detour."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url, session_ttl=1) as client:
        await client.set("key", 0)
        cluster.state.sessions.clear()
        await async_wait_until(lambda: cluster.calls("KeepAlive") >= 1, what="a keep-alive")
        await client.get("key")
        await client.set("key", 1)
        assert client.stats().sessions_opened == 2
        assert client.stats().retries == 0
