"""The data calls of both clients: what is asked for arrives, what comes back is typed."""

import random
from datetime import timedelta
from typing import Any

import pytest

from replcache import errors
from replcache.client.codec import Typed
from replcache.client.types import Consistency, DeleteResult, SetResult
from replcache.pb.v1 import common_pb2
from tests.helpers.client_driver import ClusterThread, Driver


def last_operation(cluster: ClusterThread) -> Any:
    return cluster.cluster.requests()[-1].operations[-1]


@pytest.mark.parametrize("value", [b"", "", 0, None, False, [], {}, 0.0], ids=repr)
def test_falsy_values_are_hits(client: Driver, value: object) -> None:
    client.set("key", value)
    entry = client.get("key")
    assert entry is not None
    assert entry.value == value
    assert type(entry.value) is type(value)
    assert client.get_value("key", default="missing") == value
    assert client.stats().hits == 2
    assert client.stats().misses == 0


def test_missing_key_is_none_and_counts_as_miss(client: Driver) -> None:
    assert client.get("missing") is None
    assert client.get_value("missing", default=7) == 7
    assert client.stats().misses == 2
    assert client.stats().hit_rate == 0.0


@pytest.mark.parametrize(
    "value",
    [b"\x00\xff", "ü", 42, -(2**70), 1.5, True, {"a": [1, None, {"b": "c"}]}, [1, "two"], bytearray(b"x")],
    ids=repr,
)
def test_values_come_back_as_they_were(client: Driver, value: object) -> None:
    client.set("key", value)
    assert client.get_value("key") == value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (Typed(b"x", "text/\ud800"), errors.InvalidRequest),
        (Typed(b"x", "x" * 129), errors.TooLarge),
        (Typed("x", "image/png"), errors.InvalidRequest),  # type: ignore[arg-type]  # the mistake
        (Typed(b"x", ["image/png"]), errors.InvalidRequest),  # type: ignore[arg-type]
    ],
)
def test_what_no_message_can_hold_is_refused_at_once(
    client: Driver, cluster: ClusterThread, value: Typed, error: type[errors.ReplcacheError]
) -> None:
    for call in (
        lambda: client.set("key", value),
        lambda: client.set("key", value, nx=True),
        lambda: client.set_many({"key": value}),
    ):
        with pytest.raises(error):
            call()
    assert not cluster.cluster.requests()


def test_str_and_bytes_keys_name_the_same_entry(client: Driver) -> None:
    client.set("schlüssel", 1)
    entry = client.get("schlüssel".encode())
    assert entry is not None
    assert entry.key == "schlüssel".encode()
    assert entry.name == "schlüssel"


def test_set_returns_version_and_revision(client: Driver) -> None:
    first, second = client.set("key", 1), client.set("key", 2)
    assert (first.version, second.version) == (1, 2)
    assert second.revision > first.revision
    entry = client.get("key")
    assert entry is not None
    assert (entry.version, entry.mod_revision) == (2, second.revision)


def test_set_options_reach_the_server(client: Driver, cluster: ClusterThread) -> None:
    client.set(
        "key", "v", ttl="10m", idle=timedelta(seconds=2), max_reads=5, tags=["a", "b"], want_previous=True
    )
    sent = last_operation(cluster).set
    assert sent.ttl.ToMilliseconds() == 600_000
    assert sent.idle_ttl.ToMilliseconds() == 2000
    assert sent.max_reads == 5
    assert list(sent.tags) == ["a", "b"]
    entry = client.get("key", full=True)
    assert entry is not None
    assert (entry.tags, entry.idle_ttl_s, entry.reads_left, entry.expires_in_s) == (("a", "b"), 2.0, 5, 600.0)


def test_plain_set_with_ttl_uses_columns(client: Driver, cluster: ClusterThread) -> None:
    client.set("key", "v", ttl=1.5)
    request = cluster.cluster.requests()[-1]
    assert request.set_columns.ttl.ToMilliseconds() == 1500
    entry = client.get("key")
    assert entry is not None
    assert entry.expires_in_s == 1.5


