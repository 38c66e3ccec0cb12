"""Three real nodes with their servers in one process, and what the services promise of them, as scenarios
with parameters: small in tests/integration, large in tests/mission."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from replcache.clock import Clock, SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    election_pb2_grpc,
    keyspace_pb2,
    keyspace_pb2_grpc,
    lease_pb2_grpc,
    lock_pb2,
    lock_pb2_grpc,
)
from replcache.pb.v1.common_pb2 import Fence, Idempotency
from replcache.raft.node import RaftNode
from replcache.raft.port import Member
from replcache.server.node_server import Server
from tests.helpers.raft_cluster import RaftCluster
from tests.helpers.serving import failure, wire_error
from tests.helpers.wait import async_wait_until, scaled

NAMES = ("n1", "n2", "n3")
# Not executed, or not known. CANCELLED: calls under way at a server that ends without any grace.
_OPEN_ENDS = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
CALL_TIMEOUT_S = 60.0


class ShiftedClock:
    """A clock that is `shift_s` off; may jump forward at any time."""

    def __init__(self, shift_s: float = 0.0) -> None:
        self.shift_s = shift_s
        self._clock = SystemClock()

    def now(self) -> float:
        return self._clock.now() + self.shift_s


class ClockedCluster(RaftCluster):
    """Each node with a clock of its own."""

    def __init__(self, directory: Path, clocks: dict[str, Clock]) -> None:
        super().__init__(directory, NAMES)
        self._clocks = clocks

    async def start_member(self, member: Member, *, join: bool = False) -> RaftNode:
        def on_halt(reason: str) -> None:
            self.halts[member.name] = reason

        node = RaftNode(
            self.config(member, join=join),
            on_halt=on_halt,
            clock=self._clocks.get(member.name),
            rng=random.Random(member.name),
        )
        self.nodes[member.name] = node
        await node.start()
        return node


@dataclass(frozen=True)
class Node:
    """One server and stubs for it; untyped because grpcio's generated ones are."""

    server: Server
    cache: Any
    lock: Any
    lease: Any
    election: Any
    keyspace: Any


class ThreeServers:
    def __init__(self, raft: RaftCluster) -> None:
        self.raft = raft
        self.nodes: dict[str, Node] = {}
        self._open = AsyncExitStack()

    async def start(self) -> None:
        await self.raft.start()
        await self.raft.wait_leader()
        for name in NAMES:
            await self.serve(name)

    async def serve(self, name: str) -> None:
        node = self.raft.nodes[name]
        config = ServerConfig(name=name, grpc_listen="127.0.0.1:0", http_listen=None, stop_grace_s=0.0)
        server = Server(config, node, node.clock, Metrics(), random.Random(name))
        await server.start()
        channel = await self._open.enter_async_context(grpc.aio.insecure_channel(server.grpc_address))
        self.nodes[name] = Node(
            server,
            cache_pb2_grpc.CacheStub(channel),  # type: ignore[no-untyped-call]
            lock_pb2_grpc.LockStub(channel),  # type: ignore[no-untyped-call]
            lease_pb2_grpc.LeaseStub(channel),  # type: ignore[no-untyped-call]
            election_pb2_grpc.ElectionStub(channel),  # type: ignore[no-untyped-call]
            keyspace_pb2_grpc.KeyspaceStub(channel),  # type: ignore[no-untyped-call]
        )

    @property
    def leader(self) -> str:
        leader = self.raft.leader
        assert leader is not None
        return leader.config.name

    @property
    def followers(self) -> list[Node]:
        return [node for name, node in self.nodes.items() if name != self.leader]

    def any(self, number: int) -> Node:
        """One of those that serve, by turns."""
        serving = list(self.nodes.values())
        return serving[number % len(serving)]

    async def kill_leader(self) -> str:
        """The node goes silent and its server with it."""
        name = self.leader
        node = self.nodes.pop(name)
        await self.raft.stop(name)
        await node.server.stop(0.0)
        return name

    async def restart(self, name: str) -> None:
        await self.raft.start(name)
        await self.raft.wait_leader(20.0)
        await self.serve(name)

    async def close(self) -> None:
        await self._open.aclose()
        for node in self.nodes.values():
            await node.server.stop(0.0)
        await self.raft.stop()


