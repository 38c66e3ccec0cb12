"""A watch whose node installs a snapshot never says that it delivered what the snapshot skipped (P7)."""

import asyncio
from typing import Any

import pytest

from replcache.errors import Compacted
from replcache.pb.v1 import common_pb2, watch_pb2
from replcache.server.watch_hub import WatchHub, WatchRange
from replcache.server.watch_service import WatchService
from replcache.statemachine.commands import Command, Set
from replcache.statemachine.machine import StateMachine
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.machine import Driver
from tests.helpers.wait import async_wait_until


class Backend:
    """What the service needs of the real one."""

    def __init__(self, port: FakeRaft) -> None:
        self.port = port
        self.clock = port.clock

    @property
    def machine(self) -> StateMachine:
        return self.port.machine

    def header(self, revision: int) -> common_pb2.ResponseHeader:
        return common_pb2.ResponseHeader(revision=revision)


class Stream:
    """A reader that reads nothing more until it is told to."""

    def __init__(self) -> None:
        self.messages: list[watch_pb2.WatchResponse] = []
        self.is_reading = asyncio.Event()
        self.is_reading.set()

    async def write(self, message: watch_pb2.WatchResponse) -> None:
        await self.is_reading.wait()
        self.messages.append(message)


def newer_state(revisions: int) -> StateMachine:
    driver = Driver()
    for number in range(revisions):
        driver.one(Set(b"k", b"%d" % number))
    return driver.machine


async def test_a_slow_reader_is_told_of_the_gap_and_not_of_progress_over_it() -> None:
    port = FakeRaft()
    hub = WatchHub(port)
    hub.start()
    backend: Any = Backend(port)
    stream: Any = Stream()
    service = WatchService(backend, reader=None, hub=hub, boundary=None)  # type: ignore[arg-type]
    request = watch_pb2.WatchRequest(prefix=b"k")

    async def write(value: bytes) -> None:
        await port.propose(Command(ops=(Set(b"k", value),)), port.clock.now() + 5)

    with hub.watching(WatchRange(prefix=b"k")) as watcher:
        serving = asyncio.create_task(service._serve(request, watcher, 60.0, stream))
        await async_wait_until(lambda: stream.messages, what="created")
        stream.is_reading.clear()
        await write(b"1")
        await async_wait_until(lambda: not watcher.queue, what="the first event is being written")
        await write(b"2")
        port.install_machine(newer_state(100))
        stream.is_reading.set()
        with pytest.raises(Compacted):
            await asyncio.wait_for(serving, 5)
    events = [event.revision for message in stream.messages for event in message.events]
    assert events == [1]
    assert max(message.progress_revision for message in stream.messages) == 1


async def test_a_watch_that_begins_after_an_installed_snapshot_is_not_ended() -> None:
    port = FakeRaft("n2")  # the newer state has groups of n1
    hub = WatchHub(port)
    hub.start()
    port.install_machine(newer_state(100))
    with hub.watching(WatchRange(prefix=b"k")) as watcher:
        await port.propose(Command(ops=(Set(b"k", b"v"),)), port.clock.now() + 5)
        assert watcher.error is None
        assert [change.revision for change in watcher.take(1000)] == [101]
