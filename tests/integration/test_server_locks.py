"""The Lock service: order, waits, and what callers leave behind when they go away in the middle."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from replcache.pb.v1 import cluster_pb2
from replcache.pb.v1 import lock_pb2 as pb
from replcache.raft.port import OnApplied
from replcache.statemachine.commands import Command, LockAcquire, LockRelease
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import CommandResult
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, failure, serving, stubs
from tests.helpers.wait import async_wait_until

S = grpc.StatusCode


def acquire(
    owner: bytes, wait_s: float = 0, name: str = "l", ttl_s: int = 30, **more: Any
) -> pb.AcquireRequest:
    wait = Duration()
    wait.FromNanoseconds(int(wait_s * 1e9))
    return pb.AcquireRequest(name=name, owner=owner, ttl=Duration(seconds=ttl_s), wait=wait, **more)


def release(owner: bytes, name: str = "l", token: int = 0) -> pb.ReleaseRequest:
    return pb.ReleaseRequest(name=name, owner=owner, token=token)


def waiters(raft: FakeRaft, name: str = "l") -> list[bytes]:
    return [place.owner for view in raft.machine.describe_locks(name) for place in view.waiters]


def holders(raft: FakeRaft, name: str = "l") -> list[bytes]:
    return [place.owner for view in raft.machine.describe_locks(name) for place in view.holders]


async def queued(one: Serving, *owners: bytes) -> None:
    await async_wait_until(
        lambda: waiters(one.raft) == list(owners), what=f"{owners} queued", describe=lambda: waiters(one.raft)
    )


async def test_free_lock_is_granted_at_once() -> None:
    async with serving() as one:
        reply = await one.lock.Acquire(acquire(b"a"))
        assert (reply.token, reply.expires_in.seconds) == (reply.header.revision, 30)
        again = await one.lock.Acquire(acquire(b"a"))
        assert again.token == reply.token


async def test_held_lock_without_wait_is_refused_at_once() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        wire = await failure(one.lock.Acquire(acquire(b"b")))
        assert (wire.code, wire.reason) == (S.ABORTED, "LOCK_TIMEOUT")
        assert not wire.may_have_executed
        assert waiters(one.raft) == []


async def test_waiters_are_served_first_come_first_served_with_growing_tokens() -> None:
    async with serving() as one:
        first = await one.lock.Acquire(acquire(b"0"))
        calls, names = [], [b"1", b"2", b"3"]
        for number, owner in enumerate(names, 1):
            calls.append(one.lock.Acquire(acquire(owner, 30), timeout=60))
            await queued(one, *names[:number])
        tokens = [first.token]
        for owner, call in zip([b"0", b"1", b"2"], calls, strict=True):
            await one.lock.Release(release(owner))
            tokens.append((await call).token)
        assert tokens == sorted(set(tokens))
        assert holders(one.raft) == [b"3"]


async def test_waiter_gets_the_lock_when_its_holder_expires() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a", ttl_s=5))
        call = one.lock.Acquire(acquire(b"b", 30), timeout=60)
        await queued(one, b"b")
        one.raft.advance_ms(5_000)
        assert (await call).token


async def test_wait_that_ends_gives_its_place_up() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        wire = await failure(one.lock.Acquire(acquire(b"b", 0.2), timeout=10))
        assert (wire.code, wire.reason) == (S.ABORTED, "LOCK_TIMEOUT")
        assert waiters(one.raft) == []


async def test_deadline_shorter_than_the_wait_gives_the_place_up_before_it_ends() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        wire = await failure(one.lock.Acquire(acquire(b"b", 30), timeout=1.0))
        assert wire.reason == "LOCK_TIMEOUT"
        assert waiters(one.raft) == []


async def test_wait_without_a_deadline_lasts_as_long_as_it_says() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        call = one.lock.Acquire(acquire(b"b", 3600))
        await queued(one, b"b")
        await one.lock.Release(release(b"a"))
        assert (await call).token


async def test_cancelled_waiter_leaves_the_queue() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        call = one.lock.Acquire(acquire(b"b", 30), timeout=60)
        await queued(one, b"b")
        call.cancel()
        await queued(one)
        gauge = one.server.metrics.registry.get_sample_value
        await async_wait_until(lambda: gauge("replcache_lock_waits") == 0, what="nobody waits")


async def test_waiter_whose_process_dies_leaves_the_queue() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        async with grpc.aio.insecure_channel(one.server.grpc_address) as channel:
            lock = stubs(channel)[1]
            lock.Acquire(acquire(b"b", 30), timeout=60)
            await queued(one, b"b")
        await queued(one)


async def test_caller_who_cancels_while_the_grant_is_under_way_does_not_keep_the_lock() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        call = one.lock.Acquire(acquire(b"a", 30), timeout=60)
        gauge = one.server.metrics.registry.get_sample_value
        await async_wait_until(lambda: gauge("replcache_proposals_in_flight") == 1, what="under way")
        call.cancel()
        await async_wait_until(lambda: gauge("replcache_lock_waits") == 0, what="the server knows")
        one.raft.proposals_open.set()
        await async_wait_until(
            lambda: (
                [type(op) for command in one.raft.proposed for op in command.ops]
                == [LockAcquire, LockRelease]
            ),
            what="acquired, then given back",
        )
        assert holders(one.raft) == []


def is_release(command: Command) -> bool:
    return isinstance(command.ops[0], LockRelease)


async def test_late_clean_up_of_a_lost_call_does_not_take_the_place_of_its_retry() -> None:
    """A caller gives an attempt up and asks again with the same owner; the clean-up of the first attempt
    comes after that. Without the attempt's number it would take the place, or the lock, from the retry."""
    async with serving() as one:
        await one.lock.Acquire(acquire(b"x"))
        lost = one.lock.Acquire(acquire(b"a", 30), timeout=60)
        await queued(one, b"a")
        one.raft.holds = is_release
        one.raft.proposals_open.clear()
        gauge = one.server.metrics.registry.get_sample_value
        lost.cancel()
        await async_wait_until(lambda: gauge("replcache_proposals_in_flight") == 1, what="clean-up under way")
        proposed = len(one.raft.proposed)
        retry = one.lock.Acquire(acquire(b"a", 30), timeout=60)
        await async_wait_until(lambda: len(one.raft.proposed) > proposed, what="the retry has the place")
        one.raft.proposals_open.set()
        await async_wait_until(lambda: is_release(one.raft.proposed[-1]), what="the clean-up ran")
        assert waiters(one.raft) == [b"a"]
        await one.lock.Release(release(b"x"))
        assert (await retry).token == one.raft.machine.held_token("l", b"a")


