"""The two kinds of connection between nodes, as asyncio protocols.

DialledLink: opened by this node, carries its messages to one peer; nothing comes back on it but the peer's
Hello and the answers to pings. AcceptedLink: opened by a peer, carries its messages to this node.

Rules:
- A link that was dropped delivers nothing more, not even what has already been read: late messages of an old
  connection lose acknowledged writes. drop() works at once, abort() of the transport throws the rest away.
- Handling a burst never holds the loop: after SLICE_S reading pauses and the rest follows in the next turn.
- Nobody can make us hold much: one frame per link (64 KiB before the handshake is done), a bounded outbox.
"""

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from typing import Protocol, cast

from replcache.clock import Clock
from replcache.raft.messages import Hello, Message
from replcache.raft.peer_codec import decode, encode
from replcache.raft.peer_framing import PING_FRAME, FrameParser, PeerProtocolError, frame_header
from replcache.raft.peer_handshake import Identity, PeerLimits, PeerRefused
from replcache.raft.peer_outbox import BULK_KINDS, Outbox

# A burst of small messages is handled in slices of this length: well under the 10 ms that the loop may block.
SLICE_S = 0.004
# Written to the transport per loop turn; about what a 10 Gbit/s link takes in 0.2 ms.
WRITE_BATCH_BYTES = 256 * 1024
# A heartbeat waits behind at most this much (and the frame under way) in this process.
WRITE_BUFFER_HIGH_BYTES = 512 * 1024
WRITE_BUFFER_LOW_BYTES = 128 * 1024
# Unread answers to pings: a peer that sends pings and reads nothing is broken.
PONG_BUFFER_BYTES_MAX = 64 * 1024
# The answer to a ping comes after everything written before it: slower links than this count as dead.
SLOWEST_LINK_BYTES_PER_S = 64 * 1024
PONG_ALLOWANCE_MAX_S = 30.0


class LinkOwner(Protocol):
    """What links need of the transport that they belong to."""

    identity: Identity
    limits: PeerLimits
    clock: Clock
    counters: dict[str, int]

    def refused(self, link: "Link", error: PeerProtocolError) -> None:
        """The other side broke the protocol; the link has been dropped."""

    def accepted(self, link: "AcceptedLink", hello: Hello) -> None:
        """A peer's Hello was found good; its messages follow."""

    def deliver(self, link: "AcceptedLink", message: Message) -> None: ...

    def lost(self, link: "Link") -> None:
        """The link ended, for whatever reason; called once."""

    def guard(self, function: Callable[[], object]) -> bool:
        """Calls `function`; an exception stops the node, and the answer is False."""
        ...


