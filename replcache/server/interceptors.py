"""The boundary around every call: decoding, deadline, errors to statuses, counting.

Services are plain async functions (request, Deadline) -> response that raise replcache errors; here they
become gRPC handlers. grpcio answers UNKNOWN when a message can't be parsed, so the deserializer never raises:
it hands over an Undecodable, which is answered INVALID_ARGUMENT. This is one of the few places where a broad
except is right: an unexpected exception is logged here once and answered INTERNAL.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Never

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from replcache.clock import Clock
from replcache.errors import InvalidRequest, ReplcacheError
from replcache.observability.logs import get_logger
from replcache.observability.metrics import Metrics
from replcache.observability.tracing import Tracing, parent_of
from replcache.pb.v1 import common_pb2
from replcache.server import deadlines, status_map
from replcache.server.deadlines import Deadline

_log = get_logger(__name__)

# Requests and responses differ by method; protobuf's generated classes share nothing narrower than Message.
Handler = Callable[[Any, Deadline], Awaitable[Any]]

LEVEL_LABELS = {
    common_pb2.READ_LEVEL_UNSPECIFIED: "none",
    common_pb2.READ_LEVEL_LINEARIZABLE: "linearizable",
    common_pb2.READ_LEVEL_SESSION: "session",
    common_pb2.READ_LEVEL_ONE: "one",
}


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Bytes that are no message of the method's request type."""

    reason: str


@dataclass(frozen=True, slots=True)
class Method:
    """One unary method. `writes`: when our own code breaks in the middle, the request may have executed."""

    name: str
    request: type[Message]
    handler: Handler
    writes: bool


def decoder(message_type: type[Message]) -> Callable[[bytes], Message | Undecodable]:
    """A deserializer that never raises for any bytes."""
    parse = message_type.FromString

    def decode(data: bytes) -> Message | Undecodable:
        try:
            return parse(data)
        except DecodeError as err:
            return Undecodable(str(err))

    return decode


def undecodable_error(what: str, bad: Undecodable) -> InvalidRequest:
    return InvalidRequest(f"{what}: the request can't be parsed ({bad.reason})", field="")


class CallBoundary:
    """Makes gRPC handlers of a node's services."""

    def __init__(self, clock: Clock, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self.tracing = tracing
        self._clock = clock
        self._metrics = metrics
        self._calls = 0
        # Paths of the methods whose calls may have been executed when no answer came.
        self.writing: set[str] = set()
        # Set while none of our calls is under way; for an early end of the grace when stopping.
        self.idle = asyncio.Event()
        self.idle.set()

    def enter(self) -> None:
        """A call, unary or stream, began."""
        self._calls += 1
        self.idle.clear()

    def leave(self) -> None:
        self._calls -= 1
        assert self._calls >= 0
        if self._calls == 0:
            self.idle.set()

    def unary(self, service: str, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
        operation = f"{service.rsplit('.', 1)[-1]}.{method.name}"
        clock, metrics, handler, tracing = self._clock, self._metrics, method.handler, self.tracing

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            start = clock.now()
            level = "none"
            outcome = "INTERNAL"
            self.enter()
            try:
                if type(request) is Undecodable:
                    raise undecodable_error(operation, request)
                deadline = deadlines.from_remaining(clock, context.time_remaining())
                response = await handler(request, deadline)
                level = LEVEL_LABELS[response.header.served_as]
                outcome = "ok"
                return response
            except ReplcacheError as err:
                outcome = err.reason
                status = status_map.to_status(err)
            except asyncio.CancelledError:
                outcome = "CANCELLED"
                raise
            except Exception as err:  # noqa: BLE001  # the boundary
                status = report_bug(operation, err, method.writes)
            finally:
                self.leave()
                metrics.request_done(operation, level, outcome, clock.now() - start)
                if tracing is not None:
                    tracing.outcome(outcome, level)
            return await abort(context, status)

        async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            assert tracing is not None
            with tracing.rpc(operation, parent_of(context.invocation_metadata())):
                return await call(request, context)

        return grpc.unary_unary_rpc_method_handler(
            call if tracing is None else traced,
            request_deserializer=decoder(method.request),
            response_serializer=_serialize,
        )

    def methods(
        self,
        service: str,
        methods: Sequence[Method],
        streams: "dict[str, grpc.RpcMethodHandler[Any, Any]] | None" = None,
    ) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Handlers of one service, given by its full name such as `replcache.v1.Cache`; `streams` write."""
        handlers = {method.name: self.unary(service, method) for method in methods}
        self.writing.update(f"/{service}/{method.name}" for method in methods if method.writes)
        self.writing.update(f"/{service}/{name}" for name in streams or ())
        handlers.update(streams or {})
        return handlers

    async def guarded(
        self, operation: str, work: Callable[[], Awaitable[tuple[Any, str]]]
    ) -> Any | status_pb2.Status:
        """Runs one batch of a stream; `work` returns (response, level label). Errors become a Status."""
        start = self._clock.now()
        level, outcome = "none", "INTERNAL"
        try:
            response, level = await work()
            outcome = "ok"
            return response
        except ReplcacheError as err:
            outcome = err.reason
            return status_map.to_status(err)
        except asyncio.CancelledError:
            outcome = "CANCELLED"
            raise
        except Exception as err:  # noqa: BLE001  # the boundary
            return report_bug(operation, err, may_have_executed=True)
        finally:
            self._metrics.request_done(operation, level, outcome, self._clock.now() - start)
            if self.tracing is not None:
                self.tracing.outcome(outcome, level)


def report_bug(operation: str, err: Exception, may_have_executed: bool) -> status_pb2.Status:
    """Logs what should not have happened and says no more than INTERNAL to the caller."""
    _log.error("request_failed_unexpectedly", operation=operation, exc_info=err)
    return status_map.internal_status(may_have_executed)


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> Never:
    """Ends the call with the status and its details."""
    await context.abort(CODES[status.code], status.message, status_map.trailers(status))
    raise AssertionError("abort() returned")


CODES = {code.value[0]: code for code in grpc.StatusCode}


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
