"""The Cluster and Session services, health, reflection, and the HTTP port."""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import replcache
from replcache.errors import ConfigError
from replcache.pb.v1 import cache_pb2, cluster_pb2, session_pb2
from replcache.pb.v1.common_pb2 import Idempotency
from replcache.raft.port import Member, PeerStatus, Role
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, failure, serving
from tests.helpers.wait import async_wait_until

S = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# --- Cluster ---


async def test_status_tells_what_the_node_knows() -> None:
    raft = FakeRaft()
    raft.peers = (PeerStatus("n2", True, 17, 0.25), PeerStatus("n3", False, None, None))
    async with serving(raft) as one:
        await one.cache.Set(cache_pb2.SetRequest(key=b"key", value=b"value"))
        reply = await one.cluster.Status(cluster_pb2.StatusRequest())
        assert (reply.role, reply.keys, reply.version) == (
            cluster_pb2.ROLE_LEADER,
            1,
            replcache.__version__,
        )
        assert reply.value_bytes > 0
        assert (reply.applied_index, reply.commit_index, reply.header.revision) == (1, 1, 1)
        assert reply.has_quorum
        assert reply.uptime.ToNanoseconds() > 0
        second, third = reply.peers
        assert (second.name, second.connected, second.match_index) == ("n2", True, 17)
        assert second.since_heard.ToNanoseconds() == 250_000_000
        assert (third.connected, third.match_index, third.HasField("since_heard")) == (False, 0, False)


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_has_its_name_on_the_wire(role: Role) -> None:
    async with serving() as one:
        one.raft.role = role
        reply = await one.cluster.Status(cluster_pb2.StatusRequest())
        assert cluster_pb2.Role.Name(reply.role) == f"ROLE_{role.name}"


async def test_members_are_added_promoted_and_removed() -> None:
    async with serving() as one:
        added = await one.cluster.AddMember(
            cluster_pb2.AddMemberRequest(name="n2", peer_address="h:1", client_address="h:2")
        )
        assert [(member.name, member.voter) for member in added.members] == [("n1", True), ("n2", False)]
        promoted = await one.cluster.PromoteMember(cluster_pb2.PromoteMemberRequest(name="n2"))
        assert promoted.members[1].voter
        await one.cluster.RemoveMember(cluster_pb2.RemoveMemberRequest(name="n2"))
        members = (await one.cluster.Members(cluster_pb2.MembersRequest())).members
        assert [(member.name, member.incarnation) for member in members] == [("n1", 7)]
        wire = await failure(one.cluster.RemoveMember(cluster_pb2.RemoveMemberRequest(name="n9")))
        assert (wire.code, wire.field) == (S.INVALID_ARGUMENT, "name")


async def test_leadership_is_transferred() -> None:
    raft = FakeRaft()
    raft.members = (*raft.members, Member("n2", "h:1", "h:2"))
    async with serving(raft) as one:
        reply = await one.cluster.TransferLeadership(cluster_pb2.TransferLeadershipRequest(to="n2"))
        assert (reply.leader, reply.header.leader) == ("n2", "n2")


async def test_hash_is_that_of_the_state_at_the_index() -> None:
    async with serving() as one:
        await one.cache.Set(cache_pb2.SetRequest(key=b"k", value=b"v"))
        reply = await one.cluster.Hash(cluster_pb2.HashRequest())
        assert (reply.applied_index, reply.digest) == (1, one.raft.machine.digest())


# --- Session ---


