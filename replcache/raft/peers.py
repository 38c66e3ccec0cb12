"""Peer transport: messages between the nodes of one cluster over TCP, with mutual TLS where configured.

    frame: u32 LE length | u32 LE CRC32C of the body | body (protobuf internal.Frame); length 0 is a ping

One connection per ordered pair of nodes: each node dials every other one and sends on the connection that it
dialled; on the accepted one it only answers (its Hello, then pings). So each direction fails and recovers by
itself, and nobody has to agree which of two crossing connections survives.

What the engine may rely on:
- Messages of one class (control, bulk: see peer_outbox.py) arrive in order, none twice. Any may get lost, and
  in the middle too; send() never waits and answers False when it is certain that the message is lost.
- After a peer's new connection was accepted, nothing of its older ones is delivered. Each accepted connection
  has its epoch (a growing number); on_accepted comes before its first message.
- Everything runs on the loop that called start(). No callback is called after close() began.

Files: peer_framing.py (bytes -> bodies), peer_codec.py (bodies <-> messages), peer_handshake.py (who may
talk), peer_links.py (the two kinds of connection), peer_outbox.py, peer_listener.py, peer_tls.py. Here: which
connections there are, dialling and dialling again.

No pickle, no compression, nothing unbounded; hazards.md of the plain library names what each rule prevents.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Mapping

from replcache.clock import Clock
from replcache.observability.logs import get_logger
from replcache.raft.messages import Hello, Message
from replcache.raft.peer_framing import PeerProtocolError
from replcache.raft.peer_handshake import COUNTERS, Identity, PeerLimits, PeerRefused, RefusalBook
from replcache.raft.peer_links import AcceptedLink, DialledLink, Link
from replcache.raft.peer_listener import PeerListener, connect, parse_address
from replcache.raft.peer_tls import TlsConfig, TlsContexts
from replcache.raft.peer_types import (
    Direction,
    PeerCallbacks,
    PeerLinkStatistics,
    PeerTransportStatistics,
)
from replcache.tasks import Supervisor

__all__ = ["PeerCallbacks", "PeerLimits", "PeerTransport", "PeerTransportStatistics", "TlsConfig"]

_log = get_logger(__name__)

# How often links are looked at for pings and silence: a quarter of the shortest of those times at most.
CHECK_INTERVAL_S = 0.2
# A check that comes this much late shows that this process stood still; peers are not blamed for that.
STALL_S = 0.5
# The last messages before a stop (a handed-over leadership) get this long to leave.
CLOSE_FLUSH_S = 0.3


class _Peer:
    """A configured peer: where it is, and the connection dialled to it."""

    __slots__ = ("address", "link", "name", "task", "wake")

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.link: DialledLink | None = None
        self.task: asyncio.Task[None] | None = None
        # Set when the peer shows that it is alive: no reason to wait for the next attempt.
        self.wake = asyncio.Event()


class PeerTransport:
    """Connections to and from all peers of one node. The constructor only stores; start(), later close().

    Args:
        node, cluster_id, incarnation: who this node is.
        listen_address: "host:port"; port 0 lets the system choose, see bound_address.
        hello_factory: makes the parts of this node's Hello that change: bootstrap and addresses.
        peers: name -> "host:port" of the others; this node's own name is ignored. See set_peers().
        tls: certificates; None: no encryption and no proof of who talks, for loopback and tests.
        rng: for the jitter of reconnects.
        fault_injection: allows block(); for tests and fault drills.
    """

    def __init__(
        self,
        *,
        node: str,
        cluster_id: bytes,
        incarnation: int,
        listen_address: str,
        hello_factory: Callable[[], Hello],
        peers: Mapping[str, str],
        callbacks: PeerCallbacks,
        clock: Clock,
        rng: random.Random,
        tls: TlsConfig | None = None,
        fault_injection: bool = False,
        limits: PeerLimits | None = None,
    ) -> None:
        self.clock = clock
        self.limits = limits if limits is not None else PeerLimits()
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.identity = Identity(
            node, cluster_id, incarnation, hello_factory, callbacks.is_member, tls is not None
        )
        self._callbacks = callbacks
        self._rng = rng
        self._addresses = dict(peers)
        self._book = RefusalBook(clock, node, self.counters)
        self._tls = TlsContexts(tls, self._tls_reloaded) if tls is not None else None
        self._listener = PeerListener(listen_address, self._socket_accepted, self._accept_failed)
        self._supervisor = Supervisor(self._failed)
        self._peers: dict[str, _Peer] = {}
        self._accepted: dict[str, AcceptedLink] = {}
        # Accepted sockets that have not said Hello, oldest first.
        self._handshaking: dict[AcceptedLink, asyncio.Task[None]] = {}
        self._epoch = 0
        self._started = False
        self._closing = False
        self._fault_injection = fault_injection
        self._blocked_in: set[str] = set()
        self._blocked_out: set[str] = set()

    # --- life ---

    async def start(self) -> None:
        """Listens and begins to dial.

        Raises:
            ConfigError: an address or a TLS file can't be used; nothing is left open.
        """
        assert not self._started, "start() once"
        for address in self._addresses.values():
            parse_address(address)
        if self._tls is not None:
            self._tls.load()
        await self._listener.start()
        self._started = True
        self._supervisor.background("peer links watch", self._watch_links())
        self.set_peers(self._addresses)

    async def close(self) -> None:
        """Ends all connections; what is already queued gets a moment to leave. May be called twice."""
        if self._closing:
            return
        self._closing = True
        self._listener.close()
        dialled = [peer.link for peer in self._peers.values() if peer.link is not None]
        for peer in self._peers.values():
            if peer.task is not None:
                self._supervisor.cancel(peer.task)
        if dialled:
            leaving = [
                self._supervisor.short(f"peer {link.peer} close", link.close_gently()) for link in dialled
            ]
            await asyncio.wait(leaving, timeout=CLOSE_FLUSH_S)
        await self._supervisor.close()
        open_links: list[Link] = [*dialled, *self._accepted.values()]
        for link in open_links:
            link.drop("closing")
        # abort() takes effect in the next turns of the loop; sockets must be gone when close() returns.
        gone = [link.gone for link in open_links if not link.gone.done()]
        if gone:
            await asyncio.wait(gone, timeout=CLOSE_FLUSH_S)

    @property
    def bound_address(self) -> str:
        """ "host:port" on which this node listens; only between start() and close()."""
        return self._listener.bound_address

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """The members other than this node, name -> "host:port"; connections to others end.

        Raises:
            ConfigError: an address is not "host:port"; nothing was changed.
        """
        wanted = {name: address for name, address in peers.items() if name != self.identity.node}
        for address in wanted.values():
            parse_address(address)
        self._addresses = wanted
        if not self._started or self._closing:
            return
        for name, peer in list(self._peers.items()):
            if wanted.get(name) != peer.address:
                self._forget(peer)
        for name in [name for name in self._accepted if name not in wanted]:
            self._accepted[name].drop("not a peer any more")
        for name, address in wanted.items():
            if name not in self._peers:
                peer = self._peers[name] = _Peer(name, address)
                peer.task = self._supervisor.background(f"peer {name} dial", self._keep_dialling(peer))

    def _forget(self, peer: _Peer) -> None:
        del self._peers[peer.name]
        if peer.task is not None:
            self._supervisor.cancel(peer.task)
        if peer.link is not None:
            peer.link.drop("not a peer any more")

    def _failed(self, _name: str, error: BaseException) -> None:
        self._callbacks.on_fatal(error)

    # --- sending ---

    def send(self, peer: str, message: Message) -> bool:
        """Queues `message`; never waits. False: certainly not sent (not connected, or the outbox is full).

        Raises:
            ValueError: the message can't be encoded or is above the frame limit (a programmer error).
        """
        if peer in self._blocked_out:
            self.counters["dropped_by_fault"] += 1
            return True
        known = self._peers.get(peer)
        link = known.link if known is not None else None
        if link is None or not link.ready or self._closing:
            self.counters["dropped_not_connected"] += 1
            return False
        if not link.send(message):
            self.counters["dropped_outbox_full"] += 1
            return False
        return True

    def is_connected(self, peer: str) -> bool:
        """Whether send() to this peer would be taken."""
        known = self._peers.get(peer)
        return known is not None and known.link is not None and known.link.ready

    def statistics(self) -> PeerTransportStatistics:
        dialled = {name: peer.link for name, peer in self._peers.items()}
        peers = {}
        for name, link in dialled.items():
            accepted = self._accepted.get(name)
            peers[name] = PeerLinkStatistics(
                connected=link is not None and link.ready,
                receiving=accepted is not None,
                rtt_s=link.rtt_s if link is not None else None,
                outbox_bytes=link.outbox.queued_bytes if link is not None else 0,
                epoch=accepted.epoch if accepted is not None else 0,
            )
        links: list[Link] = [link for link in dialled.values() if link is not None]
        links += self._accepted.values()
        links += self._handshaking
        return PeerTransportStatistics(
            peers=peers,
            counters=dict(self.counters),
            connections=len(links),
            handshaking=len(self._handshaking),
            buffered_bytes=sum(link.buffered_bytes for link in links),
        )

    # --- faults on purpose ---

    def block(self, peer: str, direction: Direction = "both") -> None:
        """Drops messages to ("out") or from ("in") `peer`, silently as a network would.

        Raises:
            RuntimeError: the transport was not made with fault_injection=True.
        """
        if not self._fault_injection:
            raise RuntimeError("block() needs fault_injection=True")
        if direction in ("in", "both"):
            self._blocked_in.add(peer)
        if direction in ("out", "both"):
            self._blocked_out.add(peer)

    def unblock(self, peer: str, direction: Direction = "both") -> None:
        if direction in ("in", "both"):
            self._blocked_in.discard(peer)
        if direction in ("out", "both"):
            self._blocked_out.discard(peer)

    # --- dialling ---

    async def _keep_dialling(self, peer: _Peer) -> None:
        backoff = self.limits.reconnect_min_s
        while True:
            peer.wake.clear()
            link = await self._dial(peer)
            if link is not None:
                backoff = self.limits.reconnect_min_s
                # asyncio.wait, not await: a cancelled await would cancel the link's future.
                await asyncio.wait([link.gone])
            try:
                async with asyncio.timeout(backoff * self._rng.uniform(0.5, 1.0)):
                    await peer.wake.wait()
            except TimeoutError:
                pass
            backoff = min(backoff * 2, self.limits.reconnect_max_s)

    async def _dial(self, peer: _Peer) -> DialledLink | None:
        """One attempt; the link, ready, or None. The time for TCP, TLS and Hello together is limited."""
        link = DialledLink(self, peer.name)
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(self.limits.handshake_timeout_s):
                sock = await connect(*parse_address(peer.address))
                context = self._tls.client() if self._tls is not None else None
                # "" keeps a server name out of the handshake: the node name is checked by us.
                server_name = "" if context is not None else None
                await loop.create_connection(
                    lambda: link, sock=sock, ssl=context, server_hostname=server_name
                )
                await asyncio.wait([link.handshake])
        except (OSError, EOFError) as err:
            # TimeoutError and ssl.SSLError are OSErrors.
            self._dial_failed(peer, str(err) or type(err).__name__)
        finally:
            if not link.ready:
                link.drop("handshake failed")
        if not link.ready:
            return None
        assert link.hello is not None
        self.counters["connections_dialled"] += 1
        peer.link = link
        _log.info("peer_connected", node=self.identity.node, peer=peer.name, address=peer.address)
        if not self._supervisor.guard("on_connected", self._callbacks.on_connected, peer.name, link.hello):
            link.drop("fatal")
        return link

    def _dial_failed(self, peer: _Peer, error: str) -> None:
        self.counters["dials_failed"] += 1
        silent = self._book.due(f"dial {peer.name}")
        if silent is not None:
            _log.info(
                "peer_dial_failed",
                node=self.identity.node,
                peer=peer.name,
                address=peer.address,
                error=error,
                not_logged_before=silent,
            )

    # --- accepting ---

    def _socket_accepted(self, sock: socket.socket, remote: object) -> None:
        if self._closing:
            sock.close()
            return
        if len(self._handshaking) + len(self._accepted) >= self.limits.connections_max and not self._evict():
            sock.close()
            self._book.refuse("crowded", "all connections are in use by peers", remote, "accepted")
            return
        self._epoch += 1
        link = AcceptedLink(self, self._epoch, remote, sock)
        task = self._supervisor.short(f"peer handshake {self._epoch}", self._shake_hands(link))
        # Also when the task is cancelled before its first step.
        task.add_done_callback(lambda _: link.close_socket())
        self._handshaking[link] = task

    def _evict(self) -> bool:
        """Ends the oldest handshake to make room: strangers that say nothing wait longest, and a good peer
        needs a few milliseconds."""
        link = next(iter(self._handshaking), None)
        if link is None:
            return False
        self._supervisor.cancel(self._handshaking.pop(link))
        link.fail(PeerRefused("made room for a newer connection", "crowded"))
        return True

    async def _shake_hands(self, link: AcceptedLink) -> None:
        """From the socket to a finished handshake, in limited time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.handshake_timeout_s):
                context = self._tls.server() if self._tls is not None else None
                await loop.connect_accepted_socket(lambda: link, link.take_socket(), ssl=context)
                await asyncio.wait([link.handshake])
        except TimeoutError:
            link.fail(PeerRefused(f"no Hello within {self.limits.handshake_timeout_s} s", "timeout"))
        except (OSError, EOFError) as err:
            link.fail(PeerRefused(str(err) or type(err).__name__, "tls"))
        finally:
            self._handshaking.pop(link, None)
            if not link.ready:
                link.drop("handshake failed")

    def _accept_failed(self, error: OSError) -> None:
        self.counters["accepts_failed"] += 1
        silent = self._book.due("accept")
        if silent is not None:
            _log.warning(
                "peer_accept_failed", node=self.identity.node, error=str(error), not_logged_before=silent
            )

    # --- what links report (LinkOwner) ---

    def accepted(self, link: AcceptedLink, hello: Hello) -> None:
        """The handshake of an accepted connection is done: it replaces the older one of the same peer."""
        self._handshaking.pop(link, None)
        if self._closing:
            link.drop("closing")
            return
        old = self._accepted.pop(link.peer, None)
        if old is not None:
            self.counters["connections_replaced"] += 1
            old.drop("replaced by a newer connection")
        self._accepted[link.peer] = link
        self.counters["connections_accepted"] += 1
        _log.info(
            "peer_accepted",
            node=self.identity.node,
            peer=link.peer,
            epoch=link.epoch,
            remote=str(link.remote),
        )
        peer = self._peers.get(link.peer)
        if peer is not None:
            self._peer_alive(peer, hello)
        if not self._supervisor.guard(
            "on_accepted", self._callbacks.on_accepted, link.peer, hello, link.epoch
        ):
            link.drop("fatal")

    def _peer_alive(self, peer: _Peer, hello: Hello) -> None:
        link = peer.link
        if link is not None and link.hello is not None and link.hello.incarnation != hello.incarnation:
            # The process that we dialled has lost its disk and is gone, whatever TCP believes.
            link.drop("the peer has a new incarnation")
        peer.wake.set()

    def deliver(self, link: AcceptedLink, message: Message) -> None:
        if link.peer in self._blocked_in:
            self.counters["dropped_by_fault"] += 1
            return
        if self._closing:
            return
        self.counters["messages_received"] += 1
        if not self._supervisor.guard(
            "on_message", self._callbacks.on_message, link.peer, message, link.epoch
        ):
            link.drop("fatal")

    def guard(self, function: Callable[[], object]) -> bool:
        return self._supervisor.guard("peer link", function)

    def refused(self, link: Link, error: PeerProtocolError) -> None:
        self._book.refuse(error.cause, error, link.remote, link.direction)

    def lost(self, link: Link) -> None:
        if isinstance(link, AcceptedLink):
            if self._accepted.get(link.peer) is link:
                del self._accepted[link.peer]
                self._log_lost(link)
            return
        assert isinstance(link, DialledLink)
        peer = self._peers.get(link.peer)
        self.counters["dropped_with_connection"] += link.outbox.clear()
        if link.hello is None or (peer is not None and peer.link is not link):
            return
        if peer is not None:
            peer.link = None
        self._log_lost(link)
        if not self._closing:
            self._supervisor.guard("on_disconnected", self._callbacks.on_disconnected, link.peer)

    def _log_lost(self, link: Link) -> None:
        _log.info(
            "peer_connection_ended",
            node=self.identity.node,
            peer=link.peer,
            direction=link.direction,
            reason=link.ended,
        )

    # --- upkeep ---

    async def _watch_links(self) -> None:
        """Pings, and the end of links that are silent."""
        interval = min(CHECK_INTERVAL_S, self.limits.ping_interval_s / 4)
        before = self.clock.now()
        while True:
            await asyncio.sleep(interval)
            now = self.clock.now()
            late = now - before - interval
            before = now
            for link in [peer.link for peer in self._peers.values() if peer.link is not None]:
                if late > STALL_S:
                    link.forgive(late)
                link.check_alive(now)
            for accepted in list(self._accepted.values()):
                if late > STALL_S:
                    accepted.forgive(late)
                accepted.check_alive(now)

    def _tls_reloaded(self, error: Exception | None) -> None:
        if error is None:
            self.counters["tls_reloads"] += 1
            _log.info("peer_tls_reloaded", node=self.identity.node)
            return
        self.counters["tls_reloads_failed"] += 1
        silent = self._book.due("tls reload")
        if silent is not None:
            _log.warning("peer_tls_reload_failed", node=self.identity.node, error=str(error))
