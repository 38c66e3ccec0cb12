"""Large values: stored in parts, read whole or not at all. Values above 200 bytes are large here."""

import json
import random
import threading
from typing import Any

import pytest

from replcache import Client, errors
from replcache.client.parts import PART_MARK, Manifest
from replcache.constants import MANIFEST_TYPE
from tests.helpers.client_driver import Driver, ServerThread
from tests.helpers.wait import scaled, wait_until


def data_of(number: int, size: int = 1234) -> bytes:
    return random.Random(number).randbytes(size)


def parts(server: ServerThread, prefix: bytes = b"") -> list[bytes]:
    return [key for key in server.keys(prefix) if PART_MARK in key]


@pytest.mark.parametrize("value", [data_of(1), "ü" * 400, {"list": list(range(200))}, data_of(2, 201)])
def test_round_trip_keeps_the_kind_of_value(served: Driver, server: ServerThread, value: Any) -> None:
    result = served.set("big", value)
    entry = served.get("big")
    assert entry.value == value
    assert (entry.version, entry.mod_revision) == (result.version, result.revision)
    assert served.get_value("big") == value
    assert served.get("big", read="one").value == value
    assert served.get("big", full=True).value == value
    assert served.get_many(["big", "none"])["big"].value == value
    assert len(parts(server)) >= 3


def test_value_at_the_limit_is_stored_whole(served: Driver, server: ServerThread) -> None:
    served.set("small", b"x" * 200)
    assert parts(server) == []


def test_parts_are_not_seen_by_others(served: Driver, server: ServerThread) -> None:
    served.set("a", b"small", tags=["t"])
    served.set("big", data_of(1), tags=["t"])
    served.set("c", b"small")
    assert [entry.name for entry in served.scan_all()] == ["a", "big", "c"]
    assert served.scan_all("b")[0].value == data_of(1)
    assert [entry.value for entry in served.find_all(["t"])] == [b"small", data_of(1)]
    assert served.set_many({"m1": data_of(3), "m2": b"2"}).keys() == {"m1", "m2"}
    assert served.get_value("m1") == data_of(3)


def test_near_cache_holds_whole_values(server: ServerThread) -> None:
    with Client(server.url, part_bytes=100) as client, client.near("big", max_staleness="10s") as near:
        client.set("big", data_of(1))
        assert near.get_value("big") == data_of(1)
        wait_until(lambda: near.get_value("big") == data_of(1) and near.stats().hits, what="a near hit")
        near.set("big", data_of(2))
        assert near.get_value("big") == data_of(2)


def test_what_shows_the_manifest_says_so(served: Driver) -> None:
    served.set("big", data_of(1))
    batch = served.run_batch(lambda b: b.get("big"))
    entry = batch.results[0]
    assert entry.content_type == MANIFEST_TYPE
    assert Manifest.decode(entry.raw).size == 1234
    with pytest.raises(errors.WrongType, match="get"):
        _ = entry.value


def test_old_parts_go_after_a_while(served: Driver, server: ServerThread) -> None:
    served.set("big", data_of(1))
    old = parts(server)
    served.set("big", data_of(2))
    assert served.get_value("big") == data_of(2)
    server.advance(11)
    left = parts(server)
    assert left
    assert not set(left) & set(old)
    assert served.get_value("big") == data_of(2)


@pytest.mark.parametrize(
    "end",
    [
        lambda c: c.delete("big"),
        lambda c: c.set("big", b"small"),
        lambda c: c.update("big", b"small"),
        lambda c: c.update("big", fn=lambda old: old[:100]),
    ],
)
def test_parts_go_with_the_value(served: Driver, server: ServerThread, end: Any) -> None:
    served.set("big", data_of(1))
    end(served)
    wait_until(lambda: parts(server) == [], what="no parts left")


