"""A tiny in-memory cluster with scripted faults, for tests of the client.

FakeCluster: one state behind any number of gRPC servers ("nodes"), so that a client can lose one and go on
with another. It keeps the promises that the client relies on (sessions, conditions, versions, fences, FIFO
locks) in the simplest way, on one event loop, without disk or Raft. Faults are put in a script: one for
each following batch, or drawn at random from a seed.

As a program it serves until it is killed: python -m tests.helpers.fake_server --port 0
"""

import argparse
import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Any

import grpc

from replcache import errors
from replcache.pb.v1 import (
    cache_pb2,
    cache_pb2_grpc,
    cluster_pb2,
    cluster_pb2_grpc,
    common_pb2,
    lock_pb2,
    lock_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    watch_pb2_grpc,
)
from tests.helpers.fake_state import FakeLock, State, fill_entry, to_status
from tests.helpers.fake_watch import FakeWatch


class Fault(Enum):
    """What happens to one batch."""

    NONE = "none"
    # Executed; the stream breaks instead of the reply.
    DROP_REPLY = "drop_reply"
    # Not executed; the stream breaks.
    BREAK = "break"
    # Executed; nobody ever answers, the stream stays.
    SWALLOW_REPLY = "swallow_reply"
    # Not executed; nobody ever answers.
    SWALLOW = "swallow"
    # Refused with UNAVAILABLE: certainly not executed.
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    # Executed; answered with OUTCOME_UNKNOWN.
    UNKNOWN_EXECUTED = "unknown_executed"
    # Not executed; answered with OUTCOME_UNKNOWN.
    UNKNOWN_LOST = "unknown_lost"
    # The session is forgotten first.
    SESSION_EXPIRED = "session_expired"
    # Answered after a while.
    SLOW = "slow"


async def abort(context: Any, error: errors.ReplcacheError) -> None:
    status = to_status(error)
    code = next(c for c in grpc.StatusCode if c.value[0] == status.code)
    await context.abort(code, status.message, (("grpc-status-details-bin", status.SerializeToString()),))


class Faults:
    """Which fault the next batch meets."""

    def __init__(self, seed: int = 0) -> None:
        self.script: deque[Fault] = deque()
        self.rates: dict[Fault, float] = {}
        self.rng = random.Random(seed)
        self.slow_s = 0.05
        self.seen: list[Fault] = []

    def draw(self) -> Fault:
        fault = Fault.NONE
        if self.script:
            fault = self.script.popleft()
        else:
            point = self.rng.random() if self.rates else 1.0
            for candidate, rate in self.rates.items():
                point -= rate
                if point < 0:
                    fault = candidate
                    break
        if fault is not Fault.NONE:
            self.seen.append(fault)
        return fault


