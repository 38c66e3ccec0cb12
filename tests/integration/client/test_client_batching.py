"""What callers ask for at the same time leaves in few messages, with the right limits."""

import asyncio
from typing import Any

import pytest

from replcache import AsyncClient, errors
from replcache.constants import BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, CLIENT_MESSAGES_IN_FLIGHT_MAX
from tests.helpers.fake_server import fake_cluster
from tests.helpers.wait import async_wait_until


async def test_concurrent_calls_share_messages_by_kind() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")
        cluster.nodes[0].requests.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(client.set(f"b{number}", b"x"))
                group.create_task(client.set(f"s{number}", "x"))
                group.create_task(client.set(f"t{number}", "x", ttl=5))
                group.create_task(client.get(f"g{number}"))
                group.create_task(client.get(f"o{number}", read="one"))
                group.create_task(client.incr("n"))
                group.create_task(client.set(f"c{number}", 1, nx=True))
        kinds = {}
        for request in cluster.requests():
            if request.HasField("set_columns"):
                kind: Any = ("set", request.set_columns.content_type, request.set_columns.ttl.seconds)
                size = len(request.set_columns.keys)
            elif request.HasField("get_columns"):
                kind, size = ("get", request.read.level), len(request.get_columns.keys)
            else:
                kind, size = ("operations",), len(request.operations)
                assert not request.atomic
            assert kind not in kinds
            kinds[kind] = size
        assert kinds == {
            ("set", "", 0): 50,
            ("set", "text/plain", 0): 50,
            ("set", "text/plain", 5): 50,
            ("get", 1): 50,
            ("get", 3): 50,
            ("operations",): 100,
        }


async def test_each_set_of_a_message_gets_its_own_revision() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")
        keys = [f"k{number}" for number in range(20)]
        results = await asyncio.gather(*(client.set(key, "x") for key in keys))
        many = await client.set_many({f"m{number}": "x" for number in range(20)})
        found = await client.get_many([*keys, *many])
        revisions = [result.revision for result in [*results, *many.values()]]
        assert revisions == [entry.mod_revision for entry in found.values() if entry is not None]
        assert len(set(revisions)) == 40


async def test_full_reads_share_a_message_without_entering_the_log() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("a", 1, tags=["t"], idle="1m")
        found = await asyncio.gather(client.get("a", full=True), client.get("b", full=True))
        assert found[0] is not None
        assert (found[0].tags, found[0].idle_ttl_s) == (("t",), 60.0)
        assert found[1] is None
        request = cluster.requests()[-1]
        assert len(request.operations) == 2
        assert request.read.level == 1
        assert not request.HasField("idempotency")