def test_what_other_clients_leave_is_swept(served: Driver, server: ServerThread) -> None:
    served.set("gone", data_of(1))
    served.set("kept", data_of(2))
    served.set("tagged", data_of(3), tags=["t"])
    with Client(server.url) as other:
        other.delete("gone")
        other.invalidate_tags("t")
    before = len(parts(server))
    kept = len(parts(server, b"kept"))
    assert served.sweep() == before - kept
    assert len(parts(server)) == kept
    assert served.sweep() == 0
    assert served.get_value("kept") == data_of(2)


def test_conditions_hold(served: Driver, server: ServerThread) -> None:
    version = served.set("big", data_of(1), nx=True).version
    for wrong in ({"nx": True}, {"if_version": 7}, {"if_mod_revision": 1}):
        with pytest.raises(errors.ConditionFailed):
            served.set("big", data_of(2), **wrong)
    with pytest.raises(errors.ConditionFailed):
        served.set("none", data_of(2), xx=True)
    assert served.set("big", data_of(2), if_version=version, xx=True).version == version + 1
    assert served.get_value("big") == data_of(2)
    server.advance(11)
    assert len(parts(server)) == 13


def test_ttl_ends_the_value_and_its_parts(served: Driver, server: ServerThread) -> None:
    served.set("big", data_of(1), ttl="30s")
    server.advance(29)
    assert served.get_value("big") == data_of(1)
    server.advance(2)
    assert served.get("big") is None
    server.advance(10)
    assert server.keys() == []


def test_idle_time_is_renewed_for_all_parts(served: Driver, server: ServerThread) -> None:
    served.set("big", data_of(1), idle="30s")
    for _ in range(3):
        server.advance(20)
        assert served.get_value("big") == data_of(1)
        # Accesses are put into the log a little later.
        proposed = len(server.raft.proposed)
        wait_until(lambda n=proposed: len(server.raft.proposed) > n, what="the accesses in the log")
    server.advance(41)
    assert served.get("big") is None
    assert server.keys() == []


def test_lease_ends_the_value_and_its_parts(served: Driver, server: ServerThread) -> None:
    lease = served.driven(served.client.lease("5s"))
    lease.grant()
    served.set("big", data_of(1), lease=lease.under)
    assert served.get_value("big") == data_of(1)
    lease.revoke()
    assert served.get("big") is None
    assert server.keys() == []


def test_guard_and_fence_hold_for_parts_too(served: Driver) -> None:
    served.guard("orders/", by="orders")
    with pytest.raises(errors.FenceRejected):
        served.set("orders/1", data_of(1))
    lock = served.lock("orders")
    lock.acquire()
    served.set("orders/1", data_of(1), fence=lock.under)
    assert served.get_value("orders/1") == data_of(1)
    lock.release()


class Dying(Exception):
    pass


def test_killed_writer_leaves_nothing_for_ever(served: Driver, server: ServerThread) -> None:
    """It dies before the manifest: the old value stays whole, and the new parts end by themselves."""
    served.set("big", data_of(1))
    before = set(parts(server))
    large = served.client._large if served.colour == "async" else served.client._aio._large

    async def die(*_: Any) -> Any:
        raise Dying

    real = large._client._send_batch
    large._client._send_batch = die
    try:
        with pytest.raises(Dying):
            served.set("big", data_of(2))
    finally:
        large._client._send_batch = real
    assert served.get_value("big") == data_of(1)
    assert len(parts(server)) == 2 * len(before)
    server.advance(61)
    assert set(parts(server)) == before
    assert served.get_value("big") == data_of(1)


def test_parts_that_expired_before_the_commit_are_written_again(served: Driver, server: ServerThread) -> None:
    large = served.client._large if served.colour == "async" else served.client._aio._large
    real = large._client._send_batch
    calls: list[int] = []

    async def late(*arguments: Any) -> Any:
        if not calls:
            server.advance(100)
        calls.append(1)
        return await real(*arguments)

    large._client._send_batch = late
    try:
        served.set("big", data_of(1))
    finally:
        large._client._send_batch = real
    assert len(calls) == 2
    assert served.get_value("big") == data_of(1)