async def test_session_lives_from_open_to_close() -> None:
    async with serving(session_ttl_s=90) as one:
        opened = await one.session.Open(session_pb2.OpenSessionRequest())
        assert opened.session_id
        assert opened.ttl.seconds == 90
        other = await one.session.Open(session_pb2.OpenSessionRequest(ttl=Duration(seconds=5)))
        assert other.session_id != opened.session_id
        keep = session_pb2.KeepSessionRequest(session_id=other.session_id)
        one.raft.advance_ms(4_000)
        assert (await one.session.KeepAlive(keep)).alive
        one.raft.advance_ms(4_000)
        assert (await one.session.KeepAlive(keep)).alive
        one.raft.advance_ms(5_500)
        assert not (await one.session.KeepAlive(keep)).alive
        await one.session.Close(session_pb2.CloseSessionRequest(session_id=opened.session_id))
        write = cache_pb2.SetRequest(
            key=b"k", idempotency=Idempotency(session_id=opened.session_id, sequence=1)
        )
        assert (await failure(one.cache.Set(write))).reason == "SESSION_EXPIRED"


# --- health and reflection ---


def health(one: Serving) -> Any:
    return health_pb2_grpc.HealthStub(one.channel)  # type: ignore[no-untyped-call]


async def health_of(one: Serving, service: str) -> int:
    return (await health(one).Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_health_follows_the_quorum_within_a_second() -> None:
    async with serving() as one:
        for service in ("", "replcache.v1.Cache", "replcache.v1.Lock"):
            assert await health_of(one, service) == SERVING
        one.raft.has_quorum = False

        async def is_down() -> bool:
            return await health_of(one, "replcache.v1.Cache") == NOT_SERVING

        await async_wait_until(is_down, timeout_s=1.0, what="NOT_SERVING")
        assert await health_of(one, "") == SERVING
        one.raft.has_quorum = True

        async def is_up() -> bool:
            return await health_of(one, "replcache.v1.Cache") == SERVING

        await async_wait_until(is_up, timeout_s=1.0, what="SERVING again")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(one, "no.such.Service")
        assert caught.value.code() is S.NOT_FOUND


async def test_health_is_pushed_to_watchers() -> None:
    async with serving() as one:
        watch = health(one).Watch(health_pb2.HealthCheckRequest(service="replcache.v1.Cache"), timeout=20)
        assert (await watch.read()).status == SERVING
        one.raft.leader = ""
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()


async def test_halted_node_is_not_live_and_ends_the_server() -> None:
    async with serving() as one:
        one.raft.halted = "disk"
        assert "disk" in await asyncio.wait_for(asyncio.shield(one.server.failed), 5)
        assert await health_of(one, "") == NOT_SERVING


@pytest.mark.parametrize("switched_on", [True, False])
async def test_reflection_can_be_switched_off(switched_on: bool) -> None:
    async with serving(reflection=switched_on) as one:
        stub = reflection_pb2_grpc.ServerReflectionStub(one.channel)
        call = stub.ServerReflectionInfo(timeout=5)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        if not switched_on:
            # The refusal may be here before the question has left.
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.write(question)
                await call.read()
            assert caught.value.code() is S.UNIMPLEMENTED
            return
        await call.write(question)
        services = {one.name for one in (await call.read()).list_services_response.service}
        assert {"replcache.v1.Cache", "replcache.v1.Lock", "grpc.health.v1.Health"} <= services
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="replcache.v1.Cache"))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        call.cancel()


# --- HTTP ---


async def get(one: Serving, path: str) -> tuple[int, str]:
    url = f"http://{one.server.http_address}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_probes_and_metrics_over_http() -> None:
    async with serving() as one:
        assert await get(one, "/healthz") == (200, '{"live": true}')
        status, text = await get(one, "/readyz")
        assert (status, '"ready": true' in text) == (200, True)
        one.raft.leader = ""
        status, text = await get(one, "/readyz")
        assert (status, '"ready": false' in text) == (503, True)
        one.raft.halted = "a torn page"
        status, text = await get(one, "/healthz")
        assert (status, "a torn page" in text) == (503, True)
        assert (await get(one, "/nothing"))[0] == 404


