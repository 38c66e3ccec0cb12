"""What each node says about itself: one call to every endpoint, all at the same time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from replcache.cli.connection import Connection

ROLE_NAMES = {1: "follower", 2: "candidate", 3: "leader", 4: "learner", 5: "joining"}


@dataclass(frozen=True, slots=True)
class NodeView:
    """Status of one node, or why there is none."""

    endpoint: str
    problem: str = ""
    name: str = ""
    role: str = ""
    leader: str = ""
    term: int = 0
    revision: int = 0
    commit_index: int = 0
    applied_index: int = 0
    last_log_index: int = 0
    snapshot_index: int = 0
    keys: int = 0
    value_bytes: int = 0
    locks: int = 0
    sessions: int = 0
    uptime_s: float = 0.0
    leader_changes: int = 0
    has_quorum: bool = False
    version: str = ""
    cluster_id: str = ""

    @property
    def is_up(self) -> bool:
        return not self.problem


def look_at_all(connection: Connection, endpoints: Sequence[str], timeout_s: float) -> list[NodeView]:
    """One view for each endpoint, in their order; a node that can't be reached is a view with a problem."""
    if not endpoints:
        return []
    with ThreadPoolExecutor(max_workers=len(endpoints)) as pool:
        return list(pool.map(lambda endpoint: look_at(connection, endpoint, timeout_s), endpoints))


def look_at(connection: Connection, endpoint: str, timeout_s: float) -> NodeView:
    import grpc

    from replcache.pb.v1 import cluster_pb2, cluster_pb2_grpc

    with connection.calls(endpoint) as calls:
        stub = cluster_pb2_grpc.ClusterStub(calls)  # type: ignore[no-untyped-call]  # generated
        try:
            reply = stub.Status(cluster_pb2.StatusRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return NodeView(endpoint, problem=problem_of(error))
    return view_of(endpoint, reply)


def problem_of(error: Any) -> str:
    import grpc

    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return "not reachable"
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    return str(error.details() or error.code().name.lower())


def view_of(endpoint: str, reply: Any) -> NodeView:
    header = reply.header
    return NodeView(
        endpoint,
        name=header.node,
        role=ROLE_NAMES.get(reply.role, f"role {reply.role}"),
        leader=header.leader,
        term=header.term,
        revision=header.revision,
        commit_index=reply.commit_index,
        applied_index=reply.applied_index,
        last_log_index=reply.last_log_index,
        snapshot_index=reply.snapshot_index,
        keys=reply.keys,
        value_bytes=reply.value_bytes,
        locks=reply.locks,
        sessions=reply.sessions,
        uptime_s=reply.uptime.seconds + reply.uptime.nanos / 1e9,
        leader_changes=reply.leader_changes,
        has_quorum=reply.has_quorum,
        version=reply.version,
        cluster_id=header.cluster_id.hex(),
    )


def agreed_leader(views: Sequence[NodeView]) -> str:
    """The leader that says so itself and that a majority of all nodes follows; "" when there is none."""
    for view in views:
        if view.role == "leader" and view.has_quorum:
            following = sum(1 for other in views if other.is_up and other.leader == view.name)
            if following * 2 > len(views):
                return view.name
    return ""