def test_value_whose_parts_are_gone_is_gone(served: Driver, server: ServerThread) -> None:
    """Its life was made longer behind the parts' back."""
    served.set("big", data_of(1), ttl="5s")
    served.expire("big", "1h")
    server.advance(20)
    assert served.get("big") is None
    served.set("big", data_of(2))
    assert served.get_value("big") == data_of(2)


def test_lost_answers_are_no_harm(served: Driver, server: ServerThread) -> None:
    server.raft.lose_outcomes = 3
    served.set("big", data_of(1))
    assert served.get_value("big") == data_of(1)
    assert served.get("big").version == 1


def test_never_a_mix_while_it_is_overwritten(served: Driver, server: ServerThread) -> None:
    """Two writers of values of different lengths, a reader, small values and deletes in between."""
    values = {data_of(number, 400 + 150 * number) for number in range(6)}
    ordered = sorted(values, key=len)
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        try:
            with Client(server.url, part_bytes=100, timeout=scaled(30)) as writer:
                while not stop.is_set():
                    draw = rng.random()
                    if draw < 0.1:
                        writer.delete("big")
                    elif draw < 0.2:
                        writer.set("big", b"small")
                    else:
                        writer.set("big", rng.choice(ordered))
        except BaseException as err:  # noqa: BLE001  # shown by the assertion below
            failed.append(err)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    seen: set[object] = set()
    for _ in range(150):
        value = served.get_value("big")
        assert value is None or value == b"small" or value in values
        seen.add(value)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not failed
    assert len(seen) > 3
    server.advance(100)
    served.sweep()
    found = served.get("big")
    assert len(parts(server)) == (
        0 if found is None else -(-len(found.raw) // 100) if len(found.raw) > 200 else 0
    )


@pytest.mark.parametrize("wanted", [4, 0, None, "", b"", False])
def test_a_wanted_value_is_refused_rather_than_forgotten(served: Driver, wanted: object) -> None:
    served.set("big", b"before")
    with pytest.raises(errors.InvalidRequest, match="if_value"):
        served.set("big", data_of(1), if_value=wanted)
    assert served.get_value("big") == b"before"


@pytest.mark.parametrize(
    "patch",
    [
        lambda c: c.update("big", append=b"x"),
        lambda c: c.update("big", merge={"parts": None}),
        lambda c: c.update("big", add=1),
        lambda c: c.update("big", add=0.5),
        lambda c: c.incr("big"),
    ],
)
def test_a_value_in_parts_is_not_patched(served: Driver, patch: Any) -> None:
    served.set("big", data_of(1))
    with pytest.raises(errors.WrongType, match="in parts"):
        patch(served)
    assert served.get_value("big") == data_of(1)
    served.update("big", "small")
    assert served.get_value("big") == "small"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 5},
        {"id": "0123456789abcde/"},
        {"parts": "3"},
        {"parts": 0},
        {"parts": -1},
        {"parts": 10**9},
        {"parts": True},
        {"size": None},
        {"size": 1.5},
        {"crc32": []},
        {"content_type": 7},
        {"format": 2},
    ],
)
def test_a_manifest_of_wrong_fields_is_a_typed_error(fields: dict[str, object]) -> None:
    good = json.loads(Manifest("0123456789abcdef", 3, 1234, 7, "text/plain").encode())
    assert Manifest.decode(json.dumps(good).encode()).parts == 3
    with pytest.raises(errors.WrongType):
        Manifest.decode(json.dumps(good | fields).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_none_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(errors.WrongType):
        Manifest.decode(data)


def test_limits(served: Driver) -> None:
    with pytest.raises(errors.TooLarge):
        served.set("k" * 1000, data_of(1))
    with pytest.raises(errors.TooLarge):
        served.set("big", b"x" * 102_401)
    with pytest.raises(errors.InvalidRequest):
        served.set("big", data_of(1), max_reads=1)
    with pytest.raises(errors.TooLarge):
        served.run_batch(lambda b: b.set("big", b"x" * 2_000_000))