async def test_metrics_are_complete_and_well_formed() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    raft = FakeRaft()
    raft.peers = (PeerStatus("n2", True, 17, 0.25),)
    async with serving(raft) as one:
        await one.cache.Set(cache_pb2.SetRequest(key=b"secret-key", value=b"secret-value"))
        await one.cache.Get(cache_pb2.GetRequest(key=b"secret-key"))
        await failure(one.cache.Update(cache_pb2.UpdateRequest(key=b"no", replace=b"")))
        _, text = await get(one, "/metrics")
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert text.count("# TYPE") == len(families), "a name twice"
        samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in families.values()
            for sample in family.samples
        }
        assert samples["replcache_requests_total", "Cache.Get", "linearizable", "ok"] == 1
        assert samples["replcache_requests_total", "Cache.Update", "NOT_FOUND", "none"] == 1
        assert samples["replcache_request_seconds_count", "Cache.Get", "linearizable"] == 1
        assert samples[("replcache_hits_total",)] == 1
        assert samples[("replcache_keys",)] == 1
        assert samples[("replcache_raft_has_leader",)] == samples[("replcache_raft_is_leader",)] == 1
        assert samples["replcache_raft_peer_match_index", "n2"] == 17
        assert samples[("replcache_raft_fsync_seconds_total",)] == 0
        assert "secret" not in text
        assert all(name.startswith("replcache_") for name in families)


# --- start and stop ---


async def test_leadership_is_given_away_before_the_end() -> None:
    raft = FakeRaft()
    raft.members = (*raft.members, Member("n2", "h:1", "h:2"))
    async with serving(raft) as one:
        await one.server.stop()
        assert raft.transfers == [""]


@pytest.mark.parametrize("voters", [1, 2])
async def test_leadership_stays_where_it_is_when_there_is_nobody_or_nothing_to_give(voters: int) -> None:
    raft = FakeRaft()
    raft.members = (*raft.members, replace(raft.members[0], name="n2", voter=voters == 2))
    if voters == 2:
        raft.role = Role.FOLLOWER
    async with serving(raft) as one:
        await one.server.stop()
        assert raft.transfers == []


async def test_call_under_way_finishes_while_stopping_and_nothing_waits_for_watchers() -> None:
    async with serving(stop_grace_s=30) as one:
        watch = health(one).Watch(health_pb2.HealthCheckRequest(service=""), timeout=60)
        assert (await watch.read()).status == SERVING
        one.raft.proposals_open.clear()
        call = one.cache.Set(cache_pb2.SetRequest(key=b"k", value=b"v"), timeout=60)
        gauge = one.server.metrics.registry.get_sample_value
        await async_wait_until(lambda: gauge("replcache_proposals_in_flight") == 1, what="under way")
        stopping = asyncio.create_task(one.server.stop())
        assert (await watch.read()).status == NOT_SERVING
        one.raft.proposals_open.set()
        assert (await call).version == 1
        await asyncio.wait_for(stopping, 5)
        with pytest.raises(grpc.aio.AioRpcError):
            await one.cache.Set(cache_pb2.SetRequest(key=b"k"), timeout=1)


async def test_stop_ends_what_does_not_finish_within_the_grace() -> None:
    async with serving(stop_grace_s=0.2) as one:
        one.raft.proposals_open.clear()
        call = one.cache.Set(cache_pb2.SetRequest(key=b"k", value=b"v"), timeout=60)
        gauge = one.server.metrics.registry.get_sample_value
        await async_wait_until(lambda: gauge("replcache_proposals_in_flight") == 1, what="under way")
        await asyncio.wait_for(one.server.stop(), 5)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
        await one.server.stop()


@pytest.mark.parametrize("setting", ["grpc_listen", "http_listen"])
async def test_address_in_use_is_named(setting: str) -> None:
    async with serving() as one:
        taken = one.server.grpc_address if setting == "grpc_listen" else one.server.http_address
        with pytest.raises(ConfigError, match=f"{setting} = {taken}"):
            async with serving(**{setting: taken}):
                pass
