"""What a node tells about itself: status and monotone counters, gathered from the engine's parts."""

from typing import TYPE_CHECKING

from replcache.raft.port import NodeStatus, PeerStatus, Role, Standing

if TYPE_CHECKING:
    from replcache.raft.engine import Engine
    from replcache.raft.node import RaftNode


def role_of(engine: "Engine") -> Role:
    if engine.is_leader:
        return Role.LEADER
    if engine.is_candidate:
        return Role.CANDIDATE
    if not engine.may_vote:
        return Role.JOINING
    return Role.FOLLOWER if engine.name in engine.configurations.voters else Role.LEARNER


def node_standing(node: "RaftNode") -> Standing:
    engine = node.engine
    return Standing(
        engine.name, node.config.cluster_id, role_of(engine), engine.term, engine.leader, node.halted
    )


def node_status(node: "RaftNode") -> NodeStatus:
    engine = node.engine
    now = node.clock.now()
    peers = []
    for member in engine.configurations.current:
        if member.name == engine.name:
            continue
        progress = engine.leadership.progress.get(member.name) if engine.is_leader else None
        peers.append(
            PeerStatus(
                name=member.name,
                connected=member.name in engine.connected,
                match_index=progress.match if progress is not None else None,
                since_heard_s=now - progress.last_heard if progress is not None else None,
            )
        )
    return NodeStatus(
        node=engine.name,
        cluster_id=node.config.cluster_id,
        role=role_of(engine),
        term=engine.term,
        leader=engine.leader,
        has_quorum=has_quorum(engine, now),
        commit_index=engine.commit_index,
        applied_index=engine.applied_index,
        last_log_index=engine.wal.last_index,
        snapshot_index=node.snapshot_index,
        leader_changes=engine.leader_changes,
        halted=node.halted,
        peers=tuple(peers),
        members=engine.configurations.current,
    )


def has_quorum(engine: "Engine", now: float) -> bool:
    """A leader that hears a majority, or a follower that hears its leader."""
    if engine.is_leader:
        return now - engine.leadership.last_quorum_contact(now) <= engine.config.election_max_s
    return bool(engine.leader) and now - engine.election.last_leader_contact <= engine.config.election_max_s


def node_counters(node: "RaftNode") -> dict[str, int]:
    """Monotone counters by name; every name is present from the start."""
    engine, wal = node.engine, node.storage.wal
    return {
        # A follower's log entries deleted by a conflict; those that matched must never be deleted.
        "entries_deleted_conflicting": engine.follower.entries_deleted,
        "entries_deleted_matching": engine.follower.matching_deleted,
        "entries_received_again": engine.follower.duplicates_skipped,
        "elections": engine.election.campaigns,
        "pre_votes": engine.election.pre_votes_started,
        "leader_changes": engine.leader_changes,
        "read_rounds": engine.reads.rounds_started,
        "log_entries_proposed": engine.forwarding.entries_appended,
        "groups_refused": engine.forwarding.groups_refused,
        "proposals_submitted": engine.proposals.submitted,
        "proposals_applied": engine.proposals.applied,
        "proposals_unknown": engine.proposals.unknown,
        "proposals_not_applied": engine.proposals.not_applied,
        "snapshot_chunks_sent": engine.snapshots_out.chunks_sent,
        "snapshots_installed": engine.snapshots_in.installed_count,
        "snapshots_ignored_old": engine.snapshots_in.ignored_old,
        "snapshots_taken": node.snapshots_taken,
        "wal_syncs": wal.syncs,
        "wal_bytes_written": wal.bytes_written,
        "wal_sync_microseconds": int(node.log_sync.seconds * 1_000_000),
    }
