"""With an auth file: who may do what over real gRPC, and what changes while the node runs."""

import asyncio
import io
import itertools
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from replcache import AsyncClient, Client
from replcache.errors import PermissionDenied, RateLimited, Unauthenticated
from replcache.observability.logs import setup_audit, setup_logs
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import cluster_pb2, lock_pb2, session_pb2, watch_pb2, watch_pb2_grpc
from replcache.server.security import callers as callers_module
from replcache.server.security import setup as security_setup
from replcache.server.security.policy_store import PolicyStore
from tests.helpers.auth import AuthFile, bearer, with_token
from tests.helpers.serving import Serving, failure, serving, stubs, wire_error
from tests.helpers.wait import async_wait_until

S = grpc.StatusCode
MINE, THEIRS = b"shop:1", b"bank:1"
TTL = Duration(seconds=10)


@dataclass(frozen=True)
class Guarded:
    one: Serving
    file: AuthFile

    def cache(self, user: str) -> Any:
        return self.stubs(user)[0]

    def stubs(self, user: str) -> tuple[Any, Any, Any, Any]:
        return stubs(with_token(self.one.channel, self.file.token(user)))

    def client(self, user: str) -> AsyncClient:
        return AsyncClient(self.one.server.grpc_address, token=self.file.token(user), timeout=3)


@asynccontextmanager
async def guarded(tmp_path: Path, **settings: Any) -> AsyncIterator[Guarded]:
    file = AuthFile(tmp_path)
    for user in ("any", "shop", "reader", "nobody"):
        file.token(user)
    async with serving(auth_file=file.path, **settings) as one:
        yield Guarded(one, file)


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    monkeypatch.setattr("replcache.constants.AUTH_RELOAD_INTERVAL_S", 0.02)
    async with guarded(tmp_path) as found:
        yield found


async def test_nothing_but_health_without_a_token(node: Guarded) -> None:
    one = node.one
    calls = [
        one.cache.Get(pb.GetRequest(key=MINE)),
        one.cache.Set(pb.SetRequest(key=MINE)),
        one.lock.Acquire(lock_pb2.AcquireRequest(name="shop/l", owner=b"o", ttl=TTL)),
        one.cluster.Status(cluster_pb2.StatusRequest()),
        one.cluster.RemoveMember(cluster_pb2.RemoveMemberRequest(name="n2")),
    ]
    for call in calls:
        wire = await failure(call)
        assert (wire.code, wire.reason) == (S.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert not wire.may_have_executed
    health = await health_pb2_grpc.HealthStub(one.channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert one.raft.machine.revision == 0


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer aaaaaaaaaaaa." + "x" * 43)],
        [("authorization", "nonsense")],
        [("authorization", "Basic dTpw")],
        [("authorization", "Bearer ")],
        [("authorization-bin", b"\xff\x00")],
        [("x-token", "Bearer")],
    ],
)
async def test_wrong_headers_are_refused(node: Guarded, headers: list[tuple[str, str | bytes]]) -> None:
    call = node.one.cache.Get(pb.GetRequest(key=MINE), metadata=headers)
    assert (await failure(call)).code is S.UNAUTHENTICATED


async def test_right_id_with_wrong_secret_and_two_tokens_are_refused(node: Guarded) -> None:
    token = node.file.token("shop")
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    for headers in (bearer(wrong), (*bearer(token), *bearer(token))):
        call = node.one.cache.Get(pb.GetRequest(key=MINE), metadata=headers)
        assert (await failure(call)).code is S.UNAUTHENTICATED


