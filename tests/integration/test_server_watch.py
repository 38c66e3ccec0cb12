"""Watches of tags through gRPC, over the fake port: what carries the tag, from then on until it does not."""

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replcache import constants
from replcache.pb.v1 import cache_pb2, watch_pb2
from replcache.statemachine.commands import Command, Delete, Evict, InvalidateTags, Op, Set, SetMany
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import Serving, failure, serving
from tests.helpers.wait import async_wait_until

PUT, DELETE, EXPIRE, EVICT, TOUCH = 1, 2, 3, 4, 5


class Watching:
    """A watch; `events` grows: (kind, key)."""

    def __init__(self, one: Serving, **wanted: Any) -> None:
        request = watch_pb2.WatchRequest(progress_interval=Duration(nanos=20_000_000), **wanted)
        self.call = one.watch.Watch(request)
        self.entries: list[bytes] = []
        self.messages: list[Any] = []
        self.events: list[tuple[int, bytes]] = []
        self.revisions: list[int] = []
        self.reached = 0
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for answer in self.call:
            self.messages.append(answer)
            self.entries += [entry.key for entry in answer.entries]
            self.events += [(event.kind, event.key) for event in answer.events]
            self.revisions += [event.revision for event in answer.events]
            self.reached = max(self.reached, answer.progress_revision)

    async def until(self, revision: int) -> None:
        await async_wait_until(lambda: self.reached >= revision, what=f"revision {revision}")


async def run(raft: FakeRaft, *ops: Op, atomic: bool = False) -> Any:
    return await raft.propose(Command(ops=ops, atomic=atomic), raft.clock.now() + 5)


async def test_watch_of_a_tag_sees_entries_come_change_and_go() -> None:
    async with serving() as one:
        raft = one.raft
        await run(raft, Set(b"old", b"v", tags=("t", "other")), Set(b"plain", b"v"))
        watch = Watching(one, tag="t")
        await async_wait_until(lambda: bool(watch.messages), what="created")
        start = raft.machine.revision + 1
        await run(raft, Set(b"new", b"v", tags=("t",)))
        await run(raft, Set(b"plain", b"v2"), Set(b"old", b"v2", tags=("other",)))
        await run(raft, Set(b"plain", b"v3", tags=("t",)), Delete(b"plain"))
        await run(raft, Set(b"short", b"v", tags=("t",), ttl_ms=50))
        raft.advance_ms(100)
        await run(raft, Set(b"full", b"v", tags=("t",)), Evict((b"full",)))
        await raft.propose(Command(set_many=SetMany([b"x", b"new"], [b"", b""])), raft.clock.now() + 5)
        await run(raft, Set(b"twice", b"v", tags=("t", "u")), InvalidateTags(("u",)))
        await run(raft, Set(b"twice", b"v", tags=("t",)), InvalidateTags(("t",)))
        await run(raft, Set(b"both", b"v", tags=("t",)), Set(b"both", b"v", tags=("u",)), atomic=True)
        await watch.until(raft.machine.revision)
        expected = [
            (PUT, b"new"),
            (DELETE, b"old"),
            (PUT, b"plain"),
            (DELETE, b"plain"),
            (PUT, b"short"),
            (EXPIRE, b"short"),
            (PUT, b"full"),
            (EVICT, b"full"),
            (DELETE, b"new"),
            (PUT, b"twice"),
            (DELETE, b"twice"),
            (PUT, b"twice"),
            (DELETE, b"twice"),
        ]
        assert watch.events == expected
        assert watch.revisions == sorted(watch.revisions)
        again = Watching(one, tag="t", start_revision=start)
        await again.until(raft.machine.revision)
        assert (again.events, again.revisions) == (expected, watch.revisions)
        snapshot = Watching(one, tag="u", snapshot=True)
        await snapshot.until(raft.machine.revision)
        assert (snapshot.entries, snapshot.events) == ([b"both"], [])


async def test_snapshot_of_large_values_comes_in_messages_that_every_client_takes() -> None:
    async with serving() as one:
        for number in range(6):
            await run(one.raft, Set(b"%d" % number, bytes(constants.VALUE_BYTES_MAX), tags=("t",)))
        for wanted in ({"tag": "t"}, {"prefix": b""}):
            watch = Watching(one, snapshot=True, **wanted)
            await watch.until(one.raft.machine.revision)
            assert watch.entries == [b"%d" % number for number in range(6)]
            assert max(message.ByteSize() for message in watch.messages) < constants.MESSAGE_BYTES_MAX


async def test_bad_tag_is_refused() -> None:
    async with serving() as one:
        for tag in ("", "x" * 129):
            call = one.watch.Watch(watch_pb2.WatchRequest(tag=tag))
            assert (await failure(call.read())).field == "tag"


keys = st.sampled_from([b"a", b"b", b"c"])
tags = st.sets(st.sampled_from(["t", "u"])).map(lambda found: tuple(sorted(found)))
commands = st.one_of(
    st.builds(lambda key, own: Command(ops=(Set(key, b"v", tags=own),)), keys, tags),
    st.builds(lambda key: Command(ops=(Delete(key),)), keys),
    st.builds(lambda key: Command(set_many=SetMany([key], [b""])), keys),
    st.builds(lambda own: Command(ops=(InvalidateTags(own),)), tags),
    st.builds(
        lambda pairs: Command(ops=tuple(Set(key, b"v", tags=own) for key, own in pairs), atomic=True),
        st.lists(st.tuples(keys, tags), min_size=1, max_size=3),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(commands, max_size=5), after=st.lists(commands, min_size=1, max_size=12))
@pytest.mark.asyncio
async def test_following_a_tag_gives_what_a_search_for_it_finds(
    before: list[Command], after: list[Command]
) -> None:
    """Also for a watch that begins in the past."""
    async with serving() as one:
        raft = one.raft
        for command in before:
            await raft.propose(command, raft.clock.now() + 5)
        live = Watching(one, tag="t", snapshot=True)
        late = Watching(one, tag="t", snapshot=True)
        await async_wait_until(lambda: any(m.snapshot_done for m in late.messages), what="the snapshot")
        known, start = set(late.entries), late.reached + 1
        for command in after:
            await raft.propose(command, raft.clock.now() + 5)
        await live.until(raft.machine.revision)
        resumed = Watching(one, tag="t", start_revision=start)
        await resumed.until(raft.machine.revision)
        for found, events in ((set(live.entries), live.events), (known, resumed.events)):
            for kind, key in events:
                (found.add if kind == PUT else found.discard)(key)
            reply = await one.cache.Find(cache_pb2.FindRequest(tags=["t"]))
            assert found == {entry.key for entry in reply.entries}
