"""`replcache status | members | transfer`: what the cluster is and how it is administered."""

from typing import Annotated

import typer

from replcache.cli.connection import Connection, connected
from replcache.cli.exits import Exit
from replcache.cli.nodes import NodeView, agreed_leader, look_at_all
from replcache.cli.output import print_json, print_table, say
from replcache.cli.units import short_duration, short_size

PANEL = "Operation"
# A node that is up answers at once; one that is down must not make the table wait.
LOOK_TIMEOUT_S = 2.0
STATUS_COLUMNS = (
    "node", "address", "role", "leader", "term", "commit", "applied", "revision", "keys", "data", "uptime",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(status))
    app.command(rich_help_panel=PANEL)(connected(members))
    app.command(rich_help_panel=PANEL)(connected(transfer))


def status(connection: Connection) -> None:
    """Ask each node of --endpoints what it does now. Exit 3 when no majority follows a leader."""
    views = look_at_all(connection, connection.endpoints, min(connection.timeout_s, LOOK_TIMEOUT_S))
    leader = agreed_leader(views)
    if connection.as_json:
        print_json({"leader": leader, "nodes": [view_fields(view) for view in views]})
    else:
        print_table(STATUS_COLUMNS, [status_row(view) for view in views])
    if not leader:
        say("no majority of these nodes follows a leader")
        raise typer.Exit(int(Exit.UNAVAILABLE))


def members(connection: Connection) -> None:
    """Print the members of the cluster, as the asked node has applied them."""
    with connection.client() as client:
        found = client.members()
    if connection.as_json:
        print_json(
            [
                {
                    "name": member.name,
                    "peer_address": member.peer_address,
                    "client_address": member.client_address,
                    "voter": member.voter,
                    "incarnation": member.incarnation,
                }
                for member in found
            ]
        )
        return
    rows = [
        (m.name, m.client_address, m.peer_address, "voter" if m.voter else "learner", f"{m.incarnation:016x}")
        for m in found
    ]
    print_table(["node", "clients", "peers", "kind", "incarnation"], rows)


def transfer(
    connection: Connection,
    to: Annotated[str, typer.Argument(help="Name of the new leader; without: the best follower.")] = "",
) -> None:
    """Hand leadership over; clients notice nothing but a moment's delay."""
    with connection.client() as client:
        leader = client.transfer_leadership(to)
    if connection.as_json:
        print_json({"leader": leader})
    else:
        typer.echo(f"the leader is {leader}")


def status_row(view: NodeView) -> tuple[object, ...]:
    if not view.is_up:
        return ("?", view.endpoint, view.problem, *[""] * (len(STATUS_COLUMNS) - 3))
    role = view.role.upper() if view.role == "leader" else view.role
    return (
        view.name,
        view.endpoint,
        role,
        view.leader or "none known",
        view.term,
        view.commit_index,
        view.applied_index,
        view.revision,
        view.keys,
        short_size(view.value_bytes),
        short_duration(view.uptime_s),
    )


def view_fields(view: NodeView) -> dict[str, object]:
    if not view.is_up:
        return {"address": view.endpoint, "up": False, "problem": view.problem}
    return {
        "address": view.endpoint,
        "up": True,
        "node": view.name,
        "role": view.role,
        "leader": view.leader,
        "has_quorum": view.has_quorum,
        "term": view.term,
        "revision": view.revision,
        "commit_index": view.commit_index,
        "applied_index": view.applied_index,
        "last_log_index": view.last_log_index,
        "snapshot_index": view.snapshot_index,
        "keys": view.keys,
        "value_bytes": view.value_bytes,
        "locks": view.locks,
        "sessions": view.sessions,
        "leader_changes": view.leader_changes,
        "uptime_s": round(view.uptime_s, 3),
        "version": view.version,
        "cluster_id": view.cluster_id,
    }
