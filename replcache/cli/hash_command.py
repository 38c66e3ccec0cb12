"""`replcache hash`: whether all replicas hold the same state, by their hashes at one applied index."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.nodes import NodeView, look_at_all
from replcache.cli.output import print_json, print_table, say
from replcache.errors import PermissionDenied, ReplcacheError, Unauthenticated, Unavailable

LOOK_TIMEOUT_S = 2.0
# How far ahead of the furthest node they are to meet; more each time that somebody was past it already.
AHEAD_MIN, AHEAD_FACTOR = 8, 4
TRIES = 8
PAST, LATE = "OUT_OF_RANGE", "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one node: its hash at `index`, or the error in its place."""

    node: str
    endpoint: str
    index: int = 0
    digest: bytes = b""
    reason: str = ""
    error: ReplcacheError | None = None


def register(app: typer.Typer) -> None:
    app.command(name="hash", rich_help_panel="Operation")(connected(hash_command))


def hash_command(
    connection: Connection,
    wait: Annotated[float, duration_option("--for", help="Time for a node to hash its state.")] = "60s",  # type: ignore[assignment]  # parsed by Typer
) -> None:
    """Compare the states of all nodes at one applied index. Exit 1 when they differ.

    Every node reads its whole state in a thread, about 2 s for a million keys. The leader does the same by
    itself every state_check_s.
    """
    answers = _meet(connection, wait)
    votes = [answer.digest for answer in answers if answer.digest]
    common = max(set(votes), key=votes.count)
    differ = [answer.node for answer in answers if answer.digest and answer.digest != common]
    if connection.as_json:
        print_json(
            {
                "equal": not differ,
                "applied_index": next(answer.index for answer in answers if answer.digest),
                "nodes": {
                    answer.node or answer.endpoint: answer.digest.hex() or answer.reason for answer in answers
                },
            }
        )
    else:
        rows = [
            (answer.node or "?", answer.endpoint, answer.index or "", answer.digest.hex() or answer.reason)
            for answer in answers
        ]
        print_table(("node", "address", "applied", "state hash"), rows)
        missing = len(answers) - len(votes)
        if differ:
            say(f"THE STATES DIFFER: {', '.join(differ)}; see the runbook, ReplcacheStateDiverged")
        elif missing:
            say(f"equal, but {missing} of {len(answers)} nodes did not answer")
    if differ:
        raise typer.Exit(int(Exit.NEGATIVE))


def _meet(connection: Connection, wait_s: float) -> list[Answer]:
    """Hashes of one index from all nodes that answer; tries until none of them was past it already."""
    ahead = 0
    problems = ""
    for _ in range(TRIES):
        views = look_at_all(connection, connection.endpoints, LOOK_TIMEOUT_S)
        up = [view for view in views if view.is_up]
        if not up:
            raise Unavailable("no node answers")
        found = _ask_all(connection, up, max(view.applied_index for view in up) + ahead, wait_s)
        reasons = {answer.reason for answer in found}
        if not reasons & {PAST, LATE} and any(answer.digest for answer in found):
            return [*found, *(Answer("", one.endpoint, reason=one.problem) for one in views if not one.is_up)]
        refusals = [one.error for one in found if isinstance(one.error, PermissionDenied | Unauthenticated)]
        if len(refusals) == len(found):
            raise refusals[0]
        problems = ", ".join(f"{answer.node} {answer.reason}" for answer in found if answer.reason)
        # Too late means that writes have ceased: the present index will do.
        ahead = 0 if LATE in reasons else max(AHEAD_MIN, ahead * AHEAD_FACTOR)
    raise Unavailable(f"the nodes did not meet at one index: {problems}")


def _ask_all(connection: Connection, views: list[NodeView], index: int, wait_s: float) -> list[Answer]:
    with ThreadPoolExecutor(len(views)) as pool:
        asked = [pool.submit(_ask, connection, view.name, view.endpoint, index, wait_s) for view in views]
        return [one.result() for one in asked]


def _ask(connection: Connection, node: str, endpoint: str, index: int, wait_s: float) -> Answer:
    import grpc

    from replcache.client.status import from_rpc_error
    from replcache.pb.v1 import cluster_pb2, cluster_pb2_grpc

    with connection.calls(endpoint) as calls:
        stub = cluster_pb2_grpc.ClusterStub(calls)  # type: ignore[no-untyped-call]  # generated
        try:
            reply = stub.Hash(cluster_pb2.HashRequest(at_index=index), timeout=wait_s)
        except grpc.RpcError as error:
            failure: ReplcacheError = from_rpc_error(error)
            return Answer(node, endpoint, reason=failure.reason, error=failure)
    return Answer(node, endpoint, reply.applied_index, reply.digest)
