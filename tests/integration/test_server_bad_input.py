"""Bad input: every limit at the limit and above it, every contradiction, bytes that are no message.

Each bad request is answered INVALID_ARGUMENT (never UNKNOWN, which is what grpcio makes of unparsable bytes)
and names its field; nothing of it reaches the log.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from replcache import constants as c
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import cluster_pb2, election_pb2, keyspace_pb2, lease_pb2, lock_pb2, session_pb2
from replcache.pb.v1.common_pb2 import Fence, Idempotency, ReadOptions
from tests.helpers.serving import Serving, failure, serving, wire_error

KEY = b"k"
BIG_KEY = bytes(c.KEY_BYTES_MAX + 1)
BIG_VALUE = bytes(c.VALUE_BYTES_MAX + 1)
D = Duration


def ops(*messages: Any) -> pb.BatchRequest:
    return pb.BatchRequest(operations=messages)


def columns(keys: list[bytes], values: list[bytes]) -> pb.BatchRequest:
    return pb.BatchRequest(set_columns={"keys": keys, "values": values})


def condition(**given: Any) -> pb.SetRequest:
    return pb.SetRequest(key=KEY, condition=pb.Condition(**given))


def read(**given: Any) -> pb.GetRequest:
    return pb.GetRequest(key=KEY, read=ReadOptions(**given))


def lock(**given: Any) -> lock_pb2.AcquireRequest:
    return lock_pb2.AcquireRequest(**{"name": "l", "owner": b"o", "ttl": D(seconds=1), **given})


def idem(**given: Any) -> pb.DeleteRequest:
    return pb.DeleteRequest(key=KEY, idempotency=Idempotency(**given))


def txn(**given: Any) -> pb.TxnRequest:
    return pb.TxnRequest(**given)


def tags(number: int) -> list[str]:
    return [str(index) for index in range(number)]


def delete_range(start: bytes, end: bytes, **given: Any) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(keys=pb.KeyRange(start=start, end=end), **given)


def campaign(**given: Any) -> election_pb2.CampaignRequest:
    return election_pb2.CampaignRequest(**{"name": "e", "candidate": b"o", "ttl": D(seconds=1), **given})


def namespace(**given: Any) -> keyspace_pb2.SetNamespaceRequest:
    return keyspace_pb2.SetNamespaceRequest(namespace=keyspace_pb2.Namespace(**given))


def guard(**given: Any) -> keyspace_pb2.SetGuardRequest:
    return keyspace_pb2.SetGuardRequest(guard=keyspace_pb2.Guard(**given))


ABSENT = pb.Condition(if_absent=True)
BIG = pb.SetRequest(key=KEY, value=bytes(c.VALUE_BYTES_MAX))
SET, GET = pb.SetRequest(key=KEY), pb.GetRequest(key=KEY)
BAD: list[tuple[str, str, Any, str]] = [
    # service, method, request, field that has to be named
    ("cache", "Get", pb.GetRequest(), "key"),
    ("cache", "Get", pb.GetRequest(key=BIG_KEY), "key"),
    ("cache", "Get", read(level=9), "read.level"),
    ("cache", "Get", read(min_revision=1), "read.min_revision"),
    ("cache", "Get", read(level=2, max_staleness=D(seconds=1)), "read.max_staleness"),
    ("cache", "Get", read(level=3, max_staleness=D(seconds=-1)), "read.max_staleness"),
    ("cache", "BatchGet", pb.BatchGetRequest(), "keys"),
    ("cache", "BatchGet", pb.BatchGetRequest(keys=[KEY, b""]), "keys[1]"),
    ("cache", "BatchGet", pb.BatchGetRequest(keys=[KEY] * (c.BATCH_OPERATIONS_MAX + 1)), "keys"),
    ("cache", "Set", pb.SetRequest(), "key"),
    ("cache", "Set", pb.SetRequest(key=BIG_KEY * 100), "key"),
    ("cache", "Set", pb.SetRequest(key=KEY, value=BIG_VALUE), "value"),
    ("cache", "Set", pb.SetRequest(key=KEY, content_type="x" * 129), "content_type"),
    ("cache", "Set", pb.SetRequest(key=KEY, content_type="ä" * 65), "content_type"),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D()), "ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(seconds=-1)), "ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(nanos=-1)), "ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(seconds=1, nanos=10**9)), "ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(seconds=c.TTL_MS_MAX // 1000 + 1)), "ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(seconds=2**62)), "ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, idle_ttl=D()), "idle_ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, keep_ttl=True, ttl=D(seconds=1)), "keep_ttl"),
    ("cache", "Set", pb.SetRequest(key=KEY, tags=[""]), "tags[0]"),
    ("cache", "Set", pb.SetRequest(key=KEY, tags=["ok", "x" * 129]), "tags[1]"),
    ("cache", "Set", pb.SetRequest(key=KEY, tags=[str(i) for i in range(33)]), "tags"),
    ("cache", "Set", condition(if_absent=True, if_present=True), "condition"),
    ("cache", "Set", condition(if_absent=True, if_version=3), "condition"),
    ("cache", "Set", condition(if_absent=True, if_value=b""), "condition"),
    ("cache", "Set", condition(if_version=0, if_value=b"x"), "condition"),
    ("cache", "Set", condition(if_absent=True, if_mod_revision=4), "condition"),
    ("cache", "Set", condition(if_value=BIG_VALUE), "condition.if_value"),
    ("cache", "Set", pb.SetRequest(key=KEY, fence=Fence(token=1)), "fence.name"),
    ("cache", "Set", pb.SetRequest(key=KEY, fence=Fence(name="l")), "fence.token"),
    ("cache", "Delete", idem(session_id=1), "idempotency.sequence"),
    ("cache", "Delete", idem(session_id=1, sequence=2, acked_below=3), "idempotency.acked_below"),
    ("cache", "Delete", idem(session_id=1, sequence=1, request_id=b"x"), "idempotency.request_id"),
    ("cache", "Delete", idem(sequence=1), "idempotency.session_id"),
    ("cache", "Delete", idem(request_id=bytes(65)), "idempotency.request_id"),
    ("cache", "Update", pb.UpdateRequest(key=KEY), "change"),
    ("cache", "Update", pb.UpdateRequest(key=KEY, add_float=float("nan")), "add_float"),
    ("cache", "Update", pb.UpdateRequest(key=KEY, append=BIG_VALUE), "append"),
    ("cache", "Update", pb.UpdateRequest(key=KEY, replace=b"", condition=ABSENT), "condition"),
    ("cache", "Touch", pb.TouchRequest(key=KEY, condition=pb.Condition(if_version=0)), "condition"),
    ("cache", "Increment", pb.IncrementRequest(key=KEY, minimum=2, maximum=1), "minimum"),
    ("cache", "Scan", pb.ScanRequest(page_size=1001), "page_size"),
    ("cache", "Scan", pb.ScanRequest(prefix=b"a", page_token=b"b"), "page_token"),
    ("cache", "Scan", pb.ScanRequest(prefix=BIG_KEY), "prefix"),
    ("cache", "Batch", pb.BatchRequest(), "operations"),
    ("cache", "Batch", pb.BatchRequest(set_columns={}, get_columns={}), "operations"),
    ("cache", "Batch", pb.BatchRequest(set_columns={}), "set_columns.keys"),
    ("cache", "Batch", columns([KEY], []), "set_columns.values"),
    ("cache", "Batch", columns([KEY, b""], [b"", b""]), "set_columns.keys[1]"),
    ("cache", "Batch", columns([KEY], [BIG_VALUE]), "set_columns.values[0]"),
    ("cache", "Batch", pb.BatchRequest(get_columns={"keys": [BIG_KEY]}), "get_columns.keys[0]"),
    ("cache", "Batch", ops(pb.Operation()), "operations[0]"),
    ("cache", "Batch", ops({"get": GET}, {"set": pb.SetRequest()}), "operations[1].set.key"),
    ("cache", "Batch", ops(pb.Operation(get=read(level=1))), "operations[0].get.read"),
    ("cache", "Batch", ops(*[pb.Operation(set=SET)] * (c.BATCH_OPERATIONS_MAX + 1)), "operations"),
    ("cache", "Txn", txn(), "then"),
    ("cache", "Txn", txn(compares=[pb.Compare(condition=ABSENT)]), "compares[0].key"),
    ("cache", "Txn", txn(compares=[pb.Compare(key=KEY)]), "compares[0].condition"),
    ("cache", "Txn", txn(compares=[pb.Compare(key=KEY, condition=pb.Condition())]), "compares[0].condition"),
    ("cache", "Txn", txn(held=[Fence(name="l")]), "held[0].token"),
    ("cache", "Txn", txn(then=[{"get": GET}, {"set": pb.SetRequest()}]), "then[1].set.key"),
    ("cache", "Txn", txn(otherwise=[pb.Operation()]), "otherwise[0]"),
    ("cache", "Txn", txn(then=[{"get": read(level=1)}]), "then[0].get.read"),
    ("cache", "Txn", txn(then=[{"get": GET}] * 4096, held=[Fence(name="l", token=1)]), "then"),
    ("cache", "Txn", txn(then=[{"set": BIG}] * 3), "transaction"),
    ("cache", "InvalidateTags", pb.InvalidateTagsRequest(), "tags"),
    ("cache", "InvalidateTags", pb.InvalidateTagsRequest(tags=tags(65)), "tags"),
    ("cache", "InvalidateTags", pb.InvalidateTagsRequest(tags=["a", ""]), "tags[1]"),
    ("cache", "InvalidateTags", pb.InvalidateTagsRequest(tags=["x" * 129]), "tags[0]"),
    ("cache", "Find", pb.FindRequest(), "tags"),
    ("cache", "Find", pb.FindRequest(tags=tags(65)), "tags"),
    ("cache", "Find", pb.FindRequest(tags=["a"], page_size=1001), "page_size"),
    ("cache", "Find", pb.FindRequest(tags=["a"], page_token=BIG_KEY), "page_token"),
    ("cache", "DeleteRange", pb.DeleteRangeRequest(), "range"),
    ("cache", "DeleteRange", pb.DeleteRangeRequest(prefix=BIG_KEY), "prefix"),
    ("cache", "DeleteRange", pb.DeleteRangeRequest(prefix=b"a", limit=2001), "limit"),
    ("cache", "DeleteRange", delete_range(b"b", b"b"), "keys.end"),
    ("cache", "DeleteRange", delete_range(BIG_KEY, b""), "keys.start"),
    ("cache", "DeleteRange", delete_range(b"a", b"b", fence=Fence(name="l")), "fence.token"),
    ("lease", "Grant", lease_pb2.GrantLeaseRequest(), "ttl"),
    ("lease", "Grant", lease_pb2.GrantLeaseRequest(ttl=D(nanos=999_000_000)), "ttl"),
    ("lease", "Grant", lease_pb2.GrantLeaseRequest(ttl=D(seconds=24 * 3600 + 1)), "ttl"),
    ("lease", "KeepAlive", lease_pb2.KeepLeaseRequest(), "lease_id"),
    ("lease", "Revoke", lease_pb2.RevokeLeaseRequest(), "lease_id"),
    ("lease", "Describe", lease_pb2.DescribeLeaseRequest(), "lease_id"),
    ("election", "Campaign", campaign(name=""), "name"),
    ("election", "Campaign", campaign(candidate=bytes(65)), "candidate"),
    ("election", "Campaign", campaign(ttl=D(nanos=99_000_000)), "ttl"),
    ("election", "Campaign", campaign(wait=D(seconds=3601)), "wait"),
    ("election", "Campaign", campaign(value="x" * 257), "value"),
    ("election", "Renew", election_pb2.RenewCampaignRequest(name="e", candidate=b"o", token=1), "ttl"),
    ("election", "Proclaim", election_pb2.ProclaimRequest(name="e", candidate=b"o"), "token"),
    ("election", "Resign", election_pb2.ResignRequest(name="e"), "candidate"),
    ("election", "Leader", election_pb2.LeaderRequest(), "name"),
    ("keyspace", "SetNamespace", keyspace_pb2.SetNamespaceRequest(), "namespace"),
    ("keyspace", "SetNamespace", namespace(), "namespace.name"),
    ("keyspace", "SetNamespace", namespace(name="x" * 65), "namespace.name"),
    ("keyspace", "SetNamespace", namespace(name="n", prefix=BIG_KEY), "namespace.prefix"),
    ("keyspace", "SetNamespace", namespace(name="n", policy=9), "namespace.policy"),
    ("keyspace", "SetNamespace", namespace(name="n", policy=2), "namespace.max_bytes"),
    ("keyspace", "SetNamespace", namespace(name="n", max_bytes=2**50 + 1), "namespace.max_bytes"),
    ("keyspace", "RemoveNamespace", keyspace_pb2.RemoveNamespaceRequest(), "name"),
    ("keyspace", "SetGuard", keyspace_pb2.SetGuardRequest(), "guard"),
    ("keyspace", "SetGuard", guard(lock="l"), "guard.prefix"),
    ("keyspace", "SetGuard", guard(prefix=b"p"), "guard.lock"),
    ("keyspace", "RemoveGuard", keyspace_pb2.RemoveGuardRequest(), "prefix"),
    ("keyspace", "Statistics", keyspace_pb2.StatisticsRequest(hot_keys=101), "hot_keys"),
    ("lock", "Acquire", lock(name=""), "name"),
    ("lock", "Acquire", lock(name="x" * 257), "name"),
    ("lock", "Acquire", lock(owner=b""), "owner"),
    ("lock", "Acquire", lock(owner=bytes(65)), "owner"),
    ("lock", "Acquire", lock_pb2.AcquireRequest(name="l", owner=b"o"), "ttl"),
    ("lock", "Acquire", lock(ttl=D(nanos=99_000_000)), "ttl"),
    ("lock", "Acquire", lock(ttl=D(seconds=3601)), "ttl"),
    ("lock", "Acquire", lock(wait=D(seconds=3601)), "wait"),
    ("lock", "Acquire", lock(mode=7), "mode"),
    ("lock", "Acquire", lock(permits=c.LOCK_PERMITS_MAX + 1), "permits"),
    ("lock", "Acquire", lock(permits=2, mode=2), "permits"),
    ("lock", "Acquire", lock(note="x" * 257), "note"),
    ("lock", "Renew", lock_pb2.RenewRequest(name="l", owner=b"o", ttl=D(seconds=1)), "token"),
    ("lock", "Renew", lock_pb2.RenewRequest(name="l", owner=b"o", token=1), "ttl"),
    ("lock", "Release", lock_pb2.ReleaseRequest(owner=b"o"), "name"),
    ("lock", "Describe", lock_pb2.DescribeRequest(name="x" * 257), "name"),
    ("session", "Open", session_pb2.OpenSessionRequest(ttl=D(nanos=5)), "ttl"),
    ("session", "Open", session_pb2.OpenSessionRequest(ttl=D(seconds=24 * 3600 + 1)), "ttl"),
    ("session", "KeepAlive", session_pb2.KeepSessionRequest(), "session_id"),
    ("session", "Close", session_pb2.CloseSessionRequest(), "session_id"),
    ("cluster", "AddMember", cluster_pb2.AddMemberRequest(peer_address="h:1", client_address="h:2"), "name"),
    ("cluster", "AddMember", cluster_pb2.AddMemberRequest(name="n", peer_address="h"), "peer_address"),
    ("cluster", "RemoveMember", cluster_pb2.RemoveMemberRequest(name="a b"), "name"),
    ("cluster", "PromoteMember", cluster_pb2.PromoteMemberRequest(), "name"),
    ("cluster", "TransferLeadership", cluster_pb2.TransferLeadershipRequest(to="x" * 65), "to"),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one() -> AsyncIterator[Serving]:
    """One server for the whole table: bad requests must leave nothing behind that would disturb the next."""
    async with serving() as server:
        yield server


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("service", "method", "request_", "field"),
    BAD,
    ids=[f"{m}-{f}-{i}" for i, (_, m, _, f) in enumerate(BAD)],
)
async def test_bad_request_is_refused_and_names_its_field(
    one: Serving, service: str, method: str, request_: Any, field: str
) -> None:
    proposed = len(one.raft.proposed)
    wire = await failure(getattr(getattr(one, service), method)(request_, timeout=5))
    assert wire.code is grpc.StatusCode.INVALID_ARGUMENT
    assert wire.field == wire.metadata["field"] == field
    assert field in wire.message
    assert not wire.may_have_executed
    if wire.reason == "TOO_LARGE":
        assert int(wire.metadata["size"]) > int(wire.metadata["limit"])
        assert wire.metadata["limit"] in wire.message
    else:
        assert wire.reason == "INVALID_ARGUMENT"
    assert len(one.raft.proposed) == proposed


GOOD: list[tuple[str, str, Any]] = [
    ("cache", "Set", pb.SetRequest(key=bytes(c.KEY_BYTES_MAX), value=bytes(c.VALUE_BYTES_MAX))),
    ("cache", "Set", pb.SetRequest(key=KEY, content_type="ä" * 64, tags=[f"{i:128}" for i in range(32)])),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(seconds=c.TTL_MS_MAX // 1000))),
    ("cache", "Set", pb.SetRequest(key=KEY, ttl=D(nanos=1))),
    ("cache", "Set", pb.SetRequest(key=KEY, condition=pb.Condition(), idempotency=Idempotency())),
    ("cache", "Scan", pb.ScanRequest(page_size=1000)),
    ("cache", "BatchGet", pb.BatchGetRequest(keys=[KEY] * c.BATCH_OPERATIONS_MAX)),
    ("cache", "Delete", idem(request_id=bytes(64))),
    ("lock", "Acquire", lock(name="x" * 256, owner=bytes(64), ttl=D(seconds=3600), note="x" * 256)),
    ("lock", "Acquire", lock(name="semaphore", permits=c.LOCK_PERMITS_MAX)),
    ("lock", "Acquire", lock(ttl=D(nanos=100_000_000))),
    ("session", "Open", session_pb2.OpenSessionRequest(ttl=D(seconds=1))),
    ("cache", "Txn", txn(then=[{"get": GET}] * 4096)),
    ("cache", "InvalidateTags", pb.InvalidateTagsRequest(tags=tags(64))),
    ("cache", "Find", pb.FindRequest(tags=tags(64), page_size=1000)),
    ("cache", "DeleteRange", pb.DeleteRangeRequest(prefix=b"nothing", limit=2000)),
    ("cache", "DeleteRange", delete_range(b"nothing", b"")),
    ("lease", "Grant", lease_pb2.GrantLeaseRequest(ttl=D(seconds=24 * 3600))),
    ("election", "Campaign", campaign(name="x" * 255, candidate=bytes(64), value="x" * 256)),
    ("keyspace", "SetNamespace", namespace(name="x" * 64, prefix=b"nothing", max_bytes=2**50, policy=3)),
    ("keyspace", "SetGuard", guard(prefix=b"nothing", lock="x" * 256)),
    ("keyspace", "Statistics", keyspace_pb2.StatisticsRequest(hot_keys=100)),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("service", "method", "request_"), GOOD)
async def test_request_at_its_limits_is_accepted(
    one: Serving, service: str, method: str, request_: Any
) -> None:
    await getattr(getattr(one, service), method)(request_, timeout=5)


def everything_of(one: Serving) -> list[tuple[str, Any]]:
    return [
        (f"/replcache.v1.{service}/{name}", None)
        for service, names in {
            "Cache": "Get BatchGet Set Update Delete Touch Increment Scan Batch "
            "Txn InvalidateTags Find DeleteRange",
            "Lock": "Acquire Renew Release Describe",
            "Session": "Open KeepAlive Close",
            "Lease": "Grant KeepAlive Revoke Describe",
            "Election": "Campaign Renew Proclaim Resign Leader",
            "Keyspace": "SetNamespace RemoveNamespace ListNamespaces "
            "SetGuard RemoveGuard ListGuards Statistics",
            "Cluster": "AddMember PromoteMember RemoveMember TransferLeadership Status Members Hash",
        }.items()
        for name in names.split()
    ]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("junk", [b"\xff\xff\xff", b"\x0a\x7f", b"\x00"], ids=["tag", "cut", "zero"])
async def test_bytes_that_are_no_message_are_an_invalid_argument_for_every_method(
    one: Serving, junk: bytes
) -> None:
    for path, _ in everything_of(one):
        wire = await failure(one.channel.unary_unary(path)(junk, timeout=5))
        assert wire.code is grpc.StatusCode.INVALID_ARGUMENT, path
        assert "can't be parsed" in wire.message


@pytest.mark.asyncio(loop_scope="module")
async def test_text_that_is_not_utf8_is_an_invalid_argument(one: Serving) -> None:
    data = pb.SetRequest(key=KEY, content_type="x").SerializeToString().replace(b"x", b"\xff")
    wire = await failure(one.channel.unary_unary("/replcache.v1.Cache/Set")(data, timeout=5))
    assert wire.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.asyncio(loop_scope="module")
async def test_bad_batches_on_a_stream_are_answered_and_the_stream_goes_on(one: Serving) -> None:
    call = one.channel.stream_stream("/replcache.v1.Cache/Pipeline")(timeout=10)
    bad = [b"\xff\xff", pb.BatchRequest(id=5).SerializeToString()]
    good = pb.BatchRequest(id=6, set_columns={"keys": [KEY], "values": [b"v"]}).SerializeToString()
    answers = {}
    for data in [*bad, good]:
        await call.write(data)
        answer = pb.BatchResponse.FromString(await call.read())
        answers[answer.id] = answer
    assert sorted(answers) == [0, 5, 6]
    assert wire_error(answers[0].error).code is grpc.StatusCode.INVALID_ARGUMENT
    assert wire_error(answers[5].error).field == "operations"
    assert not answers[6].HasField("error")
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


@pytest.mark.asyncio(loop_scope="module")
async def test_batch_above_its_size_is_refused_by_us_and_above_the_message_size_by_grpc(one: Serving) -> None:
    """MESSAGE_BYTES_MAX is enforced by grpcio before any of our code runs, with a status without details."""
    many = pb.BatchRequest(
        set_columns={"keys": [b"%d" % i for i in range(4)], "values": [bytes(800_000)] * 4}
    )
    assert c.BATCH_BYTES_MAX < many.ByteSize() < c.MESSAGE_BYTES_MAX
    wire = await failure(one.cache.Batch(many, timeout=5))
    assert (wire.reason, wire.field) == ("TOO_LARGE", "batch")
    huge = pb.SetRequest(key=KEY, value=bytes(c.MESSAGE_BYTES_MAX + 1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await one.cache.Set(huge, timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.asyncio(loop_scope="module")
async def test_reply_above_its_limit_is_refused_and_says_whether_the_batch_ran(one: Serving) -> None:
    keys = [b"big%d" % number for number in range(4)]
    for key in keys:
        await one.cache.Set(pb.SetRequest(key=key, value=bytes(c.VALUE_BYTES_MAX)))
    for call in (
        one.cache.BatchGet(pb.BatchGetRequest(keys=keys)),
        one.cache.Batch(pb.BatchRequest(get_columns={"keys": keys})),
        one.cache.Batch(ops(*[pb.Operation(get=pb.GetRequest(key=key)) for key in keys])),
    ):
        wire = await failure(call)
        assert (wire.reason, wire.may_have_executed) == ("TOO_LARGE", False)
    taken = ops(*[pb.Operation(delete=pb.DeleteRequest(key=key, want_previous=True)) for key in keys])
    wire = await failure(one.cache.Batch(taken))
    assert (wire.reason, wire.may_have_executed) == ("TOO_LARGE", True)


@pytest.mark.asyncio(loop_scope="module")
async def test_too_large_metadata_is_refused_by_grpc(one: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await one.cache.Get(GET, metadata=(("x", "y" * (20 * 1024)),), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await one.cache.Get(GET, metadata=(("x", "y" * 4096),), timeout=5)
