"""A node's spans without a node, and what it costs when there are none."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from replcache.errors import ConfigError, NoLeader
from replcache.observability.tracing import Tracing, otlp_provider, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def make(exporter: InMemorySpanExporter, keys: bool = False) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider, lambda: 10.0, keys)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_the_callers_trace_goes_on(exporter: InMemorySpanExporter) -> None:
    tracing = make(exporter)
    with tracing.rpc("Cache.Set", PARENT):
        tracing.outcome("ok", "none")
    span = by_name(exporter)["Cache.Set"]
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "rubbish",
        f"00-{'0' * 32}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        PARENT + "-" + " " * 1_000_000 + "\nx",
    ],
    ids=["none", "rubbish", "zero", "version", "endless"],
)
def test_what_is_no_context_begins_a_new_trace(parent: str, exporter: InMemorySpanExporter) -> None:
    with make(exporter).rpc("Cache.Set", parent):
        pass
    span = by_name(exporter)["Cache.Set"]
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE


def test_a_callers_choice_not_to_sample_is_kept(exporter: InMemorySpanExporter) -> None:
    with make(exporter).rpc("Cache.Set", PARENT[:-1] + "0"):
        pass
    assert not exporter.get_finished_spans()


def test_the_header_is_found_among_others() -> None:
    assert parent_of((("authorization", "Bearer x"), ("traceparent", PARENT))) == PARENT
    assert parent_of((("traceparent", b"bytes"),)) == ""
    assert parent_of(None) == ""


@pytest.mark.parametrize(("leader", "forwarded"), [("n1", False), ("n2", True), ("", True)])
def test_a_proposal_says_where_it_went_and_when_it_was_applied(
    leader: str, forwarded: bool, exporter: InMemorySpanExporter
) -> None:
    tracing = make(exporter)
    assert not tracing.is_in_call
    with tracing.rpc("Cache.Set", PARENT):
        assert tracing.is_in_call
        with tracing.propose("n1", leader, 3, [b"a key"]) as on_applied:
            on_applied(42, 9.5)
    spans = by_name(exporter)
    propose, apply = spans["propose"], spans["apply"]
    assert propose.attributes == {
        "replcache.node": "n1",
        "replcache.leader": leader,
        "replcache.forwarded": forwarded,
        "replcache.waiting": 3,
        "replcache.log_index": 42,
    }
    assert apply.parent is not None
    assert apply.parent.span_id == propose.context.span_id
    assert apply.start_time is not None
    assert apply.end_time is not None
    assert apply.end_time - apply.start_time == 500_000_000


def test_keys_are_in_spans_only_on_request_and_not_without_end(exporter: InMemorySpanExporter) -> None:
    tracing = make(exporter, keys=True)
    with tracing.propose("n1", "n1", 0, [b"\xff" + b"k" * 1000, *[b"other"] * 100]):
        pass
    attributes = by_name(exporter)["propose"].attributes
    assert attributes is not None
    keys = attributes["replcache.keys"]
    assert isinstance(keys, tuple)
    assert len(keys) == 16
    assert keys[0] == "\\xff" + "k" * 127


def test_errors_leave_their_reason_and_nothing_else(exporter: InMemorySpanExporter) -> None:
    tracing = make(exporter)
    with pytest.raises(NoLeader), tracing.rpc("Cache.Set", ""):
        with tracing.propose("n1", "", 0, []):
            raise NoLeader("a message with a secret")
    for span in exporter.get_finished_spans():
        assert "secret" not in span.to_json()
    assert by_name(exporter)["propose"].status.description == "NO_LEADER"


def test_wrong_settings_are_configuration_errors() -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        otlp_provider("n1", {"OTEL_EXPORTER_OTLP_PROTOCOL": "pigeon"})


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc", None)
    with pytest.raises(ConfigError, match=r"replcache\[otel\]"):
        otlp_provider("n1", {})


def test_nothing_is_imported_while_it_is_off() -> None:
    program = (
        "import sys, replcache.server.app, replcache.cli.main\n"
        "from replcache import Client\n"
        "Client('127.0.0.1:1').close()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={}, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.strip() == "[]"
