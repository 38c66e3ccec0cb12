"""A real gRPC server on loopback over the fake Raft port, and readable errors."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import (
    cache_pb2_grpc,
    cluster_pb2_grpc,
    election_pb2_grpc,
    keyspace_pb2_grpc,
    lease_pb2_grpc,
    lock_pb2_grpc,
    session_pb2_grpc,
    watch_pb2_grpc,
)
from replcache.server.node_server import Server
from tests.helpers.fake_raft import FakeRaft


@dataclass(frozen=True)
class Serving:
    """Everything a test needs of one server; the stubs are untyped because grpcio's generated ones are."""

    raft: FakeRaft
    server: Server
    channel: grpc.aio.Channel
    cache: Any
    lock: Any
    session: Any
    cluster: Any

    @property
    def lease(self) -> Any:
        return lease_pb2_grpc.LeaseStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def election(self) -> Any:
        return election_pb2_grpc.ElectionStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def keyspace(self) -> Any:
        return keyspace_pb2_grpc.KeyspaceStub(self.channel)  # type: ignore[no-untyped-call]

    @property
    def watch(self) -> Any:
        return watch_pb2_grpc.WatchStub(self.channel)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def serving(raft: FakeRaft | None = None, **settings: Any) -> AsyncIterator[Serving]:
    """Starts a server on free ports and stops it at once at the end."""
    raft = raft or FakeRaft()
    config = ServerConfig(
        **{"grpc_listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "stop_grace_s": 0.0, **settings}
    )
    server = Server(config, raft, SystemClock(), Metrics(), random.Random(1))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            yield Serving(raft, server, channel, *stubs(channel))
    finally:
        await server.stop()


def stubs(channel: grpc.aio.Channel) -> tuple[Any, Any, Any, Any]:
    return (
        cache_pb2_grpc.CacheStub(channel),  # type: ignore[no-untyped-call]
        lock_pb2_grpc.LockStub(channel),  # type: ignore[no-untyped-call]
        session_pb2_grpc.SessionStub(channel),  # type: ignore[no-untyped-call]
        cluster_pb2_grpc.ClusterStub(channel),  # type: ignore[no-untyped-call]
    )


@dataclass(frozen=True)
class WireError:
    """A google.rpc.Status, taken apart."""

    code: grpc.StatusCode
    message: str
    reason: str
    may_have_executed: bool
    metadata: dict[str, str]
    retry_after_s: float | None
    field: str
    precondition: str


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def wire_error(error: Any) -> WireError:
    """Fails when there is not exactly one ErrorInfo of our domain."""
    status = error if isinstance(error, status_pb2.Status) else rpc_status.from_call(error)
    assert status is not None, f"no google.rpc.Status in {error!r}"
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    bad, failed = error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure()
    infos = 0
    retry_after_s = None
    for detail in status.details:
        if detail.Unpack(info):
            infos += 1
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        else:
            assert detail.Unpack(bad) or detail.Unpack(failed), detail
    assert infos == 1
    assert info.domain == "replcache"
    metadata = dict(info.metadata)
    return WireError(
        _CODES[status.code],
        status.message,
        info.reason,
        metadata.pop("may_have_executed") == "true",
        metadata,
        retry_after_s,
        bad.field_violations[0].field if bad.field_violations else "",
        failed.violations[0].type if failed.violations else "",
    )


async def failure(call: Any) -> WireError:
    """Awaits a call that has to fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as err:
        return wire_error(err)
    raise AssertionError(f"the call succeeded: {answer}")