async def test_rights_hold_for_every_way_to_a_key(node: Guarded) -> None:
    shop, everything = node.cache("shop"), node.cache("any")
    await everything.Set(pb.SetRequest(key=THEIRS, value=b"secret"))
    await shop.Set(pb.SetRequest(key=MINE, value=b"v"))
    assert (await shop.Get(pb.GetRequest(key=MINE))).entry.value == b"v"
    set_columns = pb.SetColumns(keys=[MINE, THEIRS], values=[b"a", b"b"])
    get_columns = pb.GetColumns(keys=[MINE, THEIRS])
    operation = pb.Operation(delete=pb.DeleteRequest(key=THEIRS))
    for call in (
        shop.Get(pb.GetRequest(key=THEIRS)),
        shop.BatchGet(pb.BatchGetRequest(keys=[MINE, THEIRS])),
        shop.Set(pb.SetRequest(key=THEIRS)),
        shop.Update(pb.UpdateRequest(key=THEIRS, replace=b"x")),
        shop.Delete(pb.DeleteRequest(key=THEIRS)),
        shop.Touch(pb.TouchRequest(key=THEIRS)),
        shop.Increment(pb.IncrementRequest(key=THEIRS, delta=1)),
        shop.Scan(pb.ScanRequest(prefix=b"")),
        shop.Scan(pb.ScanRequest(prefix=b"sho")),
        shop.Batch(pb.BatchRequest(set_columns=set_columns)),
        shop.Batch(pb.BatchRequest(get_columns=get_columns)),
        shop.Batch(pb.BatchRequest(operations=[operation])),
    ):
        wire = await failure(call)
        assert (wire.code, wire.reason, wire.may_have_executed) == (
            S.PERMISSION_DENIED, "PERMISSION_DENIED", False,
        )  # fmt: skip
        assert wire.metadata["right"] in ("read", "write")
    assert (await everything.Get(pb.GetRequest(key=THEIRS))).entry.value == b"secret"
    page = await shop.Scan(pb.ScanRequest(prefix=b"shop:"))
    assert [entry.key for entry in page.entries] == [MINE]
    reader = node.cache("reader")
    assert (await reader.Get(pb.GetRequest(key=MINE))).entry.value == b"v"
    assert (await failure(reader.Set(pb.SetRequest(key=MINE)))).code is S.PERMISSION_DENIED
    assert (await failure(node.cache("nobody").Get(pb.GetRequest(key=MINE)))).code is S.PERMISSION_DENIED


async def test_locks_go_by_name_and_administration_by_call(node: Guarded) -> None:
    _, lock, _, cluster = node.stubs("shop")
    held = await lock.Acquire(lock_pb2.AcquireRequest(name="shop/l", owner=b"o", ttl=TTL))
    assert held.token
    assert (await cluster.Status(cluster_pb2.StatusRequest())).has_quorum
    for call in (
        lock.Acquire(lock_pb2.AcquireRequest(name="bank/l", owner=b"o", ttl=TTL)),
        lock.Describe(lock_pb2.DescribeRequest()),
        cluster.Hash(cluster_pb2.HashRequest()),
        cluster.TransferLeadership(cluster_pb2.TransferLeadershipRequest()),
        cluster.AddMember(cluster_pb2.AddMemberRequest(name="x", peer_address="h:1", client_address="h:2")),
    ):
        assert (await failure(call)).code is S.PERMISSION_DENIED
    assert (await node.stubs("any")[3].Hash(cluster_pb2.HashRequest())).digest


async def test_each_batch_of_a_pipeline_is_checked(node: Guarded) -> None:
    stream = node.cache("shop").Pipeline()
    columns = {1: [MINE], 2: [MINE, THEIRS], 3: [MINE, b"shop:2"], 4: [THEIRS]}
    for number, keys in columns.items():
        values = [b"v"] * len(keys)
        await stream.write(pb.BatchRequest(id=number, set_columns=pb.SetColumns(keys=keys, values=values)))
    await stream.write(pb.BatchRequest(id=5, get_columns=pb.GetColumns(keys=[THEIRS])))
    answers = {answer.id: answer for answer in [await stream.read() for _ in range(5)]}
    refused = {number for number, answer in answers.items() if answer.HasField("error")}
    assert refused == {2, 4, 5}
    assert {wire_error(answers[number].error).reason for number in refused} == {"PERMISSION_DENIED"}
    stream.cancel()


