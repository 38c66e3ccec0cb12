"""Peer transports for tests: a node that records what happens to it, and certificates."""

import asyncio
import dataclasses
import random
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from replcache.clock import Clock, SystemClock
from replcache.raft.messages import Append, Hello, Message, WireEntry
from replcache.raft.peer_codec import decode, encode
from replcache.raft.peer_framing import frame_header
from replcache.raft.peer_listener import parse_address
from replcache.raft.peers import PeerCallbacks, PeerLimits, PeerTransport, TlsConfig
from tests.helpers.wait import async_wait_until, scaled

CLUSTER = b"test cluster"


class JumpingClock:
    """The real clock plus jumps: as if this process had stood still for that long."""

    def __init__(self) -> None:
        self._jumped_s = 0.0

    def now(self) -> float:
        return SystemClock().now() + self._jumped_s

    def jump(self, seconds: float) -> None:
        self._jumped_s += seconds


@dataclass
class RecordingNode:
    """A transport whose callbacks keep everything in lists."""

    transport: PeerTransport
    received: list[tuple[str, Message, int]] = field(default_factory=list)
    # ("connected" | "disconnected" | "accepted", peer, Hello or None)
    happened: list[tuple[str, str, Hello | None]] = field(default_factory=list)
    fatal: list[BaseException] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        return [message for _, message, _ in self.received]

    @property
    def counters(self) -> dict[str, int]:
        return self.transport.counters

    @property
    def address(self) -> str:
        return self.transport.bound_address

    def is_sending_to(self, peer: str) -> bool:
        return self.transport.is_connected(peer)


def make_node(
    name: str,
    *,
    rng: random.Random,
    peers: dict[str, str] | None = None,
    listen: str = "127.0.0.1:0",
    cluster_id: bytes = CLUSTER,
    incarnation: int = 1,
    members: Callable[[str, int], bool] = lambda name, incarnation: name in ("n1", "n2", "n3"),
    on_message: Callable[[str, Message, int], None] | None = None,
    tls: TlsConfig | None = None,
    limits: PeerLimits | None = None,
    fault_injection: bool = False,
    clock: Clock | None = None,
) -> RecordingNode:
    """A node that is not started yet."""
    happened: list[tuple[str, str, Hello | None]] = []
    received: list[tuple[str, Message, int]] = []
    fatal: list[BaseException] = []

    def record(peer: str, message: Message, epoch: int) -> None:
        received.append((peer, message, epoch))

    transport = PeerTransport(
        node=name,
        cluster_id=cluster_id,
        incarnation=incarnation,
        listen_address=listen,
        hello_factory=lambda: Hello(client_address=f"client of {name}", peer_address=listen),
        peers=peers or {},
        callbacks=PeerCallbacks(
            on_message=on_message or record,
            is_member=members,
            on_fatal=fatal.append,
            on_connected=lambda peer, hello: happened.append(("connected", peer, hello)),
            on_disconnected=lambda peer: happened.append(("disconnected", peer, None)),
            on_accepted=lambda peer, hello, epoch: happened.append(("accepted", peer, hello)),
        ),
        clock=clock or SystemClock(),
        rng=rng,
        tls=tls,
        limits=limits,
        fault_injection=fault_injection,
    )
    return RecordingNode(transport, received, happened, fatal)


Pair = tuple[RecordingNode, RecordingNode]


