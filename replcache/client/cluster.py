"""Cluster calls of the client: status, members, leadership, hash.

Administrative calls are sent again only when they certainly had no effect: somebody who asked to remove a
node wants to hear "unknown", and look, rather than have it asked for twice.
"""

from replcache.client import convert
from replcache.client.core import ClientCore
from replcache.client.endpoints import Endpoint
from replcache.client.types import Member, NodeStatus, StateHash
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cluster_pb2


async def _endpoint(core: ClientCore, node: str, timeout_s: float) -> Endpoint | None:
    """The endpoint of a node by name or address; None for ""."""
    if not node:
        return None
    for attempt in range(2):
        for endpoint in core.router.endpoints:
            if node in (endpoint.node, endpoint.address):
                return endpoint
        if not attempt:
            members_ = await members(core, timeout_s)
            core.router.note_members([(member.name, member.client_address) for member in members_])
    known = ", ".join(f"{e.node or '?'} at {e.address}" for e in core.router.endpoints)
    raise InvalidRequest(f"unknown node {node!r}; known: {known}", field="node")


async def status(core: ClientCore, node: str, timeout_s: float) -> NodeStatus:
    endpoint = await _endpoint(core, node, timeout_s)
    asked: list[Endpoint] = []
    response = await core.unary(
        "cluster",
        "Status",
        cluster_pb2.StatusRequest(),
        timeout_s,
        endpoint=endpoint,
        to_leader=False,
        is_write=False,
        on_target=asked.append,
    )
    return convert.node_status(response, asked[-1].address)


async def members(core: ClientCore, timeout_s: float) -> tuple[Member, ...]:
    response = await core.unary(
        "cluster", "Members", cluster_pb2.MembersRequest(), timeout_s, to_leader=False, is_write=False
    )
    return convert.members(response)


async def transfer_leadership(core: ClientCore, to: str, timeout_s: float) -> str:
    request = cluster_pb2.TransferLeadershipRequest(to=to)
    response = await core.unary(
        "cluster", "TransferLeadership", request, timeout_s, attempt_s=timeout_s, retry_unknown=False
    )
    leader: str = response.leader
    return leader


async def add_member(
    core: ClientCore, name: str, peer_address: str, client_address: str, promote: bool, timeout_s: float
) -> tuple[Member, ...]:
    request = cluster_pb2.AddMemberRequest(
        name=name, peer_address=peer_address, client_address=client_address, promote=promote
    )
    response = await core.unary(
        "cluster", "AddMember", request, timeout_s, attempt_s=timeout_s, retry_unknown=False
    )
    return convert.members(response)


async def promote_member(core: ClientCore, name: str, timeout_s: float) -> tuple[Member, ...]:
    request = cluster_pb2.PromoteMemberRequest(name=name)
    response = await core.unary(
        "cluster", "PromoteMember", request, timeout_s, attempt_s=timeout_s, retry_unknown=False
    )
    return convert.members(response)


async def remove_member(core: ClientCore, name: str, timeout_s: float) -> tuple[Member, ...]:
    request = cluster_pb2.RemoveMemberRequest(name=name)
    response = await core.unary(
        "cluster", "RemoveMember", request, timeout_s, attempt_s=timeout_s, retry_unknown=False
    )
    return convert.members(response)


async def state_hash(core: ClientCore, node: str, timeout_s: float) -> StateHash:
    endpoint = await _endpoint(core, node, timeout_s)
    response = await core.unary(
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
