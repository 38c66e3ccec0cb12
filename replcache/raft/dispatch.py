"""Which handler takes which peer message. A table, so that a new message can't be forgotten silently."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replcache.raft import messages as m

if TYPE_CHECKING:
    from replcache.raft.engine import Engine

# Only a leader sends these: their term is settled before the handler runs.
LEADER_MESSAGES = (m.Append, m.Heartbeat, m.SnapshotChunk)
# Taken from any node of the cluster, whatever the own configuration says of it, which may be an old one: a
# voter that does not know the only node that can win would leave the cluster without a leader (dissertation
# 4.1). Who votes is settled by term, log and one vote a term; who counts, by the candidate's configuration.
OPEN_MESSAGES = (*LEADER_MESSAGES, m.PreVote, m.RequestVote)
# Answers to a leader: they count only in the term that they were given in.
ACKS = (m.AppendReply, m.HeartbeatReply, m.SnapshotReply)


def _on_heartbeat_reply(engine: "Engine", peer: str, message: Any) -> None:
    engine.leadership.on_heartbeat_reply(peer, message)
    engine.finish_reads()


Handler = Callable[["Engine", str, Any], None]

HANDLERS: dict[type, Handler] = {
    m.PreVote: lambda e, p, x: e.election.on_pre_vote(p, x),
    m.PreVoteReply: lambda e, p, x: e.election.on_pre_vote_reply(p, x),
    m.RequestVote: lambda e, p, x: e.election.on_request_vote(p, x),
    m.VoteReply: lambda e, p, x: e.election.on_vote_reply(p, x),
    m.TimeoutNow: lambda e, p, x: e.election.on_timeout_now(p, x),
    m.Append: lambda e, p, x: e.follower.on_append(p, x),
    m.AppendReply: lambda e, p, x: e.leadership.on_append_reply(p, x),
    m.Heartbeat: lambda e, p, x: e.follower.on_heartbeat(p, x),
    m.HeartbeatReply: _on_heartbeat_reply,
    m.SnapshotChunk: lambda e, p, x: e.snapshots_in.on_chunk(p, x),
    m.SnapshotReply: lambda e, p, x: e.snapshots_out.on_reply(p, x),
    m.Forward: lambda e, p, x: e.forwarding.on_forward(p, x),
    m.ForwardRefused: lambda e, p, x: e.forwarding.on_forward_refused(p, x),
    m.ReadIndexRequest: lambda e, p, x: e.remote_reads.on_request(p, x),
    m.ReadIndexReply: lambda e, p, x: e.remote_reads.on_reply(p, x),
    m.AdminRequest: lambda e, p, x: e.admin.on_request(p, x),
    m.AdminReply: lambda e, p, x: e.admin.on_reply(p, x),
}
