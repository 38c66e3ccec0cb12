"""A node's part of traces: the call, the proposal until it is applied, the apply (docs/tracing.md).

Off unless asked for, and then nothing of OpenTelemetry is imported: that happens in Tracing's constructor.
The context of a trace comes with the call and stays on the node that got it; nothing of it goes into the log
or to other nodes. Spans hold no values and no messages of errors, and keys only on request.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from replcache.errors import ConfigError, ReplcacheError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

HEADER = "traceparent"
# Of version 00 are 55 characters; later versions may append to them.
_PARENT_CHARS_MAX = 128
_KEYS_MAX = 16
_KEY_CHARS_MAX = 128


class Tracing:
    """Makes spans. All methods belong to the loop.

    Args:
        provider: where spans go; whoever made it shuts it down.
        clock_now: the node's Clock, which the times of applies are told by.
        keys: whether names of keys may be in spans.
    """

    def __init__(
        self, provider: "TracerProvider", clock_now: Callable[[], float], keys: bool = False
    ) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._empty = Context
        self._extract = TraceContextTextMapPropagator().extract
        self._tracer = provider.get_tracer("replcache.server")
        self._now = clock_now
        self._keys = keys

    @contextmanager
    def rpc(self, operation: str, parent: str) -> Iterator[None]:
        """One call, or one message of a stream.

        Args:
            parent: what the caller sent; anything unusable counts as none.
        """
        context = self._empty()
        if 0 < len(parent) <= _PARENT_CHARS_MAX:
            context = self._extract({HEADER: parent}, context)
        with self._tracer.start_as_current_span(
            operation,
            context,
            self._trace.SpanKind.SERVER,
            {"rpc.system": "grpc", "rpc.method": operation},
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def outcome(self, outcome: str, level: str) -> None:
        """How the current call ended: "ok" or the reason, and the level at which a read was served."""
        span = self._trace.get_current_span()
        span.set_attribute("replcache.outcome", outcome)
        if level != "none":
            span.set_attribute("replcache.read_level", level)
        if outcome != "ok":
            span.set_status(self._trace.StatusCode.ERROR, outcome)

    @property
    def is_in_call(self) -> bool:
        """What a node proposes by itself is in no trace."""
        return self._trace.get_current_span().get_span_context().is_valid

    @contextmanager
    def propose(
        self, node: str, leader: str, waiting: int, keys: Sequence[bytes]
    ) -> Iterator[Callable[[int, float], None]]:
        """From handing over to consensus until the result is there; yields what RaftPort.propose is given.

        Args:
            waiting: other proposals of this node under way.
        """
        attributes: dict[str, Any] = {
            "replcache.node": node,
            "replcache.leader": leader,
            "replcache.forwarded": node != leader,
            "replcache.waiting": waiting,
        }
        if self._keys:
            attributes["replcache.keys"] = [_shown(key) for key in keys[:_KEYS_MAX]]
        with self._tracer.start_as_current_span(
            "propose", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            inside = self._trace.set_span_in_context(span, self._empty())

            def on_applied(index: int, began: float) -> None:
                span.set_attribute("replcache.log_index", index)
                ended_ns = time.time_ns()
                began_ns = ended_ns - int((self._now() - began) * 1e9)
                seen: dict[str, Any] = {"replcache.node": node, "replcache.log_index": index}
                self._tracer.start_span("apply", inside, attributes=seen, start_time=began_ns).end(ended_ns)

            try:
                yield on_applied
            except ReplcacheError as err:
                span.set_status(self._trace.StatusCode.ERROR, err.reason)
                raise


def parent_of(metadata: Iterable[Any] | None) -> str:
    """The traceparent among a call's metadata; "" when there is none."""
    found = (value for key, value in metadata or () if key == HEADER)
    value = next(found, "")
    return value if isinstance(value, str) else ""


def _shown(key: bytes) -> str:
    return key[:_KEY_CHARS_MAX].decode("utf-8", "backslashreplace")


def otlp_provider(node: str, environment: Mapping[str, str] = os.environ) -> Any:
    """An SDK provider that sends to OTEL_EXPORTER_OTLP_ENDPOINT. The SDK reads OpenTelemetry's other standard
    variables by itself, such as OTEL_TRACES_SAMPLER. shutdown() sends what is left.

    Raises:
        ConfigError: the packages of the extra `otel` are missing, or the protocol is unknown.
    """
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    if protocol not in ("grpc", "http/protobuf"):
        raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL = {protocol}: grpc or http/protobuf")
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        package = protocol.partition("/")[0]
        exporter = import_module(f"opentelemetry.exporter.otlp.proto.{package}.trace_exporter")
    except ImportError as err:
        raise ConfigError(f"tracing = otlp needs `pip install 'replcache[otel]'` ({err})") from err
    resource = Resource.create({"service.name": "replcache", "service.instance.id": node})
    provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    return provider