class LateRaft(FakeRaft):
    """The caller of a granted acquire hears of it `late_ms` of cluster time later, `times` times."""

    late_ms = 0
    times = 0

    async def propose(
        self, command: Command, deadline: float, on_applied: OnApplied | None = None
    ) -> CommandResult:
        result = await super().propose(command, deadline, on_applied)
        if self.times and isinstance(command.ops[0], LockAcquire):
            self.times -= 1
            self.advance_ms(self.late_ms)
        return result


@pytest.mark.parametrize("wait_s", [0, 30])
async def test_grant_that_is_over_when_it_arrives_is_not_answered(wait_s: int) -> None:
    """The lock is looked at again before it is promised (etcd #11456)."""
    raft = LateRaft()
    raft.late_ms, raft.times = 1_500, 1
    async with serving(raft) as one:
        call = one.lock.Acquire(acquire(b"a", wait_s, ttl_s=1), timeout=60)
        if wait_s:
            assert (await call).token == raft.machine.held_token("l", b"a") != 0
        else:
            assert (await failure(call)).reason == "LOCK_TIMEOUT"


async def test_grant_is_found_without_an_event() -> None:
    """An installed snapshot brings the state in which the lock was granted, but no event."""
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        call = one.lock.Acquire(acquire(b"b", 30), timeout=60)
        await queued(one, b"b")
        other = FakeRaft("n2")
        other.machine = StateMachine.restore(list(one.raft.machine.begin_snapshot().chunks()))
        await other.propose(Command(ops=(LockRelease("l", b"a"),)), other.clock.now() + 5)
        one.raft.install_machine(other.machine)
        assert (await call).token == other.machine.held_token("l", b"b")


async def test_grant_that_ran_out_before_its_waiter_woke_is_not_answered() -> None:
    """The lock is looked at again before it is promised (etcd #11456): here grant and expiry are applied
    before the waiter runs, so it queues anew."""
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        call = one.lock.Acquire(acquire(b"b", 30, ttl_s=1), timeout=60)
        await queued(one, b"b")
        await one.raft.propose(Command(ops=(LockRelease("l", b"a"),)), one.raft.clock.now() + 5)
        one.raft.advance_ms(1_500)
        reply = await call
        assert one.raft.machine.held_token("l", b"b") == reply.token
        acquires = [op for c in one.raft.proposed for op in c.ops if isinstance(op, LockAcquire)]
        assert [op.owner for op in acquires] == [b"a", b"b", b"b"]


async def test_wait_ended_without_a_leader_is_unknown() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire(b"a"))
        call = one.lock.Acquire(acquire(b"b", 0.5), timeout=1.5)
        await queued(one, b"b")
        one.raft.leader = ""
        wire = await failure(call)
        assert (wire.reason, wire.may_have_executed) == ("OUTCOME_UNKNOWN", True)