class FakeNode(
    cache_pb2_grpc.CacheServicer,
    lock_pb2_grpc.LockServicer,
    session_pb2_grpc.SessionServicer,
    cluster_pb2_grpc.ClusterServicer,
):
    """One gRPC server over the shared state."""

    def __init__(self, cluster: "FakeCluster", name: str) -> None:
        self.cluster = cluster
        self.state = cluster.state
        self.name = name
        self.port = 0
        self.calls: dict[str, int] = {}
        # Answers wait for this; cleared: the node hangs (like SIGSTOP).
        self.running = asyncio.Event()
        self.running.set()
        self.requests: list[cache_pb2.BatchRequest] = []
        self.refuse: errors.ReplcacheError | None = None
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)]
        )
        cache_pb2_grpc.add_CacheServicer_to_server(self, self._server)
        lock_pb2_grpc.add_LockServicer_to_server(self, self._server)
        session_pb2_grpc.add_SessionServicer_to_server(self, self._server)
        watch_pb2_grpc.add_WatchServicer_to_server(self.cluster.watch, self._server)
        cluster_pb2_grpc.add_ClusterServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self.port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        await self._server.start()

    async def stop(self, grace_s: float | None = None) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    def header(self, header: common_pb2.ResponseHeader, level: int = 0) -> None:
        header.node = self.name
        header.term = self.cluster.term
        header.leader = self.cluster.leader
        header.served_as = level  # type: ignore[assignment]  # an enum value
        if not header.revision:
            header.revision = self.state.revision
        if level == common_pb2.READ_LEVEL_ONE:
            header.staleness.FromMilliseconds(20)

    async def _enter(self, method: str, context: Any) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1
        await self.running.wait()
        if self.refuse is not None:
            await abort(context, self.refuse)

    # --- cache ---

    async def Pipeline(  # the name of the RPC
        self, requests: AsyncIterator[cache_pb2.BatchRequest], context: Any
    ) -> None:
        await self._enter("Pipeline", context)
        # grpc.aio takes one write at a time.
        writing = asyncio.Lock()
        if self.cluster.delay_s:
            async with asyncio.TaskGroup() as group:
                while (request := await context.read()) is not grpc.aio.EOF:
                    group.create_task(self._one(request, context, writing))
            return
        while (request := await context.read()) is not grpc.aio.EOF:
            await self._one(request, context, writing)

    async def _one(self, request: cache_pb2.BatchRequest, context: Any, writing: asyncio.Lock) -> None:
        await self.running.wait()
        if self.cluster.delay_s:
            await asyncio.sleep(self.cluster.delay_s)
        if self.cluster.record:
            self.requests.append(request)
        response = await self.answer(request, context)
        if response is not None:
            response.id = request.id
            level = request.read.level or (1 if request.HasField("get_columns") else 0)
            self.header(response.header, level)
            async with writing:
                await context.write(response)

    async def answer(self, request: cache_pb2.BatchRequest, context: Any) -> cache_pb2.BatchResponse | None:
        is_write = not request.HasField("get_columns")
        fault = self.cluster.faults.draw() if is_write or self.cluster.fault_reads else Fault.NONE
        error: errors.ReplcacheError | None = None
        if fault is Fault.SESSION_EXPIRED:
            self.state.sessions.pop(request.idempotency.session_id, None)
        elif fault is Fault.SLOW:
            await asyncio.sleep(self.cluster.faults.slow_s)
        elif fault is Fault.BREAK:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken before executing")
        elif fault is Fault.SWALLOW:
            return None
        elif fault is Fault.UNAVAILABLE:
            error = errors.NoLeader("no leader")
        elif fault is Fault.OVERLOADED:
            error = errors.Overloaded("busy", retry_after_s=0.01)
        elif fault is Fault.UNKNOWN_LOST:
            error = errors.OutcomeUnknown("the leader changed")
        response = cache_pb2.BatchResponse()
        if error is None:
            try:
                for check in self.cluster.checks:
                    check(request)
                response = self.state.execute(request)
            except errors.ReplcacheError as err:
                error = err
        if fault is Fault.DROP_REPLY:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken after executing")
        if fault is Fault.SWALLOW_REPLY:
            return None
        if fault is Fault.UNKNOWN_EXECUTED:
            error = errors.OutcomeUnknown("the leader changed")
        if error is not None:
            response = cache_pb2.BatchResponse(error=to_status(error))
        return response

    async def Get(self, request: cache_pb2.GetRequest, context: Any) -> cache_pb2.GetResponse:
        await self._enter("Get", context)
        response = cache_pb2.GetResponse()
        self.header(response.header, request.read.level)
        stored = self.state.entries.get(request.key)
        if stored is not None:
            fill_entry(response.entry, request.key, stored)
        return response

    async def Set(self, request: cache_pb2.SetRequest, context: Any) -> cache_pb2.SetResponse:
        response = cache_pb2.SetResponse()
        self.state._set(request, response)
        self.header(response.header)
        return response

    async def Scan(self, request: cache_pb2.ScanRequest, context: Any) -> cache_pb2.ScanResponse:
        await self._enter("Scan", context)
        response = cache_pb2.ScanResponse()
        self.header(response.header, request.read.level)
        keys = sorted(
            k for k in self.state.entries if k.startswith(request.prefix) and k > request.page_token
        )
        size = request.page_size or 100
        for key in keys[:size]:
            fill_entry(response.entries.add(), key, self.state.entries[key])
            if request.keys_only:
                response.entries[-1].value = b""
        if len(keys) > size:
            response.next_page_token = keys[size - 1]
        return response

    # --- sessions ---

    async def Open(self, request: Any, context: Any) -> session_pb2.OpenSessionResponse:
        await self._enter("Open", context)
        session_id = self.state.next_session
        self.state.next_session += 1
        self.state.sessions[session_id] = {}
        response = session_pb2.OpenSessionResponse(session_id=session_id, ttl=request.ttl)
        self.header(response.header)
        return response

    async def KeepAlive(self, request: Any, context: Any) -> session_pb2.KeepSessionResponse:
        await self._enter("KeepAlive", context)
        response = session_pb2.KeepSessionResponse(alive=request.session_id in self.state.sessions)
        self.header(response.header)
        return response

    async def Close(self, request: Any, context: Any) -> session_pb2.CloseSessionResponse:
        await self._enter("Close", context)
        self.state.sessions.pop(request.session_id, None)
        response = session_pb2.CloseSessionResponse()
        self.header(response.header)
        return response

    # --- locks ---

    async def Acquire(self, request: Any, context: Any) -> lock_pb2.AcquireResponse:
        await self._enter("Acquire", context)
        lock = self.state.locks.setdefault(request.name, FakeLock())
        lock.permits = request.permits or 1
        owner = request.owner
        token = lock.holders.get(owner, 0)
        if not token:
            waiter = lock.waiters.get(owner)
            if waiter is None:
                waiter = asyncio.get_running_loop().create_future()
                lock.waiters[owner] = waiter
            self.state.grant(request.name)
            wait_s = request.wait.ToMilliseconds() / 1000
            done, _ = await asyncio.wait([waiter], timeout=wait_s)
            if not done:
                lock.waiters.pop(owner, None)
                await abort(context, errors.LockTimeout(f"not within {wait_s} s"))
            token = waiter.result()
        if self.cluster.break_acquires:
            self.cluster.break_acquires -= 1
            self.state.start_ttl(request.name, owner, request.ttl.ToMilliseconds() / 1000)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken after the grant")
        self.state.start_ttl(request.name, owner, request.ttl.ToMilliseconds() / 1000)
        response = lock_pb2.AcquireResponse(token=token, expires_in=request.ttl)
        self.header(response.header)
        return response

    async def Renew(self, request: Any, context: Any) -> lock_pb2.RenewResponse:
        await self._enter("Renew", context)
        lock = self.state.locks.get(request.name)
        if lock is None or lock.holders.get(request.owner) != request.token:
            await abort(context, errors.LockLost("not held under this token"))
        self.state.start_ttl(request.name, request.owner, request.ttl.ToMilliseconds() / 1000)
        response = lock_pb2.RenewResponse(expires_in=request.ttl)
        self.header(response.header)
        return response

    async def Release(self, request: Any, context: Any) -> lock_pb2.ReleaseResponse:
        await self._enter("Release", context)
        released = self.state.free(request.name, request.owner, request.token)
        response = lock_pb2.ReleaseResponse(released=released)
        self.header(response.header)
        return response

    async def Describe(self, request: Any, context: Any) -> lock_pb2.DescribeResponse:
        await self._enter("Describe", context)
        response = lock_pb2.DescribeResponse()
        self.header(response.header)
        for name, lock in self.state.locks.items():
            if request.name in ("", name) and (lock.holders or lock.waiters):
                info = response.locks.add(name=name, permits=lock.permits)
                for owner, token in lock.holders.items():
                    info.holders.add(owner=owner, token=token)
                for owner in lock.waiters:
                    info.waiters.add(owner=owner)
        return response

    # --- cluster ---

    async def Status(self, request: Any, context: Any) -> cluster_pb2.StatusResponse:
        await self._enter("Status", context)
        is_leader = self.name == self.cluster.leader
        role = cluster_pb2.ROLE_LEADER if is_leader else cluster_pb2.ROLE_FOLLOWER
        response = cluster_pb2.StatusResponse(role=role, has_quorum=True, keys=len(self.state.entries))
        self.header(response.header)
        return response

    async def Members(self, request: Any, context: Any) -> cluster_pb2.MembersResponse:
        await self._enter("Members", context)
        response = cluster_pb2.MembersResponse()
        self.header(response.header)
        response.members.extend(self.cluster.members())
        return response

    async def AddMember(self, request: Any, context: Any) -> cluster_pb2.MembershipResponse:
        await self._enter("AddMember", context)
        self.cluster.added.append(request.name)
        response = cluster_pb2.MembershipResponse(members=self.cluster.members())
        response.members.add(name=request.name, client_address=request.client_address, voter=False)
        self.header(response.header)
        return response

    async def PromoteMember(self, request: Any, context: Any) -> cluster_pb2.MembershipResponse:
        await self._enter("PromoteMember", context)
        response = cluster_pb2.MembershipResponse(members=self.cluster.members())
        self.header(response.header)
        return response

    async def RemoveMember(self, request: Any, context: Any) -> cluster_pb2.MembershipResponse:
        await self._enter("RemoveMember", context)
        members = [member for member in self.cluster.members() if member.name != request.name]
        response = cluster_pb2.MembershipResponse(members=members)
        self.header(response.header)
        return response

    async def TransferLeadership(self, request: Any, context: Any) -> cluster_pb2.TransferLeadershipResponse:
        await self._enter("TransferLeadership", context)
        self.cluster.leader = request.to or self.cluster.leader
        response = cluster_pb2.TransferLeadershipResponse(leader=self.cluster.leader)
        self.header(response.header)
        return response

    async def Hash(self, request: Any, context: Any) -> cluster_pb2.HashResponse:
        await self._enter("Hash", context)
        response = cluster_pb2.HashResponse(applied_index=self.state.revision, digest=b"digest")
        self.header(response.header)
        return response