@asynccontextmanager
async def three_servers(
    directory: Path, clocks: dict[str, Clock] | None = None
) -> AsyncIterator[ThreeServers]:
    raft = RaftCluster(directory, NAMES) if clocks is None else ClockedCluster(directory, clocks)
    three = ThreeServers(raft)
    try:
        await three.start()
        yield three
    finally:
        await three.close()


async def persist(call: Callable[[int], Awaitable[Any]]) -> Any:
    """Sends a request that is safe to send again until it is answered; each try to another node."""
    async with asyncio.timeout(scaled(60)):
        number = 0
        while True:
            (reply,) = await asyncio.gather(call(number), return_exceptions=True)
            if not isinstance(reply, grpc.aio.AioRpcError):
                return reply
            if reply.code() not in _OPEN_ENDS:
                return wire_error(reply)
            number += 1
            await asyncio.sleep(0.02)


async def faults(three: ThreeServers, rounds: int, done: asyncio.Event) -> None:
    """Kills the leader and starts it again, `rounds` times or until done."""
    for _ in range(rounds):
        if done.is_set():
            return
        name = await three.kill_leader()
        await three.raft.wait_leader(20.0)
        await three.restart(name)


def request_id(*parts: object) -> Idempotency:
    return Idempotency(request_id=" ".join(map(str, parts)).encode())


# --- expiry ---


async def touched_by_reads_lives_on(three: ThreeServers, idle_s: float, lives_s: float) -> None:
    """Reads at changing nodes keep an entry alive; untouched it ends after its idle time."""
    idle = Duration(nanos=int(idle_s * 1e9) % 10**9, seconds=int(idle_s))
    await three.any(0).cache.Set(cache_pb2.SetRequest(key=b"idle", idle_ttl=idle), timeout=CALL_TIMEOUT_S)
    clock = SystemClock()
    start, number = clock.now(), 0
    while clock.now() - start < lives_s:
        await asyncio.sleep(idle_s / 2)
        reply = await three.any(number).cache.Get(cache_pb2.GetRequest(key=b"idle"), timeout=CALL_TIMEOUT_S)
        assert reply.HasField("entry"), f"it ended after {clock.now() - start:.2f} s of reads"
        number += 1
    last = clock.now()

    async def gone() -> bool:
        # A scan is no access.
        reply = await three.any(0).cache.Scan(cache_pb2.ScanRequest(prefix=b"idle"), timeout=CALL_TIMEOUT_S)
        return not reply.entries

    await async_wait_until(gone, idle_s + 5.0, "it ends")
    ended_after = clock.now() - last
    assert idle_s - 0.1 <= ended_after <= idle_s + scaled(0.5), f"it ended after {ended_after:.2f} s"


