"""Cluster.Snapshot hands out everything: who may read it, until when, and what the audit log says of it."""

import queue
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from structlog.testing import capture_logs

from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cluster_pb2, common_pb2
from replcache.raft.port import Backup
from replcache.server.backend import Backend
from replcache.server.backups import AT_ONCE_MAX, Backups
from replcache.server.gateway_calls import Registry
from replcache.server.interceptors import CallBoundary
from replcache.server.security.rules import path_of
from replcache.server.security.setup import build
from tests.helpers.auth import AuthFile, with_token
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, serving, stubs, wire_error
from tests.helpers.wait import async_wait_until

REQUEST = cluster_pb2.SnapshotRequest()


class HeldRaft(FakeRaft):
    """Its backups consist of what the test puts into `pieces`; None is the end of one."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: queue.Queue[bytes | None] = queue.Queue()

    def begin_backup(self) -> Backup:
        return Backup(5, iter(self.pieces.get, None), lambda: None)


@dataclass(frozen=True)
class Guarded:
    one: Serving
    raft: HeldRaft
    file: AuthFile
    lines: list[Any]

    def cluster(self, user: str) -> Any:
        return stubs(with_token(self.one.channel, self.file.token(user)))[3]

    def results(self) -> list[tuple[str, str]]:
        return results(self.lines)

    async def written(self, *expected: tuple[str, str]) -> None:
        """The handler may end a little later than the client's call."""
        await async_wait_until(
            lambda: self.results() == list(expected), what="the audit log", describe=self.results
        )


def results(lines: list[Any]) -> list[tuple[str, str]]:
    """Of snapshots: who, and what came of it."""
    return [(line["who"], line["result"]) for line in lines if line.get("call") == "Cluster.Snapshot"]


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield cast("list[Any]", found)


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[Any]) -> AsyncIterator[Guarded]:
    monkeypatch.setattr("replcache.constants.AUTH_RELOAD_INTERVAL_S", 0.02)
    file, raft = AuthFile(tmp_path), HeldRaft()
    for user in ("any", "shop"):
        file.token(user)
    async with serving(raft, auth_file=file.path) as one:
        try:
            yield Guarded(one, raft, file, lines)
        finally:
            for _ in range(AT_ONCE_MAX):
                raft.pieces.put(None)


async def ended(call: Any) -> str:
    """Reads to the end; the reason why it came early."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as err:
        return wire_error(err).reason
    return "ok"


@pytest.mark.parametrize(("taken", "reason"), [("role", "PERMISSION_DENIED"), ("token", "UNAUTHENTICATED")])
async def test_nothing_more_is_sent_when_the_right_is_taken_away(
    node: Guarded, taken: str, reason: str
) -> None:
    cluster = node.cluster("any")
    call = cluster.Snapshot(REQUEST)
    assert (await call.read()).applied_index == 5
    node.raft.pieces.put(b"before")
    assert (await call.read()).data == b"before"
    if taken == "role":
        node.file.change('[users.any]\nroles = ["everything"]', '[users.any]\nroles = ["shop"]')
    else:
        token_id = node.file.token("any").partition(".")[0]
        node.file.change(f'id = "{token_id}"', f'id = "{token_id}"\nrevoked = 2020-01-01T00:00:00Z')

    async def is_refused() -> bool:
        try:
            await cluster.Hash(cluster_pb2.HashRequest())
        except grpc.aio.AioRpcError as err:
            return wire_error(err).reason == reason
        return False

    await async_wait_until(is_refused, what="the right is gone")
    node.raft.pieces.put(b"after")
    with pytest.raises(grpc.aio.AioRpcError) as stopped:
        await call.read()
    assert wire_error(stopped.value).reason == reason
    await node.written(("any", reason))


async def test_snapshots_are_audited_with_their_end(node: Guarded) -> None:
    whole = node.cluster("any").Snapshot(REQUEST)
    assert (await whole.read()).applied_index == 5
    assert node.results() == [], "not before its end"
    node.raft.pieces.put(None)
    assert await ended(whole) == "ok"
    assert await ended(node.cluster("shop").Snapshot(REQUEST)) == "PERMISSION_DENIED"
    assert await ended(node.one.cluster.Snapshot(REQUEST)) == "UNAUTHENTICATED"
    before = [("any", "ok"), ("shop", "PERMISSION_DENIED"), ("", "UNAUTHENTICATED")]
    await node.written(*before)
    running = [node.cluster("any").Snapshot(REQUEST) for _ in range(AT_ONCE_MAX)]
    for call in running:
        await call.read()
    assert await ended(node.cluster("any").Snapshot(REQUEST)) == "OVERLOADED"
    await node.written(*before, ("any", "OVERLOADED"))
    for call in running:
        call.cancel()
    await node.written(*before, ("any", "OVERLOADED"), *[("any", "CANCELLED")] * AT_ONCE_MAX)


async def test_snapshot_whose_connection_broke_is_not_audited_as_complete(lines: list[Any]) -> None:
    """gRPC's context says so with an InternalError, after which the handler simply returns."""

    class Broken:
        def peer(self) -> str:
            return "ipv4:10.0.0.5:1234"

        async def write(self, message: Any) -> None:
            if message.data:
                raise grpc.aio.InternalError('Failed "execute_batch"')

    backend = SimpleNamespace(
        machine=SimpleNamespace(revision=1),
        header=lambda _: common_pb2.ResponseHeader(),
        port=SimpleNamespace(begin_backup=lambda: Backup(5, iter([b"data"]), lambda: None)),
    )
    clock, metrics = SystemClock(), Metrics()
    backups = Backups(cast("Backend", backend), CallBoundary(clock, metrics))
    registry = Registry()
    service = path_of("Cluster.Snapshot").split("/")[1]
    registry.add_registered_method_handlers(service, {"Snapshot": backups.handler()})
    protected = build(ServerConfig(), clock, metrics).guard.protect(registry)
    await cast("Any", protected.services[service]["Snapshot"]).unary_stream(REQUEST, Broken())
    assert results(lines) == [("", "CANCELLED")]
