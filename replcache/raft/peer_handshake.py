"""Who may talk to this node: the Hello of both directions, and the book of refusals.

A connection carries messages only after both sides have said Hello and each was found to be what it claims:
same protocol version, same cluster, a member, the node that was meant; with TLS, a certificate that has the
node's name. The side that dialled speaks first; a stranger gets no answer at all.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from replcache import constants
from replcache.clock import Clock
from replcache.observability.logs import get_logger
from replcache.raft.messages import PEER_PROTOCOL_VERSION, Hello
from replcache.raft.peer_framing import PeerProtocolError
from replcache.raft.peer_tls import certificate_names

_log = get_logger(__name__)

# Causes of refusals, each with its counter `refused_<cause>`.
CAUSES = (
    # the stream: not a message, too long, damaged, a message where none belongs
    "malformed",
    "too_long",
    "checksum",
    "unexpected",
    # the Hello
    "protocol",
    "cluster",
    "to_node",
    "own_name",
    "wrong_node",
    "unknown_node",
    "certificate",
    # before the Hello
    "tls",
    "timeout",
    "crowded",
)
COUNTERS = (
    "connections_accepted",
    "connections_dialled",
    "connections_replaced",
    "dials_failed",
    "accepts_failed",
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
    "dropped_not_connected",
    "dropped_outbox_full",
    "dropped_with_connection",
    "dropped_by_fault",
    "pong_timeouts",
    "idle_timeouts",
    "tls_reloads",
    "tls_reloads_failed",
    *(f"refused_{cause}" for cause in CAUSES),
)
# Long enough that a port scan can't fill the disk with log lines, short enough for an operator who looks.
LOG_INTERVAL_S = 10.0


class PeerRefused(PeerProtocolError):
    """The other side is not one that this node talks to; `cause` is one of CAUSES."""


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Limits and times of the peer link; the defaults are the product's, tests shorten them."""

    frame_bytes_max: int = constants.PEER_FRAME_BYTES_MAX
    handshake_frame_bytes_max: int = constants.PEER_HANDSHAKE_FRAME_BYTES_MAX
    outbox_bytes_max: int = constants.PEER_OUTBOX_BYTES_MAX
    handshake_timeout_s: float = constants.PEER_HANDSHAKE_TIMEOUT_S
    connections_max: int = constants.PEER_CONNECTIONS_MAX
    reconnect_min_s: float = constants.PEER_RECONNECT_MIN_S
    reconnect_max_s: float = constants.PEER_RECONNECT_MAX_S
    ping_interval_s: float = constants.PEER_PING_INTERVAL_S
    pong_timeout_s: float = constants.PEER_PONG_TIMEOUT_S
    idle_timeout_s: float = constants.PEER_IDLE_TIMEOUT_S


@dataclass(slots=True)
class RefusalBook:
    """Counts every refusal; logs the first of each cause and then one line per LOG_INTERVAL_S and cause."""

    clock: Clock
    node: str
    counters: dict[str, int]
    _logged_at: dict[str, float] = field(default_factory=dict)
    _silent: dict[str, int] = field(default_factory=dict)

    def refuse(self, cause: str, detail: object, remote: object, direction: str) -> None:
        """`detail` may hold what a stranger sent: it is shortened, and logged as a value."""
        assert cause in CAUSES, cause
        self.counters[f"refused_{cause}"] += 1
        silent = self.due(cause)
        if silent is not None:
            _log.warning(
                "peer_refused",
                node=self.node,
                cause=cause,
                detail=str(detail)[:300],
                remote=str(remote),
                direction=direction,
                not_logged_before=silent,
            )

    def due(self, subject: str) -> int | None:
        """None: `subject` was logged lately. Otherwise how many times it was not logged since."""
        now = self.clock.now()
        if now - self._logged_at.get(subject, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            self._silent[subject] = self._silent.get(subject, 0) + 1
            return None
        self._logged_at[subject] = now
        return self._silent.pop(subject, 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node says of itself and demands of others.

    Attributes:
        hello_factory: the changing parts of this node's Hello (bootstrap, addresses); the rest is filled in.
        is_member: (node name, incarnation) -> whether that node may talk to this one.
    """

    node: str
    cluster_id: bytes
    incarnation: int
    hello_factory: Callable[[], Hello]
    is_member: Callable[[str, int], bool]
    uses_tls: bool

    def hello(self, to_node: str) -> Hello:
        return replace(
            self.hello_factory(),
            protocol=PEER_PROTOCOL_VERSION,
            cluster_id=self.cluster_id,
            node=self.node,
            incarnation=self.incarnation,
            to_node=to_node,
        )

    def check_certificate(self, name: str, tls_object: ssl.SSLObject | None) -> None:
        """With TLS, the certificate of the other side must carry `name`; without, nothing is asked.

        Raises:
            PeerRefused: it does not.
        """
        if not self.uses_tls:
            return
        certificate = tls_object.getpeercert() if tls_object is not None else None
        names = certificate_names(certificate) if certificate else frozenset()
        if name not in names:
            raise PeerRefused(f"the certificate is of {sorted(names)}, not of {name[:80]!r}", "certificate")

    def check_hello(self, hello: Hello, expected_node: str | None) -> None:
        """Args: expected_node: who was dialled; None on an accepted connection.

        Raises:
            PeerRefused: this is not a Hello of a member of this cluster that means this node.
        """
        if hello.protocol != PEER_PROTOCOL_VERSION:
            raise PeerRefused(
                f"peer protocol {hello.protocol}, this node speaks {PEER_PROTOCOL_VERSION}", "protocol"
            )
        if hello.cluster_id != self.cluster_id:
            raise PeerRefused(f"cluster {hello.cluster_id[:32].hex()} instead of ours", "cluster")
        if hello.node == self.node:
            raise PeerRefused("a node of our own name: an address points back to us, or a twin", "own_name")
        if hello.to_node != self.node:
            raise PeerRefused(
                f"{hello.node[:80]!r} means {hello.to_node[:80]!r}, this is {self.node!r}", "to_node"
            )
        if expected_node is not None and hello.node != expected_node:
            raise PeerRefused(
                f"{hello.node[:80]!r} answers at the address of {expected_node!r}", "wrong_node"
            )
        if not self.is_member(hello.node, hello.incarnation):
            raise PeerRefused(
                f"node {hello.node[:80]!r}, incarnation {hello.incarnation}, is no member", "unknown_node"
            )