async def reads_are_counted_exactly(three: ThreeServers, max_reads: int, clients: int) -> None:
    """However many ask at once, at whatever node: max_reads of them get the entry."""
    request = cache_pb2.SetRequest(key=b"counted", value=b"v", max_reads=max_reads)
    await three.any(0).cache.Set(request, timeout=CALL_TIMEOUT_S)

    async def client(number: int) -> int:
        hits = 0
        for turn in range(max_reads * 3 // clients + 2):
            node = three.any(number + turn)
            reply = await node.cache.Get(cache_pb2.GetRequest(key=b"counted"), timeout=CALL_TIMEOUT_S)
            hits += reply.HasField("entry")
        return hits

    assert sum(await asyncio.gather(*map(client, range(clients)))) == max_reads


# --- transactions ---


async def bank_keeps_its_total(three: ThreeServers, accounts: int, transfers: int, kills: int) -> None:
    """Transfers from any node, in transactions, while leaders die: every reader sees the same total."""
    keys = [b"account/%d" % number for number in range(accounts)]
    columns = {"keys": keys, "values": [b"100"] * accounts}
    await three.any(0).cache.Batch(cache_pb2.BatchRequest(set_columns=columns), timeout=CALL_TIMEOUT_S)
    rng = random.Random(28)
    outcomes: Counter[str] = Counter()
    done = asyncio.Event()

    async def teller(teller_number: int) -> None:
        for number in range(transfers // 10):
            source, target = rng.sample(keys, 2)
            amount = rng.randint(1, 60)
            request = cache_pb2.TxnRequest(
                then=[
                    {"increment": {"key": source, "delta": -amount, "minimum": 0}},
                    {"increment": {"key": target, "delta": amount}},
                ],
                idempotency=request_id("transfer", teller_number, number),
            )
            first = rng.randrange(3)
            reply = await persist(
                lambda again, request=request, first=first: three.any(first + again).cache.Txn(
                    request, timeout=2.0
                )
            )
            outcomes["done" if hasattr(reply, "succeeded") else reply.reason] += 1

    async def auditor() -> None:
        while not done.is_set():
            reply = await persist(
                lambda again: three.any(again).cache.BatchGet(
                    cache_pb2.BatchGetRequest(keys=keys), timeout=2.0
                )
            )
            balances = [int(entry.value) for entry in reply.entries]
            assert (len(balances), sum(balances)) == (accounts, 100 * accounts)
            assert min(balances) >= 0
            outcomes["audits"] += 1
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(auditor())
        killing = group.create_task(faults(three, kills, done))
        await asyncio.gather(*map(teller, range(10)))
        done.set()
        await killing
    assert outcomes["done"] + outcomes["BATCH_ABORTED"] == transfers // 10 * 10, outcomes
    assert outcomes["done"] > transfers // 4, outcomes
    assert outcomes["audits"], outcomes


async def stock_is_sold_exactly(three: ThreeServers, stock: int, clients: int, kills: int) -> None:
    """Never below zero, never sold twice, nothing left over, while leaders die."""
    request = cache_pb2.SetRequest(key=b"stock", value=b"%d" % stock)
    await three.any(0).cache.Set(request, timeout=CALL_TIMEOUT_S)
    done = asyncio.Event()
    left: list[int] = []

    async def client(client_number: int) -> int:
        sold = 0
        while True:
            request = cache_pb2.IncrementRequest(
                key=b"stock", delta=-1, minimum=0, idempotency=request_id("buy", client_number, sold)
            )
            reply = await persist(
                lambda again, request=request: three.any(client_number + again).cache.Increment(
                    request, timeout=2.0
                )
            )
            if not hasattr(reply, "version"):
                assert reply.reason == "OUT_OF_RANGE", reply
                return sold
            left.append(reply.value)
            sold += 1

    async with asyncio.TaskGroup() as group:
        killing = group.create_task(faults(three, kills, done))
        sold = await asyncio.gather(*map(client, range(clients)))
        done.set()
        await killing
    assert sum(sold) == stock
    assert sorted(left) == list(range(stock))


# --- tags, figures ---


async def find_equals_a_scan(three: ThreeServers, steps: int, rng: random.Random) -> None:
    """After every step the search by tags finds what a scan finds."""
    tags = ["red", "green", "blue"]
    for step in range(steps):
        node = three.any(step)
        key = b"tagged/%d" % rng.randrange(30)
        chance = rng.random()
        if chance < 0.6:
            own = [tag for tag in tags if rng.random() < 0.5]
            await node.cache.Set(cache_pb2.SetRequest(key=key, tags=own), timeout=CALL_TIMEOUT_S)
        elif chance < 0.75:
            await node.cache.Delete(cache_pb2.DeleteRequest(key=key), timeout=CALL_TIMEOUT_S)
        elif chance < 0.85:
            columns = {"keys": [key], "values": [b""]}
            await node.cache.Batch(cache_pb2.BatchRequest(set_columns=columns), timeout=CALL_TIMEOUT_S)
        else:
            request = cache_pb2.InvalidateTagsRequest(tags=rng.sample(tags, 1))
            await node.cache.InvalidateTags(request, timeout=CALL_TIMEOUT_S)
        wanted = rng.sample(tags, rng.randint(1, 2))
        reader = three.any(step + 1)
        found = await reader.cache.Find(cache_pb2.FindRequest(tags=wanted), timeout=CALL_TIMEOUT_S)
        scanned = await reader.cache.Scan(cache_pb2.ScanRequest(prefix=b"tagged/"), timeout=CALL_TIMEOUT_S)
        expected = [entry.key for entry in scanned.entries if set(wanted) <= set(entry.tags)]
        assert [entry.key for entry in found.entries] == expected, f"step {step}, tags {wanted}"


async def hottest_keys_are_known(node: Node, reads: int, keys: int, rng: random.Random) -> None:
    """The ten hottest keys are within 10 % of the truth."""
    weights = [1 / rank for rank in range(1, keys + 1)]
    truth: Counter[bytes] = Counter()
    for start in range(0, reads, 500):
        drawn = [b"hot/%d" % key for key in rng.choices(range(keys), weights, k=min(500, reads - start))]
        truth.update(drawn)
        columns = cache_pb2.BatchRequest(get_columns={"keys": drawn})
        await node.cache.Batch(columns, timeout=CALL_TIMEOUT_S)
    request = keyspace_pb2.StatisticsRequest(hot_keys=100)
    reply = await node.keyspace.Statistics(request, timeout=CALL_TIMEOUT_S)
    found = {hot.key: hot.count for hot in reply.most_read}
    for key, count in truth.most_common(10):
        assert abs(found[key] - count) <= 0.1 * count, f"{key!r}: {found[key]} of {count}"
    assert sum(namespace.misses for namespace in reply.namespaces) >= reads


# --- quotas ---


async def overfill(three: ThreeServers, quota: int, value_bytes: int, times: int, batch: int) -> None:
    """Writes `times` the quota into a namespace that evicts, through all nodes; afterwards all states are the
    same, the quota holds, and another namespace has lost nothing."""
    prefix = b"evicting/"
    policy = keyspace_pb2.EVICTION_POLICY_LRU
    namespace = keyspace_pb2.Namespace(name="e", prefix=prefix, max_bytes=quota, policy=policy)
    set_namespace = keyspace_pb2.SetNamespaceRequest(namespace=namespace)
    await three.any(0).keyspace.SetNamespace(set_namespace, timeout=CALL_TIMEOUT_S)
    kept = {"keys": [b"kept/%d" % number for number in range(50)], "values": [b"v"] * 50}
    await three.any(1).cache.Batch(cache_pb2.BatchRequest(set_columns=kept), timeout=CALL_TIMEOUT_S)
    written = number = 0
    rng = random.Random(39)
    while written < quota * times:
        keys = [prefix + b"%09d" % (number * batch + place) for place in range(batch)]
        values = [rng.randbytes(value_bytes) for _ in keys]
        request = cache_pb2.BatchRequest(set_columns={"keys": keys, "values": values})
        reply = await persist(
            lambda again, request=request, number=number: three.any(number + again).cache.Batch(
                request, timeout=5.0
            )
        )
        if hasattr(reply, "reason"):
            # A fifth above the quota writes are refused, with the advice to come again.
            assert (reply.reason, bool(reply.retry_after_s)) == ("QUOTA_EXCEEDED", True)
            await asyncio.sleep(0.02)
            continue
        written += batch * (value_bytes + len(prefix) + 9 + 256)
        number += 1
    await three.raft.wait_equal(20.0)
    for node in three.raft.nodes.values():
        (view,) = node.machine.describe_namespaces()
        assert 0.5 * quota < view.used_bytes <= 1.2 * quota
        assert all(node.machine.peek_many(kept["keys"])), "another part of the key space lost keys"
        node.machine.check_invariants()
    figures = await three.any(0).keyspace.Statistics(keyspace_pb2.StatisticsRequest(), timeout=CALL_TIMEOUT_S)
    assert {one.name: one.evicted > 0 for one in figures.namespaces} == {"": False, "e": True}


# --- fences ---


async def late_writes_are_refused(three: ThreeServers, runs: int, at_once: int) -> None:
    """A holder sleeps beyond its ttl; its write under the old token is refused every time, and so is one
    without a fence, because the prefix is guarded."""
    guard = keyspace_pb2.Guard(prefix=b"guarded/", lock="guard/*")
    await three.any(0).keyspace.SetGuard(keyspace_pb2.SetGuardRequest(guard=guard), timeout=CALL_TIMEOUT_S)
    refused: Counter[str] = Counter()

    async def acquire(node: Node, name: str, owner: bytes, ttl_ms: int) -> int:
        request = lock_pb2.AcquireRequest(
            name=name,
            owner=owner,
            ttl=Duration(seconds=ttl_ms // 1000, nanos=ttl_ms % 1000 * 10**6),
            wait=Duration(seconds=30),
        )
        return int((await node.lock.Acquire(request, timeout=60)).token)

    async def one_run(number: int) -> None:
        name, key = f"guard/{number}", b"guarded/%d" % number
        sleeper, next_one = three.any(number), three.any(number + 1)
        old = await acquire(sleeper, name, b"sleeper", 100)
        new = await acquire(next_one, name, b"next", 30_000)
        assert new > old
        fence = Fence(name=name, token=new)
        await next_one.cache.Set(cache_pb2.SetRequest(key=key, value=b"new", fence=fence), timeout=60)
        late = cache_pb2.SetRequest(key=key, value=b"late", fence=Fence(name=name, token=old))
        for write in (late, cache_pb2.SetRequest(key=key, value=b"late")):
            refused[(await failure(sleeper.cache.Set(write, timeout=60))).reason] += 1
        read = await sleeper.cache.Get(cache_pb2.GetRequest(key=key), timeout=60)
        assert read.entry.value == b"new"

    for start in range(0, runs, at_once):
        await asyncio.gather(*map(one_run, range(start, min(start + at_once, runs))))
    assert refused == {"FENCE_REJECTED": 2 * runs}


# --- clocks ---


async def states_are_equal(
    three: ThreeServers, operations: int, rng: random.Random, jumps: Iterable[Callable[[], None]]
) -> None:
    """Everything that time moves (ttls, idle times, leases, evictions) at once, while clocks jump: at equal
    index all digests are equal."""
    policy = keyspace_pb2.EVICTION_POLICY_LFU
    namespace = keyspace_pb2.Namespace(name="l", prefix=b"e/", max_bytes=200_000, policy=policy)
    request = keyspace_pb2.SetNamespaceRequest(namespace=namespace)
    await three.any(0).keyspace.SetNamespace(request, timeout=CALL_TIMEOUT_S)
    pending = list(jumps)
    rounds = max(operations // 400, len(pending) + 1)
    for number in range(rounds):
        if pending and number and number % (rounds // (len(pending) + 1) or 1) == 0:
            pending.pop(0)()
        batches = []
        for place in range(4):
            ops = []
            for _ in range(100):
                key = b"%s/%d" % (rng.choice([b"e", b"x"]), rng.randrange(3000))
                ttl = Duration(nanos=rng.randrange(1, 900) * 10**6) if rng.random() < 0.5 else None
                value = rng.randbytes(rng.randrange(200))
                operation = {"set": {"key": key, "value": value, "ttl": ttl, "tags": [str(rng.randrange(9))]}}
                if rng.random() < 0.1:
                    operation = {"get": {"key": key}}
                ops.append(operation)
            batches.append((place, cache_pb2.BatchRequest(operations=ops)))
        await asyncio.gather(
            *(
                persist(
                    lambda again, place=place, batch=batch: three.any(place + again).cache.Batch(
                        batch, timeout=3.0
                    )
                )
                for place, batch in batches
            )
        )
        tag = cache_pb2.InvalidateTagsRequest(tags=[str(rng.randrange(9))])
        await persist(lambda again, tag=tag: three.any(again).cache.InvalidateTags(tag, timeout=3.0))
    await three.raft.wait_equal(30.0)
    assert not three.raft.halts