def test_conditions_of_set(client: Driver) -> None:
    assert client.set("key", "1", nx=True).version == 1
    with pytest.raises(errors.ConditionFailed) as caught:
        client.set("key", "2", nx=True)
    assert caught.value.reason == "CONDITION_FAILED"
    assert not caught.value.may_have_executed
    assert client.set("key", "2", xx=True).version == 2
    with pytest.raises(errors.ConditionFailed):
        client.set("other", "2", xx=True)
    assert client.set("key", "3", if_version=2).version == 3
    with pytest.raises(errors.ConditionFailed):
        client.set("key", "4", if_version=2)
    assert client.set("key", "4", if_value="3").version == 4
    with pytest.raises(errors.ConditionFailed):
        client.set("key", "5", if_value="3")
    assert client.set("new", "1", if_version=0).version == 1


def test_want_previous(client: Driver) -> None:
    assert client.set("key", {"n": 1}, want_previous=True).previous is None
    previous = client.set("key", {"n": 2}, want_previous=True).previous
    assert previous is not None
    assert previous.value == {"n": 1}
    deleted = client.delete("key", want_previous=True)
    assert deleted.previous.value == {"n": 2}


def test_keep_ttl(client: Driver) -> None:
    client.set("key", 1, ttl=60)
    client.set("key", 2, keep_ttl=True)
    entry = client.get("key")
    assert entry is not None
    assert entry.expires_in_s == 60.0


def test_update_replaces_appends_adds_and_merges(client: Driver) -> None:
    client.set("text", "one")
    assert client.update("text", "two").value == "two"
    assert client.update("text", append=" three").value == "two three"
    client.set("number", 40)
    assert client.update("number", add=2).value == 42
    client.set("float", 1.5)
    assert client.update("float", add=0.25).value == 1.75
    client.set("object", {"a": 1, "b": {"c": 2}})
    assert client.update("object", merge={"a": None, "b": {"d": 3}}).value == {"b": {"c": 2, "d": 3}}


def test_update_of_missing_key_is_not_found(client: Driver) -> None:
    for change in ({"value": 1}, {"append": "x"}, {"add": 1}, {"merge": {}}, {"fn": lambda value: value}):
        with pytest.raises(errors.NotFound):
            client.update("missing", **change)


def test_update_fn_wins_against_others(client: Driver, cluster: ClusterThread) -> None:
    """Somebody changes the entry between the read and the write of the first try."""
    client.set("key", 1)
    seen: list[int] = []

    def change(value: int) -> int:
        if not seen:
            cluster.thread.call(interfere)
        seen.append(value)
        return value + 1

    def interfere() -> None:
        stored = cluster.state.entries[b"key"]
        stored.value, stored.version = b"10", stored.version + 1
        stored.mod_revision += 1

    assert client.update("key", fn=change).value == 11
    assert seen == [1, 10]


def test_update_wants_exactly_one_change(client: Driver) -> None:
    client.set("key", 1)
    for change in ({}, {"value": 1, "add": 1}, {"append": "x", "merge": {}}, {"fn": str, "add": 1}):
        with pytest.raises(errors.InvalidRequest):
            client.update("key", **change)


def test_update_of_wrong_type(client: Driver) -> None:
    client.set("key", "text")
    with pytest.raises(errors.WrongType):
        client.update("key", add=1)
    with pytest.raises(errors.WrongType):
        client.incr("key")


def test_delete_is_true_only_when_there_was_something(client: Driver) -> None:
    client.set("key", 1)
    result = client.delete("key")
    assert isinstance(result, DeleteResult)
    assert result
    assert not client.delete("key")


