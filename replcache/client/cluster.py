"""Cluster calls of the client: status, members, leadership, hash.

Administrative calls are sent again only when they certainly had no effect: somebody who asked to remove a
node wants to hear "unknown", and look, rather than have it asked for twice.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from replcache.client import convert
from replcache.client.base import BaseClient
from replcache.client.durations import Duration
from replcache.client.endpoints import Endpoint
from replcache.client.ids import unique_id
from replcache.client.types import Member, NodeStatus, StateHash
from replcache.errors import ClientClosed, InvalidRequest
from replcache.pb.v1 import cluster_pb2


class AsyncClusterCalls(BaseClient):
    """The part of AsyncClient that is about the cluster itself, and the binding to the event loop."""

    def _start(self) -> None:
        core = self._core
        if core.is_closed:
            raise ClientClosed("the client is closed")
        if not core.is_started:
            core.start()
        elif core.loop is not asyncio.get_running_loop():
            raise ClientClosed("the client belongs to another event loop")

    def _waiter(self) -> "asyncio.Future[Any]":
        """A future for one call, on the right loop."""
        loop = asyncio.get_running_loop()
        core = self._core
        if core.is_closed or not core.is_started or core.loop is not loop:
            self._start()
        return loop.create_future()

    async def _write(
        self,
        service: str,
        method: str,
        request: Any,
        timeout_s: float,
        on_send: Callable[[float, Endpoint], None] | None = None,
    ) -> Any:
        """A call of its own that changes something: executed once however often it has to be sent, because
        the cluster remembers its request id."""
        self._waiter()
        request.idempotency.request_id = unique_id()
        return await self._core.unary(service, method, request, timeout_s, on_send=on_send)

    async def status(self, node: str = "", *, timeout: Duration | None = None) -> NodeStatus:
        """One node's own view: of `node` (its name or address), or of the node that is asked first."""
        self._waiter()
        timeout_s = self._timeout_s(timeout)
        endpoint = await self._endpoint(node, timeout_s)
        asked: list[Endpoint] = []
        response = await self._core.unary(
            "cluster",
            "Status",
            cluster_pb2.StatusRequest(),
            timeout_s,
            endpoint=endpoint,
            to_leader=False,
            is_write=False,
            on_send=lambda _, target: asked.append(target),
        )
        return convert.node_status(response, asked[-1].address)

    async def members(self, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        """The members by the last applied configuration of the asked node."""
        self._waiter()
        request = cluster_pb2.MembersRequest()
        timeout_s = self._timeout_s(timeout)
        response = await self._core.unary(
            "cluster", "Members", request, timeout_s, to_leader=False, is_write=False
        )
        return convert.members(response)

    async def hash(self, node: str = "", *, timeout: Duration | None = None) -> StateHash:
        """Digest of a node's state: equal on all nodes at equal applied_index."""
        self._waiter()
        timeout_s = self._timeout_s(timeout)
        endpoint = await self._endpoint(node, timeout_s)
        response = await self._core.unary(
            "cluster",
            "Hash",
            cluster_pb2.HashRequest(),
            timeout_s,
            endpoint=endpoint,
            attempt_s=timeout_s,
            to_leader=False,
            is_write=False,
        )
        return StateHash(response.header.node, response.applied_index, response.digest)

    async def transfer_leadership(self, to: str = "", *, timeout: Duration | None = None) -> str:
        """Hands leadership to the node `to` ("": the most caught-up voter); returns the leader's name.

        Raises:
            OutcomeUnknown: no answer; ask status(). The same holds for the changes of members.
        """
        request = cluster_pb2.TransferLeadershipRequest(to=to)
        leader: str = (await self._administer("TransferLeadership", request, timeout)).leader
        return leader

    async def add_member(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        *,
        promote: bool = False,
        timeout: Duration | None = None,
    ) -> tuple[Member, ...]:
        """Adds a learner; with `promote` it becomes a voter by itself when it has caught up."""
        request = cluster_pb2.AddMemberRequest(
            name=name, peer_address=peer_address, client_address=client_address, promote=promote
        )
        return convert.members(await self._administer("AddMember", request, timeout))

    async def promote_member(self, name: str, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        """Makes a learner a voter."""
        request = cluster_pb2.PromoteMemberRequest(name=name)
        return convert.members(await self._administer("PromoteMember", request, timeout))

    async def remove_member(self, name: str, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        """Takes a member out of the cluster."""
        request = cluster_pb2.RemoveMemberRequest(name=name)
        return convert.members(await self._administer("RemoveMember", request, timeout))

    async def _administer(self, method: str, request: Any, timeout: Duration | None) -> Any:
        self._waiter()
        timeout_s = self._timeout_s(timeout)
        return await self._core.unary(
            "cluster", method, request, timeout_s, attempt_s=timeout_s, retry_unknown=False
        )

    async def _endpoint(self, node: str, timeout_s: float) -> Endpoint | None:
        """The endpoint of a node by name or address; None for ""."""
        if not node:
            return None
        router = self._core.router
        if (found := router.find(node)) is None:
            members = await self.members(timeout=timeout_s)
            router.note_members([(member.name, member.client_address) for member in members])
            found = router.find(node)
        if found is None:
            known = ", ".join(f"{e.node or '?'} at {e.address}" for e in router.endpoints)
            raise InvalidRequest(f"unknown node {node!r}; known: {known}", field="node")
        return found
