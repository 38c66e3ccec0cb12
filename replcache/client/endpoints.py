"""Which node a message goes to.

Any node takes any request; sending writes and linearizable reads to the leader saves a hop. The leader's
name comes with every reply, its address from Cluster.Members. A node that failed is avoided for a while
that grows with its failures in a row. No I/O here.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from replcache.client.channel import Connection
from replcache.client.retry import Backoff
from replcache.client.url import Route

if TYPE_CHECKING:
    from replcache.client.link import Link
    from replcache.pb.v1.common_pb2 import ResponseHeader


class Endpoint:
    """One address: its connection, and how it has been doing."""

    __slots__ = ("address", "connection", "down_until", "failed_at", "failures", "learned", "link", "node")

    def __init__(self, address: str, node: str = "", learned: bool = False) -> None:
        self.address = address
        # Name of the node that answers there; "" until known.
        self.node = node
        # From Members rather than from the settings.
        self.learned = learned
        self.connection: Connection | None = None
        self.link: Link | None = None
        # Failures in a row.
        self.failures = 0
        self.failed_at = float("-inf")
        self.down_until = 0.0


class Router:
    """The endpoints of one client and the choice among them."""

    def __init__(self, addresses: Sequence[str], route: Route, rng: random.Random) -> None:
        self.endpoints = [Endpoint(address) for address in addresses]
        self.route = route
        self.leader = ""
        self._rng = rng
        self._backoff = Backoff()
        # Reads that any node may answer stay with one node, so that they never jump back without need.
        # Clients start at different nodes, so that the load is spread.
        self._local = rng.randrange(len(self.endpoints))
        self._writer = 0
        # Set when the leader's name has no address: the owner asks for the members.
        self.is_leader_unknown = False

    def pick(self, to_leader: bool, now: float) -> Endpoint:
        """The best endpoint now; one that is down only when all are: then the one that is up again first."""
        if to_leader and self.route is Route.LEADER:
            if self.leader:
                for index, endpoint in enumerate(self.endpoints):
                    if endpoint.node == self.leader and endpoint.down_until <= now:
                        self._writer = index
                        return endpoint
            self._writer = self._next_up(self._writer, now)
            return self.endpoints[self._writer]
        self._local = self._next_up(self._local, now)
        return self.endpoints[self._local]

    def _next_up(self, current: int, now: float) -> int:
        """Stays with a healthy endpoint; else the one whose last failure is longest ago, so that all get
        their turn, however often each of them has failed."""
        endpoints, count = self.endpoints, len(self.endpoints)
        current %= count
        if not endpoints[current].failures:
            return current
        up = [index for index in range(count) if endpoints[index].down_until <= now]
        if not up:
            return min(range(count), key=lambda index: endpoints[index].down_until)
        return min(up, key=lambda index: (endpoints[index].failed_at, (index - current) % count))

    def find(self, node: str) -> Endpoint | None:
        """By the node's name or address."""
        return next((e for e in self.endpoints if node in (e.node, e.address)), None)

    def note_failure(self, endpoint: Endpoint, now: float) -> None:
        """The endpoint did not answer, or says that it can't serve: others are tried first for a while."""
        endpoint.failures += 1
        endpoint.failed_at = now
        endpoint.down_until = now + self._backoff.delay_s(endpoint.failures, self._rng)
        if endpoint.node and endpoint.node == self.leader:
            self.leader = ""

    def note_header(self, endpoint: Endpoint, header: "ResponseHeader") -> None:
        """A reply came from the endpoint: it is up, and says who it is and who leads."""
        if endpoint.failures:
            endpoint.failures = 0
            endpoint.failed_at = float("-inf")
            endpoint.down_until = 0.0
        node = header.node
        if node and endpoint.node != node:
            self._name(endpoint, node)
        leader = header.leader
        if leader and leader != self.leader:
            self.leader = leader
            self.is_leader_unknown = all(other.node != leader for other in self.endpoints)

    def _name(self, endpoint: Endpoint, node: str) -> None:
        for other in self.endpoints:
            if other is not endpoint and other.node == node:
                # The same node under two addresses (localhost and 127.0.0.1), or one that moved. The
                # address that answered last under this name wins.
                other.node = ""
        endpoint.node = node

    def note_members(self, members: Sequence[tuple[str, str]]) -> None:
        """(name, client address) of the members: unknown ones become endpoints."""
        for name, address in members:
            if not address or any(endpoint.node == name for endpoint in self.endpoints):
                continue
            known = next((e for e in self.endpoints if e.address == address), None)
            if known is None:
                self.endpoints.append(Endpoint(address, node=name, learned=True))
            elif not known.node:
                known.node = name
        self.is_leader_unknown = bool(self.leader) and all(e.node != self.leader for e in self.endpoints)