def test_conditions_of_delete(client: Driver) -> None:
    client.set("key", 1)
    with pytest.raises(errors.ConditionFailed):
        client.delete("key", if_version=9)
    with pytest.raises(errors.ConditionFailed):
        client.delete("key", if_value=9)
    assert client.delete("key", if_value=1)


def test_touch_and_expire(client: Driver) -> None:
    client.set("key", 1)
    assert client.touch("key", ttl="1h").version == 1
    assert client.get("key").expires_in_s == 3600.0
    client.touch("key")
    assert client.get("key").expires_in_s is None
    assert client.expire("key", "5s") is True
    assert client.get("key").expires_in_s == 5.0
    assert client.expire("missing", "5s") is False
    with pytest.raises(errors.NotFound):
        client.touch("missing", ttl=1)


def test_incr(client: Driver) -> None:
    assert client.incr("n") == 1
    assert client.incr("n", 41) == 42
    assert client.incr("n", -2) == 40
    assert client.get_value("n") == 40
    assert client.incr("m", 5, initial=100, ttl="1m") == 105
    client.set("stored", 7)
    assert client.incr("stored") == 8
    with pytest.raises(errors.OutOfRange):
        client.incr("n", maximum=40)
    with pytest.raises(errors.OutOfRange):
        client.incr("n", -41, minimum=0)
    assert client.get_value("n") == 40


def test_many(client: Driver) -> None:
    results = client.set_many({"a": 1, "b": "two", b"c": b"three"}, ttl="1m")
    assert {key: result.version for key, result in results.items()} == {"a": 1, "b": 1, b"c": 1}
    assert all(isinstance(result, SetResult) for result in results.values())
    found = client.get_many(["a", "missing", b"c", "a"])
    assert list(found) == ["a", "missing", b"c"]
    assert found["a"].value == 1
    assert found["missing"] is None
    assert found[b"c"].value == b"three"
    assert client.get_many([]) == {}
    assert client.set_many({}) == {}


def test_many_more_than_one_message_holds(client: Driver, cluster: ClusterThread) -> None:
    items = {f"key:{number}": number for number in range(5000)}
    results = client.set_many(items)
    assert len(results) == 5000
    found = client.get_many(items)
    assert {key: entry.value for key, entry in found.items()} == items
    sizes = [len(request.set_columns.keys) for request in cluster.cluster.requests()]
    assert max(sizes) <= 4096


def test_get_many_too_large_for_one_reply_is_read_in_parts(client: Driver, cluster: ClusterThread) -> None:
    client.set_many({str(number): number for number in range(10)})

    def refuse_many(request: Any) -> None:
        if len(request.get_columns.keys) > 3:
            raise errors.TooLarge("the reply would be too large")

    cluster.thread.call(cluster.cluster.checks.append, refuse_many)
    found = client.get_many([str(number) for number in range(10)])
    assert [entry.value for entry in found.values()] == list(range(10))


def test_scan(client: Driver) -> None:
    client.set_many({f"user:{number:03}": number for number in range(25)})
    client.set("zebra", 1)
    entries = client.scan_all("user:", page_size=10)
    assert [entry.value for entry in entries] == list(range(25))
    assert [entry.value for entry in client.scan_all("user:", limit=3)] == [0, 1, 2]
    assert [entry.value for entry in client.scan_all("user:", limit=12, page_size=5)] == list(range(12))
    assert len(client.scan_all()) == 26
    assert client.scan_all("nothing") == []
    assert all(entry.raw == b"" for entry in client.scan_all("user:", keys_only=True))


def test_batch_is_one_message_and_atomic(client: Driver, cluster: ClusterThread) -> None:
    client.set("n", 1)

    def fill(batch: Any) -> None:
        batch.set("a", "x")
        batch.incr("n", 2)
        batch.delete("missing")
        batch.update("a", append="y")
        batch.touch("a", ttl=5)
        batch.get("a")

    batch = client.run_batch(fill)
    request = cluster.cluster.requests()[-1]
    assert request.atomic
    assert len(request.operations) == 6
    set_, incr, delete, update, touch, get = batch.results
    assert (set_.version, incr, delete.deleted, update.value, touch.version) == (1, 3, False, "xy", 2)
    assert get.value == "xy"


