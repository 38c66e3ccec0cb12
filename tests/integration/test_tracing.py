"""One trace from the call of a client to the applied entry, over a real node in this process.

A node of its own engine, log and disk serves in a thread; both ends' spans go to one exporter in memory.
"""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from replcache import AsyncClient, Client, errors
from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.observability.tracing import Tracing
from replcache.raft.node import RaftNode
from replcache.raft.node_config import RaftConfig
from replcache.raft.port import Member, Role
from replcache.server.node_server import Server
from tests.helpers.client_driver import LoopThread
from tests.helpers.wait import async_wait_until, wait_until

SECRET = "not for spans"
CLOCK = SystemClock()


async def serve(stack: AsyncExitStack, folder: Path, tracing: Tracing | None) -> SimpleNamespace:
    """A cluster of one that leads; ended by the stack."""
    address = "127.0.0.1:0"
    config = RaftConfig(
        "n1", b"tracing cluster.", str(folder), address, (Member("n1", address, "127.0.0.1:1"),)
    )
    node = RaftNode(config, on_halt=pytest.fail, clock=CLOCK, rng=random.Random(1))
    await node.start()
    stack.push_async_callback(node.close)
    await async_wait_until(lambda: node.status().role is Role.LEADER, what="a leader", timeout_s=10)
    settings = ServerConfig(grpc_listen=address, http_listen=None, stop_grace_s=0.0)
    server = Server(settings, node, CLOCK, Metrics(), random.Random(1), tracing=tracing)
    await server.start()
    stack.push_async_callback(server.stop)
    return SimpleNamespace(node=node, url=server.grpc_address)


class World:
    """Two nodes, one that traces and one that does not."""

    def __init__(self, folder: Path) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.thread = LoopThread("server")
        self._stack = AsyncExitStack()
        tracing = Tracing(self.provider, CLOCK.now)
        self.traced = self.thread.run(serve(self._stack, folder / "traced", tracing))
        self.plain = self.thread.run(serve(self._stack, folder / "plain", None))

    def spans(self, name: str, like: ReadableSpan | None = None) -> list[ReadableSpan]:
        """Those of that name; with `like`, in its trace."""
        return [
            span
            for span in self.exporter.get_finished_spans()
            if span.name == name and (like is None or span.context.trace_id == like.context.trace_id)
        ]

    def one(self, name: str, like: ReadableSpan | None = None) -> ReadableSpan:
        """The only one; the server's may end after the client has its answer."""
        wait_until(lambda: bool(self.spans(name, like)), 10, f"a span {name}")
        (span,) = self.spans(name, like)
        return span

    def close(self) -> None:
        self.thread.run(self._stack.aclose())
        self.thread.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("nodes"))
    yield made
    made.close()


@pytest.fixture
def world(served: World) -> World:
    """Without the spans of the test before."""
    served.exporter.clear()
    return served


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and child.parent.span_id == parent.context.span_id


def test_one_trace_from_the_call_to_the_apply(world: World) -> None:
    tracer = world.provider.get_tracer("application")
    with Client(world.traced.url, tracer_provider=world.provider) as cache:
        with tracer.start_as_current_span("request"):
            cache.set("a key", SECRET)
    request = world.one("request")
    names = ("request", "replcache set", "replcache message", "Cache.Pipeline", "propose", "apply")
    chain = [world.one(name, request) for name in names]
    assert len({span.context.trace_id for span in chain}) == 1
    assert chain[0].parent is None
    assert all(is_child(child, parent) for parent, child in pairwise(chain))
    assert [span.kind for span in chain[2:4]] == [SpanKind.CLIENT, SpanKind.SERVER]
    rpc, propose, apply = chain[3:]
    assert propose.attributes is not None
    assert propose.attributes["replcache.forwarded"] is False
    assert propose.attributes["replcache.leader"] == "n1"
    assert propose.attributes["replcache.waiting"] == 0
    assert 0 < int(str(propose.attributes["replcache.log_index"])) <= world.traced.node.status().applied_index
    # Times on both clocks agree to the microsecond or so: the apply lies within what waited for it.
    slack_ns = 5_000_000
    assert propose.start_time - slack_ns <= apply.start_time <= apply.end_time <= propose.end_time + slack_ns
    assert rpc.attributes is not None
    assert rpc.attributes["replcache.outcome"] == "ok"
    everything = "".join(span.to_json() for span in world.exporter.get_finished_spans())
    assert SECRET not in everything
    assert "a key" not in everything


