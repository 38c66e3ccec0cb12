"""Every reason of an error is raised once over real gRPC, and the deadlines hold."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from replcache import errors
from replcache.clock import SystemClock
from replcache.errors import DeadlineExceeded
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import cluster_pb2, lock_pb2
from replcache.pb.v1.common_pb2 import Fence, Idempotency, ReadOptions
from replcache.server.deadlines import from_remaining
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, failure, serving
from tests.helpers.wait import async_wait_until

S = grpc.StatusCode
KEY = b"k"
SET, GET = pb.SetRequest(key=KEY, value=b"v"), pb.GetRequest(key=KEY)


async def test_not_found() -> None:
    async with serving() as one:
        wire = await failure(one.cache.Update(pb.UpdateRequest(key=KEY, replace=b"x")))
        assert (wire.code, wire.reason) == (S.NOT_FOUND, "NOT_FOUND")


async def test_condition_failed() -> None:
    async with serving() as one:
        await one.cache.Set(SET)
        again = pb.SetRequest(key=KEY, value=b"w", condition=pb.Condition(if_absent=True))
        wire = await failure(one.cache.Set(again))
        assert (wire.code, wire.reason) == (S.FAILED_PRECONDITION, "CONDITION_FAILED")
        assert wire.precondition == "CONDITION_FAILED"
        assert not wire.may_have_executed


async def test_fence_rejected_and_accepted() -> None:
    async with serving() as one:
        ttl = Duration(seconds=10)
        held = await one.lock.Acquire(lock_pb2.AcquireRequest(name="l", owner=b"o", ttl=ttl))
        good = pb.SetRequest(key=KEY, fence=Fence(name="l", token=held.token))
        await one.cache.Set(good)
        await one.lock.Release(lock_pb2.ReleaseRequest(name="l", owner=b"o", token=held.token))
        wire = await failure(one.cache.Set(good))
        assert (wire.code, wire.reason) == (S.FAILED_PRECONDITION, "FENCE_REJECTED")


async def test_wrong_type_and_out_of_range() -> None:
    async with serving() as one:
        await one.cache.Set(SET)
        wire = await failure(one.cache.Increment(pb.IncrementRequest(key=KEY, delta=1)))
        assert (wire.code, wire.reason) == (S.FAILED_PRECONDITION, "WRONG_TYPE")
        wire = await failure(one.cache.Increment(pb.IncrementRequest(key=b"n", delta=9, maximum=5)))
        assert (wire.code, wire.reason) == (S.OUT_OF_RANGE, "OUT_OF_RANGE")


async def test_session_expired_may_have_executed() -> None:
    async with serving() as one:
        write = pb.SetRequest(key=KEY, idempotency=Idempotency(session_id=99, sequence=1))
        wire = await failure(one.cache.Set(write))
        assert (wire.code, wire.reason) == (S.FAILED_PRECONDITION, "SESSION_EXPIRED")
        assert wire.may_have_executed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Overloaded("queue full", retry_after_s=0.3), S.RESOURCE_EXHAUSTED),
        (errors.QuotaExceeded("disk full"), S.RESOURCE_EXHAUSTED),
        (errors.Unavailable("starting"), S.UNAVAILABLE),
        (errors.NotApplied("stopping"), S.UNAVAILABLE),
        (errors.OutcomeUnknown("lost"), S.UNAVAILABLE),
        (errors.Unauthenticated("who"), S.UNAUTHENTICATED),
        (errors.PermissionDenied("no"), S.PERMISSION_DENIED),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
async def test_what_the_port_raises_reaches_the_client(error: errors.ReplcacheError, code: S) -> None:
    async with serving() as one:
        one.raft.refuse_with = error
        wire = await failure(one.cache.Set(SET))
        assert (wire.code, wire.reason, wire.message) == (code, error.reason, str(error))
        assert wire.may_have_executed is error.may_have_executed
        if error.retry_after_s is not None:
            assert wire.retry_after_s == error.retry_after_s


async def test_writes_above_the_bound_are_refused_and_reads_go_on() -> None:
    async with serving(proposals_in_flight=5) as one:
        one.raft.proposals_open.clear()
        held = [one.cache.Set(SET, timeout=30) for _ in range(5)]
        await async_wait_until(lambda: sample(one, "replcache_proposals_in_flight") == 5, what="5 held")
        wire = await failure(one.cache.Set(SET))
        assert (wire.code, wire.reason) == (S.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert wire.retry_after_s is not None
        await one.cache.Get(GET)
        one.raft.proposals_open.set()
        for call in held:
            await call
        await one.cache.Set(SET)


async def test_halted_node_answers_nothing_but_its_status() -> None:
    async with serving() as one:
        one.raft.halted = "log entry 7 is damaged"
        for call in (
            one.cache.Set(SET),
            one.cache.Get(GET),
            one.cache.Get(pb.GetRequest(key=KEY, read=ReadOptions(level=3))),
            one.cluster.Members(cluster_pb2.MembersRequest()),
        ):
            wire = await failure(call)
            assert (wire.code, wire.reason) == (S.UNAVAILABLE, "NODE_HALTED")
        status = await one.cluster.Status(cluster_pb2.StatusRequest())
        assert status.halted == "log entry 7 is damaged"


async def test_bug_of_ours_is_internal_and_keeps_its_details_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenRaft(FakeRaft):
        async def propose(self, command: Any, deadline: float, on_applied: Any = None) -> Any:
            raise ZeroDivisionError("secret detail")

        async def read_index(self, deadline: float) -> None:
            raise ZeroDivisionError("secret detail")

    async with serving(BrokenRaft()) as one:
        wire = await failure(one.cache.Set(SET))
        assert (wire.code, wire.reason, wire.may_have_executed) == (S.INTERNAL, "INTERNAL", True)
        assert "secret" not in wire.message
        wire = await failure(one.cache.Get(GET))
        assert (wire.code, wire.may_have_executed) == (S.INTERNAL, False)


# --- deadlines and consistency ---


async def test_no_leader_is_told_just_before_the_deadline() -> None:
    async with serving() as one:
        one.raft.leader = ""
        for call in (one.cache.Set(SET, timeout=0.5), one.cache.Get(GET, timeout=0.5)):
            wire = await failure(call)
            assert (wire.code, wire.reason) == (S.UNAVAILABLE, "NO_LEADER")
            assert wire.retry_after_s is not None


async def test_call_without_a_deadline_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replcache.constants.DEFAULT_DEADLINE_S", 0.3)
    async with serving() as one:
        one.raft.leader = ""
        async with asyncio.timeout(5):
            assert (await failure(one.cache.Set(SET))).reason == "NO_LEADER"


async def test_write_under_way_at_the_deadline_is_unknown() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        wire = await failure(one.cache.Set(SET, timeout=0.5))
        assert (wire.reason, wire.may_have_executed) == ("OUTCOME_UNKNOWN", True)
        assert wire.retry_after_s is None


async def test_request_without_time_left_is_refused_before_anything_happens() -> None:
    with pytest.raises(DeadlineExceeded):
        from_remaining(SystemClock(), 0.0005)
    clock = SystemClock()
    deadline = from_remaining(clock, 1.0)
    assert clock.now() < deadline.work < deadline.client


async def test_read_waits_for_the_round_that_confirms_it() -> None:
    async with serving() as one:
        one.raft.reads_open.clear()
        call = one.cache.Get(GET, timeout=5)
        await one.cache.Set(SET)
        one.raft.reads_open.set()
        reply = await call
        assert reply.entry.value == b"v"
        assert one.raft.rounds == 1


@pytest.mark.parametrize(
    ("staleness", "bound", "level", "rounds"),
    [
        # known, no bound asked: local, with the bound in the header
        (0.4, None, 3, 0),
        # nothing known, no bound asked: local, without a bound
        (None, None, 3, 0),
        # good enough
        (0.4, 1.0, 3, 0),
        # too stale, or nothing known: one round makes it linearizable
        (0.4, 0.1, 1, 1),
        (None, 5.0, 1, 1),
        (0.4, 0.0, 1, 1),
    ],
)
async def test_read_one(staleness: float | None, bound: float | None, level: int, rounds: int) -> None:
    async with serving() as one:
        one.raft.staleness = staleness
        options = ReadOptions(level=3)
        if bound is not None:
            options.max_staleness.FromNanoseconds(int(bound * 1e9))
        reply = await one.cache.Get(pb.GetRequest(key=KEY, read=options))
        assert reply.header.served_as == level
        assert one.raft.rounds == rounds
        if level == 3 and staleness is not None:
            assert reply.header.staleness.ToNanoseconds() / 1e9 == pytest.approx(staleness)
        else:
            assert not reply.header.HasField("staleness")


async def test_read_one_without_a_leader() -> None:
    """Local reads go on without a leader; a bound that can't be shown is refused, not stretched."""
    async with serving() as one:
        await one.cache.Set(SET)
        one.raft.staleness = 3.0
        one.raft.leader = ""
        reply = await one.cache.Get(pb.GetRequest(key=KEY, read=ReadOptions(level=3)))
        assert (reply.entry.value, reply.header.staleness.seconds, reply.header.leader) == (b"v", 3, "")
        bounded = ReadOptions(level=3, max_staleness=Duration(seconds=1))
        wire = await failure(one.cache.Get(pb.GetRequest(key=KEY, read=bounded), timeout=0.5))
        assert (wire.code, wire.reason) == (S.UNAVAILABLE, "STALENESS_UNAVAILABLE")


