"""The gate before every rpc: who calls, whether he may, how much he may, and what of it is written down.

Handlers are wrapped when the node starts, whatever service they belong to, so that no service can forget to
ask. Without authentication and limits nothing but administrative calls (for the audit log) is wrapped, and
nothing is paid. A long stream is looked at again with every message: the rights of now count, not those of
when it was opened.
"""

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Never

import grpc
from google.rpc import error_details_pb2, status_pb2

from replcache.errors import PermissionDenied, ReplcacheError, Unauthenticated
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cache_pb2
from replcache.server import status_map
from replcache.server.gateway_calls import Registry, RpcHandlers
from replcache.server.interceptors import Undecodable, abort
from replcache.server.security import audit
from replcache.server.security.callers import Caller, Callers, source_of
from replcache.server.security.refusals import RefusalLog
from replcache.server.security.rules import RULES, Kind, Rule, batch_operations, call_of, check_batch

Context = grpc.aio.ServicerContext[Any, Any]
_DENIED = Rule(Kind.CHECKED)


class StreamCaller:
    """Who opened the stream that a task serves: what its messages ask for, only its handler can tell."""

    __slots__ = ("_guard", "_source", "caller")

    def __init__(self, guard: "Guard", caller: Caller, source: str) -> None:
        self._guard = guard
        self._source = source
        self.caller = caller

    def admit_batch(self, request: cache_pb2.BatchRequest, size: int) -> None:
        """Raises PermissionDenied, Unauthenticated (revoked meanwhile) or RateLimited."""
        caller = self.caller
        try:
            if self._guard.authenticates:
                check_batch(self._guard.callers.current(caller).rights, request)
            caller.limits.admit(batch_operations(request), size)
        except ReplcacheError as err:
            self._guard.note(self._source, "Cache.Pipeline", caller, err)
            raise

    def charge_answer(self, size: int) -> None:
        self.caller.limits.charge_answer(size)


# Set for the task of a stream, and with it for the tasks that it starts.
STREAM_CALLER: ContextVar[StreamCaller | None] = ContextVar("stream_caller", default=None)


