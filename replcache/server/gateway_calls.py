"""Calls that arrive through a gateway, run by the very handlers that gRPC would run.

A handler sees a context with the few things of grpc.aio.ServicerContext that our services use: read, write,
abort, time_remaining. Whatever it answers goes back as it is, so a client can't tell a gateway from the core.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Never

import grpc
from google.protobuf.message import DecodeError

from replcache.clock import Clock
from replcache.errors import InvalidRequest
from replcache.server import status_map
from replcache.server.gateway_wire import (
    BrokenFrame,
    End,
    Kind,
    Link,
    Stream,
    pack_end,
    unpack_call,
)
from replcache.server.interceptors import report_bug

RpcHandlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
_OK = End(0)


class Registry:
    """What a node serves, by service: given to gRPC, to gateways, or both.

    It has the two methods of grpc.aio.Server that generated code (health, reflection) registers with.
    """

    def __init__(self) -> None:
        self.services: dict[str, RpcHandlers] = {}

    def add_generic_rpc_handlers(self, _: object) -> None:
        """The same handlers come through add_registered_method_handlers, in a form that can be listed."""

    def add_registered_method_handlers(self, service: str, handlers: RpcHandlers) -> None:
        assert service not in self.services, service
        self.services[service] = handlers

    def generic_handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """For grpc.aio.Server.add_generic_rpc_handlers."""
        return tuple(
            grpc.method_handlers_generic_handler(service, dict(handlers))
            for service, handlers in self.services.items()
        )


@dataclass(frozen=True, slots=True)
class Route:
    """One method.

    Attributes:
        writes: a call that got no answer may have been executed.
        is_identified: who calls has to be known.
    """

    path: str
    handler: Any
    is_stream: bool
    writes: bool
    is_identified: bool


def routes_of(registry: Registry, writing: frozenset[str], identified: frozenset[str]) -> list[Route]:
    """writing: paths of the methods that write; identified: of those whose caller has to be known."""
    return [
        Route(
            path,
            handler,
            handler.request_streaming or handler.response_streaming,
            path in writing,
            path in identified,
        )
        for service, handlers in registry.services.items()
        for name, handler in handlers.items()
        for path in (f"/{service}/{name}",)
    ]


@dataclass(frozen=True, slots=True)
class RemoteCaller:
    """Who made a call, as the gateway saw it. names: of his certificate; tokens: authorization headers."""

    peer: str = ""
    names: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()


_NOBODY = RemoteCaller()


class _Aborted(Exception):
    """A handler ended its call with a status."""

    def __init__(self, end: End) -> None:
        super().__init__(end.message)
        self.end = end


class CallContext:
    """What a handler gets instead of gRPC's context."""

    def __init__(
        self, clock: Clock, deadline: float, route: Route, stream: Stream | None, caller: RemoteCaller
    ) -> None:
        """deadline: reading of the clock; negative: none."""
        self._caller = caller
        self._clock = clock
        self._deadline = deadline
        self._handler = route.handler
        self._stream = stream

    def time_remaining(self) -> float | None:
        """Seconds; None without a deadline."""
        return None if self._deadline < 0 else self._deadline - self._clock.now()

    def peer(self) -> str:
        return self._caller.peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers that somebody's identity may hang on, no others."""
        return tuple(("authorization", token) for token in self._caller.tokens)

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"peer_dns": [name.encode() for name in self._caller.names]}

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        found = dict(trailing_metadata).get(status_map.STATUS_DETAILS_TRAILER, b"")
        raise _Aborted(End(code.value[0], details, found))

    async def read(self) -> Any:
        """The client's next message; grpc.aio.EOF when there are no more."""
        assert self._stream is not None
        message = await self._stream.read()
        if message is None:
            return grpc.aio.EOF
        decode = self._handler.request_deserializer
        return message if decode is None else decode(message)

    async def write(self, message: Any) -> None:
        """Waits while the client reads too slowly."""
        assert self._stream is not None
        encode = self._handler.response_serializer
        await self._stream.write(message if encode is None else encode(message))

    async def messages(self) -> AsyncIterator[Any]:
        """All of the client's messages."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message


class GatewayCalls:
    """The calls of one gateway. Invariant: a number is in `_tasks` exactly while its handler runs."""

    def __init__(self, link: Link, routes: list[Route], clock: Clock, group: asyncio.TaskGroup) -> None:
        """group: owns the handlers' tasks."""
        self._link = link
        self._routes = routes
        self._clock = clock
        self._group = group
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, Stream] = {}
        self._callers: dict[int, RemoteCaller] = {0: _NOBODY}

    def on_frame(self, kind: int, call: int, body: bytes) -> None:
        """A frame of the gateway. Frames of calls that have ended meanwhile are ignored."""
        if kind == Kind.UNARY:
            route, context, request = self._begin(call, body, None)
            self._start(call, self._unary(call, route, context, request))
        elif kind == Kind.CANCEL:
            if (task := self._tasks.get(call)) is not None:
                task.cancel()
        elif kind == Kind.OPEN:
            stream = Stream(self._link, call)
            route, context, _ = self._begin(call, body, stream)
            self._streams[call] = stream
            self._start(call, self._run_stream(call, route, context))
        elif kind == Kind.CALLER:
            who = json.loads(body)
            self._callers[call] = RemoteCaller(who["peer"], tuple(who["names"]), tuple(who["tokens"]))
        elif (found := self._streams.get(call)) is None:
            return
        elif kind == Kind.MESSAGE:
            found.deliver(body)
        elif kind == Kind.HALF_CLOSE:
            found.finish()
        elif kind == Kind.CREDIT:
            found.credit(body)
        else:
            raise BrokenFrame(f"a gateway sent a frame of kind {kind}")

    def _begin(self, call: int, body: bytes, stream: Stream | None) -> tuple[Route, CallContext, bytes]:
        number, deadline, caller, request = unpack_call(body)
        if number >= len(self._routes) or call in self._tasks or caller not in self._callers:
            raise BrokenFrame(f"call {call} of method {number} by {caller}")
        route = self._routes[number]
        if route.is_stream is (stream is None):
            raise BrokenFrame(f"{route.path} was called as what it is not")
        context = CallContext(self._clock, deadline, route, stream, self._callers[caller])
        return route, context, request

    def _start(self, call: int, work: Any) -> None:
        task = self._tasks[call] = self._group.create_task(work)
        # Not in the coroutine's finally: a task that is cancelled before its first step never enters it.
        task.add_done_callback(lambda _: self._forget(call))

    def _forget(self, call: int) -> None:
        del self._tasks[call]
        self._streams.pop(call, None)

    def cancel_all(self) -> None:
        """Nobody is left who could take the answers."""
        for task in self._tasks.values():
            task.cancel()

    async def _unary(self, call: int, route: Route, context: CallContext, request: bytes) -> None:
        handler = route.handler
        try:
            response = await handler.unary_unary(_decoded(route, request), context)
            body = handler.response_serializer(response)
        except _Aborted as aborted:
            self._end(call, aborted.end)
        except Exception as err:  # noqa: BLE001  # the boundary: a handler of a library broke
            self._end_with_bug(call, route, err)
        else:
            self._link.send(Kind.REPLY, call, body)

    async def _run_stream(self, call: int, route: Route, context: CallContext) -> None:
        handler = route.handler
        end = _OK
        try:
            if handler.request_streaming:
                behavior = handler.stream_stream or handler.stream_unary
                request: Any = context.messages()
            else:
                behavior = handler.unary_stream
                request = await context.read()
            outcome = behavior(request, context)
            if inspect.isasyncgen(outcome):
                async for message in outcome:
                    await context.write(message)
            else:
                await outcome
        except _Aborted as aborted:
            end = aborted.end
        except Exception as err:  # noqa: BLE001  # the boundary
            self._end_with_bug(call, route, err)
            return
        self._end(call, end)

    def _end(self, call: int, end: End) -> None:
        self._link.send(Kind.STATUS, call, pack_end(end))

    def _end_with_bug(self, call: int, route: Route, err: Exception) -> None:
        status = report_bug(route.path, err, route.writes)
        self._end(call, End(status.code, status.message, status.SerializeToString()))


def _decoded(route: Route, request: bytes) -> Any:
    try:
        return route.handler.request_deserializer(request)
    except DecodeError as err:
        # Our own decoders never raise; those of the health service do.
        status = status_map.to_status(InvalidRequest(f"{route.path}: the request can't be parsed ({err})"))
        raise _Aborted(End(status.code, status.message, status.SerializeToString())) from err
