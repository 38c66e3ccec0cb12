"""A gateway: a process of its own that speaks gRPC for the node and knows nothing itself.

It takes HTTP/2, TLS and gRPC off the core's one thread: every request goes to the core as it came and the
core's bytes go back. It never answers anything by itself, except that the core is gone. Started by
gateway_port.py with its end of the connection as standard input; it ends when that connection does, so no
gateway outlives its node. Signals that a terminal or an init system sends to the whole group are left to the
core, which drains its gateways in order.
"""

import asyncio
import json
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any, Never

import grpc

from replcache import constants
from replcache.clock import SystemClock
from replcache.errors import ConfigError, OutcomeUnknown, Unavailable
from replcache.observability.logs import setup_logs
from replcache.server import status_map
from replcache.server.gateway_wire import (
    NO_DEADLINE,
    BrokenFrame,
    End,
    Kind,
    Link,
    Stream,
    pack_call,
    unpack_end,
    unpack_grace,
)
from replcache.server.grpc_port import listen
from replcache.server.interceptors import CODES
from replcache.server.security.callers import HEADER, certificate_names
from replcache.server.tls import TlsFiles

EXIT_STOPPED = 0
EXIT_CONFIGURATION = 2
EXIT_CORE_GONE = 7
# For the statuses of lost calls to leave, once the core is gone.
LAST_WORDS_S = 0.2

Context = grpc.aio.ServicerContext[bytes, bytes]


class CoreCalls(grpc.GenericRpcHandler):
    """The calls under way and the handlers that forward them.

    Invariant: a number is in `_waiting` (unary) or `_streams` from the frame that opens the call to its end.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._clock = SystemClock()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bytes | End]] = {}
        self._streams: dict[int, tuple[Stream, asyncio.Future[End]]] = {}
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        self._lost = False
        self._callers = CallerNumbers(link)
        # Numbers of the methods that the core wants to know the caller of.
        self._identified: set[int] = set()

    def learn(self, routes: list[tuple[str, bool, bool, bool]]) -> None:
        """(path, is_stream, writes, is_identified) of each method, in the core's order."""
        for number, (path, is_stream, writes, is_identified) in enumerate(routes):
            if is_identified:
                self._identified.add(number)
            if is_stream:
                streaming = partial(self._stream, number, writes)
                self._handlers[path] = grpc.stream_stream_rpc_method_handler(streaming)
            else:
                self._handlers[path] = grpc.unary_unary_rpc_method_handler(
                    partial(self._unary, number, writes)
                )

    def service(self, handler_call_details: Any) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """None is answered UNIMPLEMENTED, as the core would."""
        return self._handlers.get(handler_call_details.method)

    def on_frame(self, kind: int, call: int, body: bytes) -> None:
        """A frame of the core. Frames of calls that have ended meanwhile are ignored."""
        if kind in (Kind.REPLY, Kind.STATUS) and (waiting := self._waiting.get(call)) is not None:
            if not waiting.done():
                waiting.set_result(body if kind == Kind.REPLY else unpack_end(body))
        elif (found := self._streams.get(call)) is None:
            return
        elif kind == Kind.MESSAGE:
            found[0].deliver(body)
        elif kind == Kind.CREDIT:
            found[0].credit(body)
        elif kind == Kind.STATUS:
            if not found[1].done():
                found[1].set_result(unpack_end(body))
            found[0].finish()
        else:
            raise BrokenFrame(f"the core sent a frame of kind {kind}")

    def lose(self) -> None:
        """The core is gone: every call that it has not answered ends."""
        self._lost = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(_LOST)
        for stream, end in self._streams.values():
            if not end.done():
                end.set_result(_LOST)
            stream.finish()

    def _next_number(self) -> int:
        while True:
            self._number = (self._number + 1) & 0xFFFFFFFF
            if self._number not in self._waiting and self._number not in self._streams:
                return self._number

    def _head(self, method: int, context: Context, request: bytes = b"") -> bytes:
        remaining_s = context.time_remaining()
        deadline = NO_DEADLINE if remaining_s is None else self._clock.now() + remaining_s
        caller = self._callers.number_of(context) if method in self._identified else 0
        return pack_call(method, deadline, caller, request)

    async def _unary(self, method: int, writes: bool, request: bytes, context: Context) -> bytes:
        if self._lost:
            await _abort(context, _lost(may_have_executed=False))
        call = self._next_number()
        answer = self._waiting[call] = asyncio.get_running_loop().create_future()
        self._link.send(Kind.UNARY, call, self._head(method, context, request))
        try:
            outcome = await answer
        except asyncio.CancelledError:
            self._link.send(Kind.CANCEL, call)
            raise
        finally:
            del self._waiting[call]
        if isinstance(outcome, End):
            await _abort(context, _lost(writes) if outcome is _LOST else outcome)
        answered: bytes = outcome
        return answered

    async def _stream(self, method: int, writes: bool, _: object, context: Context) -> None:
        if self._lost:
            await _abort(context, _lost(may_have_executed=False))
        call = self._next_number()
        stream = Stream(self._link, call)
        end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._streams[call] = (stream, end)
        self._link.send(Kind.OPEN, call, self._head(method, context))
        try:
            async with asyncio.TaskGroup() as group:
                upward = group.create_task(self._forward(call, stream, context))
                while (message := await stream.read()) is not None:
                    await context.write(message)
                upward.cancel()
        finally:
            del self._streams[call]
            if not end.done():
                self._link.send(Kind.CANCEL, call)
        outcome = end.result()
        if outcome is _LOST:
            outcome = _lost(writes)
        if outcome.code != 0:
            await _abort(context, outcome)

    async def _forward(self, call: int, stream: Stream, context: Context) -> None:
        # EOF, an object of its own, is the only thing that is not bytes; grpcio's stubs do not know it.
        while isinstance(message := await context.read(), bytes):
            await stream.write(message)
        self._link.send(Kind.HALF_CLOSE, call)