class Guard:
    """Wraps handlers. authenticates: False: everybody may do everything, within the limits."""

    def __init__(
        self,
        metrics: Metrics,
        callers: Callers,
        refusals: RefusalLog,
        *,
        authenticates: bool,
        has_limits: bool,
    ) -> None:
        self.callers = callers
        self.authenticates = authenticates
        self._has_limits = has_limits
        self._metrics = metrics
        self._refusals = refusals
        # Paths whose calls are looked at: gateways say who made them.
        self.paths: set[str] = set()

    def protect(self, registry: Registry) -> Registry:
        """The same services behind the gate."""
        protected = Registry()
        for service, handlers in registry.services.items():
            wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
            for name, handler in handlers.items():
                wrapped[name] = self._protected(f"/{service}/{name}", handler)
            made: RpcHandlers = wrapped
            protected.add_registered_method_handlers(service, made)
        return protected

    def _protected(self, path: str, handler: Any) -> Any:
        rule = RULES.get(path, _DENIED)
        if rule.kind is Kind.OPEN:
            return handler
        if not self.authenticates and not self._has_limits and rule.kind is not Kind.ADMIN:
            return handler
        self.paths.add(path)
        if handler.request_streaming or handler.response_streaming:
            return self._stream(path, rule, handler)
        return grpc.unary_unary_rpc_method_handler(
            self._unary(path, rule, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    # --- one call ---

    def _unary(self, path: str, rule: Rule, inner: Callable[..., Any]) -> Callable[..., Any]:
        call_name = call_of(path)
        is_admin = rule.kind is Kind.ADMIN

        async def call(request: Any, context: Context) -> Any:
            caller: Caller | None = None
            try:
                caller = await self.callers.of_call(context)
                self._check(rule, call_name, caller, request)
                limits = caller.limits
                limits.begin_call()
            except ReplcacheError as err:
                return await self._refuse(call_name, is_admin, request, context, caller, err)
            try:
                if is_admin:
                    return await self._audited(call_name, inner, request, context, caller)
                response = await inner(request, context)
                if limits.counts_bytes:
                    limits.charge_answer(response.ByteSize())
                return response
            finally:
                limits.end_call()

        return call

    def _check(self, rule: Rule, call_name: str, caller: Caller, request: Any) -> None:
        """Raises PermissionDenied or RateLimited."""
        is_readable = type(request) is not Undecodable
        if self.authenticates:
            if rule.kind is Kind.ADMIN:
                caller.rights.need_admin(call_name)
            elif rule.kind is Kind.CHECKED:
                if rule.check is None:
                    raise PermissionDenied(f"{call_name}: there is no rule that allows it")
                # What can't be parsed is answered by the boundary of the services, and touches nothing.
                if is_readable:
                    rule.check(caller.rights, request)
        if self._has_limits:
            operations = rule.operations(request) if rule.operations and is_readable else 1
            size = request.ByteSize() if is_readable and caller.limits.counts_bytes else 0
            caller.limits.admit(operations, size)

    async def _refuse(
        self,
        call_name: str,
        is_admin: bool,
        request: Any,
        context: Context,
        caller: Caller | None,
        err: ReplcacheError,
    ) -> Never:
        source = source_of(context)
        self._metrics.request_done(call_name, "none", err.reason, 0.0)
        self.note(source, call_name, caller, err)
        if is_admin:
            who, by = (caller.name, caller.by) if caller is not None else ("", "")
            audit.record(call_name, who, by, source, request, err.reason)
        await abort(context, status_map.to_status(err))

    def note(self, source: str, call_name: str, caller: Caller | None, err: ReplcacheError) -> None:
        """A line about the refusal, if there was none lately. The error's text may hold a key: not logged."""
        if caller is None:
            self._refusals.note(source, err.reason, why=str(err) if type(err) is Unauthenticated else "")
        else:
            cause = f"{err.reason} {call_name} {caller.by}"
            self._refusals.note(source, cause, user=caller.name)

    async def _audited(
        self, call_name: str, inner: Callable[..., Any], request: Any, context: Context, caller: Caller
    ) -> Any:
        watched = _AuditedContext(context)
        try:
            response = await inner(request, watched)
            watched.completed()
            return response
        finally:
            source = source_of(context)
            audit.record(call_name, caller.name, caller.by, source, request, watched.result)

    # --- streams ---

    def _stream(self, path: str, rule: Rule, handler: Any) -> Any:
        call_name = call_of(path)
        is_admin = rule.kind is Kind.ADMIN
        assert handler.response_streaming, f"{path}: no rpc streams requests only"
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def stream(request: Any, context: Any) -> None:
            caller: Caller | None = None
            first = Undecodable("a stream") if handler.request_streaming else request
            try:
                caller = await self.callers.of_call(context)
                self._check(rule, call_name, caller, first)
                limits = caller.limits
                limits.begin_call()
            except ReplcacheError as err:
                await self._refuse(call_name, is_admin, first, context, caller, err)
            source = source_of(context)
            STREAM_CALLER.set(StreamCaller(self, caller, source))
            watched = _AuditedContext(context)
            if is_admin:
                context = watched
            if not handler.request_streaming:
                # Of a stream of requests each message is looked at by its handler (StreamCaller).
                context = self._watched(context, rule, call_name, caller, request, source)
            try:
                outcome = inner(request, context)
                if inspect.isasyncgen(outcome):
                    async for message in outcome:
                        await context.write(message)
                else:
                    await outcome
                watched.completed()
            except (Unauthenticated, PermissionDenied) as err:
                # Of a handler without a boundary of its own.
                await abort(context, status_map.to_status(err))
            finally:
                limits.end_call()
                if is_admin:
                    audit.record(call_name, caller.name, caller.by, source, first, watched.result)

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(
            stream,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _watched(
        self, context: Context, rule: Rule, call_name: str, caller: Caller, request: Any, source: str
    ) -> Any:
        def recheck() -> None:
            try:
                rights = self.callers.current(caller).rights
                if self.authenticates and rule.kind is Kind.ADMIN:
                    rights.need_admin(call_name)
                if rule.check is not None and type(request) is not Undecodable:
                    rule.check(rights, request)
            except ReplcacheError as err:
                self.note(source, call_name, caller, err)
                raise

        return _StreamContext(context, recheck, self.callers)


class _StreamContext:
    """gRPC's context, which asks again before it lets a message out when somebody's rights have changed."""

    def __init__(self, context: Context, recheck: Callable[[], None], callers: Callers) -> None:
        """recheck: raises what the call would be refused with now."""
        self._context = context
        self._recheck = recheck
        self._callers = callers
        self._seen = callers.generation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        generation = self._callers.generation
        if generation != self._seen:
            self._recheck()
            self._seen = generation
        await self._context.write(message)


class _AuditedContext:
    """gRPC's context, which remembers how the call was ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._is_broken = False
        # What it is when the caller goes away before the end.
        self.result = "CANCELLED"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def completed(self) -> None:
        """The handler returned. It does so too when nobody is left who could read what it writes."""
        if not self._is_broken:
            self.result = "ok"

    async def write(self, message: Any) -> None:
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:
            self._is_broken = True
            raise

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        self.result = _reason(trailing_metadata) or code.name
        await self._context.abort(code, details, trailing_metadata)
        raise AssertionError("abort() returned")


def _reason(trailing_metadata: Any) -> str:
    found = dict(trailing_metadata).get(status_map.STATUS_DETAILS_TRAILER, b"")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(found).details:
        if detail.Unpack(info):
            return str(info.reason)
    return ""