def test_atomic_batch_that_fails_changes_nothing(client: Driver, cluster: ClusterThread) -> None:
    client.set("text", "no number")

    def fill(batch: Any) -> None:
        batch.set("a", 1)
        batch.incr("text")

    with pytest.raises(errors.BatchAborted):
        client.run_batch(fill)
    assert client.get("a") is None


def test_batch_that_is_not_atomic_applies_what_it_can(client: Driver) -> None:
    client.set("text", "no number")
    pending: list[Any] = []

    def fill(batch: Any) -> None:
        pending.extend([batch.set("a", 1), batch.incr("text"), batch.set("b", 2)])

    with pytest.raises(errors.WrongType):
        client.run_batch(fill, atomic=False)
    assert client.get_value("a") == 1
    assert client.get_value("b") == 2
    assert pending[0].result().version == 1
    with pytest.raises(errors.WrongType):
        pending[1].result()


def test_batch_whose_block_raises_is_not_sent(client: Driver, cluster: ClusterThread) -> None:
    def fill(batch: Any) -> None:
        batch.set("a", 1)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        client.run_batch(fill)
    assert client.get("a") is None


def test_empty_batch_sends_nothing(client: Driver, cluster: ClusterThread) -> None:
    assert client.run_batch(lambda batch: None).results == []
    assert cluster.cluster.requests() == []


@pytest.mark.parametrize("level", list(Consistency))
def test_read_levels(client: Driver, cluster: ClusterThread, level: Consistency) -> None:
    client.set("key", 1)
    entry = client.get("key", read=level)
    request = cluster.cluster.requests()[-1]
    expected = {
        Consistency.LINEARIZABLE: common_pb2.READ_LEVEL_LINEARIZABLE,
        Consistency.SESSION: common_pb2.READ_LEVEL_SESSION,
        Consistency.ONE: common_pb2.READ_LEVEL_ONE,
    }
    assert request.read.level == expected[level]
    assert request.read.min_revision == (1 if level is Consistency.SESSION else 0)
    assert entry.served_as is level
    assert entry.served_by in ("n1", "n2", "n3")
    assert entry.staleness_s == (0.02 if level is Consistency.ONE else None)


def test_max_staleness_asks_for_one(client: Driver, cluster: ClusterThread) -> None:
    client.get("key", max_staleness="50ms")
    request = cluster.cluster.requests()[-1]
    assert request.read.level == common_pb2.READ_LEVEL_ONE
    assert request.read.max_staleness.ToMilliseconds() == 50
    with pytest.raises(errors.InvalidRequest):
        client.get("key", read="linearizable", max_staleness="50ms")


