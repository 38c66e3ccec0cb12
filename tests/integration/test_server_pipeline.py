"""The Pipeline stream: ids, order of completion, bounds, slow readers, endings."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from replcache import constants as c
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1.common_pb2 import Idempotency, ReadOptions
from tests.helpers.serving import Serving, serving, wire_error
from tests.helpers.wait import async_wait_until


def sets(number: int, size: int = 10, keys: int = 1, **more: Any) -> pb.BatchRequest:
    columns = pb.SetColumns(keys=[b"%d/%d" % (number, i) for i in range(keys)], values=[bytes(size)] * keys)
    return pb.BatchRequest(id=number, set_columns=columns, **more)


def gets(number: int, *keys: bytes, **more: Any) -> pb.BatchRequest:
    return pb.BatchRequest(id=number, get_columns=pb.GetColumns(keys=keys), **more)


def batches_begun(one: Serving) -> float:
    return one.server.metrics.registry.get_sample_value("replcache_proposals_in_flight") or 0.0


async def test_each_batch_is_answered_with_its_id() -> None:
    async with serving() as one:
        call = one.cache.Pipeline(timeout=30)
        for number in range(1, 201):
            await call.write(sets(number, keys=3))
        await call.done_writing()
        answers = [answer async for answer in call]
        assert sorted(answer.id for answer in answers) == list(range(1, 201))
        assert all(list(answer.set_columns.versions) == [1, 1, 1] for answer in answers)
        assert one.raft.machine.revision == 600


async def test_slow_batch_delays_no_other() -> None:
    """A linearizable read that waits for its round is overtaken by a local one."""
    async with serving() as one:
        one.raft.reads_open.clear()
        call = one.cache.Pipeline(timeout=30)
        await call.write(gets(1, b"k"))
        await call.write(gets(2, b"k", read=ReadOptions(level=3)))
        assert (await call.read()).id == 2
        one.raft.reads_open.set()
        assert (await call.read()).id == 1


async def test_failed_batch_is_told_in_its_answer() -> None:
    async with serving() as one:
        call = one.cache.Pipeline(timeout=30)
        await call.write(
            pb.BatchRequest(id=4, atomic=True, operations=[{"update": {"key": b"no", "replace": b"x"}}])
        )
        answer = await call.read()
        assert answer.id == 4
        assert wire_error(answer.error).reason == "BATCH_ABORTED"
        await call.write(sets(5))
        assert not (await call.read()).HasField("error")


async def test_batch_has_its_own_timeout() -> None:
    async with serving() as one:
        one.raft.leader = ""
        call = one.cache.Pipeline(timeout=30)
        await call.write(sets(1, timeout=Duration(nanos=200_000_000)))
        assert wire_error((await call.read()).error).reason == "NO_LEADER"
        one.raft.leader = "n1"
        one.raft.proposals_open.clear()
        await call.write(sets(2, timeout=Duration(nanos=200_000_000)))
        assert wire_error((await call.read()).error).reason == "OUTCOME_UNKNOWN"
        await call.write(sets(3, timeout=Duration()))
        assert wire_error((await call.read()).error).reason == "DEADLINE_EXCEEDED"


async def test_batch_with_a_session_is_executed_once() -> None:
    async with serving() as one:
        call = one.cache.Pipeline(timeout=30)
        request = pb.BatchRequest(
            id=1,
            idempotency=Idempotency(request_id=b"once"),
            operations=[{"increment": {"key": b"n", "delta": 1}}],
        )
        values = []
        for _ in range(3):
            await call.write(request)
            values.append((await call.read()).results[0].increment.value)
        assert values == [1, 1, 1]


async def test_half_close_waits_for_what_is_under_way() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        call = one.cache.Pipeline(timeout=30)
        for number in range(1, 11):
            await call.write(sets(number))
        await call.done_writing()
        await async_wait_until(lambda: batches_begun(one) == 10, what="all under way")
        one.raft.proposals_open.set()
        assert sorted([answer.id async for answer in call]) == list(range(1, 11))


async def test_server_stops_reading_at_its_bound_of_batches() -> None:
    """The 65th batch stays outside until one of the 64 is answered."""
    async with serving() as one:
        one.raft.proposals_open.clear()
        call = one.cache.Pipeline(timeout=60)
        total = c.PIPELINE_BATCHES_IN_FLIGHT_MAX + 20
        for number in range(1, total + 1):
            await call.write(sets(number, timeout=Duration(seconds=60)))
        await async_wait_until(
            lambda: batches_begun(one) == c.PIPELINE_BATCHES_IN_FLIGHT_MAX, what="the bound is reached"
        )
        # A full round trip on the same connection: the server had its chance to read more.
        await one.cache.Get(pb.GetRequest(key=b"k", read=ReadOptions(level=3)))
        assert batches_begun(one) == c.PIPELINE_BATCHES_IN_FLIGHT_MAX
        one.raft.proposals_open.set()
        assert len({(await call.read()).id for _ in range(total)}) == total


async def test_server_stops_reading_at_its_bound_of_bytes() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        call = one.cache.Pipeline(timeout=60)
        size = 1000 * 1000

        async def write_all() -> None:
            for number in range(1, 31):
                await call.write(sets(number, size, timeout=Duration(seconds=60)))

        writing = asyncio.create_task(write_all())
        fits = -(-c.PIPELINE_BYTES_IN_FLIGHT_MAX // size)
        await async_wait_until(lambda: batches_begun(one) == fits, what="the bound is reached")
        await one.cache.Get(pb.GetRequest(key=b"k", read=ReadOptions(level=3)))
        assert batches_begun(one) == fits
        one.raft.proposals_open.set()
        assert len({(await call.read()).id for _ in range(30)}) == 30
        await writing


async def test_client_that_does_not_read_is_not_read_either() -> None:
    """Answers that nobody takes count as under way, so a slow reader holds a bounded number of them."""
    async with serving() as one:
        await one.cache.Set(pb.SetRequest(key=b"big", value=bytes(c.VALUE_BYTES_MAX)))
        call = one.cache.Pipeline(timeout=60)
        total = 300

        async def write_all() -> None:
            for number in range(1, total + 1):
                await call.write(gets(number, b"big", timeout=Duration(seconds=60)))

        writing = asyncio.create_task(write_all())
        await async_wait_until(
            lambda: one.raft.rounds >= c.PIPELINE_BATCHES_IN_FLIGHT_MAX, what="some are read"
        )
        settled = -1

        def stands_still() -> bool:
            nonlocal settled
            before, settled = settled, one.raft.rounds
            return before == settled

        await async_wait_until(stands_still, what="the server stopped reading")
        assert settled < total - 100
        assert len({(await call.read()).id for _ in range(total)}) == total
        await writing


async def test_cancelled_stream_frees_everything() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        call = one.cache.Pipeline(timeout=60)
        for number in range(1, 31):
            await call.write(sets(number, timeout=Duration(seconds=60)))
        await async_wait_until(lambda: batches_begun(one) == 30, what="all under way")
        call.cancel()
        await async_wait_until(lambda: batches_begun(one) == 0, what="all gone")
        streams = one.server.metrics.registry.get_sample_value
        await async_wait_until(lambda: streams("replcache_pipeline_streams") == 0, what="stream gone")
        one.raft.proposals_open.set()
        fresh = one.cache.Pipeline(timeout=30)
        await fresh.write(sets(99))
        assert (await fresh.read()).id == 99


async def test_client_that_dies_frees_everything() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        async with grpc.aio.insecure_channel(one.server.grpc_address) as channel:
            call = channel.stream_stream("/replcache.v1.Cache/Pipeline")()
            await call.write(sets(1, timeout=Duration(seconds=60)).SerializeToString())
            await async_wait_until(lambda: batches_begun(one) == 1, what="under way")
        await async_wait_until(lambda: batches_begun(one) == 0, what="gone")


async def test_51_streams_at_once() -> None:
    async with serving() as one:
        calls = [one.cache.Pipeline(timeout=60) for _ in range(51)]
        for number, call in enumerate(calls, 1):
            await call.write(sets(number))
        for number, call in enumerate(calls, 1):
            assert (await call.read()).id == number


async def test_stopping_node_answers_what_it_has_and_refuses_the_rest() -> None:
    async with serving(stop_grace_s=20.0) as one:
        one.raft.proposals_open.clear()
        call = one.cache.Pipeline(timeout=60)
        await call.write(sets(1, timeout=Duration(seconds=60)))
        await async_wait_until(lambda: batches_begun(one) == 1, what="under way")
        stopping = asyncio.create_task(one.server.stop())
        await async_wait_until(lambda: one.server.is_stopping, what="stopping")
        await call.write(sets(2))
        refused = await call.read()
        assert refused.id == 2
        wire = wire_error(refused.error)
        assert (wire.reason, wire.may_have_executed) == ("UNAVAILABLE", False)
        one.raft.proposals_open.set()
        done = await call.read()
        assert (done.id, list(done.set_columns.versions)) == (1, [1])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert wire_error(caught.value).reason == "UNAVAILABLE"
        await asyncio.wait_for(stopping, 10)
