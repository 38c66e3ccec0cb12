"""What asks for a client's spans, and the metadata of its unary calls."""

import asyncio
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from replcache import errors
from replcache.client.tracing import HEADER, ClientTracing, client_tracing
from tests.unit.client.test_pipeline import FakeCore, answer, turns

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({ENDPOINT: "http://collector:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://collector:4317"}, False),
        ({"OTEL_SDK_DISABLED": "True", ENDPOINT: "http://collector:4317"}, False),
    ],
)
def test_the_standard_variables_turn_it_on(environment: dict[str, str], is_on: bool) -> None:
    assert (client_tracing(None, environment) is not None) is is_on


def test_a_provider_wins_over_the_environment() -> None:
    assert (
        client_tracing(TracerProvider(shutdown_on_exit=False), {"OTEL_TRACES_EXPORTER": "none"}) is not None
    )


def test_variables_without_the_package_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    assert client_tracing(None, {ENDPOINT: "http://collector:4317"}) is None


async def test_the_token_stays_among_the_metadata() -> None:
    tracing = ClientTracing(TracerProvider(shutdown_on_exit=False))
    headers = (("authorization", "Bearer x"),)

    def stub(**options: Any) -> Any:
        return options.get("metadata")

    async def send() -> Any:
        return tracing.sending(stub, headers)()

    sent = await tracing.unary("Lock.Acquire", send)
    assert sent[:1] == headers
    assert sent[1][0] == HEADER
    assert len(sent[1][1]) == 55
    # Without a span the stub is left alone, with the metadata of its own.
    assert await tracing.untraced(send) is None


async def test_each_try_of_a_message_has_a_span_and_all_of_them_end() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    core: Any = FakeCore()
    tracing = core.tracing = ClientTracing(provider)
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    core.pipeline.writes.join_set(b"k", b"v", "", 0, 10.0, tracing.call("set", waiter))
    await turns()
    core.links["a:1"].break_off(errors.Unavailable("broken"))
    await turns()
    second = core.links["b:1"]
    core.pipeline.on_response(second, answer(second.sent[0]))
    assert (await waiter).version == 1
    first_try, next_try, call = exporter.get_finished_spans()
    assert first_try.name == next_try.name == "replcache message"
    assert call.name == "replcache set"
    assert first_try.status.description == "UNAVAILABLE"
    assert next_try.status.is_ok
    tries: list[Any] = [first_try.attributes, next_try.attributes]
    assert [(each["replcache.attempt"], each["server.address"]) for each in tries] == [(1, "a:1"), (2, "b:1")]
    assert {span.parent.span_id for span in (first_try, next_try) if span.parent} == {call.context.span_id}
    sent: str = second.sent[0].trace_context
    assert sent.startswith(f"00-{call.context.trace_id:032x}-{next_try.context.span_id:016x}-")
