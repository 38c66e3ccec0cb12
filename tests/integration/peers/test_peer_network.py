"""Goal: a bad network costs connections, never wrong or disordered messages.

Method: a proxy between two nodes flips bits after TCP has checked its sum, cuts connections with a reset, or
stops forwarding.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from replcache.raft import messages as m
from replcache.raft.peers import PeerLimits
from tests.helpers.peers import RecordingNode, close_all, make_node
from tests.helpers.wait import async_wait_until


class Proxy:
    """Forwards connections to `target`; `change` sees each piece on its way there and may alter it."""

    def __init__(self, target: Callable[[], str], change: Callable[[bytes], bytes]) -> None:
        self._target = target
        self.change = change
        self.open = asyncio.Event()
        self.open.set()
        self._sockets: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.open.set()
        for writer in self._sockets:
            writer.transport.abort()

    @property
    def address(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def reset_all(self) -> None:
        """Ends every connection with RST, in both directions."""
        for writer in self._sockets:
            sock = writer.get_extra_info("socket")
            if not writer.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._sockets.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            back, forth = await asyncio.open_connection(*self._target().split(":"))
            self._sockets += [writer, forth]
            await asyncio.gather(
                self._pump(reader, forth, lambda data: self.change(data)), self._pump(back, writer, bytes)
            )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while data := await reader.read(16384):
                await self.open.wait()
                writer.write(change(data))
                await writer.drain()
        writer.transport.abort()


class Link:
    """n1 sends to n2 through a proxy."""

    def __init__(self, first: RecordingNode, second: RecordingNode, proxy: Proxy) -> None:
        self.first, self.second, self.proxy = first, second, proxy
        self.sent: dict[int, m.Append] = {}

    async def send(self, size: int) -> bool:
        """Sends one more, when the link is up and little is under way; lets the loop turn once."""
        await asyncio.sleep(0)
        if self.first.transport.statistics().peers["n2"].outbox_bytes > 256 * 1024:
            return False
        sequence = len(self.sent) + 1
        payload = struct.pack("<Q", sequence) * (size // 8)
        message = m.Append(term=1, sequence=sequence, entries=(m.WireEntry(1, 0, payload),))
        if self.first.transport.send("n2", message):
            self.sent[sequence] = message
            return True
        return False

    def check_received(self) -> None:
        """Everything that arrived is what was sent, in order, once."""
        received = self.second.messages
        sequences = []
        for message in received:
            assert isinstance(message, m.Append)
            assert message == self.sent[message.sequence]
            sequences.append(message.sequence)
        assert sequences == sorted(set(sequences))
        assert not self.first.fatal
        assert not self.second.fatal


@pytest.fixture
async def link(rng: random.Random) -> AsyncIterator[Link]:
    second = make_node("n2", rng=rng)
    await second.transport.start()
    async with Proxy(lambda: second.address, bytes) as proxy:
        limits = PeerLimits(ping_interval_s=0.2, pong_timeout_s=0.8)
        first = make_node("n1", rng=rng, peers={"n2": proxy.address}, limits=limits)
        await first.transport.start()
        await async_wait_until(lambda: first.is_sending_to("n2"), what="n1 connected")
        yield Link(first, second, proxy)
        await close_all(first, second)


async def test_flipped_bits_end_connections_and_never_become_messages(link: Link, rng: random.Random) -> None:
    flips = 0

    def flip_sometimes(data: bytes) -> bytes:
        nonlocal flips
        if rng.random() < 0.05:
            flips += 1
            damaged = bytearray(data)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            return bytes(damaged)
        return data

    link.proxy.change = flip_sometimes
    counters = link.second.counters

    def found() -> int:
        return sum(counters[f"refused_{cause}"] for cause in ("checksum", "too_long", "malformed"))

    async with asyncio.timeout(60):
        while found() < 10 or len(link.second.received) < 200:
            await link.send(rng.choice([64, 4096, 65536]))
    print(f"{flips} flips, {found()} found, {len(link.second.received)} of {len(link.sent)} messages arrived")
    link.check_received()


async def test_resets_are_followed_by_new_connections(link: Link, rng: random.Random) -> None:
    for _ in range(10):
        received = len(link.second.received)
        async with asyncio.timeout(30):
            while len(link.second.received) < received + 20:
                await link.send(rng.choice([64, 100_000]))
        dialled = link.first.counters["connections_dialled"]
        link.proxy.reset_all()
        await async_wait_until(
            lambda dialled=dialled: link.first.counters["connections_dialled"] > dialled, what="dialled again"
        )
    link.check_received()


async def test_silent_network_is_found_while_the_proxy_still_acknowledges(link: Link) -> None:
    """The next hop takes everything and forwards nothing, as a stalled proxy does: only the missing answers
    to pings show it, although a little data is being sent all the time."""
    link.proxy.open.clear()

    async def disconnected() -> bool:
        await link.send(64)
        return ("disconnected", "n2", None) in link.first.happened

    await async_wait_until(disconnected, timeout_s=3)
    assert link.first.counters["pong_timeouts"] == 1
    link.proxy.open.set()
    await async_wait_until(lambda: link.first.is_sending_to("n2"), what="connected again")
    before = len(link.second.received)
    await link.send(64)
    await async_wait_until(lambda: len(link.second.received) > before)
    link.check_received()
