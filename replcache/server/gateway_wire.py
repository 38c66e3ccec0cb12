"""Frames between a gateway process and its core, and the two halves that both sides share.

They talk over one connected pair of Unix sockets that the core made for this gateway: nobody else can
connect, so the frames carry no proof of who sent them. A frame is `length u32 | kind u8 | call u32 | body`,
little endian, where length counts the body only; what is sent in one turn of the loop leaves in one write.
Calls are told apart by a number that the gateway chooses.

| kind | direction | body |
|---|---|---|
| WELCOME | to gateway | JSON: where to listen and which methods there are |
| READY | to core | empty, or why the port could not be opened |
| UNARY | to core | Call head, request |
| OPEN | to core | Call head |
| MESSAGE | both | one message of a stream |
| HALF_CLOSE | to core | empty: the client sends no more |
| CANCEL | to core | empty: nobody waits for an answer any more |
| CREDIT | both | u32: bytes of the stream that were taken |
| REPLY | to gateway | response of a unary call |
| STATUS | to gateway | end of a call: code u8, length of text u32, text, google.rpc.Status or nothing |
| CALLER | to core | JSON: who makes the calls that carry this frame's number as their caller |
| DRAIN | to gateway | f64: take no more calls, end those under way within so many seconds, then exit |

Streams are under flow control: a sender holds back when STREAM_WINDOW bytes have not been credited, and
credit is given when the other side takes a message, so that a slow client is felt where they are made.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

# One message may exceed it: it bounds what is on its way, not what a message may be.
STREAM_WINDOW = 1024 * 1024
# What an empty message counts, so that their number is bounded too.
MESSAGE_OVERHEAD = 64
# Above every message that gRPC lets in or our services send out; beyond it the stream of bytes is broken.
FRAME_BYTES_MAX = 256 * 1024 * 1024

_HEAD = struct.Struct("<IBI")
# Method's number in the WELCOME, absolute deadline as CLOCK_MONOTONIC seconds (all processes of a machine
# read the same), negative for none; number of a CALLER, 0 where the core does not ask who calls.
_CALL = struct.Struct("<HdI")
_STATUS = struct.Struct("<BI")
_CREDIT = struct.Struct("<I")
_GRACE = struct.Struct("<d")
NO_DEADLINE = -1.0


class Kind(IntEnum):
    WELCOME = 1
    READY = 2
    UNARY = 3
    OPEN = 4
    MESSAGE = 5
    HALF_CLOSE = 6
    CANCEL = 7
    CREDIT = 8
    REPLY = 9
    STATUS = 10
    DRAIN = 11
    CALLER = 12


class BrokenFrame(Exception):
    """The other side sent what is no frame; the connection can't be trusted any more."""


class End(NamedTuple):
    """How a call ended. code: gRPC's number; details: a serialized google.rpc.Status or nothing."""

    code: int
    message: str = ""
    details: bytes = b""


def pack_call(method: int, deadline: float, caller: int, request: bytes = b"") -> bytes:
    return _CALL.pack(method, deadline, caller) + request


def unpack_call(body: bytes) -> tuple[int, float, int, bytes]:
    """(method's number, deadline, caller's number, request). Raises BrokenFrame."""
    if len(body) < _CALL.size:
        raise BrokenFrame(f"a call of {len(body)} bytes")
    method, deadline, caller = _CALL.unpack_from(body)
    return method, deadline, caller, body[_CALL.size :]


def pack_end(end: End) -> bytes:
    text = end.message.encode()
    return _STATUS.pack(end.code, len(text)) + text + end.details


def unpack_end(body: bytes) -> End:
    """Raises BrokenFrame."""
    if len(body) < _STATUS.size:
        raise BrokenFrame(f"a status of {len(body)} bytes")
    code, length = _STATUS.unpack_from(body)
    at = _STATUS.size + length
    if at > len(body):
        raise BrokenFrame("a status shorter than its text")
    return End(code, body[_STATUS.size : at].decode(errors="replace"), body[at:])


def pack_grace(grace_s: float) -> bytes:
    return _GRACE.pack(grace_s)


def unpack_grace(body: bytes) -> float:
    if len(body) != _GRACE.size:
        raise BrokenFrame(f"a grace of {len(body)} bytes")
    return float(_GRACE.unpack(body)[0])


class Link(asyncio.Protocol):
    """One end of the connection. `closed` is set when it is gone, for whatever reason."""

    def __init__(self, on_frame: Callable[[int, int, bytes], None]) -> None:
        """on_frame(kind, call, body): called on the loop for each frame; may raise BrokenFrame."""
        self._on_frame = on_frame
        self._received = bytearray()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self.closed = asyncio.Event()
        # Why we closed it; "" when the other side did.
        self.fault = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are no subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._outgoing.clear()
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parse(data)
        except BrokenFrame as err:
            self.fault = str(err)
            self.close()

    def _parse(self, data: bytes) -> None:
        received = self._received
        received += data
        position, available = 0, len(received)
        try:
            while available - position >= _HEAD.size:
                length, kind, call = _HEAD.unpack_from(received, position)
                if length > FRAME_BYTES_MAX:
                    raise BrokenFrame(f"a frame of {length} bytes")
                begin = position + _HEAD.size
                if available - begin < length:
                    break
                position = begin + length
                self._on_frame(kind, call, bytes(received[begin:position]))
        finally:
            del received[:position]

    def send(self, kind: Kind, call: int = 0, body: bytes = b"") -> None:
        """Queues a frame; dropped when the connection is gone, which `closed` says."""
        if self._transport is None:
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(_HEAD.pack(len(body), kind, call))
        self._outgoing.append(body)

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def close(self) -> None:
        """Sends what is queued and closes."""
        self._flush()
        if self._transport is not None:
            self._transport.close()


class Stream:
    """Both directions of one stream at one end of the link, with a window of bytes each.

    Invariant: credit owed to the sender stays below a quarter of the window when everything was taken, so a
    sender that holds back is always let go on.
    """

    def __init__(self, link: Link, call: int) -> None:
        self._link = link
        self._call = call
        self._incoming: deque[bytes] = deque()
        self._ended = False
        self._arrived = asyncio.Event()
        self._owed = 0
        self._outstanding = 0
        self._room = asyncio.Event()
        self._room.set()

    def deliver(self, message: bytes) -> None:
        self._incoming.append(message)
        self._arrived.set()

    def finish(self) -> None:
        """No more messages will arrive; those that have are still read."""
        self._ended = True
        self._arrived.set()

    async def read(self) -> bytes | None:
        """The next message; None at the end."""
        while not self._incoming:
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._incoming.popleft()
        self._owed += len(message) + MESSAGE_OVERHEAD
        if self._owed >= STREAM_WINDOW // 4:
            self._link.send(Kind.CREDIT, self._call, _CREDIT.pack(self._owed))
            self._owed = 0
        return message

    async def write(self, message: bytes) -> None:
        """Sends as soon as the window allows."""
        while self._outstanding >= STREAM_WINDOW:
            self._room.clear()
            await self._room.wait()
        self._outstanding += len(message) + MESSAGE_OVERHEAD
        self._link.send(Kind.MESSAGE, self._call, message)

    def credit(self, body: bytes) -> None:
        """Raises BrokenFrame."""
        if len(body) != _CREDIT.size:
            raise BrokenFrame(f"a credit of {len(body)} bytes")
        self._outstanding -= _CREDIT.unpack(body)[0]
        if self._outstanding < 0:
            raise BrokenFrame("more credit than was used")
        self._room.set()