class FakeCluster:
    """Nodes n1, n2, ... over one state. All methods run on the loop that started it."""

    def __init__(self, nodes: int = 3, seed: int = 0, delay_s: float = 0.0) -> None:
        self.state = State()
        self.faults = Faults(seed)
        self.watch = FakeWatch(self.state)
        self.fault_reads = False
        self.record = True
        self.delay_s = delay_s
        self.term = 1
        self.added: list[str] = []
        self.break_acquires = 0
        # Called with each batch before it is executed; may raise.
        self.checks: list[Callable[[cache_pb2.BatchRequest], None]] = []
        self.nodes = [FakeNode(self, f"n{number + 1}") for number in range(nodes)]
        self.leader = "n1"

    def __getitem__(self, name: str) -> FakeNode:
        return next(node for node in self.nodes if node.name == name)

    @property
    def url(self) -> str:
        return "replcache://" + ",".join(node.address for node in self.nodes)

    def members(self) -> list[cluster_pb2.Member]:
        return [
            cluster_pb2.Member(name=node.name, client_address=node.address, voter=True) for node in self.nodes
        ]

    def calls(self, method: str) -> int:
        return sum(node.calls.get(method, 0) for node in self.nodes)

    def requests(self) -> list[cache_pb2.BatchRequest]:
        return [request for node in self.nodes for request in node.requests]

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        for node in self.nodes:
            await node.start(credentials)

    async def stop(self) -> None:
        self.watch.break_streams.set()
        self.watch.flowing.set()
        self.watch.paging.set()
        for node in self.nodes:
            node.running.set()
            await node.stop()
        for lock in self.state.locks.values():
            for timer in lock.expiry.values():
                timer.cancel()


@contextlib.asynccontextmanager
async def fake_cluster(nodes: int = 3, seed: int = 0, delay_s: float = 0.0) -> AsyncIterator[FakeCluster]:
    cluster = FakeCluster(nodes, seed, delay_s)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def _serve(port: int, delay_s: float) -> None:
    cluster = FakeCluster(1, delay_s=delay_s)
    cluster.record = False
    cluster.nodes[0].port = port
    await cluster.start()
    print(f"listening on {cluster.nodes[0].address}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="time before each batch is answered")
    arguments = parser.parse_args()
    import uvloop

    uvloop.run(_serve(arguments.port, arguments.delay_ms / 1000))


if __name__ == "__main__":
    main()
