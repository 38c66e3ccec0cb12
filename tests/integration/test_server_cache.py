"""The Cache service over real gRPC on loopback: what each call answers."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from replcache import constants
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import common_pb2 as common
from replcache.pb.v1.common_pb2 import Idempotency, ReadOptions
from replcache.raft.port import Role
from tests.helpers.fake_raft import CLUSTER_ID, FakeRaft
from tests.helpers.serving import failure, serving, wire_error
from tests.helpers.wait import async_wait_until


def seconds(number: int) -> Duration:
    return Duration(seconds=number)


async def test_set_then_get_with_all_attributes() -> None:
    async with serving() as one:
        set_reply = await one.cache.Set(
            pb.SetRequest(
                key=b"k", value=b"v", content_type="text/plain", ttl=seconds(10), tags=["a", "a", "b"]
            )
        )
        assert (set_reply.version, set_reply.header.revision) == (1, 1)
        assert set_reply.header.served_as == common.READ_LEVEL_UNSPECIFIED
        reply = await one.cache.Get(pb.GetRequest(key=b"k"))
        entry, header = reply.entry, reply.header
        assert (entry.key, entry.value, entry.content_type) == (b"k", b"v", "text/plain")
        assert (entry.create_revision, entry.mod_revision, entry.version) == (1, 1, 1)
        assert list(entry.tags) == ["a", "b"]
        assert 9 <= entry.expires_in.seconds <= 10
        assert (header.cluster_id, header.node, header.leader, header.term) == (CLUSTER_ID, "n1", "n1", 1)
        assert header.served_as == common.READ_LEVEL_LINEARIZABLE
        assert not header.HasField("staleness")


async def test_missing_key_is_an_answer() -> None:
    async with serving() as one:
        reply = await one.cache.Get(pb.GetRequest(key=b"k"))
        assert not reply.HasField("entry")
        deleted = await one.cache.Delete(pb.DeleteRequest(key=b"k"))
        assert not deleted.deleted


async def test_previous_entry_is_given_when_wanted() -> None:
    async with serving() as one:
        first = await one.cache.Set(pb.SetRequest(key=b"k", value=b"1", want_previous=True))
        assert not first.HasField("previous")
        second = await one.cache.Set(pb.SetRequest(key=b"k", value=b"2", want_previous=True))
        assert (second.version, second.previous.value) == (2, b"1")
        deleted = await one.cache.Delete(pb.DeleteRequest(key=b"k", want_previous=True))
        assert (deleted.deleted, deleted.previous.value) == (True, b"2")


@pytest.mark.parametrize(
    ("start", "change", "end"),
    [
        (b"1", {"replace": b"2"}, b"2"),
        (b"1", {"append": b"2"}, b"12"),
        (b"40", {"add_integer": 2}, b"42"),
        (b"0.1", {"add_float": 0.2}, b"0.30000000000000004"),
        (b'{"a":1}', {"merge_json": b'{"b":2}'}, b'{"a":1,"b":2}'),
    ],
)
async def test_update_changes_the_value(start: bytes, change: dict[str, object], end: bytes) -> None:
    async with serving() as one:
        await one.cache.Set(pb.SetRequest(key=b"k", value=start))
        reply = await one.cache.Update(pb.UpdateRequest(key=b"k", **change))
        assert (reply.entry.value, reply.entry.version) == (end, 2)


async def test_touch_and_increment() -> None:
    async with serving() as one:
        counted = await one.cache.Increment(pb.IncrementRequest(key=b"n", delta=5, initial=10))
        assert (counted.value, counted.version) == (15, 1)
        touched = await one.cache.Touch(pb.TouchRequest(key=b"n", ttl=seconds(5)))
        assert touched.version == 1
        entry = (await one.cache.Get(pb.GetRequest(key=b"n"))).entry
        assert entry.value == b"15"
        assert 4 <= entry.expires_in.seconds <= 5


async def test_batch_get_leaves_missing_keys_out() -> None:
    async with serving() as one:
        for key in (b"a", b"c"):
            await one.cache.Set(pb.SetRequest(key=key, value=key))
        reply = await one.cache.BatchGet(pb.BatchGetRequest(keys=[b"c", b"b", b"a"]))
        assert [entry.key for entry in reply.entries] == [b"c", b"a"]


async def test_scan_goes_page_by_page_in_byte_order() -> None:
    async with serving() as one:
        for number in range(25):
            await one.cache.Set(pb.SetRequest(key=b"p/%02d" % number, value=b"v"))
        await one.cache.Set(pb.SetRequest(key=b"q", value=b"v"))
        seen, token, pages = [], b"", 0
        while True:
            page = await one.cache.Scan(pb.ScanRequest(prefix=b"p/", page_size=10, page_token=token))
            seen += [entry.key for entry in page.entries]
            pages += 1
            token = page.next_page_token
            if not token:
                break
        assert seen == [b"p/%02d" % number for number in range(25)]
        assert pages == 3
        keys_only = await one.cache.Scan(pb.ScanRequest(prefix=b"q", keys_only=True))
        assert (keys_only.entries[0].key, keys_only.entries[0].value) == (b"q", b"")


async def test_scan_page_ends_before_the_reply_gets_too_large() -> None:
    async with serving() as one:
        for number in range(5):
            await one.cache.Set(pb.SetRequest(key=b"%d" % number, value=bytes(1024 * 1024)))
        page = await one.cache.Scan(pb.ScanRequest())
        assert len(page.entries) == 2
        rest = await one.cache.Scan(pb.ScanRequest(page_token=page.next_page_token))
        assert [entry.key for entry in rest.entries] == [b"2", b"3"]


async def test_batch_of_operations_answers_each() -> None:
    async with serving() as one:
        reply = await one.cache.Batch(
            pb.BatchRequest(
                id=9,
                operations=[
                    pb.Operation(set=pb.SetRequest(key=b"a", value=b"1")),
                    pb.Operation(update=pb.UpdateRequest(key=b"missing", replace=b"x")),
                    pb.Operation(get=pb.GetRequest(key=b"a")),
                    pb.Operation(increment=pb.IncrementRequest(key=b"n", delta=1)),
                    pb.Operation(touch=pb.TouchRequest(key=b"a")),
                    pb.Operation(delete=pb.DeleteRequest(key=b"a", want_previous=True)),
                ],
            )
        )
        kinds = [result.WhichOneof("kind") for result in reply.results]
        assert kinds == ["set", "error", "get", "increment", "touch", "delete"]
        assert wire_error(reply.results[1].error).reason == "NOT_FOUND"
        assert reply.results[2].get.entry.value == b"1"
        assert reply.results[5].delete.previous.value == b"1"
        assert reply.header.revision == one.raft.machine.revision
        assert reply.id == 9
        assert len(one.raft.proposed) == 1


async def test_atomic_batch_is_undone_by_its_first_failure() -> None:
    async with serving() as one:
        wire = await failure(
            one.cache.Batch(
                pb.BatchRequest(
                    atomic=True,
                    operations=[
                        pb.Operation(set=pb.SetRequest(key=b"a", value=b"1")),
                        pb.Operation(update=pb.UpdateRequest(key=b"missing", replace=b"x")),
                    ],
                )
            )
        )
        assert (wire.code, wire.reason) == (grpc.StatusCode.ABORTED, "BATCH_ABORTED")
        assert wire.metadata == {"failed_operation": "1", "cause": "NOT_FOUND"}
        assert not (await one.cache.Get(pb.GetRequest(key=b"a"))).HasField("entry")


async def test_columns_set_and_get() -> None:
    async with serving() as one:
        keys = [b"k%d" % number for number in range(300)]
        sets = pb.SetColumns(keys=keys, values=keys, content_type="x/y", ttl=seconds(60))
        reply = await one.cache.Batch(pb.BatchRequest(set_columns=sets))
        assert list(reply.set_columns.versions) == [1] * 300
        assert (reply.set_columns.first_revision, reply.header.revision) == (1, 300)
        got = await one.cache.Batch(pb.BatchRequest(get_columns=pb.GetColumns(keys=[b"none", *keys])))
        columns = got.get_columns
        assert list(columns.values) == [b"", *keys]
        assert list(columns.versions) == [0] + [1] * 300
        assert list(columns.mod_revisions) == [0, *range(1, 301)]
        assert list(columns.content_types) == [""] + ["x/y"] * 300
        assert columns.expires_in_ms[0] == 0
        assert all(59_000 < left <= 60_000 for left in columns.expires_in_ms[1:])


async def test_plain_columns_leave_the_optional_ones_away() -> None:
    async with serving() as one:
        await one.cache.Batch(pb.BatchRequest(set_columns=pb.SetColumns(keys=[b"a"], values=[b"b"])))
        columns = (await one.cache.Batch(pb.BatchRequest(get_columns=pb.GetColumns(keys=[b"a"])))).get_columns
        assert not columns.content_types
        assert not columns.expires_in_ms


async def test_atomic_columns_have_one_revision() -> None:
    async with serving() as one:
        request = pb.BatchRequest(
            atomic=True, set_columns=pb.SetColumns(keys=[b"a", b"b"], values=[b"", b""])
        )
        reply = await one.cache.Batch(request)
        assert reply.header.revision == reply.set_columns.first_revision == one.raft.machine.revision


async def test_batch_of_reads_only_takes_the_read_path() -> None:
    async with serving() as one:
        await one.cache.Set(pb.SetRequest(key=b"a", value=b"1"))
        proposed = len(one.raft.proposed)
        reply = await one.cache.Batch(
            pb.BatchRequest(
                read=ReadOptions(level=common.READ_LEVEL_ONE),
                operations=[pb.Operation(get=pb.GetRequest(key=key)) for key in (b"a", b"b")],
            )
        )
        assert reply.results[0].get.entry.value == b"1"
        assert not reply.results[1].get.HasField("entry")
        assert reply.header.served_as == common.READ_LEVEL_ONE
        assert len(one.raft.proposed) == proposed


@pytest.mark.parametrize(
    "first",
    [Idempotency(request_id=b"r1"), Idempotency(session_id=1, sequence=1)],
    ids=["request", "session"],
)
async def test_retry_of_a_write_is_executed_once(first: Idempotency) -> None:
    async with serving() as one:
        if first.session_id:
            from replcache.pb.v1.session_pb2 import OpenSessionRequest

            first.session_id = (await one.session.Open(OpenSessionRequest())).session_id
        request = pb.IncrementRequest(key=b"n", delta=1, idempotency=first)
        replies = [await one.cache.Increment(request) for _ in range(3)]
        assert [reply.value for reply in replies] == [1, 1, 1]
        assert len({reply.header.revision for reply in replies}) == 1


async def test_retry_after_a_lost_outcome_is_executed_once() -> None:
    async with serving() as one:
        one.raft.lose_outcomes = 1
        request = pb.IncrementRequest(key=b"n", delta=1, idempotency=Idempotency(request_id=b"r"))
        wire = await failure(one.cache.Increment(request))
        assert (wire.reason, wire.may_have_executed) == ("OUTCOME_UNKNOWN", True)
        assert (await one.cache.Increment(request)).value == 1


async def test_hits_and_misses_are_counted_by_key() -> None:
    async with serving() as one:
        await one.cache.Set(pb.SetRequest(key=b"a", value=b"1"))
        await one.cache.BatchGet(pb.BatchGetRequest(keys=[b"a", b"b", b"c"]))
        sample = one.server.metrics.registry.get_sample_value
        assert (sample("replcache_hits_total"), sample("replcache_misses_total")) == (1, 2)
        labels = {"operation": "Cache.BatchGet", "level": "linearizable", "outcome": "ok"}
        assert sample("replcache_requests_total", labels) == 1


async def test_session_read_waits_for_its_revision() -> None:
    raft = FakeRaft()
    async with serving(raft) as one:
        options = ReadOptions(level=common.READ_LEVEL_SESSION, min_revision=2)
        await one.cache.Set(pb.SetRequest(key=b"a", value=b"1"))
        wire = await failure(one.cache.Get(pb.GetRequest(key=b"a", read=options), timeout=0.2))
        assert wire.reason == "STALENESS_UNAVAILABLE"
        waiting = one.cache.Get(pb.GetRequest(key=b"a", read=options), timeout=5)
        await one.cache.Set(pb.SetRequest(key=b"a", value=b"2"))
        reply = await waiting
        assert (reply.entry.value, reply.header.served_as) == (b"2", common.READ_LEVEL_SESSION)
        assert raft.rounds == 0


async def test_counted_reads_are_exact_at_every_level() -> None:
    async with serving() as one:
        await one.cache.Set(pb.SetRequest(key=b"k", value=b"v", max_reads=4))
        lefts = []
        for request in (
            pb.GetRequest(key=b"k"),
            pb.GetRequest(key=b"k", read=ReadOptions(level=common.READ_LEVEL_ONE)),
        ):
            lefts.append((await one.cache.Get(request)).entry.reads_left)
        many = await one.cache.BatchGet(pb.BatchGetRequest(keys=[b"k", b"none"]))
        lefts.append(many.entries[0].reads_left)
        columns = (await one.cache.Batch(pb.BatchRequest(get_columns={"keys": [b"k"]}))).get_columns
        assert list(columns.values) == [b"v"]
        assert lefts == [4, 3, 2]
        assert not (await one.cache.Get(pb.GetRequest(key=b"k"))).HasField("entry")


async def test_scanning_uses_up_no_counted_read() -> None:
    async with serving() as one:
        await one.cache.Set(pb.SetRequest(key=b"k", value=b"v", max_reads=1))
        for _ in range(3):
            assert len((await one.cache.Scan(pb.ScanRequest())).entries) == 1
        assert (await one.cache.Get(pb.GetRequest(key=b"k"))).entry.value == b"v"


async def test_sliding_expiry_starts_anew_with_reads_at_every_level() -> None:
    """Reads are put into the log in batches; without them the entry goes after its idle ttl."""
    async with serving() as one:
        for key in (b"read", b"unread"):
            await one.cache.Set(pb.SetRequest(key=key, value=b"v", idle_ttl=seconds(10)))
        for _ in range(3):
            one.raft.advance_ms(8_000)
            proposed = len(one.raft.proposed)
            request = pb.GetRequest(key=b"read", read=ReadOptions(level=common.READ_LEVEL_ONE))
            for _ in range(5):
                assert (await one.cache.Get(request)).entry.value == b"v"
            await async_wait_until(
                lambda before=proposed: len(one.raft.proposed) > before, what="the access is in the log"
            )
            assert len(one.raft.proposed) <= proposed + 2
        assert not (await one.cache.Get(pb.GetRequest(key=b"unread"))).HasField("entry")


@pytest.mark.parametrize("level", [common.READ_LEVEL_ONE, common.READ_LEVEL_SESSION])
async def test_node_that_has_not_joined_knows_no_data(level: int) -> None:
    async with serving() as one:
        one.raft.role = Role.JOINING
        wire = await failure(one.cache.Get(pb.GetRequest(key=b"k", read=ReadOptions(level=level))))
        assert wire.reason == "UNAVAILABLE"


async def test_more_than_one_command_may_read_is_refused_with_a_typed_error() -> None:
    """Counted reads go through the log, where the work of a command is bounded."""
    async with serving() as one:
        value = bytes(constants.VALUE_BYTES_MAX)
        await one.cache.Set(pb.SetRequest(key=b"k", value=value, max_reads=1000))
        wire = await failure(one.cache.BatchGet(pb.BatchGetRequest(keys=[b"k"] * 50)))
        assert (wire.code, wire.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert wire.may_have_executed, "some reads were counted"
        wire = await failure(one.cache.BatchGet(pb.BatchGetRequest(keys=[b"k"] * 10)))
        assert (wire.code, wire.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
        assert (await one.cache.Get(pb.GetRequest(key=b"k"))).entry.reads_left < 1000
