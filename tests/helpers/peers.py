"""Peer transports for tests: a node that records what happens to it, and certificates."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from replcache.clock import SystemClock
from replcache.raft.messages import Hello, Message
from replcache.raft.peers import PeerCallbacks, PeerLimits, PeerTransport, TlsConfig

CLUSTER = b"test cluster"


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
        clock=SystemClock(),
        rng=rng,
        tls=tls,
        limits=limits,
        fault_injection=fault_injection,
    )
    return RecordingNode(transport, received, happened, fatal)


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