class CallerNumbers:
    """Tells the core once who somebody is, and from then on by number.

    A number that is given again replaces what the core knows under it; frames arrive in order, so no call is
    taken for another caller's.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers: dict[tuple[str, ...], int] = {}

    def number_of(self, context: Context) -> int:
        tokens = tuple(_text(value) for key, value in context.invocation_metadata() or () if key == HEADER)
        names = sorted(certificate_names(context.auth_context()))
        who = (context.peer(), *names, "", *tokens)
        number = self._numbers.get(who)
        if number is None:
            if len(self._numbers) >= constants.GATEWAY_CALLERS_MAX:
                self._numbers.clear()
            number = self._numbers[who] = len(self._numbers) + 1
            body = json.dumps({"peer": context.peer(), "names": names, "tokens": tokens}).encode()
            self._link.send(Kind.CALLER, number, body)
        return number


def _text(value: str | bytes) -> str:
    """Headers that are no text are refused by the core like any other that is no token."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


# A mark, told apart by identity: which error it becomes depends on the method.
_LOST = End(grpc.StatusCode.UNAVAILABLE.value[0], "lost")


def _lost(may_have_executed: bool) -> End:
    error = (
        OutcomeUnknown("this node's core ended before it answered")
        if may_have_executed
        else Unavailable("this node's core has ended; another node will answer")
    )
    status = status_map.to_status(error)
    return End(status.code, status.message, status.SerializeToString())


async def _abort(context: Context, end: End) -> Never:
    trailers = ((status_map.STATUS_DETAILS_TRAILER, end.details),) if end.details else ()
    await context.abort(CODES[end.code], end.message, trailers)
    raise AssertionError("abort() returned")


class Gateway:
    """The life of the process: welcome, listen, forward, drain."""

    def __init__(self) -> None:
        self._link = Link(self._on_frame)
        self._calls = CoreCalls(self._link)
        self._welcome: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        # The grace to end within; replaced by a shorter one when the core asks again.
        self._grace_s: float | None = None
        self._turn = asyncio.Event()

    def _on_frame(self, kind: int, call: int, body: bytes) -> None:
        if kind == Kind.WELCOME and not self._welcome.done():
            self._welcome.set_result(json.loads(body))
        elif kind == Kind.DRAIN:
            self._grace_s = unpack_grace(body)
            self._turn.set()
        else:
            self._calls.on_frame(kind, call, body)

    async def run(self, connection: socket.socket) -> int:
        """Returns the process's exit code."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=connection)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch_core())
            try:
                return await self._serve(group)
            finally:
                watching.cancel()

    async def _watch_core(self) -> None:
        await self._link.closed.wait()
        self._calls.lose()
        self._turn.set()
        if not self._welcome.done():
            self._welcome.set_exception(ConnectionResetError("the core ended before it said anything"))

    async def _serve(self, group: asyncio.TaskGroup) -> int:
        try:
            welcome = await self._welcome
        except ConnectionResetError:
            return EXIT_CORE_GONE
        setup_logs(welcome["log_level"], welcome["log_format"])
        self._calls.learn(welcome["routes"])
        server = grpc.aio.server(options=[(name, value) for name, value in welcome["options"]])
        server.add_generic_rpc_handlers((self._calls,))
        tls = welcome["tls"]
        try:
            listen(server, welcome["listen"], None if tls is None else _tls_files(tls))
        except ConfigError as err:
            self._link.send(Kind.READY, body=str(err).encode())
            self._link.close()
            await self._link.closed.wait()
            return EXIT_CONFIGURATION
        await server.start()
        self._link.send(Kind.READY)
        await self._until_drained(server, group)
        code = EXIT_CORE_GONE if self._link.closed.is_set() else EXIT_STOPPED
        self._link.close()
        return code

    async def _until_drained(self, server: grpc.aio.Server, group: asyncio.TaskGroup) -> None:
        """A later, shorter grace replaces the one under way."""
        stopping: list[asyncio.Task[None]] = []
        while True:
            turn = group.create_task(self._turn.wait())
            await asyncio.wait((turn, *stopping), return_when=asyncio.FIRST_COMPLETED)
            turn.cancel()
            if any(task.done() for task in stopping):
                return
            self._turn.clear()
            core_gone = self._link.closed.is_set()
            grace_s = LAST_WORDS_S if core_gone or self._grace_s is None else self._grace_s
            stopping.append(group.create_task(server.stop(grace_s)))


def _tls_files(paths: list[str | None]) -> TlsFiles:
    cert, key, client_ca = paths
    assert cert is not None
    assert key is not None
    return TlsFiles(Path(cert), Path(key), None if client_ca is None else Path(client_ca))


async def _run(connection: socket.socket) -> int:
    return await Gateway().run(connection)


def main() -> int:
    """The process. Standard input is the connection to the core."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=0)
    connection.setblocking(False)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_run(connection))
    code: int = uvloop.run(_run(connection))
    return code
