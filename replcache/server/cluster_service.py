"""The Cluster service: what the cluster is, and how it is administered."""

import re

import replcache
from replcache import constants
from replcache.config import parse_address
from replcache.errors import InvalidRequest
from replcache.observability.metrics import LATENCY_BUCKETS_S
from replcache.pb.v1 import cluster_pb2
from replcache.raft.port import Member, Role
from replcache.server import validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.server.state_hash import StateHasher
from replcache.server.watch_hub import WatchHub

NAME = "replcache.v1.Cluster"

_ROLES = {
    Role.FOLLOWER: cluster_pb2.ROLE_FOLLOWER,
    Role.CANDIDATE: cluster_pb2.ROLE_CANDIDATE,
    Role.LEADER: cluster_pb2.ROLE_LEADER,
    Role.LEARNER: cluster_pb2.ROLE_LEARNER,
    Role.JOINING: cluster_pb2.ROLE_JOINING,
}
_NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


class ClusterService:
    def __init__(self, backend: Backend, started_at: float, watches: WatchHub, hasher: StateHasher) -> None:
        """started_at: reading of the backend's clock."""
        self._backend = backend
        self._watches = watches
        self._started_at = started_at
        self._hasher = hasher

    def methods(self) -> list[Method]:
        return [
            Method("Status", cluster_pb2.StatusRequest, self.status, writes=False),
            Method("Members", cluster_pb2.MembersRequest, self.members, writes=False),
            Method("AddMember", cluster_pb2.AddMemberRequest, self.add_member, writes=True),
            Method("PromoteMember", cluster_pb2.PromoteMemberRequest, self.promote_member, writes=True),
            Method("RemoveMember", cluster_pb2.RemoveMemberRequest, self.remove_member, writes=True),
            Method(
                "TransferLeadership",
                cluster_pb2.TransferLeadershipRequest,
                self.transfer_leadership,
                writes=True,
            ),
            Method("Hash", cluster_pb2.HashRequest, self.hash, writes=False),
        ]

    async def status(self, _: cluster_pb2.StatusRequest, __: Deadline) -> cluster_pb2.StatusResponse:
        """Answers also on a node that halted: this is where one looks for the reason."""
        backend = self._backend
        status = backend.port.status()
        machine = backend.machine
        statistics = machine.statistics()
        response = cluster_pb2.StatusResponse(
            role=_ROLES[status.role],
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            last_log_index=status.last_log_index,
            snapshot_index=status.snapshot_index,
            keys=statistics.keys,
            value_bytes=statistics.value_bytes,
            version=replcache.__version__,
            leader_changes=status.leader_changes,
            cluster_clock_ms=machine.clock_ms,
            has_quorum=status.has_quorum,
            locks=statistics.locks,
            sessions=statistics.sessions,
            halted=status.halted,
            figures=self._figures(),
        )
        response.header.CopyFrom(backend.header_of(status, machine.revision))
        response.uptime.FromNanoseconds(int((backend.clock.now() - self._started_at) * 1e9))
        for peer in status.peers:
            progress = response.peers.add(
                name=peer.name, connected=peer.connected, match_index=peer.match_index or 0
            )
            if peer.since_heard_s is not None:
                progress.since_heard.FromNanoseconds(int(peer.since_heard_s * 1e9))
        return response

    def _figures(self) -> cluster_pb2.Figures:
        metrics = self._backend.metrics
        totals = metrics.totals()
        return cluster_pb2.Figures(
            reads=totals.reads,
            writes=totals.writes,
            keys_read=metrics.hits + metrics.misses,
            keys_written=metrics.keys_written,
            hits=metrics.hits,
            misses=metrics.misses,
            unavailable=totals.unavailable,
            latency_bounds_s=LATENCY_BUCKETS_S,
            read_latencies=totals.read_buckets,
            write_latencies=totals.write_buckets,
            streams=metrics.pipeline_streams,
            watches=len(self._watches),
        )

    async def members(self, _: cluster_pb2.MembersRequest, __: Deadline) -> cluster_pb2.MembersResponse:
        status = self._backend.status()
        return cluster_pb2.MembersResponse(
            header=self._backend.header_of(status, self._backend.machine.revision),
            members=[_member(member) for member in status.members],
        )

    async def add_member(
        self, request: cluster_pb2.AddMemberRequest, deadline: Deadline
    ) -> cluster_pb2.MembershipResponse:
        member = Member(
            name=_name(request.name, "name"),
            peer_address=_address(request.peer_address, "peer_address"),
            client_address=_address(request.client_address, "client_address"),
            voter=False,
            promote=request.promote,
        )
        return await self._change("add", member, deadline)

    async def promote_member(
        self, request: cluster_pb2.PromoteMemberRequest, deadline: Deadline
    ) -> cluster_pb2.MembershipResponse:
        return await self._change("promote", Member(_name(request.name, "name"), "", ""), deadline)

    async def remove_member(
        self, request: cluster_pb2.RemoveMemberRequest, deadline: Deadline
    ) -> cluster_pb2.MembershipResponse:
        return await self._change("remove", Member(_name(request.name, "name"), "", ""), deadline)

    async def _change(
        self, action: str, member: Member, deadline: Deadline
    ) -> cluster_pb2.MembershipResponse:
        members = await self._backend.port.change_members(action, member, deadline.work)
        return cluster_pb2.MembershipResponse(
            header=self._backend.header(self._backend.machine.revision),
            members=[_member(one) for one in members],
        )

    async def transfer_leadership(
        self, request: cluster_pb2.TransferLeadershipRequest, deadline: Deadline
    ) -> cluster_pb2.TransferLeadershipResponse:
        to = _name(request.to, "to") if request.to else ""
        leader = await self._backend.port.transfer_leadership(to, deadline.work)
        return cluster_pb2.TransferLeadershipResponse(
            header=self._backend.header(self._backend.machine.revision), leader=leader
        )

    async def hash(self, request: cluster_pb2.HashRequest, deadline: Deadline) -> cluster_pb2.HashResponse:
        """Digest of this node's state; compare those of equal applied_index."""
        index, digest = await self._hasher.at(request.at_index, deadline.work)
        header = self._backend.header(self._backend.machine.revision)
        return cluster_pb2.HashResponse(header=header, applied_index=index, digest=digest)


def _member(member: Member) -> cluster_pb2.Member:
    return cluster_pb2.Member(
        name=member.name,
        peer_address=member.peer_address,
        client_address=member.client_address,
        voter=member.voter,
        incarnation=member.incarnation,
    )


def _name(name: str, field: str) -> str:
    validate.name(name, field, constants.MEMBER_NAME_BYTES_MAX)
    if not _NAME_FORM.match(name):
        raise InvalidRequest(f"{field}: {name!r} may only have letters, digits and _ . -", field=field)
    return name


def _address(address: str, field: str) -> str:
    validate.name(address, field, constants.ADDRESS_BYTES_MAX)
    try:
        parse_address(address)
    except ValueError as err:
        raise InvalidRequest(f"{field}: {address!r} {err}", field=field) from err
    return address
