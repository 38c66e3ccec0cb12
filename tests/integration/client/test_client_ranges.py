"""Calls by tag, range and prefix; guards, namespaces and statistics. Against a real server."""

import pytest

from replcache import Client, errors
from replcache.client import convert
from replcache.client.types import HotKey, NamespaceStatistics
from replcache.pb.v1 import keyspace_pb2
from tests.helpers.client_driver import Driver, ServerThread


def test_tags_find_and_invalidate(served: Driver) -> None:
    served.set("a", 1, tags=["red", "round"])
    served.set("b", 2, tags=["red"])
    served.set("c", 3, tags=["round"])
    served.set("d", None)
    assert [entry.value for entry in served.find_all(["red"])] == [1, 2]
    assert [entry.value for entry in served.find_all(["red", "round"])] == [1]
    assert served.find_all(["red"])[0].tags == ("red", "round")
    assert [entry.name for entry in served.find_all(["round"], limit=1)] == ["a"]
    assert [entry.raw for entry in served.find_all(["round"], keys_only=True, page_size=1)] == [b"", b""]
    assert served.invalidate_tags("red", "none") == 2
    assert served.find_all(["round"])[0].name == "c"
    assert [entry.name for entry in served.scan_all()] == ["c", "d"]
    assert served.invalidate_tags("red") == 0
    served.set("a", 9, tags=["red"])
    assert served.get_value("a") == 9


def test_delete_prefix_and_range(served: Driver) -> None:
    served.set_many({f"a{number:04}": number for number in range(2100)})
    served.set_many({"b1": 1, "b2": 2, "c": 3})
    assert served.delete_prefix("a") == 2100
    assert served.delete_range("b2", "c") == 1
    assert [entry.name for entry in served.scan_all()] == ["b1", "c"]
    assert served.delete_range("b1") == 2
    assert served.delete_prefix("x") == 0


def test_lost_answer_of_a_range_is_counted_once(served: Driver, server: ServerThread) -> None:
    served.set_many({"a1": 1, "a2": 2})
    server.raft.lose_outcomes = 1
    assert served.delete_prefix("a") == 2


def test_guard_wants_the_fence(served: Driver) -> None:
    assert served.guard("orders/", by="orders/*") is True
    assert served.guard("orders/", by="orders/*") is False
    assert [(guard.prefix, guard.by) for guard in served.guards()] == [(b"orders/", "orders/*")]
    with pytest.raises(errors.FenceRejected):
        served.set("orders/1", 1)
    with pytest.raises(errors.FenceRejected):
        served.delete_prefix("orders/")
    lock = served.lock("orders/1")
    lock.acquire()
    served.set("orders/1", 1, fence=lock.under)
    lock.release()
    assert served.unguard("orders/") is True
    assert served.unguard("orders/") is False
    served.set("orders/1", 2)


def test_one_guarded_key_does_not_fail_its_neighbours(served: Driver) -> None:
    """Calls of many tasks share a message, which the cluster refuses as a whole: it is taken apart."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    served.guard("guarded/", by="lock")
    names = [f"free/{number}" for number in range(30)] + ["guarded/1"]
    outcomes: list[object]
    if served.colour == "async":

        async def all_at_once() -> list[object]:
            calls = (served.client.set(name, 1) for name in names)
            return await asyncio.gather(*calls, return_exceptions=True)

        outcomes = served.thread.run(all_at_once())
    else:

        def one(name: str) -> object:
            try:
                return served.set(name, 1)
            except errors.ReplcacheError as err:
                return err

        with ThreadPoolExecutor(len(names)) as pool:
            outcomes = list(pool.map(one, names))
    assert isinstance(outcomes[-1], errors.FenceRejected)
    assert not [outcome for outcome in outcomes[:-1] if isinstance(outcome, Exception)]


def test_namespaces(served: Driver) -> None:
    assert served.set_namespace("users", "user:", max_bytes=1000) is True
    assert served.set_namespace("users", "user:", max_bytes=1000) is False
    served.set("user:1", b"x" * 150)
    (namespace,) = served.namespaces()
    assert (namespace.name, namespace.prefix, namespace.max_bytes) == ("users", b"user:", 1000)
    assert (namespace.policy, namespace.keys, namespace.complete) == ("none", 1, True)
    assert namespace.bytes >= 150
    with pytest.raises(errors.QuotaExceeded):
        served.update("user:1", append=b"x" * 1000)
    served.set("other", b"x" * 150)
    assert served.set_namespace("users", "user:", max_bytes=10_000, policy="lru") is True
    served.update("user:1", append=b"x" * 1000)
    assert served.remove_namespace("users") is True
    assert served.remove_namespace("users") is False
    assert served.namespaces() == ()


def test_statistics(served: Driver) -> None:
    served.set("hot", 1)
    served.get("hot")
    found = served.statistics(hot_keys=1)
    assert found.node == "n1"
    assert len(found.most_read) <= 1
    assert served.statistics("n1").node == "n1"


def test_figures_of_a_node() -> None:
    response = keyspace_pb2.StatisticsResponse()
    response.header.node = "n1"
    response.namespaces.add(name="", hits=3, misses=1, writes=2, expired=5, evicted=6)
    response.most_read.add(key=b"hot", count=9, error=1)
    response.most_written.add(key=b"log", count=8)
    found = convert.node_statistics(response)
    assert found.namespaces == (NamespaceStatistics("", 3, 1, 2, 5, 6),)
    assert found.namespaces[0].hit_rate == 0.75
    assert found.most_read == (HotKey(b"hot", 9, 1),)
    assert found.most_written == (HotKey(b"log", 8, 0),)


def test_watching_a_tag(server: ServerThread) -> None:
    with Client(server.url) as client, client.watch(tag="red", start="snapshot") as watch:
        assert watch.next("10s").kind == "synced"
        client.set("other", 1)
        client.set("a", 1, tags=["red"])
        client.set("a", 2)
        client.set("b", 3, tags=["red"])
        client.invalidate_tags("red")
        seen = [watch.next("10s") for _ in range(4)]
        assert [(event.kind, event.key) for event in seen] == [
            ("put", b"a"),
            ("delete", b"a"),
            ("put", b"b"),
            ("delete", b"b"),
        ]


def test_watches_leave_parts_of_large_values_out(server: ServerThread) -> None:
    with Client(server.url, part_bytes=100) as client, client.watch(prefix="w", start="snapshot") as watch:
        assert watch.next("10s").kind == "synced"
        client.set("w1", b"x" * 1000)
        client.set("w2", b"small")
        seen = [watch.next("10s") for _ in range(2)]
        assert [event.key for event in seen] == [b"w1", b"w2"]
    with Client(server.url) as client, client.watch(prefix="w", start="snapshot") as watch:
        assert [watch.next("10s").kind for _ in range(3)] == ["entry", "entry", "synced"]


def test_a_watch_from_now_has_everything_after_it_was_ready(server: ServerThread) -> None:
    with Client(server.url) as client, client.watch(prefix="r") as watch:
        before = client.set("r", 0).revision
        assert watch.ready("10s") >= before
        after = client.set("r", 1).revision
        event = watch.next("10s")
        assert event is not None
        assert (event.revision, event.entry and event.entry.value) == (after, 1)


def test_a_watch_that_nobody_serves_is_not_ready() -> None:
    with Client("127.0.0.1:1", timeout="5s") as client, client.watch(key="k") as watch:
        with pytest.raises(errors.Unavailable, match=r"no node served the watch within 0\.3 s"):
            watch.ready("300ms")
        watch.close()
        with pytest.raises(errors.ClientClosed):
            watch.ready()
