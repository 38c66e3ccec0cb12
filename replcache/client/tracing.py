"""Spans of a client's calls, and the trace context that goes with them (docs/tracing.md).

One span for each call. Calls that share a message: the message's span, one for each try, is a child of the
first call's and links to all of them; the other calls link to it. Nothing of OpenTelemetry is imported until
tracing is asked for. Spans hold no keys, no values and no messages of errors.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from replcache.errors import ReplcacheError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from replcache.client.batches import Batch, Waiter
    from replcache.pb.v1 import cache_pb2

HEADER = "traceparent"
# As many as the SDK keeps by default.
_LINKS_MAX = 128
# Standard variables that say that the program's traces go somewhere.
_VARIABLES = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
_Call = TypeVar("_Call", bound=Callable[..., Any])


def client_tracing(
    provider: "TracerProvider | None", environment: Mapping[str, str] = os.environ
) -> "ClientTracing | None":
    """None: off. Without a provider the program's global one is used, if the environment asks for traces."""
    if provider is not None:
        return ClientTracing(provider)
    asked = any(environment.get(name) for name in _VARIABLES)
    if (
        not asked
        or environment.get("OTEL_TRACES_EXPORTER") == "none"
        or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    ):
        return None
    try:
        from opentelemetry.trace import get_tracer_provider
    except ImportError:
        # The variables may be meant for other programs.
        return None
    return ClientTracing(get_tracer_provider())


class TracedWaiter:
    """A caller with its span, which ends before the caller goes on."""

    __slots__ = ("_tracing", "_waiter", "span")

    def __init__(self, tracing: "ClientTracing", waiter: "Waiter", span: "Span") -> None:
        self._tracing = tracing
        self._waiter = waiter
        self.span = span
        if isinstance(waiter, asyncio.Future):
            waiter.add_done_callback(self._note_cancelled)

    def done(self) -> bool:
        return self._waiter.done()

    def set_result(self, result: Any, /) -> None:
        self.span.end()
        self._waiter.set_result(result)

    def set_exception(self, error: BaseException, /) -> None:
        self._tracing.end(self.span, error)
        self._waiter.set_exception(error)

    def _note_cancelled(self, future: "asyncio.Future[Any]") -> None:
        if future.cancelled():
            self._tracing.end(self.span, asyncio.CancelledError())


class ClientTracing:
    """Makes a client's spans. call() and carried() are called in the caller's context."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = provider.get_tracer("replcache.client")

    # --- batched calls ---

    def call(self, operation: str, waiter: "Waiter", count: int = 1) -> TracedWaiter:
        """Starts the span of a call that will share a message. count: of keys or operations."""
        attributes: dict[str, Any] = {"replcache.operation": operation, "replcache.operations": count}
        return TracedWaiter(
            self, waiter, self._tracer.start_span(f"replcache {operation}", attributes=attributes)
        )

    def calls(self, operation: str, batch: "Batch") -> None:
        """The same for a batch that is made already."""
        count = len(batch)
        batch.waiters[:] = [self.call(operation, waiter, count) for waiter in batch.waiters]

    def message(self, batch: "Batch", message: "cache_pb2.BatchRequest", address: str) -> None:
        """Starts the span of one try of a message and writes its context into it."""
        trace = self._trace
        spans = [waiter.span for waiter in batch.waiters if isinstance(waiter, TracedWaiter)]
        contexts = [span.get_span_context() for span in spans[:_LINKS_MAX]]
        span = batch.span = self._tracer.start_span(
            "replcache message",
            trace.set_span_in_context(spans[0]) if spans else None,
            trace.SpanKind.CLIENT,
            {
                "server.address": address,
                "replcache.calls": len(spans),
                "replcache.operations": len(batch),
                "replcache.attempt": batch.attempts,
            },
            [trace.Link(context) for context in contexts],
        )
        for other in spans[1:]:
            other.add_link(span.get_span_context())
        message.trace_context = self._parent(span)

    def end_message(self, batch: "Batch", error: BaseException | None) -> None:
        if batch.span is not None:
            self.end(batch.span, error)
            batch.span = None

    # --- unary calls ---

    def sending(self, stub: Callable[..., Any], headers: Sequence[tuple[str, str]]) -> Callable[..., Any]:
        """The stub with the current call's context among the metadata; `headers` are those it has anyway."""
        parent = self._parent(self._trace.get_current_span())
        return partial(stub, metadata=(*headers, (HEADER, parent))) if parent else stub

    async def unary(self, name: str, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        with self._tracer.start_as_current_span(
            f"replcache {name}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={"rpc.system": "grpc", "rpc.method": name},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await run()
            except (ReplcacheError, asyncio.CancelledError) as err:
                self._mark(span, err)
                raise

    async def untraced(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """What the client does by itself belongs to none of its callers."""
        with self._trace.use_span(self._trace.INVALID_SPAN):
            return await run()

    # --- between threads ---

    def carried(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, to be run on the loop's thread as if the calling thread ran it."""
        return partial(copy_context().run, function)

    def carrying(self, coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
        """The same for a coroutine."""
        span = self._trace.get_current_span()

        async def run() -> Any:
            with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
                return await coroutine()

        return run

    # --- endings ---

    def end(self, span: "Span", error: BaseException | None) -> None:
        if span.is_recording():
            if error is not None:
                self._mark(span, error)
            span.end()

    def _mark(self, span: "Span", error: BaseException) -> None:
        reason = error.reason if isinstance(error, ReplcacheError) else type(error).__name__
        span.set_attribute("error.type", reason)
        span.set_status(self._trace.StatusCode.ERROR, reason)

    def _parent(self, span: "Span") -> str:
        """The form of W3C Trace Context; "" for a span that is in no trace."""
        context = span.get_span_context()
        if not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def traced(unary: _Call) -> _Call:
    """Wraps ClientCore.unary: a span for each call, none for what a client does by itself."""

    @wraps(unary)
    def call(core: Any, service: str, method: str, *args: Any, **options: Any) -> Any:
        if core.tracing is None:
            return unary(core, service, method, *args, **options)
        run = partial(unary, core, service, method, *args, **options)
        if service == "session" or method == "KeepAlive":
            return core.tracing.untraced(run)
        return core.tracing.unary(f"{service.capitalize()}.{method}", run)

    return call  # type: ignore[return-value]  # the same signature
