"""Leases, elections and settings of the key space through gRPC, over the fake port."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from replcache import constants
from replcache.pb.v1 import cache_pb2, election_pb2, keyspace_pb2, lease_pb2, lock_pb2
from replcache.pb.v1.common_pb2 import Fence, Idempotency
from replcache.statemachine.machine import StateMachine
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, failure, serving, wire_error
from tests.helpers.wait import async_wait_until

S = grpc.StatusCode


async def grant(one: Serving, seconds: int = 10, **more: Any) -> int:
    reply = await one.lease.Grant(lease_pb2.GrantLeaseRequest(ttl=Duration(seconds=seconds), **more))
    assert reply.ttl.seconds == seconds
    return int(reply.lease_id)


async def put(one: Serving, key: bytes, **more: Any) -> Any:
    return await one.cache.Set(cache_pb2.SetRequest(key=key, value=b"v", **more))


async def exists(one: Serving, key: bytes) -> bool:
    return bool((await one.cache.Get(cache_pb2.GetRequest(key=key))).HasField("entry"))


def acquire(name: str, owner: bytes, lease_id: int = 0, wait_s: int = 0) -> lock_pb2.AcquireRequest:
    ttl = None if lease_id else Duration(seconds=30)
    wait = Duration(seconds=wait_s)
    return lock_pb2.AcquireRequest(name=name, owner=owner, ttl=ttl, wait=wait, lease_id=lease_id)


# --- leases ---


async def test_keys_and_locks_end_with_their_lease() -> None:
    async with serving() as one:
        lease_id = await grant(one, 10)
        await put(one, b"a", lease_id=lease_id)
        await put(one, b"b", lease_id=lease_id, ttl=Duration(seconds=1))
        await put(one, b"free")
        held = await one.lock.Acquire(acquire("l", b"o", lease_id))
        assert held.token
        assert not held.HasField("expires_in")
        waiting = one.lock.Acquire(acquire("l", b"next", wait_s=60), timeout=60)
        one.raft.advance_ms(2_000)
        described = await one.lease.Describe(lease_pb2.DescribeLeaseRequest(lease_id=lease_id))
        assert (described.alive, described.keys, described.locks) == (True, [b"a"], ["l"])
        assert (described.ttl.seconds, described.expires_in.ToMilliseconds() <= 8_000) == (10, True)
        kept = await one.lease.KeepAlive(lease_pb2.KeepLeaseRequest(lease_id=lease_id))
        assert (kept.alive, kept.ttl.seconds) == (True, 10)
        one.raft.advance_ms(9_000)
        assert await exists(one, b"a")
        one.raft.advance_ms(1_001)
        assert [await exists(one, key) for key in (b"a", b"free")] == [False, True]
        assert (await waiting).token > held.token
        assert not (await one.lease.KeepAlive(lease_pb2.KeepLeaseRequest(lease_id=lease_id))).alive
        described = await one.lease.Describe(lease_pb2.DescribeLeaseRequest(lease_id=lease_id))
        assert not described.alive
        assert not described.HasField("ttl")


async def test_revoked_lease_takes_everything_with_it_once() -> None:
    async with serving() as one:
        lease_id = await grant(one)
        sets = [{"set": {"key": b"%d" % number, "lease_id": lease_id}} for number in range(3000)]
        await one.cache.Batch(cache_pb2.BatchRequest(operations=sets))
        described = await one.lease.Describe(lease_pb2.DescribeLeaseRequest(lease_id=lease_id))
        assert len(described.keys) == constants.LEASE_THINGS_DESCRIBED_MAX
        assert described.keys == sorted(described.keys)
        request = lease_pb2.RevokeLeaseRequest(lease_id=lease_id, idempotency=Idempotency(request_id=b"r"))
        assert [(await one.lease.Revoke(request)).revoked for _ in range(2)] == [True, True]
        assert not (await one.lease.Revoke(lease_pb2.RevokeLeaseRequest(lease_id=lease_id))).revoked
        assert not any([await exists(one, b"%d" % number) for number in (0, 1500, 2999)])


async def test_grant_sent_twice_under_one_request_id_is_one_lease() -> None:
    async with serving() as one:
        ids = {await grant(one, idempotency=Idempotency(request_id=b"r")) for _ in range(3)}
        assert len(ids) == 1
        assert len({await grant(one) for _ in range(2)}) == 2


async def test_lock_with_a_missing_lease_is_refused() -> None:
    async with serving() as one:
        wire = await failure(one.lock.Acquire(acquire("l", b"o", 77)))
        assert (wire.code, "77" in wire.message) == (S.NOT_FOUND, True)


async def test_waiter_whose_lease_ends_is_told_so() -> None:
    async with serving() as one:
        await one.lock.Acquire(acquire("l", b"holder"))
        lease_id = await grant(one, 5)
        call = one.lock.Acquire(acquire("l", b"o", lease_id, wait_s=60), timeout=60)
        await async_wait_until(
            lambda: bool(one.raft.machine.describe_locks("l")[0].waiters), what="it waits in the queue"
        )
        one.raft.advance_ms(5_001)
        assert (await failure(call)).code is S.NOT_FOUND


# --- elections ---


def campaign(candidate: bytes, wait_s: int = 0, value: str = "", ttl_s: int = 10) -> Any:
    return election_pb2.CampaignRequest(
        name="e",
        candidate=candidate,
        ttl=Duration(seconds=ttl_s),
        wait=Duration(seconds=wait_s),
        value=value,
    )


class Observing:
    """An Observe stream; `seen` grows as answers come: (candidate, value), None for nobody."""

    def __init__(self, one: Serving) -> None:
        self.call = one.election.Observe(election_pb2.LeaderRequest(name="e"))
        self.seen: list[tuple[bytes, str] | None] = []
        self.tokens: list[int] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for answer in self.call:
            leader = answer.leader
            self.seen.append((leader.candidate, leader.value) if answer.HasField("leader") else None)
            self.tokens.append(leader.token)

    async def has(self, *expected: tuple[bytes, str] | None) -> None:
        await async_wait_until(
            lambda: self.seen == list(expected), what="the leaders", describe=lambda: self.seen
        )


async def test_election_from_campaign_to_resignation_is_seen_by_observers() -> None:
    async with serving() as one:
        early = Observing(one)
        await early.has(None)
        first = await one.election.Campaign(campaign(b"a", value="addr-a"))
        await early.has(None, (b"a", "addr-a"))
        second = one.election.Campaign(campaign(b"b", 60, "addr-b"), timeout=60)
        await async_wait_until(lambda: bool(one.raft.machine.describe_locks("e")[0].waiters), what="b waits")
        proclaim = election_pb2.ProclaimRequest(name="e", candidate=b"a", token=first.token, value="new")
        await one.election.Proclaim(proclaim)
        late = Observing(one)
        await late.has((b"a", "new"))
        leader = (await one.election.Leader(election_pb2.LeaderRequest(name="e"))).leader
        assert (leader.candidate, leader.token, leader.value) == (b"a", first.token, "new")
        assert 8 <= leader.expires_in.seconds <= 10
        resign = election_pb2.ResignRequest(name="e", candidate=b"a", token=first.token)
        assert (await one.election.Resign(resign)).resigned
        token = (await second).token
        assert token > first.token
        await early.has(None, (b"a", "addr-a"), (b"a", "new"), None, (b"b", "addr-b"))
        await late.has((b"a", "new"), None, (b"b", "addr-b"))
        assert late.tokens == [first.token, 0, token]
        one.raft.advance_ms(10_001)
        await late.has((b"a", "new"), None, (b"b", "addr-b"), None)
        assert not (await one.election.Leader(election_pb2.LeaderRequest(name="e"))).HasField("leader")


async def test_token_of_a_leader_is_a_fence_under_the_name_of_the_election() -> None:
    async with serving() as one:
        token = (await one.election.Campaign(campaign(b"a"))).token
        await put(one, b"k", fence=Fence(name="e", token=token))
        one.raft.advance_ms(10_001)
        write = cache_pb2.SetRequest(key=b"k", fence=Fence(name="e", token=token))
        assert (await failure(one.cache.Set(write))).reason == "FENCE_REJECTED"


async def test_leader_that_renews_goes_on_and_one_that_lost_is_told() -> None:
    async with serving() as one:
        token = (await one.election.Campaign(campaign(b"a"))).token
        renewal = election_pb2.RenewCampaignRequest(
            name="e", candidate=b"a", token=token, ttl=Duration(seconds=10)
        )
        for _ in range(3):
            one.raft.advance_ms(9_000)
            assert (await one.election.Renew(renewal)).expires_in.seconds == 10
        assert (await failure(one.election.Campaign(campaign(b"b")))).reason == "LOCK_TIMEOUT"
        one.raft.advance_ms(10_001)
        assert (await failure(one.election.Renew(renewal))).reason == "LOCK_LOST"
        lost = election_pb2.ProclaimRequest(name="e", candidate=b"a", token=token, value="x")
        assert (await failure(one.election.Proclaim(lost))).reason == "LOCK_LOST"
        resign = election_pb2.ResignRequest(name="e", candidate=b"a")
        assert not (await one.election.Resign(resign)).resigned


async def test_every_change_of_a_burst_is_observed_in_order() -> None:
    async with serving() as one:
        token = (await one.election.Campaign(campaign(b"a", value="0"))).token
        seen = Observing(one)
        await seen.has((b"a", "0"))
        for number in range(1, 200):
            await one.election.Proclaim(
                election_pb2.ProclaimRequest(name="e", candidate=b"a", token=token, value=str(number))
            )
        await seen.has(*((b"a", str(number)) for number in range(200)))


async def test_observers_are_cut_off_where_changes_may_be_missing() -> None:
    async with serving() as one:
        seen = Observing(one)
        await seen.has(None)
        other = StateMachine.restore(list(one.raft.machine.begin_snapshot().chunks()))
        one.raft.install_machine(other)
        wire = await failure(seen.task)
        assert (wire.code, wire.reason, wire.retry_after_s) == (S.UNAVAILABLE, "UNAVAILABLE", 0.0)
        again = Observing(one)
        await again.has(None)
        stopping = asyncio.create_task(one.server.stop())
        assert (await failure(again.task)).code is S.UNAVAILABLE
        await stopping


async def test_observer_of_a_node_without_a_leader_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "LOCK_RECHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(constants, "OBSERVER_BLIND_S_MAX", 0.1)
    raft = FakeRaft()
    async with serving(raft) as one:
        seen = Observing(one)
        await seen.has(None)
        raft.leader = ""
        assert (await failure(seen.task)).reason == "NO_LEADER"
        call = one.election.Observe(election_pb2.LeaderRequest(name="e"))
        assert (await failure(call.read())).reason == "NO_LEADER"
        bad = one.election.Observe(election_pb2.LeaderRequest())
        assert (await failure(bad.read())).field == "name"


# --- settings ---


def namespace(name: str, **more: Any) -> keyspace_pb2.SetNamespaceRequest:
    return keyspace_pb2.SetNamespaceRequest(namespace=keyspace_pb2.Namespace(name=name, **more))


async def test_namespace_counts_refuses_and_is_listed() -> None:
    async with serving() as one:
        await put(one, b"n/before")
        request = namespace("n", prefix=b"n/", max_bytes=2000, policy=keyspace_pb2.EVICTION_POLICY_NONE)
        assert [(await one.keyspace.SetNamespace(request)).changed for _ in range(2)] == [True, False]
        for number in range(4):
            await put(one, b"n/%d" % number)
        wire = await failure(one.cache.Set(cache_pb2.SetRequest(key=b"n/big", value=bytes(1000))))
        assert (wire.code, wire.reason) == (S.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert wire.retry_after_s
        await put(one, b"elsewhere/big")
        batch = cache_pb2.BatchRequest(set_columns={"keys": [b"n/x"], "values": [bytes(1000)]})
        assert (await failure(one.cache.Batch(batch))).reason == "QUOTA_EXCEEDED"
        operations = cache_pb2.BatchRequest(operations=[{"set": {"key": b"n/x", "value": bytes(1000)}}])
        refused = (await one.cache.Batch(operations)).results[0].error
        assert wire_error(refused).retry_after_s
        (use,) = (await one.keyspace.ListNamespaces(keyspace_pb2.ListNamespacesRequest())).namespaces
        assert (use.namespace, use.keys, use.complete) == (request.namespace, 5, True)
        assert 1000 < use.bytes < 2000
        overlap = await failure(one.keyspace.SetNamespace(namespace("m", prefix=b"n/a/")))
        assert overlap.code is S.INVALID_ARGUMENT
        remove = keyspace_pb2.RemoveNamespaceRequest(name="n")
        assert [(await one.keyspace.RemoveNamespace(remove)).removed for _ in range(2)] == [True, False]
        await put(one, b"n/big")


async def test_guarded_prefix_takes_no_write_without_the_fence_of_its_lock() -> None:
    async with serving() as one:
        request = keyspace_pb2.SetGuardRequest(guard=keyspace_pb2.Guard(prefix=b"g/", lock="l"))
        assert [(await one.keyspace.SetGuard(request)).changed for _ in range(2)] == [True, False]
        guards = (await one.keyspace.ListGuards(keyspace_pb2.ListGuardsRequest())).guards
        assert list(guards) == [request.guard]
        held = await one.lock.Acquire(acquire("l", b"o"))
        await put(one, b"g/k", fence=Fence(name="l", token=held.token))
        for refused in (
            one.cache.Set(cache_pb2.SetRequest(key=b"g/k")),
            one.cache.Set(cache_pb2.SetRequest(key=b"g/k", fence=Fence(name="other", token=held.token))),
            one.cache.DeleteRange(cache_pb2.DeleteRangeRequest(prefix=b"")),
            one.cache.Batch(cache_pb2.BatchRequest(set_columns={"keys": [b"g/k"], "values": [b""]})),
        ):
            wire = await failure(refused)
            assert (wire.code, wire.reason) == (S.FAILED_PRECONDITION, "FENCE_REJECTED")
        remove = keyspace_pb2.RemoveGuardRequest(prefix=b"g/")
        assert [(await one.keyspace.RemoveGuard(remove)).removed for _ in range(2)] == [True, False]
        await put(one, b"g/k")