class Link(asyncio.Protocol):
    """What both kinds have in common: reading frames, and ending once."""

    direction = ""

    def __init__(self, owner: LinkOwner) -> None:
        self.owner = owner
        # The peer's node name; of an accepted link it is known after the Hello.
        self.peer = ""
        self.hello: Hello | None = None
        self.ended = ""
        self.remote: object = None
        loop = asyncio.get_running_loop()
        # Done when the handshake was finished, or failed (then `ended` says why).
        self.handshake: asyncio.Future[None] = loop.create_future()
        # Done when the transport is gone.
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = FrameParser(owner.limits.handshake_frame_bytes_max)
        self._reading_paused = False

    @property
    def ready(self) -> bool:
        """The handshake is done and the link has not ended."""
        return self.hello is not None and not self.ended

    @property
    def buffered_bytes(self) -> int:
        written = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._parser.buffered_bytes + written

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.ended:
            self._transport.abort()
            return
        self.remote = transport.get_extra_info("peername")
        self._transport.set_write_buffer_limits(WRITE_BUFFER_HIGH_BYTES, WRITE_BUFFER_LOW_BYTES)
        if not self.owner.guard(self.made):
            self.drop("fatal")

    def made(self) -> None:
        """The transport is there (and TLS is done)."""

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self.owner.counters["bytes_received"] += len(data)
        self._parser.feed(data)
        self._read_guarded()

    def _read_guarded(self) -> None:
        if not self.ended and not self.owner.guard(self._read):
            self.drop("fatal")

    def _read(self) -> None:
        """Handles the frames at hand, for SLICE_S at most."""
        now = self.owner.clock.now
        until = now() + SLICE_S
        try:
            while not self.ended:
                body = self._parser.next_frame()
                if body is None:
                    break
                self.frame_received(body)
                if now() >= until:
                    self._pause_reading()
                    return
        except PeerProtocolError as err:
            self.fail(err)
            return
        self._resume_reading()

    def _pause_reading(self) -> None:
        if self.ended or self._transport is None:
            return
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        self._loop.call_soon(self._read_guarded)

    def _resume_reading(self) -> None:
        if self._reading_paused and not self.ended and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    def frame_received(self, body: bytes) -> None:
        raise NotImplementedError

    def fail(self, error: PeerProtocolError) -> None:
        """Ends the link because of what the other side did."""
        if not self.ended:
            self.drop(error.cause)
            self.owner.refused(self, error)

    def drop(self, reason: str) -> None:
        """Ends the link now: nothing more is delivered or written. Harmless when it has ended."""
        if self.ended:
            return
        self.ended = reason
        self._parser.clear()
        if not self.handshake.done():
            self.handshake.set_result(None)
        if self._transport is not None:
            self._transport.abort()
        self.owner.lost(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # Not to be aborted any more: asyncio's socket transport would report its loss a second time.
        self._transport = None
        self.drop(f"connection lost: {exc}" if exc is not None else "closed by the peer")
        if not self.gone.done():
            self.gone.set_result(None)

    def _tls_object(self) -> ssl.SSLObject | None:
        assert self._transport is not None
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    def _open_transport(self) -> asyncio.Transport | None:
        """The transport while it may be written to. One that failed is closed before connection_lost() comes,
        and uvloop raises when such a one is written to."""
        transport = self._transport
        return None if transport is None or self.ended or transport.is_closing() else transport

    def _write(self, data: bytes) -> None:
        transport = self._open_transport()
        if transport is not None:
            self.owner.counters["bytes_sent"] += len(data)
            transport.write(data)

    def _established(self, hello: Hello) -> None:
        self.hello = hello
        if not self.handshake.done():
            self.handshake.set_result(None)


class AcceptedLink(Link):
    """Receives a peer's messages; `epoch` counts the accepted connections of this process."""

    direction = "accepted"

    def __init__(self, owner: LinkOwner, epoch: int, remote: object, sock: socket.socket) -> None:
        super().__init__(owner)
        self.epoch = epoch
        self.remote = remote
        self.heard_at = owner.clock.now()
        # Ours until the loop's transport takes it.
        self._socket: socket.socket | None = sock

    def take_socket(self) -> socket.socket:
        sock, self._socket = self._socket, None
        assert sock is not None
        return sock

    def close_socket(self) -> None:
        """Closes the socket when nobody took it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def frame_received(self, body: bytes) -> None:
        if self.hello is None:
            self._first_frame(body)
            return
        self.heard_at = self.owner.clock.now()
        if not body:
            self._answer_ping()
            return
        message = decode(body)
        if type(message) is Hello:
            raise PeerRefused("a second Hello", "unexpected")
        self.owner.deliver(self, message)

    def _first_frame(self, body: bytes) -> None:
        hello = decode(body)
        if type(hello) is not Hello:
            raise PeerRefused(f"{type(hello).__name__} instead of Hello", "unexpected")
        identity = self.owner.identity
        identity.check_hello(hello, None)
        identity.check_certificate(hello.node, self._tls_object())
        self.peer = hello.node
        self._parser.frame_bytes_max = self.owner.limits.frame_bytes_max
        self.heard_at = self.owner.clock.now()
        self._established(hello)
        # Before the answer: the peer sends as soon as it has it, and by then its old link is gone.
        self.owner.accepted(self, hello)
        if not self.ended:
            body = encode(identity.hello(hello.node))
            self._write(frame_header(body) + body)

    def _answer_ping(self) -> None:
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > PONG_BUFFER_BYTES_MAX:
            raise PeerRefused("pings, but their answers are not read", "unexpected")
        self._write(PING_FRAME)

    def check_alive(self, now: float) -> None:
        """Drops a link on which nothing was heard for too long."""
        if self.ready and now - self.heard_at > self.owner.limits.idle_timeout_s:
            self.owner.counters["idle_timeouts"] += 1
            self.drop("idle")

    def forgive(self, late_s: float) -> None:
        """This process itself stood still: the time does not count against the peer."""
        self.heard_at += late_s


class DialledLink(Link):
    """Sends this node's messages to one peer.

    Attributes:
        rtt_s: smoothed round trip of pings; None before the first answer.
    """

    direction = "dialled"

    def __init__(self, owner: LinkOwner, peer: str) -> None:
        super().__init__(owner)
        self.peer = peer
        self.rtt_s: float | None = None
        self.outbox = Outbox(owner.limits.outbox_bytes_max)
        self._writing_paused = False
        self._flush_scheduled = False
        self._ping_sent_at: float | None = None
        self._ping_due_at = 0.0
        # Written but not acknowledged when the ping was sent: its answer comes after these bytes.
        self._ping_behind_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        return super().buffered_bytes + self.outbox.queued_bytes

    def made(self) -> None:
        identity = self.owner.identity
        try:
            # Before anything is said: a wrong server learns nothing of us.
            identity.check_certificate(self.peer, self._tls_object())
        except PeerRefused as err:
            self.fail(err)
            return
        body = encode(identity.hello(self.peer))
        self._write(frame_header(body) + body)

    def frame_received(self, body: bytes) -> None:
        if self.hello is not None:
            if body:
                raise PeerRefused("a message on a connection that only this node speaks on", "unexpected")
            self._pong_received()
            return
        hello = decode(body)
        if type(hello) is not Hello:
            raise PeerRefused(f"{type(hello).__name__} instead of Hello", "unexpected")
        self.owner.identity.check_hello(hello, self.peer)
        # Only pings come from now on.
        self._parser.frame_bytes_max = 0
        self._established(hello)
        self._send_ping(self.owner.clock.now())

    # --- sending ---

    def send(self, message: Message) -> bool:
        """Queues one message; False: the outbox is full. Never waits.

        Raises:
            ValueError: a number in it is out of range, or the message is above the frame limit.
        """
        body = encode(message)
        if len(body) > self.owner.limits.frame_bytes_max:
            limit = self.owner.limits.frame_bytes_max
            raise ValueError(f"{type(message).__name__} of {len(body)} bytes, {limit} are allowed")
        if not self.outbox.put(body, bulk=type(message) in BULK_KINDS):
            return False
        self._schedule_flush()
        return True

    def _schedule_flush(self) -> None:
        # Once per loop turn: all that is sent within a turn leaves in one write.
        if not self._flush_scheduled and not self._writing_paused:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        transport = self._open_transport()
        if transport is None or self._writing_paused:
            return
        pieces, size, count = self.outbox.take(WRITE_BATCH_BYTES)
        if not pieces:
            return
        counters = self.owner.counters
        counters["messages_sent"] += count
        counters["bytes_sent"] += size
        # May call pause_writing() before it returns.
        transport.writelines(pieces)
        if len(self.outbox):
            self._schedule_flush()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if len(self.outbox) and not self.ended:
            self._schedule_flush()

    async def close_gently(self) -> None:
        """Writes what the transport holds, then closes. Cancellation leaves the link to drop()."""
        if self.ready and self._transport is not None:
            self._flush()
            self._transport.close()
            await asyncio.wait([self.gone])

    # --- liveness ---

    def check_alive(self, now: float) -> None:
        """Sends a ping when one is due; drops a link whose peer does not answer."""
        if not self.ready:
            return
        if self._ping_sent_at is None:
            if now >= self._ping_due_at:
                self._send_ping(now)
            return
        allowance = min(self._ping_behind_bytes / SLOWEST_LINK_BYTES_PER_S, PONG_ALLOWANCE_MAX_S)
        if now - self._ping_sent_at > self.owner.limits.pong_timeout_s + allowance:
            self.owner.counters["pong_timeouts"] += 1
            self.drop("no answer to a ping")

    def _send_ping(self, now: float) -> None:
        self._ping_sent_at = now
        self._ping_due_at = now + self.owner.limits.ping_interval_s
        self._ping_behind_bytes = self._unacknowledged_bytes()
        if self.outbox.put(b"", bulk=False):
            self._schedule_flush()

    def _unacknowledged_bytes(self) -> int:
        """What this process and its kernel hold for the peer; not the outbox, pings go ahead of it."""
        assert self._transport is not None
        size = self._transport.get_write_buffer_size()
        sock = self._transport.get_extra_info("socket")
        try:
            (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))
        except (OSError, ValueError):
            # A platform without this question: the answer to the ping has to come in time by itself.
            return size
        return size + int(queued)

    def forgive(self, late_s: float) -> None:
        """As AcceptedLink.forgive."""
        if self._ping_sent_at is not None:
            self._ping_sent_at += late_s

    def _pong_received(self) -> None:
        if self._ping_sent_at is None:
            raise PeerRefused("an answer without a ping", "unexpected")
        sample = max(0.0, self.owner.clock.now() - self._ping_sent_at)
        self._ping_sent_at = None
        # As TCP smooths its own (RFC 6298).
        self.rtt_s = sample if self.rtt_s is None else self.rtt_s * 0.875 + sample * 0.125