def test_calls_that_share_a_message_are_linked_to_it(world: World) -> None:
    async def run() -> None:
        async with AsyncClient(world.traced.url, tracer_provider=world.provider) as cache:
            await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(3)))

    asyncio.run(run())
    message = world.one("replcache message")
    calls = world.spans("replcache set")
    assert len(calls) == 3
    assert {link.context.span_id for link in message.links} == {call.context.span_id for call in calls}
    parent = next(call for call in calls if is_child(message, call))
    for call in calls:
        expected = [] if call is parent else [message.context.span_id]
        assert [link.context.span_id for link in call.links] == expected
    assert is_child(world.one("Cache.Pipeline"), message)


def test_a_unary_call_carries_its_context_in_metadata(world: World) -> None:
    with Client(world.traced.url, tracer_provider=world.provider) as cache:
        with cache.lock("a lock", ttl="10s"):
            pass
    acquire, rpc = world.one("replcache Lock.Acquire"), world.one("Lock.Acquire")
    assert is_child(rpc, acquire)
    assert acquire.kind is SpanKind.CLIENT
    assert rpc.context.trace_id == acquire.context.trace_id
    assert any(is_child(span, rpc) for span in world.spans("propose"))
    # The session that writes are numbered in is the client's own business.
    assert not [
        span for span in world.exporter.get_finished_spans() if span.name.startswith("replcache Session")
    ]


def test_a_read_has_no_proposal_and_an_error_only_its_reason(world: World) -> None:
    with Client(world.traced.url, tracer_provider=world.provider) as cache:
        assert cache.get("nothing here") is None
        with pytest.raises(errors.NotFound):
            cache.update("nothing here", SECRET)
    call = world.one("replcache update")
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description == "NOT_FOUND"
    assert not call.events
    assert len(world.spans("Cache.Pipeline")) == 2
    read, _ = sorted(world.spans("Cache.Pipeline"), key=lambda span: span.start_time)
    assert not [span for span in world.spans("propose") if is_child(span, read)]


def test_a_cancelled_call_ends_its_span(world: World) -> None:
    async def run() -> None:
        async with AsyncClient(world.traced.url, tracer_provider=world.provider) as cache:
            call = asyncio.create_task(cache.set("k", 1))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])

    asyncio.run(run())
    assert world.one("replcache set").status.description == "CancelledError"


def test_nothing_is_exported_when_it_is_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with Client(world.plain.url) as cache:
        cache.set("k", 1)
        assert cache._core.tracing is None
    assert not world.exporter.get_finished_spans()


def test_each_side_works_without_the_other(world: World) -> None:
    with Client(world.plain.url, tracer_provider=world.provider) as cache:
        cache.set("k", 1)
    assert {span.name for span in world.exporter.get_finished_spans()} == {
        "replcache set",
        "replcache message",
    }
    world.exporter.clear()
    with Client(world.traced.url) as cache:
        cache.set("k", 1)
    rpc = world.one("Cache.Pipeline")
    assert rpc.parent is None
    assert is_child(world.one("propose", rpc), rpc)


def test_threads_keep_their_own_parents(world: World) -> None:
    tracer = world.provider.get_tracer("application")

    def work(cache: Client, number: int) -> None:
        with tracer.start_as_current_span(f"thread {number}"):
            cache.set(f"k{number}", number)

    with Client(world.traced.url, tracer_provider=world.provider) as cache:
        threads = [threading.Thread(target=work, args=(cache, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    sets: list[Any] = world.spans("replcache set")
    parents = {span.parent.span_id for span in sets}
    assert parents == {world.one(f"thread {number}").context.span_id for number in range(4)}
