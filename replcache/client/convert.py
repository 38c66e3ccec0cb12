"""Protobuf replies -> the types of types.py."""

from typing import TYPE_CHECKING

from replcache.client.durations import from_proto
from replcache.client.types import (
    Consistency,
    DeleteResult,
    Entry,
    EvictionPolicy,
    Guard,
    HotKey,
    LockClaim,
    LockView,
    Member,
    Namespace,
    NamespaceStatistics,
    NodeStatistics,
    NodeStatus,
    PeerProgress,
    ReadInfo,
    SetResult,
)
from replcache.pb.v1 import cache_pb2, cluster_pb2, common_pb2, keyspace_pb2, lock_pb2

if TYPE_CHECKING:
    from replcache.client.codec import Codec
    from replcache.client.statistics import Counters

LEVELS: dict[Consistency, common_pb2.ReadLevel] = {
    Consistency.LINEARIZABLE: common_pb2.READ_LEVEL_LINEARIZABLE,
    Consistency.SESSION: common_pb2.READ_LEVEL_SESSION,
    Consistency.ONE: common_pb2.READ_LEVEL_ONE,
}
_CONSISTENCIES = {level: consistency for consistency, level in LEVELS.items()}


class ReplyContext:
    """What converting needs beside the message: the codec, the counters, the header of the whole reply."""

    __slots__ = ("codec", "counters", "header")

    def __init__(self, codec: "Codec", counters: "Counters") -> None:
        self.codec = codec
        self.counters = counters
        self.header = common_pb2.ResponseHeader()

    def count_reads(self, reads: int, misses: int) -> None:
        self.counters.hits += reads - misses
        self.counters.misses += misses

    def read_info(self, header: common_pb2.ResponseHeader) -> ReadInfo:
        staleness = from_proto(header.staleness) if header.HasField("staleness") else None
        served_as = _CONSISTENCIES.get(header.served_as, Consistency.LINEARIZABLE)
        return ReadInfo(header.node, header.revision, header.term, served_as, staleness)

    def entry(self, entry: cache_pb2.Entry, header: common_pb2.ResponseHeader | None = None) -> Entry:
        return Entry(
            self.codec,
            entry.key,
            entry.value,
            entry.content_type,
            entry.version,
            entry.mod_revision,
            from_proto(entry.expires_in) if entry.HasField("expires_in") else None,
            self.read_info(header if header is not None else self.header),
            entry.create_revision,
            from_proto(entry.idle_ttl) if entry.HasField("idle_ttl") else None,
            entry.reads_left,
            tuple(entry.tags),
            entry.lease_id,
        )

    def revision(self, header: common_pb2.ResponseHeader) -> int:
        """An operation's own revision when it carries one, else that of its message."""
        return header.revision or self.header.revision


def set_result(response: cache_pb2.SetResponse, context: ReplyContext) -> SetResult:
    previous = context.entry(response.previous) if response.HasField("previous") else None
    return SetResult(response.version, context.revision(response.header), previous)


def update_result(response: cache_pb2.UpdateResponse, context: ReplyContext) -> Entry:
    return context.entry(response.entry)


def delete_result(response: cache_pb2.DeleteResponse, context: ReplyContext) -> DeleteResult:
    previous = context.entry(response.previous) if response.HasField("previous") else None
    return DeleteResult(response.deleted, context.revision(response.header), previous)


def touch_result(response: cache_pb2.TouchResponse, context: ReplyContext) -> SetResult:
    return SetResult(response.version, context.revision(response.header))


def increment_result(response: cache_pb2.IncrementResponse, context: ReplyContext) -> int:
    return response.value


def get_result(response: cache_pb2.GetResponse, context: ReplyContext) -> Entry | None:
    return context.entry(response.entry) if response.HasField("entry") else None


def members(response: cluster_pb2.MembersResponse | cluster_pb2.MembershipResponse) -> tuple[Member, ...]:
    return tuple(
        Member(m.name, m.client_address, m.peer_address, m.voter, m.incarnation) for m in response.members
    )


def node_status(response: cluster_pb2.StatusResponse, address: str) -> NodeStatus:
    header = response.header
    return NodeStatus(
        node=header.node,
        address=address,
        cluster_id=header.cluster_id,
        role=_role(response.role),
        leader=header.leader,
        term=header.term,
        revision=header.revision,
        has_quorum=response.has_quorum,
        commit_index=response.commit_index,
        applied_index=response.applied_index,
        last_log_index=response.last_log_index,
        snapshot_index=response.snapshot_index,
        keys=response.keys,
        value_bytes=response.value_bytes,
        locks=response.locks,
        sessions=response.sessions,
        uptime_s=from_proto(response.uptime),
        version=response.version,
        leader_changes=response.leader_changes,
        cluster_clock_ms=response.cluster_clock_ms,
        peers=tuple(
            PeerProgress(
                peer.name,
                peer.connected,
                peer.match_index,
                from_proto(peer.since_heard) if peer.HasField("since_heard") else None,
            )
            for peer in response.peers
        ),
    )


def _role(role: int) -> str:
    """ROLE_LEADER -> leader; a role that this version does not know stays a number."""
    if role in cluster_pb2.Role.values():
        return cluster_pb2.Role.Name(cluster_pb2.Role.ValueType(role)).removeprefix("ROLE_").lower()
    return str(role)


def lock_view(info: lock_pb2.LockInfo) -> LockView:
    return LockView(
        info.name,
        tuple(_claim(holder) for holder in info.holders),
        tuple(_claim(waiter) for waiter in info.waiters),
        info.permits or 1,
    )


def _claim(holder: lock_pb2.LockHolder) -> LockClaim:
    return LockClaim(
        holder.owner,
        holder.token,
        from_proto(holder.expires_in),
        holder.note,
        holder.mode == lock_pb2.LOCK_MODE_SHARED,
    )


POLICIES: dict[EvictionPolicy, keyspace_pb2.EvictionPolicy] = {
    EvictionPolicy.NONE: keyspace_pb2.EVICTION_POLICY_NONE,
    EvictionPolicy.LRU: keyspace_pb2.EVICTION_POLICY_LRU,
    EvictionPolicy.LFU: keyspace_pb2.EVICTION_POLICY_LFU,
}
_POLICY_NAMES = {number: policy for policy, number in POLICIES.items()}


def namespace(use: keyspace_pb2.NamespaceUse) -> Namespace:
    found = use.namespace
    policy = _POLICY_NAMES.get(found.policy, EvictionPolicy.NONE)
    return Namespace(found.name, found.prefix, found.max_bytes, policy, use.keys, use.bytes, use.complete)


def guard(found: keyspace_pb2.Guard) -> Guard:
    return Guard(found.prefix, found.lock)


def node_statistics(response: keyspace_pb2.StatisticsResponse) -> NodeStatistics:
    return NodeStatistics(
        response.header.node,
        tuple(
            NamespaceStatistics(n.name, n.hits, n.misses, n.writes, n.expired, n.evicted)
            for n in response.namespaces
        ),
        tuple(HotKey(hot.key, hot.count, hot.error) for hot in response.most_read),
        tuple(HotKey(hot.key, hot.count, hot.error) for hot in response.most_written),
    )
