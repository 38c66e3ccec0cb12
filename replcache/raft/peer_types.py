"""What users of the peer transport see of it: callbacks and statistics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from replcache.raft.messages import Hello, Message

Direction = Literal["in", "out", "both"]


def _nothing(*_: object) -> None:
    """Default of optional callbacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCallbacks:
    """What the transport tells its owner; all are called on the loop. One that raises goes to on_fatal.

    Attributes:
        on_message: (peer, message, epoch of the accepted connection).
        is_member: (node name, incarnation) -> may that node talk to this one? Asked at each handshake.
        on_fatal: the transport is broken and the node must stop; must not raise.
        on_connected: (peer, its Hello): messages to the peer leave from now on.
        on_disconnected: (peer): they are dropped from now on.
        on_accepted: (peer, its Hello, epoch): the peer's messages follow; older ones will not come.
    """

    on_message: Callable[[str, Message, int], None]
    is_member: Callable[[str, int], bool]
    on_fatal: Callable[[BaseException], None]
    on_connected: Callable[[str, Hello], None] = _nothing
    on_disconnected: Callable[[str], None] = _nothing
    on_accepted: Callable[[str, Hello, int], None] = _nothing


@dataclass(frozen=True, slots=True)
class PeerLinkStatistics:
    """One peer. connected: messages can be sent; receiving: its connection to us is up."""

    connected: bool
    receiving: bool
    rtt_s: float | None
    outbox_bytes: int
    epoch: int


@dataclass(frozen=True, slots=True)
class PeerTransportStatistics:
    """buffered_bytes: everything held for all connections; counters: see peer_handshake.COUNTERS."""

    peers: Mapping[str, PeerLinkStatistics]
    counters: Mapping[str, int]
    connections: int
    handshaking: int
    buffered_bytes: int