class Certificates:
    """A certificate authority that writes the files of one node after another."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self._directory = directory
        self._count = 0

    def issue(self, name: str, **options: object) -> TlsConfig:
        """Files of a certificate with `name` as DNS name; options as trustme.CA.issue_cert has them."""
        self._count += 1
        place = self._directory / f"{self._count}-{name}"
        place.mkdir(parents=True)
        config = TlsConfig(place / "ca.pem", place / "cert.pem", place / "key.pem")
        self.write(config, name, **options)
        return config

    def write(self, config: TlsConfig, name: str, **options: object) -> None:
        """Writes (over) the three files of `config`."""
        leaf = self.authority.issue_cert(name, **options)  # type: ignore[arg-type]
        self.authority.cert_pem.write_to_path(str(config.ca_file))
        config.key_file.write_bytes(leaf.private_key_pem.bytes())
        config.cert_file.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))


async def close_all(*nodes: RecordingNode) -> None:
    await asyncio.gather(*(node.transport.close() for node in nodes))


class RawPeer:
    """A connection that speaks the peer protocol byte by byte, well or badly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: str, context: ssl.SSLContext | None = None) -> "RawPeer":
        host, port = parse_address(address)
        name = "" if context is not None else None
        return cls(*await asyncio.open_connection(host, port, ssl=context, server_hostname=name))

    @classmethod
    async def connect_as(cls, address: str, hello: Hello, context: ssl.SSLContext | None = None) -> "RawPeer":
        """Connects and shakes hands."""
        peer = await cls.connect(address, context)
        peer.send(hello)
        answer = await peer.receive()
        assert type(answer) is Hello
        return peer

    def send(self, *messages: Message) -> None:
        self.write(b"".join(framed(encode(message)) for message in messages))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Message | None:
        """The next message; None for a ping."""
        async with asyncio.timeout(scaled(5)):
            length, checksum = struct.unpack("<II", await self.reader.readexactly(8))
            body = await self.reader.readexactly(length)
        assert framed(body)[:8] == struct.pack("<II", length, checksum)
        return decode(body) if body else None

    async def wait_closed(self, timeout_s: float = 5.0) -> bytes:
        """Waits until the other side has closed; what it sent before that."""
        received = b""
        async with asyncio.timeout(scaled(timeout_s)):
            while True:
                try:
                    data = await self.reader.read(65536)
                except (ConnectionError, ssl.SSLError):
                    data = b""
                if not data:
                    self.close()
                    return received
                received += data

    def close(self) -> None:
        self.writer.transport.abort()


class RawServer:
    """Listens in the place of a node; each connection is given to `serve`."""

    def __init__(self, serve: Callable[[RawPeer], Awaitable[None]]) -> None:
        self._serve = serve
        self._peers: list[RawPeer] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "RawServer":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self._peers:
            peer.close()

    @property
    def address(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RawPeer(reader, writer)
        self._peers.append(peer)
        await self._serve(peer)


def framed(body: bytes) -> bytes:
    return frame_header(body) + body


def hello_of(name: str, to: str, **changes: object) -> Hello:
    """The Hello of a good node, or with `changes` of a bad one."""
    hello = Hello(cluster_id=CLUSTER, node=name, incarnation=1, to_node=to)
    return dataclasses.replace(hello, **changes)  # type: ignore[arg-type]


async def start_pair(first: RecordingNode, second: RecordingNode, names: tuple[str, str]) -> None:
    """Starts both and waits until each can send to the other."""
    await first.transport.start()
    await second.transport.start()
    first.transport.set_peers({names[1]: second.address})
    second.transport.set_peers({names[0]: first.address})
    await async_wait_until(
        lambda: first.is_sending_to(names[1]) and second.is_sending_to(names[0]),
        what=f"{names} connected",
        describe=lambda: (first.counters, second.counters),
    )


def append_of(size: int, sequence: int = 0) -> Append:
    """An Append whose encoded form has exactly `size` bytes."""
    message = Append(term=1, sequence=sequence, entries=(WireEntry(1, 0, bytes(size)),))
    return Append(
        term=1, sequence=sequence, entries=(WireEntry(1, 0, bytes(2 * size - len(encode(message)))),)
    )


async def silent_after_hello(peer: RawPeer) -> None:
    """Says Hello as n2 and then neither reads nor answers."""
    await peer.receive()
    peer.send(hello_of("n2", "n1"))
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
