"""Cluster calls of the blocking client; cluster.py says what they do."""

from replcache.client.durations import Duration
from replcache.client.part import BlockingPart
from replcache.client.types import Member, NodeStatus, StateHash


class ClusterCalls(BlockingPart):
    """Part of Client."""

    def status(self, node: str = "", *, timeout: Duration | None = None) -> NodeStatus:
        status: NodeStatus = self._run(lambda: self._aio.status(node, timeout=timeout), timeout)
        return status

    def members(self, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(lambda: self._aio.members(timeout=timeout), timeout)
        return members

    def transfer_leadership(self, to: str = "", *, timeout: Duration | None = None) -> str:
        leader: str = self._run(lambda: self._aio.transfer_leadership(to, timeout=timeout), timeout)
        return leader

    def add_member(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        *,
        promote: bool = False,
        timeout: Duration | None = None,
    ) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(
            lambda: self._aio.add_member(
                name, peer_address, client_address, promote=promote, timeout=timeout
            ),
            timeout,
        )
        return members

    def promote_member(self, name: str, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(
            lambda: self._aio.promote_member(name, timeout=timeout), timeout
        )
        return members

    def remove_member(self, name: str, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(
            lambda: self._aio.remove_member(name, timeout=timeout), timeout
        )
        return members

    def hash(self, node: str = "", *, timeout: Duration | None = None) -> StateHash:
        digest: StateHash = self._run(lambda: self._aio.hash(node, timeout=timeout), timeout)
        return digest