async def test_client_gets_typed_errors_and_only_the_forbidden_call_fails(node: Guarded) -> None:
    async with node.client("shop") as client:
        outcomes = await asyncio.gather(
            *(client.set(f"shop:{n}", n) for n in range(20)),
            client.set("bank:1", 1),
            client.get("bank:1"),
            return_exceptions=True,
        )
        assert [type(one).__name__ for one in outcomes[-2:]] == ["PermissionDenied"] * 2
        assert not any(isinstance(one, Exception) for one in outcomes[:-2])
        with pytest.raises(PermissionDenied):
            async with client.watch(prefix="bank:") as watch:
                await anext(watch)
    for token in ("aaaaaaaaaaaa." + "x" * 43, None):
        async with AsyncClient(node.one.server.grpc_address, token=token, timeout=3) as stranger:
            with pytest.raises(Unauthenticated):
                await stranger.set("shop:1", 1)
            with pytest.raises(Unauthenticated):
                await stranger.status()


async def test_blocking_client_takes_the_token_of_the_environment_and_of_a_file(
    node: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = node.one.server.grpc_address

    def work(**arguments: Any) -> object:
        with Client(address, timeout=3, **arguments) as client:
            client.set("shop:1", 5)
            return client.get("shop:1").value

    (tmp_path / "token").write_text(node.file.token("shop") + "\n")
    assert await asyncio.to_thread(work, token_file=str(tmp_path / "token")) == 5
    monkeypatch.setenv("REPLCACHE_TOKEN", node.file.token("shop"))
    assert await asyncio.to_thread(work) == 5


async def test_revoked_token_ends_what_is_open_and_others_go_on(node: Guarded) -> None:
    file = node.file
    shop, reader = node.cache("shop"), node.cache("reader")
    await shop.Set(pb.SetRequest(key=MINE, value=b"v"))
    stream = shop.Pipeline()
    watch = watch_stub(node, "shop").Watch(
        watch_pb2.WatchRequest(prefix=b"shop:", progress_interval=Duration(nanos=20_000_000))
    )
    assert (await watch.read()).created
    token_id = file.token("shop").partition(".")[0]
    file.change(f'id = "{token_id}"', f'id = "{token_id}"\nrevoked = 2020-01-01T00:00:00Z')

    async def is_refused() -> bool:
        try:
            await shop.Get(pb.GetRequest(key=MINE))
        except grpc.aio.AioRpcError as err:
            return bool(err.code() is S.UNAUTHENTICATED)
        return False

    await async_wait_until(is_refused, what="the token is refused")
    await stream.write(pb.BatchRequest(id=1, get_columns=pb.GetColumns(keys=[MINE])))
    assert wire_error((await stream.read()).error).reason == "UNAUTHENTICATED"
    stream.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while await watch.read() is not grpc.aio.EOF:
            pass
    assert ended.value.code() is S.UNAUTHENTICATED
    assert (await reader.Get(pb.GetRequest(key=MINE))).entry.value == b"v"


def watch_stub(node: Guarded, user: str) -> Any:
    channel = with_token(node.one.channel, node.file.token(user))
    return watch_pb2_grpc.WatchStub(channel)  # type: ignore[no-untyped-call]


async def test_role_taken_away_counts_at_once_and_its_watch_ends(node: Guarded) -> None:
    shop = node.cache("shop")
    await shop.Set(pb.SetRequest(key=MINE))
    watch = watch_stub(node, "shop").Watch(
        watch_pb2.WatchRequest(prefix=b"shop:", progress_interval=Duration(nanos=20_000_000))
    )
    assert (await watch.read()).created
    node.file.change('[users.shop]\nroles = ["shop"]', "[users.shop]\nroles = []")
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while await watch.read() is not grpc.aio.EOF:
            pass
    assert ended.value.code() is S.PERMISSION_DENIED
    assert (await failure(shop.Set(pb.SetRequest(key=MINE)))).code is S.PERMISSION_DENIED


async def test_broken_file_changes_nothing_and_is_reported_once(node: Guarded) -> None:
    shop = node.cache("shop")
    good = node.file.path.read_text()
    with capture_logs() as lines:
        node.file.write(good + "\n[roles.shop]\n")
        await async_wait_until(lambda: any(line["event"] == "auth_file_not_reloaded" for line in lines))
        node.file.write(good.replace('read = ["shop:"]', "reed = []", 1))
        reports = [line for line in lines if line["event"] == "auth_file_not_reloaded"]
        await async_wait_until(
            lambda: any("roles.shop.reed" in line.get("error", "") for line in lines), what="reported"
        )
        await shop.Set(pb.SetRequest(key=MINE))
        node.file.path.unlink()
        await async_wait_until(lambda: any("No such file" in line.get("error", "") for line in lines))
        await shop.Set(pb.SetRequest(key=MINE))
        node.file.write(good)
        await async_wait_until(lambda: any(line["event"] == "auth_file_loaded" for line in lines))
        reports = [line for line in lines if line["event"] == "auth_file_not_reloaded"]
        assert len(reports) == 3


async def test_new_token_is_known_without_a_restart_and_ends_with_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replcache.constants.AUTH_RELOAD_INTERVAL_S", 0.02)
    today = [datetime.now(UTC)]
    monkeypatch.setattr(security_setup, "PolicyStore", lambda path: PolicyStore(path, lambda: today[0]))
    async with guarded(tmp_path) as node:
        short = node.file.token("shop", expires=today[0] + timedelta(days=1))
        cache = stubs(with_token(node.one.channel, short))[0]

        async def ends_with(code: grpc.StatusCode) -> bool:
            return await cache.Get(pb.GetRequest(key=MINE)).code() is code

        await async_wait_until(lambda: ends_with(S.OK), what="the new token is known")
        today[0] += timedelta(hours=23)
        assert await ends_with(S.OK)
        today[0] += timedelta(hours=1)
        await async_wait_until(lambda: ends_with(S.UNAUTHENTICATED), what="the token is over")


async def test_argon2_is_paid_once_a_token(node: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = callers_module.is_secret
    monkeypatch.setattr(callers_module, "is_secret", lambda *given: calls.append(1) or real(*given))
    shop = node.cache("shop")
    await asyncio.gather(*(shop.Get(pb.GetRequest(key=MINE)) for _ in range(50)))
    assert len(calls) == 1
    wrong = stubs(with_token(node.one.channel, node.file.token("any")[:-2] + "--"))[0]
    codes = await asyncio.gather(*(wrong.Get(pb.GetRequest(key=MINE)).code() for _ in range(50)))
    assert len(calls) == 2
    # The 20 first ones hear what is wrong; the rest wait for better times.
    assert set(codes) == {S.UNAUTHENTICATED, S.RESOURCE_EXHAUSTED}
    assert await shop.Get(pb.GetRequest(key=MINE)).code() is S.OK


async def test_failures_are_logged_once_a_source_without_the_token(node: Guarded) -> None:
    secret = "x" * 43
    stranger = stubs(with_token(node.one.channel, f"aaaaaaaaaaaa.{secret}"))[0]
    with capture_logs() as lines:
        for _ in range(10):
            await failure(stranger.Get(pb.GetRequest(key=MINE)))
            await failure(node.cache("shop").Get(pb.GetRequest(key=THEIRS)))
    refused = [line for line in lines if line["event"] == "refused"]
    assert [line["cause"].split()[0] for line in refused] == ["UNAUTHENTICATED", "PERMISSION_DENIED"]
    assert refused[0]["source"] == "ipv4:127.0.0.1"
    assert secret not in repr(lines)
    assert "bank" not in repr(lines), "keys of users are not logged"


async def test_reflection_needs_a_name(node: Guarded) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    for token, expected in ((node.file.token("nobody"), S.OK), ("", S.UNAUTHENTICATED)):
        channel = with_token(node.one.channel, token) if token else node.one.channel
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        if expected is S.OK:
            assert "replcache.v1.Cache" in str(await call.read())
            call.cancel()
        else:
            assert await call.code() is expected


async def test_rate_limit_of_a_client_and_of_a_user(tmp_path: Path) -> None:
    async with guarded(tmp_path, limit_ops_per_s=50.0) as node:
        reader = node.cache("reader")
        batch = pb.BatchRequest(get_columns=pb.GetColumns(keys=[MINE] * 1000))
        # More than a second's worth passes once and is paid for afterwards.
        await reader.Batch(batch)
        wire = await failure(reader.Get(pb.GetRequest(key=MINE)))
        assert (wire.reason, wire.may_have_executed) == ("RATE_LIMITED", False)
        assert wire.retry_after_s is not None
        assert 5 < wire.retry_after_s < 20
        # The client waits as it is told, and succeeds.
        async with node.client("shop") as client:
            for number in range(60):
                await client.set(f"shop:{number}", number)


async def test_without_an_auth_file_limits_go_by_address() -> None:
    async with serving(limit_ops_per_s=10.0) as one:
        batch = pb.BatchRequest(get_columns=pb.GetColumns(keys=[MINE] * 1000))
        assert await one.cache.Batch(batch).code() is S.OK
        assert (await failure(one.cache.Get(pb.GetRequest(key=MINE)))).reason == "RATE_LIMITED"
    async with serving(limit_calls=3) as one:
        streams = [one.cache.Pipeline() for _ in range(3)]
        for stream in streams:
            await stream.write(pb.BatchRequest(id=1, get_columns=pb.GetColumns(keys=[MINE])))
            assert (await stream.read()).id == 1
        assert (await failure(one.cache.Get(pb.GetRequest(key=MINE)))).reason == "RATE_LIMITED"
        with pytest.raises(RateLimited):
            async with AsyncClient(one.server.grpc_address, timeout=0.3) as client:
                await client.status()
        for stream in streams:
            stream.cancel()


async def test_administration_is_audited_with_who_what_and_result(node: Guarded) -> None:
    with capture_logs() as lines:
        cluster = node.stubs("any")[3]
        await cluster.Hash(cluster_pb2.HashRequest())
        request = cluster_pb2.AddMemberRequest(name="n9", peer_address="h:1", client_address="bad address")
        await failure(cluster.AddMember(request))
        await failure(node.stubs("shop")[3].RemoveMember(cluster_pb2.RemoveMemberRequest(name="n2")))
        await failure(node.one.cluster.Hash(cluster_pb2.HashRequest()))
    audit = [line for line in lines if line["event"] == "admin_call"]
    assert [(line["call"], line["who"], line["result"]) for line in audit] == [
        ("Cluster.Hash", "any", "ok"),
        ("Cluster.AddMember", "any", "INVALID_ARGUMENT"),
        ("Cluster.RemoveMember", "shop", "PERMISSION_DENIED"),
        ("Cluster.Hash", "", "UNAUTHENTICATED"),
    ]
    assert audit[1]["what"] == {"name": "n9", "peer_address": "h:1", "client_address": "bad address"}
    assert audit[0]["by"] == "token " + node.file.token("any").partition(".")[0]
    assert node.file.token("any").partition(".")[2] not in repr(lines)


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """Logs as a node's process sets them up, into memory."""
    stream = io.StringIO()
    handlers = logging.getLogger().handlers[:]
    level = logging.getLogger().level
    setup_logs("ERROR", "json", stream)
    yield stream
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()
    setup_audit(None)


async def test_audit_goes_to_its_file_also_without_authentication(tmp_path: Path, logs: io.StringIO) -> None:
    async with serving(audit_file=tmp_path / "audit.jsonl") as one:
        await one.cluster.Hash(cluster_pb2.HashRequest())
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert '"call": "Cluster.Hash"' in lines[0]
    assert '"source": "ipv4:127.0.0.1"' in lines[0]
    assert "admin_call" not in logs.getvalue()


async def test_audit_is_among_the_other_lines_whatever_their_level(logs: io.StringIO) -> None:
    async with serving() as one:
        await one.cluster.Hash(cluster_pb2.HashRequest())
    assert [json.loads(line)["event"] for line in logs.getvalue().splitlines()] == ["admin_call"]


async def test_sessions_of_others_are_not_found_by_counting(node: Guarded) -> None:
    """Who knows a session's id and a number gets the reply that is kept there, whoever's key it is about."""
    opened = [await node.stubs("shop")[2].Open(session_pb2.OpenSessionRequest()) for _ in range(3)]
    ids = [answer.session_id for answer in opened]
    assert all(2**52 <= one < 2**53 for one in ids), "exact as a double, above every revision"
    assert len(set(ids)) == 3
    steps = {second - first for first, second in itertools.pairwise(ids)}
    assert min(map(abs, steps)) > 1000, "drawn"
    request = pb.SetRequest(key=b"shop:1", value=b"v")
    request.idempotency.session_id, request.idempotency.sequence = ids[0], 1
    versions = [(await node.cache("shop").Set(request)).version for _ in range(2)]
    assert versions == [1, 1], "executed once"