async def test_single_call_leaves_in_the_same_turn() -> None:
    """No waiting for company: one call, one message, no timer in between."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")
        before = client.stats().messages
        task = asyncio.ensure_future(client.set("key", 1))
        # One turn for the task, one for the flush that it asked for.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.stats().messages == before + 1
        await task


async def test_bounded_number_of_messages_is_under_way_and_the_rest_is_packed() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")
        cluster.nodes[0].requests.clear()
        cluster.nodes[0].running.clear()
        tasks = []
        for number in range(CLIENT_MESSAGES_IN_FLIGHT_MAX + 20):
            tasks.append(asyncio.ensure_future(client.set(f"k{number}", "x")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        stats = client.stats()
        assert stats.in_flight == CLIENT_MESSAGES_IN_FLIGHT_MAX
        assert stats.queued == 19
        cluster.nodes[0].running.set()
        await asyncio.gather(*tasks)
        sizes = sorted(len(request.set_columns.keys) for request in cluster.requests())
        # The fourth was sent when it had half as many callers as were under way.
        assert sizes == [1, 1, 1, 2, 19]


async def test_messages_are_split_at_the_limit_of_operations() -> None:
    # The time to join a message grows with the timeout: a slow machine must not open a second one.
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url, timeout=100) as client:
        count = BATCH_OPERATIONS_MAX + 10
        await asyncio.gather(*(client.set(f"k{number}", b"x") for number in range(count)))
        sizes = [len(request.set_columns.keys) for request in cluster.requests()]
        assert sorted(sizes) == [10, BATCH_OPERATIONS_MAX]
        await asyncio.gather(*(client.incr("n") for _ in range(count)))
        sizes = [len(request.operations) for request in cluster.requests() if request.operations]
        assert sorted(sizes) == [10, BATCH_OPERATIONS_MAX]


async def test_messages_are_split_at_the_limit_of_bytes() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url, timeout=20) as client:
        value = b"x" * 1_000_000
        await asyncio.gather(*(client.set(f"k{number}", value) for number in range(8)))
        await asyncio.gather(*(client.set(f"c{number}", value, nx=True) for number in range(8)))
        sizes = [request.ByteSize() for request in cluster.requests()]
        assert max(sizes) < BATCH_BYTES_MAX + 10_000
        assert len(sizes) == 6


async def test_batch_larger_than_one_message_is_refused() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        batch = client.batch()
        for _ in range(BATCH_OPERATIONS_MAX + 1):
            batch.incr("n")
        with pytest.raises(errors.InvalidRequest):
            await batch.commit()
        assert cluster.requests() == []


async def test_fault_of_one_request_does_not_touch_its_neighbours() -> None:
    """The server refuses the whole message because of one key: only that caller gets the error."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")

        def refuse(request: Any) -> None:
            keys = [*request.set_columns.keys, *request.get_columns.keys]
            keys += [operation.increment.key for operation in request.operations]
            if b"k7" in keys:
                raise errors.PermissionDenied("not this key")

        cluster.checks.append(refuse)
        for call in (lambda key: client.set(key, "x"), client.get, client.incr):
            cluster.state.entries.clear()
            answers = await asyncio.gather(*(call(f"k{n}") for n in range(20)), return_exceptions=True)
            refused = [number for number, answer in enumerate(answers) if isinstance(answer, Exception)]
            assert refused == [7]
            assert isinstance(answers[7], errors.PermissionDenied)


async def test_each_caller_gets_its_own_exception() -> None:
    """A shared one would collect the tracebacks of all."""
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url, timeout=0.3) as client:
        cluster.nodes[0].refuse = errors.NoLeader("none")
        answers = await asyncio.gather(*(client.get(f"k{n}") for n in range(5)), return_exceptions=True)
        assert all(isinstance(answer, errors.NoLeader) for answer in answers)
        assert len({id(answer) for answer in answers}) == 5


async def test_different_timeouts_are_kept_apart() -> None:
    async with fake_cluster(1) as cluster, AsyncClient(cluster.url) as client:
        await client.set("warm", "up")
        cluster.nodes[0].running.clear()
        slow = asyncio.ensure_future(client.get("key", timeout=20))
        with pytest.raises(errors.NotApplied):
            await client.get("key", timeout=0.1)
        assert not slow.done()
        cluster.nodes[0].running.set()
        assert await slow is None


async def test_leader_gets_writes_and_linearizable_reads() -> None:
    async with fake_cluster(3) as cluster, AsyncClient(cluster.url) as client:
        cluster.leader = "n2"
        await client.set("key", 1)
        await async_wait_until(lambda: cluster.calls("Members") >= 1, what="the members are asked for")
        await client.get("key")
        for node in cluster.nodes:
            node.requests.clear()
        for number in range(5):
            await client.set("key", number)
            await client.get("key")
        assert [len(node.requests) for node in cluster.nodes] == [0, 10, 0]
        cluster.leader = "n3"
        await client.set("key", 1)
        await client.set("key", 2)
        assert len(cluster["n3"].requests) == 1


async def test_leader_that_was_not_configured_is_found_through_members() -> None:
    async with fake_cluster(3) as cluster, AsyncClient(cluster.nodes[0].address) as client:
        cluster.leader = "n3"
        await client.set("key", 1)

        async def leader_is_used() -> bool:
            await client.set("key", 2)
            return len(cluster["n3"].requests) > 0

        await async_wait_until(leader_is_used, what="writes go to n3")


async def test_route_any_stays_with_one_node() -> None:
    async with fake_cluster(3) as cluster, AsyncClient(cluster.url, route="any") as client:
        for number in range(6):
            await client.set(f"k{number}", 1)
            await client.get(f"k{number}")
            await client.get(f"k{number}", read="one")
        assert sorted(len(node.requests) for node in cluster.nodes) == [0, 0, 18]
