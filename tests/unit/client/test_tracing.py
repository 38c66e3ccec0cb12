"""What asks for a client's spans, and the metadata of its unary calls."""

import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from replcache.client.tracing import HEADER, ClientTracing, client_tracing

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