async def test_cancelled_call_leaves_nothing_behind() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        calls = [one.cache.Set(SET, timeout=30) for _ in range(20)]
        in_flight = lambda: sample(one, "replcache_proposals_in_flight")  # noqa: E731
        await async_wait_until(lambda: in_flight() == 20, what="all under way")
        for call in calls:
            call.cancel()
        await async_wait_until(lambda: in_flight() == 0, what="all gone")
        one.raft.proposals_open.set()
        assert (await one.cache.Set(SET)).version >= 1


async def test_many_callers_at_once() -> None:
    async with serving() as one:
        requests = [pb.IncrementRequest(key=b"n", delta=1) for _ in range(300)]
        replies = await asyncio.gather(*(one.cache.Increment(request, timeout=20) for request in requests))
        assert sorted(reply.value for reply in replies) == list(range(1, 301))


async def test_calls_above_the_streams_of_a_connection_wait_in_the_client() -> None:
    async with serving(streams_per_connection=50) as one:
        one.raft.leader = ""
        held = [one.cache.Set(SET, timeout=20) for _ in range(50)]
        await async_wait_until(lambda: sample(one, "replcache_proposals_in_flight") == 50, what="50 held")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one.cache.Get(pb.GetRequest(key=KEY, read=ReadOptions(level=3)), timeout=0.3)
        assert caught.value.code() is S.DEADLINE_EXCEEDED
        one.raft.leader = "n1"
        one.raft.wake()
        for call in held:
            assert (await call).version >= 1


def sample(one: Serving, name: str) -> float:
    value = one.server.metrics.registry.get_sample_value(name)
    assert value is not None
    return value
