"""Transactions, tags and ranges through gRPC, over the fake port."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from replcache import constants
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import lock_pb2
from replcache.pb.v1.common_pb2 import Fence, Idempotency, ReadOptions
from tests.helpers.serving import Serving, failure, serving, wire_error

S = grpc.StatusCode


async def put(one: Serving, key: bytes, value: bytes = b"v", **more: Any) -> Any:
    return await one.cache.Set(pb.SetRequest(key=key, value=value, **more))


async def get(one: Serving, key: bytes) -> bytes | None:
    reply = await one.cache.Get(pb.GetRequest(key=key))
    return reply.entry.value if reply.HasField("entry") else None


def compare(key: bytes, **condition: Any) -> pb.Compare:
    return pb.Compare(key=key, condition=pb.Condition(**condition))


def add(key: bytes, delta: int, **more: Any) -> pb.Operation:
    return pb.Operation(increment=pb.IncrementRequest(key=key, delta=delta, **more))


def write(key: bytes, value: bytes = b"new") -> pb.Operation:
    return pb.Operation(set=pb.SetRequest(key=key, value=value))


def read(key: bytes) -> pb.Operation:
    return pb.Operation(get=pb.GetRequest(key=key))


# --- transactions ---


async def test_txn_does_one_of_its_two_lists() -> None:
    async with serving() as one:
        await put(one, b"k", b"1")
        request = pb.TxnRequest(
            compares=[compare(b"k", if_value=b"1"), compare(b"other", if_absent=True)],
            then=[write(b"k", b"2"), read(b"k"), pb.Operation(delete=pb.DeleteRequest(key=b"gone"))],
            otherwise=[read(b"k")],
        )
        first = await one.cache.Txn(request)
        assert first.succeeded
        assert [result.WhichOneof("kind") for result in first.results] == ["set", "get", "delete"]
        assert (first.results[0].set.version, first.results[1].get.entry.value) == (2, b"2")
        second = await one.cache.Txn(request)
        assert not second.succeeded
        assert [result.get.entry.value for result in second.results] == [b"2"]
        assert second.header.revision >= first.header.revision == first.results[0].set.header.revision


async def test_txn_whose_operation_fails_undoes_everything_and_says_which() -> None:
    async with serving() as one:
        await put(one, b"a", b"5")
        request = pb.TxnRequest(then=[write(b"x"), add(b"a", -10, minimum=0)])
        wire = await failure(one.cache.Txn(request))
        assert (wire.code, wire.reason) == (S.ABORTED, "BATCH_ABORTED")
        assert (wire.metadata["failed_operation"], wire.metadata["cause"]) == ("1", "OUT_OF_RANGE")
        assert not wire.may_have_executed
        assert (await get(one, b"x"), await get(one, b"a")) == (None, b"5")


async def test_txn_looks_at_the_locks_that_must_be_held() -> None:
    async with serving() as one:
        held = await one.lock.Acquire(lock_pb2.AcquireRequest(name="l", owner=b"o", ttl=Duration(seconds=30)))
        request = pb.TxnRequest(held=[Fence(name="l", token=held.token)], then=[write(b"k")])
        assert (await one.cache.Txn(request)).succeeded
        await one.lock.Release(lock_pb2.ReleaseRequest(name="l", owner=b"o"))
        assert not (await one.cache.Txn(request)).succeeded


async def test_txn_is_executed_once_however_often_it_is_sent() -> None:
    async with serving() as one:
        request = pb.TxnRequest(then=[add(b"n", 1)], idempotency=Idempotency(request_id=b"once"))
        one.raft.lose_outcomes = 1
        wire = await failure(one.cache.Txn(request))
        assert wire.may_have_executed
        replies = [await one.cache.Txn(request) for _ in range(3)]
        assert [reply.results[0].increment.value for reply in replies] == [1, 1, 1]


async def test_txn_whose_reply_is_too_large_says_that_it_is_done() -> None:
    async with serving() as one:
        for number in range(4):
            await put(one, b"%d" % number, bytes(constants.VALUE_BYTES_MAX))
        then = [write(b"k"), *(read(b"%d" % number) for number in range(4))]
        wire = await failure(one.cache.Txn(pb.TxnRequest(then=then)))
        assert (wire.reason, wire.may_have_executed) == ("TOO_LARGE", True)
        assert await get(one, b"k") == b"new"


# --- tags ---


async def test_find_returns_what_carries_all_tags_in_pages() -> None:
    async with serving() as one:
        for number in range(25):
            tags = ["all"] + (["even"] if number % 2 == 0 else [])
            await put(one, b"%03d" % number, b"x", tags=tags)
        await put(one, b"untagged")
        found, token = [], b""
        while True:
            request = pb.FindRequest(tags=["even", "all"], page_size=5, page_token=token)
            reply = await one.cache.Find(request)
            assert len(reply.entries) <= 5
            found += [entry.key for entry in reply.entries]
            token = reply.next_page_token
            if not token:
                break
        assert found == [b"%03d" % number for number in range(0, 25, 2)]
        keys_only = await one.cache.Find(pb.FindRequest(tags=["all"], keys_only=True))
        assert {entry.value for entry in keys_only.entries} == {b""}
        assert len(keys_only.entries) == 25
        assert keys_only.entries[0].tags == ["all", "even"]
        one_level = ReadOptions(level="READ_LEVEL_ONE")
        local = await one.cache.Find(pb.FindRequest(tags=["nobody"], read=one_level))
        assert (len(local.entries), local.header.served_as) == (0, 3)


async def test_find_fits_its_pages_into_messages() -> None:
    async with serving() as one:
        for number in range(5):
            await put(one, b"%d" % number, bytes(constants.VALUE_BYTES_MAX), tags=["big"])
        first = await one.cache.Find(pb.FindRequest(tags=["big"]))
        assert 0 < len(first.entries) < 5
        assert first.next_page_token == first.entries[-1].key


async def test_invalidated_tags_take_their_entries_away_at_once() -> None:
    async with serving() as one:
        sets = [{"set": {"key": b"%d" % number, "tags": ["a"]}} for number in range(3000)]
        await one.cache.Batch(pb.BatchRequest(operations=sets))
        await put(one, b"other", tags=["b"])
        await put(one, b"stays", tags=["c"])
        reply = await one.cache.InvalidateTags(pb.InvalidateTagsRequest(tags=["a", "b", "nobody"]))
        assert reply.invalidated == 3001
        assert [await get(one, key) for key in (b"0", b"2999", b"other", b"stays")] == [None] * 3 + [b"v"]
        assert not (await one.cache.Find(pb.FindRequest(tags=["a"]))).entries
        again = await one.cache.InvalidateTags(pb.InvalidateTagsRequest(tags=["a"]))
        assert again.invalidated == 0


# --- ranges ---


@pytest.mark.parametrize(
    ("request_", "gone"),
    [
        (pb.DeleteRangeRequest(prefix=b"b"), [b"b", b"b1", b"b2"]),
        (pb.DeleteRangeRequest(keys=pb.KeyRange(start=b"b1", end=b"c")), [b"b1", b"b2"]),
        (pb.DeleteRangeRequest(keys=pb.KeyRange(start=b"b2")), [b"b2", b"c", b"\xff\xff"]),
        (pb.DeleteRangeRequest(prefix=b"\xff"), [b"\xff\xff"]),
        (pb.DeleteRangeRequest(prefix=b""), [b"a", b"b", b"b1", b"b2", b"c", b"\xff\xff"]),
        (pb.DeleteRangeRequest(prefix=b"z"), []),
    ],
    ids=["prefix", "range", "open end", "ff", "everything", "nothing"],
)
async def test_delete_range(request_: pb.DeleteRangeRequest, gone: list[bytes]) -> None:
    keys = [b"a", b"b", b"b1", b"b2", b"c", b"\xff\xff"]
    async with serving() as one:
        for key in keys:
            await put(one, key)
        reply = await one.cache.DeleteRange(request_)
        assert (reply.deleted, reply.more) == (len(gone), False)
        assert [key for key in keys if await get(one, key) is None] == gone


async def test_delete_range_stops_at_its_limit_and_a_retry_deletes_no_more() -> None:
    async with serving() as one:
        for number in range(10):
            await put(one, b"p/%d" % number)
        request = pb.DeleteRangeRequest(prefix=b"p/", limit=4, idempotency=Idempotency(request_id=b"r1"))
        for _ in range(2):
            reply = await one.cache.DeleteRange(request)
            assert (reply.deleted, reply.more) == (4, True)
        assert len((await one.cache.Scan(pb.ScanRequest(prefix=b"p/"))).entries) == 6
        rest = await one.cache.DeleteRange(pb.DeleteRangeRequest(prefix=b"p/"))
        assert (rest.deleted, rest.more) == (6, False)


async def test_delete_range_under_a_lost_lock_is_refused() -> None:
    async with serving() as one:
        await put(one, b"k")
        request = pb.DeleteRangeRequest(prefix=b"k", fence=Fence(name="l", token=7))
        assert (await failure(one.cache.DeleteRange(request))).reason == "FENCE_REJECTED"
        assert await get(one, b"k") == b"v"


async def test_operation_that_hangs_on_a_missing_lease_names_it() -> None:
    async with serving() as one:
        wire = await failure(one.cache.Set(pb.SetRequest(key=b"k", lease_id=99)))
        assert (wire.code, wire.reason) == (S.NOT_FOUND, "NOT_FOUND")
        assert "99" in wire.message
        batch = pb.BatchRequest(operations=[{"set": pb.SetRequest(key=b"k", lease_id=99)}])
        reply = await one.cache.Batch(batch)
        assert wire_error(reply.results[0].error).reason == "NOT_FOUND"
