"""The status page's HTTP side over the fake node: who gets what, and what it costs."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import aiohttp
import pytest

from replcache.pb.v1 import cache_pb2, lock_pb2
from replcache.raft.port import Member, PeerStatus, Role
from replcache.server.status import feed as feed_module
from replcache.server.status.pages import FILES
from replcache.server.status.report import QUESTION, Report
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, serving
from tests.helpers.wait import async_wait_until

EVENTS_DEADLINE_S = 10.0


class CountingRaft(FakeRaft):
    """Counts how often the peers are asked."""

    asked = 0

    async def ask(self, question: str, payload: bytes, deadline: float) -> dict[str, bytes]:
        self.asked += 1
        return await super().ask(question, payload, deadline)


def three_members(raft: FakeRaft) -> None:
    raft.members = tuple(Member(f"n{i}", f"h{i}:1", f"h{i}:2", i) for i in (1, 2, 3))
    raft.peers = (PeerStatus("n2", True, 5, 0.1), PeerStatus("n3", False, None, None))


@contextlib.asynccontextmanager
async def states(one: Serving) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """What the page's script gets."""

    async def read(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))

    timeout = aiohttp.ClientTimeout(total=EVENTS_DEADLINE_S)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 20) as http:
        async with http.get(f"http://{one.server.http_address}/status/events") as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield read(answer)


async def get(one: Serving, path: str, **headers: str) -> tuple[int, Any, str]:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://{one.server.http_address}{path}", headers=headers) as answer:
            return answer.status, answer.headers, await answer.text()


async def test_everything_comes_from_the_node_and_nothing_else_may_run() -> None:
    async with serving() as one:
        for path, (_, kind) in FILES.items():
            status, headers, text = await get(one, path)
            assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            foreign = set(re.findall(r"https?://[\w./-]+", text)) - {"http://www.w3.org/2000/svg"}
            assert not foreign, (path, foreign)
            assert "innerHTML" not in text


def test_every_file_of_the_page_is_served() -> None:
    folder = resources.files("replcache.server.status") / "web"
    assert {one.name for one in folder.iterdir()} == {name for name, _ in FILES.values()}


async def test_names_that_only_pretend_to_be_this_machine_are_refused() -> None:
    async with serving() as one:
        for path in ("/", "/status/state", "/status/events"):
            status, _, _ = await get(one, path, Host="rebound.example:7421")
            assert status == 403, path
        for host in ("localhost:7421", "127.0.0.1", "[::1]:7421"):
            assert (await get(one, "/", Host=host))[0] == 200


async def test_the_page_can_be_turned_off() -> None:
    async with serving(status_page=False) as one:
        for path in (*FILES, "/status/state", "/status/events"):
            assert (await get(one, path))[0] == 404
        assert (await get(one, "/healthz"))[0] == 200


async def test_nobody_looks_and_nothing_is_collected_then_once_for_all() -> None:
    raft = CountingRaft()
    async with serving(raft) as one:
        async with states(one) as first, states(one) as second:
            for viewer in (first, second):
                assert (await anext(viewer))["kind"] == "history"
            frames = [(await anext(first), await anext(second)) for _ in range(2)]
            assert all(a["kind"] == "state" for pair in frames for a in pair)
            assert frames[1][0]["sample"]["t"] > frames[0][0]["sample"]["t"]
            assert raft.asked <= 3
        await async_wait_until(lambda: one.server.feed.viewers == 0, what="both viewers are gone")
        before = raft.asked
        await asyncio.wait_for(one.server.feed.idle.wait(), EVENTS_DEADLINE_S)
        assert raft.asked <= before + 1


async def test_viewers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "VIEWERS_MAX", 1)
    async with serving() as one:
        async with states(one) as viewer:
            await anext(viewer)
            status, headers, _ = await get(one, "/status/events")
            assert (status, headers["Retry-After"]) == (503, "5")


async def test_a_state_has_members_locks_and_rates_but_no_values() -> None:
    raft = FakeRaft()
    three_members(raft)
    peer = Report(node="n2", role="follower", applied_index=1, watch_count=4, http_address="h2:3")
    liar = Report(node="n9", role="leader")
    raft.peer_answers[QUESTION] = {"n2": peer.encode(), "n3": liar.encode(), "n4": b"junk"}
    async with serving(raft) as one:
        await one.cache.Set(cache_pb2.SetRequest(key=b"key", value=b"very secret value"))
        request = lock_pb2.AcquireRequest(name="orders", owner=b"me", note="worker-1")
        request.ttl.FromSeconds(60)
        token = (await one.lock.Acquire(request)).token
        await one.cache.Get(cache_pb2.GetRequest(key=b"key"))
        await one.cache.Get(cache_pb2.GetRequest(key=b"missing"))
        status, _, text = await get(one, "/status/state")
    assert status == 200
    assert "secret" not in text
    state = json.loads(text)
    rows = {row["name"]: row for row in state["members"]}
    assert [rows[name]["state"] for name in ("n1", "n2", "n3")] == ["up", "up", "unreachable"]
    assert (rows["n2"]["lag"], rows["n2"]["page"], rows["n3"]["lag"]) == (1, "h2:3", None)
    (lock,) = state["locks"]
    assert (lock["name"], lock["first_holders"][0]["token"], lock["waiters"]) == ("orders", token, 0)
    assert state["totals"]["watches"] == 4
    assert sorted(row[:2] for row in state["hot_reads"]) == [["key", 1], ["missing", 1]]
    assert [row[0] for row in state["hot_writes"]] == ["key"]
    (rest,) = state["namespaces"]
    assert (rest["name"], rest["counts"][:3]) == ("", [1, 1, 1])


async def test_names_are_hidden_where_the_configuration_says_so() -> None:
    async with serving(status_keys="hide") as one:
        request = lock_pb2.AcquireRequest(name="orders-secret", owner=b"me-secret", note="note-secret")
        request.ttl.FromSeconds(60)
        await one.lock.Acquire(request)
        await one.cache.Set(cache_pb2.SetRequest(key=b"key-secret", value=b"value"))
        _, _, text = await get(one, "/status/state")
        assert "secret" not in text
        assert json.loads(text)["shows_keys"] is False
        assert json.loads(text)["locks"][0]["holders"] == 1


async def test_a_change_of_leader_is_told_at_once() -> None:
    raft = FakeRaft()
    three_members(raft)
    async with serving(raft) as one:
        async with states(one) as viewer:
            await anext(viewer)
            first = await anext(viewer)
            assert first["leader"] == "n1"
            raft.leader, raft.term, raft.role = "n2", 2, Role.FOLLOWER
            second = await anext(viewer)
            assert (second["leader"], second["term"]) == ("n2", 2)
            assert second["sample"]["t"] - first["sample"]["t"] < 0.9


async def test_streams_end_when_the_node_stops() -> None:
    async with serving() as one:
        async with states(one) as viewer:
            await anext(viewer)
            await one.server.stop()
            assert [state async for state in viewer if state["kind"] != "state"] == []