def test_staleness_that_cannot_be_honoured_is_an_error(client: Driver, cluster: ClusterThread) -> None:
    def refuse(request: Any) -> None:
        if request.read.HasField("max_staleness"):
            raise errors.StalenessUnavailable("too stale")

    cluster.thread.call(cluster.cluster.checks.append, refuse)
    with pytest.raises(errors.StalenessUnavailable) as caught:
        client.get("key", max_staleness="1ms")
    assert not caught.value.may_have_executed


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c: c.get(""), "key"),
        (lambda c: c.get("k" * 1025), "key"),
        (lambda c: c.get(7), "key"),
        (lambda c: c.update("k", b"x" * (2**20 + 1)), "value"),
        (lambda c: c.set("k", b"x" * (2**20 + 1), max_reads=1), "max_reads"),
        (lambda c: c.set("k", object()), "value"),
        (lambda c: c.set("k", {1: {2}}), "value"),
        (lambda c: c.set("k", float("nan")), "value"),
        (lambda c: c.set("k", 1, ttl=0), "ttl"),
        (lambda c: c.set("k", 1, ttl="soon"), "ttl"),
        (lambda c: c.set("k", 1, tags="tag"), "tags"),
        (lambda c: c.set("k", 1, tags=[""]), "tags"),
        (lambda c: c.set("k", 1, nx=True, xx=True), "if_absent"),
        (lambda c: c.set("k", 1, keep_ttl=True, ttl=1), "keep_ttl"),
        (lambda c: c.set("k", 1, fence=("", 1)), "fence"),
        (lambda c: c.set("k", 1, fence=("lock", 0)), "fence"),
        (lambda c: c.incr("k", 2**63), "delta"),
        (lambda c: c.incr("k", 1.5), "delta"),
        (lambda c: c.update("k", add=float("inf")), "add"),
        (lambda c: c.get("k", read="sometimes"), "read"),
        (lambda c: c.get("k", timeout=0), "timeout"),
        (lambda c: c.lock(""), "name"),
        (lambda c: c.lock("l", ttl="1ms"), "ttl"),
        (lambda c: c.lock("l", permits=0), "permits"),
        (lambda c: c.scan_all("k", page_size=-1), "page_size"),
        (lambda c: c.invalidate_tags(), "tags"),
        (lambda c: c.find_all([]), "tags"),
        (lambda c: c.find_all("tag"), "tags"),
        (lambda c: c.delete_prefix(""), "prefix"),
        (lambda c: c.delete_range("b", "a"), "end"),
        (lambda c: c.guard("", by="l"), "prefix"),
        (lambda c: c.guard("p", by=""), "by"),
        (lambda c: c.set_namespace("", "p"), "name"),
        (lambda c: c.set_namespace("n", "p", policy="fifo"), "policy"),
        (lambda c: c.statistics(hot_keys=0), "hot_keys"),
        (lambda c: c.lease("10ms"), "ttl"),
        (lambda c: c.revoke_lease(0), "lease_id"),
        (lambda c: c.set("k", 1, lease=0), "lease"),
        (lambda c: c.election(""), "name"),
        (lambda c: c.election("e").campaign("x" * 257), "value"),
    ],
)
def test_mistakes_are_refused_before_anything_is_sent(
    client: Driver, cluster: ClusterThread, call: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        call(client)
    assert caught.value.field == field
    assert not caught.value.may_have_executed
    assert cluster.cluster.requests() == []


def test_cluster_calls(client: Driver, cluster: ClusterThread) -> None:
    assert [member.name for member in client.members()] == ["n1", "n2", "n3"]
    assert client.status("n2").node == "n2"
    assert client.status("n1").role == "leader"
    assert client.status().has_quorum
    assert client.hash("n3").digest == b"digest"
    assert client.transfer_leadership("n2") == "n2"
    assert client.status("n2").role == "leader"
    assert [m.name for m in client.add_member("n4", "p", "127.0.0.1:1", promote=True)][-1] == "n4"
    assert "n3" not in [member.name for member in client.remove_member("n3")]
    assert client.promote_member("n2")
    with pytest.raises(errors.InvalidRequest):
        client.status("n9")


def test_random_operations_agree_with_a_dict(client: Driver, rng: random.Random) -> None:
    model: dict[str, int] = {}
    for _ in range(300):
        key, number = f"k{rng.randrange(8)}", rng.randrange(100)
        match rng.choice(["set", "get", "delete", "incr", "many"]):
            case "set":
                client.set(key, number)
                model[key] = number
            case "get":
                assert client.get_value(key) == model.get(key)
            case "delete":
                assert bool(client.delete(key)) == (model.pop(key, None) is not None)
            case "incr":
                model[key] = model.get(key, 0) + number
                assert client.incr(key, number) == model[key]
            case "many":
                found = client.get_many(model)
                assert {name: entry.value for name, entry in found.items()} == model