async def test_stopping_node_sends_waiters_elsewhere_without_their_losing_the_place() -> None:
    async with serving(stop_grace_s=10.0) as one:
        await one.lock.Acquire(acquire(b"a"))
        call = one.lock.Acquire(acquire(b"b", 30), timeout=60)
        await queued(one, b"b")
        stopping = asyncio.create_task(one.server.stop())
        wire = await failure(call)
        assert (wire.code, wire.reason) == (S.UNAVAILABLE, "OUTCOME_UNKNOWN")
        await asyncio.wait_for(stopping, 5)
        assert waiters(one.raft) == [b"b"]


async def test_semaphore_and_shared_locks() -> None:
    async with serving() as one:
        for owner in (b"a", b"b"):
            await one.lock.Acquire(acquire(owner, permits=2, name="s"))
        assert (await failure(one.lock.Acquire(acquire(b"c", permits=2, name="s")))).reason == "LOCK_TIMEOUT"
        wire = await failure(one.lock.Acquire(acquire(b"c", permits=3, name="s")))
        assert wire.code is S.INVALID_ARGUMENT
        for owner in (b"a", b"b"):
            await one.lock.Acquire(acquire(owner, mode=pb.LOCK_MODE_SHARED, name="r"))
        assert (await failure(one.lock.Acquire(acquire(b"c", name="r")))).reason == "LOCK_TIMEOUT"


async def test_renew_release_and_lost() -> None:
    async with serving() as one:
        held = await one.lock.Acquire(acquire(b"a"))
        renewal = pb.RenewRequest(name="l", owner=b"a", token=held.token, ttl=Duration(seconds=50))
        assert (await one.lock.Renew(renewal)).expires_in.seconds == 50
        wrong = pb.RenewRequest(name="l", owner=b"a", token=held.token + 1, ttl=Duration(seconds=50))
        wire = await failure(one.lock.Renew(wrong))
        assert (wire.code, wire.reason) == (S.FAILED_PRECONDITION, "LOCK_LOST")
        assert not (await one.lock.Release(release(b"a", token=held.token + 1))).released
        assert (await one.lock.Release(release(b"a", token=held.token))).released
        assert not (await one.lock.Release(release(b"a"))).released
        assert (await failure(one.lock.Renew(renewal))).reason == "LOCK_LOST"


async def test_describe_shows_holders_and_the_queue() -> None:
    async with serving() as one:
        held = await one.lock.Acquire(acquire(b"a", note="deploy"))
        call = one.lock.Acquire(acquire(b"b", 30), timeout=60)
        await queued(one, b"b")
        await one.lock.Acquire(acquire(b"x", name="other"))
        reply = await one.lock.Describe(pb.DescribeRequest())
        assert [lock.name for lock in reply.locks] == ["l", "other"]
        lock = (await one.lock.Describe(pb.DescribeRequest(name="l"))).locks[0]
        assert (lock.holders[0].owner, lock.holders[0].token, lock.holders[0].note) == (
            b"a",
            held.token,
            "deploy",
        )
        assert lock.holders[0].mode == pb.LOCK_MODE_EXCLUSIVE
        assert [(waiter.owner, waiter.token) for waiter in lock.waiters] == [(b"b", 0)]
        assert 28 <= lock.waiters[0].expires_in.seconds <= 30
        call.cancel()


@pytest.mark.parametrize("callers", [60])
async def test_many_callers_one_at_a_time(callers: int) -> None:
    """Everybody gets the lock once, nobody at the same time as another, in the order of their tokens."""
    async with serving() as one:
        inside, seen = 0, []

        async def work(owner: bytes) -> None:
            nonlocal inside
            token = (await one.lock.Acquire(acquire(owner, 50), timeout=60)).token
            inside += 1
            assert inside == 1
            seen.append(token)
            await one.cluster.Status(cluster_pb2.StatusRequest())
            inside -= 1
            await one.lock.Release(release(owner, token=token))

        await asyncio.gather(*(work(b"%d" % number) for number in range(callers)))
        assert seen == sorted(seen)
        assert len(seen) == callers
        assert holders(one.raft) == waiters(one.raft) == []


async def test_waiter_whose_place_is_not_in_an_installed_snapshot_asks_again() -> None:
    """The lock came free, and its waiter's place ran out, in entries that this node never saw."""
    async with serving(FakeRaft("n2")) as one:
        await one.lock.Acquire(acquire(b"a"))
        waiting = asyncio.ensure_future(one.lock.Acquire(acquire(b"b", wait_s=60)))
        await queued(one, b"b")
        one.raft.install_machine(StateMachine())
        reply = await asyncio.wait_for(waiting, 10)
        assert holders(one.raft) == [b"b"]
        assert reply.token
