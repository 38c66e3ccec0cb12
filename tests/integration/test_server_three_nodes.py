"""Three real nodes with their servers in one process: what clients see of a cluster, through any node."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import cluster_pb2, lock_pb2, session_pb2
from replcache.pb.v1.common_pb2 import Idempotency, ReadOptions
from replcache.server.health import can_serve
from replcache.server.node_server import Server
from tests.helpers.raft_cluster import RaftCluster
from tests.helpers.serving import failure, stubs, wire_error
from tests.helpers.wait import async_wait_until, scaled

NAMES = ("n1", "n2", "n3")


class Cluster:
    """Nodes, servers, and a set of stubs for each."""

    def __init__(self, raft: RaftCluster) -> None:
        self.raft = raft
        self.servers: dict[str, Server] = {}
        self.cache: dict[str, Any] = {}
        self.lock: dict[str, Any] = {}
        self.session: dict[str, Any] = {}
        self.cluster: dict[str, Any] = {}
        self.open = AsyncExitStack()

    async def start(self) -> None:
        await self.raft.start()
        await self.raft.wait_leader()
        for name, node in self.raft.nodes.items():
            config = ServerConfig(
                name=name, grpc_listen="127.0.0.1:0", http_listen="127.0.0.1:0", stop_grace_s=2.0
            )
            server = Server(config, node, SystemClock(), Metrics(), random.Random(name))
            await server.start()
            self.servers[name] = server
            channel = await self.open.enter_async_context(grpc.aio.insecure_channel(server.grpc_address))
            found = stubs(channel)
            self.cache[name], self.lock[name], self.session[name], self.cluster[name] = found

    async def stop(self, name: str) -> None:
        """As a process does on SIGTERM."""
        await self.servers.pop(name).stop()
        await self.raft.stop(name)

    async def kill(self, name: str) -> None:
        """The node goes silent; its server is left to find out."""
        await self.raft.stop(name)

    async def close(self) -> None:
        await self.open.aclose()
        for server in self.servers.values():
            await server.stop(0.0)
        await self.raft.stop()

    @property
    def leader(self) -> str:
        leader = self.raft.leader
        assert leader is not None
        return leader.config.name

    @property
    def followers(self) -> list[str]:
        return [name for name in NAMES if name != self.leader and name in self.servers]


@pytest_asyncio.fixture
async def three(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(RaftCluster(tmp_path, NAMES))
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()


def acquire(owner: bytes, wait_s: int = 30) -> lock_pb2.AcquireRequest:
    return lock_pb2.AcquireRequest(
        name="l", owner=owner, ttl=Duration(seconds=60), wait=Duration(seconds=wait_s)
    )


async def test_any_node_takes_any_request_and_reads_what_another_wrote(three: Cluster) -> None:
    for number, (writer, reader) in enumerate([(w, r) for w in NAMES for r in NAMES]):
        value = b"%d" % number
        written = await three.cache[writer].Set(pb.SetRequest(key=b"k", value=value), timeout=5)
        read = await three.cache[reader].Get(pb.GetRequest(key=b"k"), timeout=5)
        assert (read.entry.value, read.header.node, read.header.leader) == (value, reader, three.leader)
        assert read.header.revision >= written.header.revision
    status = await three.cluster[three.leader].Status(cluster_pb2.StatusRequest(), timeout=5)
    assert status.role == cluster_pb2.ROLE_LEADER
    assert {peer.name: peer.connected for peer in status.peers} == dict.fromkeys(three.followers, True)


async def test_read_one_states_a_bound_and_session_reads_see_their_writes(three: Cluster) -> None:
    follower = three.followers[0]
    written = await three.cache[three.leader].Set(pb.SetRequest(key=b"k", value=b"1"), timeout=5)
    session = ReadOptions(level=2, min_revision=written.header.revision)
    read = await three.cache[follower].Get(pb.GetRequest(key=b"k", read=session), timeout=5)
    assert (read.entry.value, read.header.served_as) == (b"1", 2)
    bounded = ReadOptions(level=3, max_staleness=Duration(seconds=2))
    read = await three.cache[follower].Get(pb.GetRequest(key=b"k", read=bounded), timeout=5)
    assert read.header.served_as in (1, 3)
    assert read.header.staleness.ToNanoseconds() <= 2e9


async def test_lock_goes_from_node_to_node_in_the_order_of_arrival(three: Cluster) -> None:
    held = await three.lock["n1"].Acquire(acquire(b"a"), timeout=30)
    calls = {}
    for number, name in enumerate(("n2", "n3"), 1):
        calls[name] = three.lock[name].Acquire(acquire(name.encode()), timeout=30)

        async def queued(number: int = number) -> bool:
            reply = await three.lock["n1"].Describe(lock_pb2.DescribeRequest(name="l"), timeout=5)
            return len(reply.locks[0].waiters) == number

        await async_wait_until(queued, what=f"{number} waiting")
    await three.lock["n1"].Release(lock_pb2.ReleaseRequest(name="l", owner=b"a"), timeout=5)
    second = await calls["n2"]
    assert not calls["n3"].done()
    await three.lock["n3"].Release(lock_pb2.ReleaseRequest(name="l", owner=b"n2"), timeout=5)
    third = await calls["n3"]
    assert held.token < second.token < third.token


async def test_waiter_of_a_stopping_node_finds_its_place_through_another(three: Cluster) -> None:
    stopping, other = three.followers
    await three.lock[other].Acquire(acquire(b"holder"), timeout=30)
    first = three.lock[stopping].Acquire(acquire(b"early"), timeout=30)

    async def queued() -> bool:
        reply = await three.lock[other].Describe(lock_pb2.DescribeRequest(name="l"), timeout=5)
        return len(reply.locks[0].waiters) == 1

    await async_wait_until(queued, what="the first waits")
    late = three.lock[other].Acquire(acquire(b"late"), timeout=30)
    await three.stop(stopping)
    assert (await failure(first)).reason == "OUTCOME_UNKNOWN"
    again = three.lock[other].Acquire(acquire(b"early"), timeout=30)
    await three.lock[other].Release(lock_pb2.ReleaseRequest(name="l", owner=b"holder"), timeout=5)
    assert (await again).token
    assert not late.done()
    late.cancel()


async def test_leader_that_stops_hands_over_and_nobody_waits_for_an_election(three: Cluster) -> None:
    leader, follower = three.leader, three.followers[0]
    await three.cache[follower].Set(pb.SetRequest(key=b"k", value=b"1"), timeout=5)
    stopping = asyncio.create_task(three.stop(leader))
    clock = SystemClock()
    longest, version, before = 0.0, 1, clock.now()
    while not stopping.done():
        reply = await three.cache[follower].Set(pb.SetRequest(key=b"k", value=b"x"), timeout=5)
        assert reply.version == version + 1
        version, now = reply.version, clock.now()
        longest, before = max(longest, now - before), now
    await stopping
    assert longest < scaled(1.0), "the hand-over took as long as an election"
    assert three.leader != leader


async def test_node_without_a_majority_refuses_what_it_can_not_know(three: Cluster) -> None:
    survivor = three.followers[0]
    await three.cache[survivor].Set(pb.SetRequest(key=b"k", value=b"1"), timeout=5)
    for name in NAMES:
        if name != survivor:
            await three.kill(name)
    node = three.raft.nodes[survivor]
    await async_wait_until(lambda: not can_serve(node), timeout_s=3.0, what="NOT_SERVING")
    wire = await failure(three.cache[survivor].Get(pb.GetRequest(key=b"k"), timeout=1))
    assert wire.reason == "NO_LEADER"
    wire = await failure(three.cache[survivor].Set(pb.SetRequest(key=b"k", value=b"2"), timeout=1))
    assert wire.reason in ("NO_LEADER", "OUTCOME_UNKNOWN")
    read = await three.cache[survivor].Get(pb.GetRequest(key=b"k", read=ReadOptions(level=3)), timeout=1)
    assert (read.entry.value, read.header.served_as) == (b"1", 3)
    assert read.header.staleness.ToNanoseconds() > 0
    tight = ReadOptions(level=3, max_staleness=Duration(nanos=1_000_000))
    wire = await failure(three.cache[survivor].Get(pb.GetRequest(key=b"k", read=tight), timeout=1))
    assert wire.reason == "STALENESS_UNAVAILABLE"


async def test_retried_increments_count_once_over_a_change_of_leaders(three: Cluster) -> None:
    follower = three.followers[0]
    cache = three.cache[follower]
    opened = await three.session[follower].Open(session_pb2.OpenSessionRequest(), timeout=5)
    stop: asyncio.Task[None] | None = None
    total = 60
    for sequence in range(1, total + 1):
        if sequence == 20:
            stop = asyncio.create_task(three.kill(three.leader))
        request = pb.IncrementRequest(
            key=b"n",
            delta=1,
            idempotency=Idempotency(session_id=opened.session_id, sequence=sequence, acked_below=sequence),
        )
        async with asyncio.timeout(scaled(20)):
            while True:
                # Short enough that some outcomes get lost on the way.
                call = cache.Increment(request, timeout=0.3)
                (reply,) = await asyncio.gather(call, return_exceptions=True)
                if not isinstance(reply, grpc.aio.AioRpcError):
                    break
                if reply.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    assert wire_error(reply).reason in ("NO_LEADER", "OUTCOME_UNKNOWN", "UNAVAILABLE")
        assert reply.value == sequence
    assert stop is not None
    await stop
    read = await cache.Get(pb.GetRequest(key=b"n"), timeout=5)
    assert read.entry.value == b"%d" % total


async def test_states_are_equal_on_all_nodes(three: Cluster) -> None:
    requests = [pb.SetRequest(key=b"%d" % number, value=b"v") for number in range(200)]
    await asyncio.gather(
        *(three.cache[NAMES[number % 3]].Set(request, timeout=10) for number, request in enumerate(requests))
    )

    async def hashes() -> list[tuple[int, bytes]]:
        replies = [await three.cluster[name].Hash(cluster_pb2.HashRequest(), timeout=5) for name in NAMES]
        return [(reply.applied_index, reply.digest) for reply in replies]

    async def equal() -> bool:
        return len(set(await hashes())) == 1

    await async_wait_until(equal, what="one index and one digest")
