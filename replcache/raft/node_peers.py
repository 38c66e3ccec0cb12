"""A node's side towards its peers: transport, who may talk, and the first start of the cluster."""

import random
from typing import TYPE_CHECKING

import structlog

from replcache.constants import DISK_FULL_RETRY_S
from replcache.errors import ConfigError
from replcache.raft import bootstrap
from replcache.raft.disk import TryLater
from replcache.raft.membership import Configuration, decode_configuration, encode_configuration
from replcache.raft.messages import Hello, Hint, Message
from replcache.raft.peer_listener import parse_address
from replcache.raft.peers import PeerCallbacks, PeerTransport

if TYPE_CHECKING:
    from replcache.raft.node import RaftNode

log = structlog.get_logger("replcache.raft")

# Names that a node takes up from others' dialling: a bound, far above any cluster's size.
LEARNED_PEERS_MAX = 32


class NodePeers:
    """Owns the PeerTransport. Callbacks hand messages to the engine through RaftNode.guard."""

    def __init__(self, node: "RaftNode", rng: random.Random) -> None:
        self._node = node
        config = node.config
        self._heard: dict[str, Hello] = {}
        # Addresses of nodes that have dialled this one and that it did not know.
        self._learned: dict[str, str] = {}
        self._remember_at = float("-inf")
        self.transport = PeerTransport(
            node=config.name,
            cluster_id=config.cluster_id,
            incarnation=node.storage.identity.incarnation,
            listen_address=config.peer_listen,
            hello_factory=self._hello,
            peers=self._addresses(),
            callbacks=PeerCallbacks(
                on_message=self._on_message,
                is_member=self._is_member,
                on_fatal=node.fail,
                on_connected=self._on_connected,
                on_disconnected=self._on_disconnected,
                on_accepted=self._on_accepted,
            ),
            clock=node.clock,
            rng=rng,
            tls=config.peer_tls,
            fault_injection=config.fault_injection,
        )

    async def start(self) -> None:
        await self.transport.start()
        self._maybe_bootstrap()

    async def close(self) -> None:
        await self.transport.close()

    def on_configuration(self, members: Configuration) -> None:
        self.transport.set_peers(self._addresses())
        log.info("configuration", members=[(m.name, "voter" if m.voter else "learner") for m in members])

    def remember_rejoin(self) -> None:
        """Taken in again after a lost disk: from now on this directory is not a fresh one."""
        node, engine = self._node, self._node.engine
        if engine.is_bootstrapped or not engine.is_recognised or node.clock.now() < self._remember_at:
            return
        try:
            node.storage.identity.set_bootstrap(encode_configuration(engine.configurations.current))
        except TryLater as error:
            # It is recognised without it; a restart before it is written finds what one before this finds.
            self._remember_at = node.clock.now() + DISK_FULL_RETRY_S
            log.warning("rejoin_not_remembered_yet", node=node.config.name, error=str(error))
            return
        engine.is_bootstrapped = True

    def _on_message(self, peer: str, message: Message, _epoch: int) -> None:
        if isinstance(message, Hint):
            listener = self._node.hint_listener
            if listener is not None:
                self._node.guard(lambda: listener(peer, message.data))
            return
        if not self._node.questions.take(peer, message):
            self._node.guard(lambda: self._node.engine.receive(peer, message))

    def _on_connected(self, peer: str, hello: Hello) -> None:
        self._heard[peer] = hello
        self._node.guard(lambda: self._node.engine.on_peer_up(peer, hello.incarnation))
        self._node.guard(self._maybe_bootstrap)

    def _on_accepted(self, peer: str, hello: Hello, _epoch: int) -> None:
        self._heard[peer] = hello
        if peer not in self._addresses() and _can_dial(hello.peer_address):
            self._learned[peer] = hello.peer_address
            self.transport.set_peers(self._addresses())
        self._node.guard(lambda: self._node.engine.on_hello(peer, hello.incarnation))
        self._node.guard(self._maybe_bootstrap)

    def _on_disconnected(self, peer: str) -> None:
        self._node.guard(lambda: self._node.engine.on_peer_down(peer))

    def _hello(self) -> Hello:
        config, known = self._node.config, self._node.storage.identity.bootstrap
        return Hello(
            bootstrap=decode_configuration(known) if known is not None else None,
            client_address=config.client_address,
            peer_address=config.peer_listen,
        )

    def _is_member(self, name: str, _incarnation: int) -> bool:
        """Whoever proved to be of this cluster may talk.

        A node that missed the change of members that brought the present leader in does not know it, and
        would be cut off for good if it refused. The engine takes nothing but the messages of
        leaders and candidates from a node that is not in its configuration.
        """
        return name in self._addresses() or len(self._learned) < LEARNED_PEERS_MAX

    def _addresses(self) -> dict[str, str]:
        """Members by the configuration in force, and those of the file: a node that was away for long may
        know the present members only from there."""
        members = {m.name: m.peer_address for m in self._node.config.members}
        current = {m.name: m.peer_address for m in self._node.engine.configurations.current}
        known = self._learned | members | current
        return {name: at for name, at in known.items() if name != self._node.config.name}

    def _maybe_bootstrap(self) -> None:
        node = self._node
        if node.engine.is_bootstrapped:
            return
        identity, config = node.storage.identity, node.config
        members = bootstrap.decide(
            config.name, identity.incarnation, config.members, self._heard, may_found=not config.join
        )
        if members is not None:
            identity.set_bootstrap(encode_configuration(members))
            node.engine.bootstrap(members)
            log.info("first_start", node=config.name, members=[m.name for m in members])


def _can_dial(address: str) -> bool:
    """Whether what a stranger gave as its address is one."""
    try:
        parse_address(address)
    except ConfigError:
        return False
    return True
