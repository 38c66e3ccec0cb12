"""`replcache cluster up | down | status | kill | tour`: a cluster of processes on this machine."""

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from replcache.cli.connection import (
    LOCAL_DIRECTORY,
    JsonOption,
    connection_of,
    duration_option,
    reported_errors,
)
from replcache.cli.exits import Exit
from replcache.cli.node_commands import LOOK_TIMEOUT_S, STATUS_COLUMNS, status_row, view_fields
from replcache.cli.nodes import NodeView, agreed_leader, look_at_all
from replcache.cli.output import print_json, print_table, progress_line, say
from replcache.errors import ConfigError, Unavailable
from replcache.localcluster import LocalCluster, LocalClusterError, Ports

# How often a starting cluster is looked at.
LOOK_INTERVAL_S = 0.1

DirectoryOption = Annotated[
    Path, typer.Option("--directory", "-d", help="Configuration, data and logs of the nodes.")
]
app = typer.Typer(no_args_is_help=True, help="Run a cluster of node processes on this machine.")


def register(parent: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(kill)
    app.command()(tour)
    parent.add_typer(app, name="cluster", rich_help_panel="Operation")


def up(
    directory: DirectoryOption = LOCAL_DIRECTORY,
    nodes: Annotated[int | None, typer.Option(help="How many nodes (3 when new).")] = None,
    base_port: Annotated[
        int | None, typer.Option(help="First gRPC port; peers follow at +10, HTTP at +20.")
    ] = None,
    grpc_port: Annotated[int | None, typer.Option(help="First gRPC port (7401).")] = None,
    peer_port: Annotated[int | None, typer.Option(help="First peer port (7411).")] = None,
    http_port: Annotated[int | None, typer.Option(help="First HTTP port (7421).")] = None,
    wait: Annotated[float, duration_option("--wait", help="Time for the cluster to be ready.")] = "30s",  # type: ignore[assignment]  # parsed by Typer
    as_json: JsonOption = False,
) -> None:
    """Start the nodes that do not run, wait until all follow a leader, and print their status."""
    with reported_errors(as_json):
        cluster = _cluster(directory, nodes, _ports(base_port, grpc_port, peer_port, http_port))
        cluster.prepare()
        try:
            started = cluster.start()
        except LocalClusterError as error:
            raise Unavailable(str(error)) from error
        if started:
            say(f"started {', '.join(started)} in {cluster.directory}")
        else:
            say("all nodes run already")
        wait_ready(cluster, wait)
        _print_status(cluster, _look(cluster), as_json)


def down(
    directory: DirectoryOption = LOCAL_DIRECTORY,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the data too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop all nodes: first asked to stop, then killed. Returns when no process is left."""
    with reported_errors(as_json):
        cluster = _cluster(directory)
        with progress_line("stopping") as show:
            show(", ".join(cluster.running()) or "nothing runs")
            stopped = cluster.stop(say=say)
        if wipe:
            try:
                cluster.wipe()
            except LocalClusterError as error:
                raise Unavailable(str(error)) from error
        if as_json:
            print_json({"stopped": list(stopped), "wiped": wipe})
        elif stopped:
            say(f"stopped {', '.join(stopped)}" + ("; data removed" if wipe else ""))


def status(directory: DirectoryOption = LOCAL_DIRECTORY, as_json: JsonOption = False) -> None:
    """Print what each node does, also those that crashed. Exit 3 when no majority follows a leader."""
    with reported_errors(as_json):
        cluster = _cluster(directory)
        views = _look(cluster)
        _print_status(cluster, views, as_json)
        if not agreed_leader(views):
            raise typer.Exit(int(Exit.UNAVAILABLE))


def kill(
    node: Annotated[str, typer.Argument(help="Name of the node, or `leader`.")],
    directory: DirectoryOption = LOCAL_DIRECTORY,
    number: Annotated[str, typer.Option("--signal", help="KILL, STOP, CONT, TERM, ...")] = "KILL",
) -> None:
    """Send a signal to one node, to see what the cluster makes of it. `cluster up` starts it again."""
    with reported_errors(as_json=False):
        cluster = _cluster(directory)
        try:
            sent = signal.Signals[f"SIG{number.upper().removeprefix('SIG')}"]
        except KeyError as error:
            raise ConfigError(f"--signal: there is no signal {number!r}") from error
        name = agreed_leader(_look(cluster)) if node == "leader" else node
        if not name:
            raise Unavailable("there is no leader to signal")
        try:
            done = cluster.kill(name, sent)
        except LocalClusterError as error:
            raise ConfigError(str(error)) from error
        if not done:
            raise Unavailable(f"{name} does not run")
        say(f"sent {sent.name} to {name}")


def tour(directory: DirectoryOption = LOCAL_DIRECTORY) -> None:
    """A short tour of a running local cluster; it ends with a leader that is killed and comes back."""
    with reported_errors(as_json=False):
        from replcache.cli.tour import take

        cluster = _cluster(directory)
        if not cluster.running():
            raise Unavailable("no node runs; start them with `replcache cluster up`")
        take(cluster)


def wait_ready(cluster: LocalCluster, timeout_s: float) -> str:
    """Waits until all nodes follow one leader; returns its name.

    Raises:
        Unavailable: a node's process ended (with the end of its log), or it took too long.
    """
    end = time.monotonic() + timeout_s
    with progress_line("waiting for a leader") as show:
        while True:
            views = _look(cluster)
            leader = agreed_leader(views)
            running = cluster.running()
            if leader and len(running) == cluster.nodes and all(view.leader == leader for view in views):
                return leader
            for name in cluster.names:
                if name not in running:
                    raise Unavailable(
                        f"{name} ended while starting; its log ends with\n{cluster.log_tail(name)}"
                    )
            named = zip(cluster.names, views, strict=True)
            show(", ".join(f"{name} {view.role or view.problem}" for name, view in named))
            if time.monotonic() > end:
                raise Unavailable(
                    f"no leader that all nodes follow within {timeout_s:g} s; logs are in {cluster.directory}"
                )
            time.sleep(LOOK_INTERVAL_S)


def _ports(base: int | None, grpc: int | None, peer: int | None, http: int | None) -> Ports | None:
    """None when no port was given: then those of the directory count."""
    if base is None and grpc is None and peer is None and http is None:
        return None
    standard = Ports() if base is None else Ports(grpc=base, peer=base + 10, http=base + 20)
    return Ports(
        grpc=standard.grpc if grpc is None else grpc,
        peer=standard.peer if peer is None else peer,
        http=standard.http if http is None else http,
    )


def _cluster(directory: Path, nodes: int | None = None, ports: Ports | None = None) -> LocalCluster:
    try:
        return LocalCluster(directory, nodes, ports)
    except LocalClusterError as error:
        raise ConfigError(str(error)) from error


def _look(cluster: LocalCluster) -> list[NodeView]:
    """Views in the order of cluster.names; only processes that run are asked."""
    connection = connection_of(cluster.url)
    running = cluster.running()
    asked = [layout.grpc_address for layout in cluster.layouts if layout.name in running]
    views = {view.endpoint: view for view in look_at_all(connection, asked, LOOK_TIMEOUT_S)}
    return [
        views.get(layout.grpc_address)
        or NodeView(layout.grpc_address, problem="stopped" if cluster.was_stopped(layout.name) else "CRASHED")
        for layout in cluster.layouts
    ]


def _print_status(cluster: LocalCluster, views: list[NodeView], as_json: bool) -> None:
    running = cluster.running()
    leader = agreed_leader(views)
    if as_json:
        nodes = [
            {
                **view_fields(view),
                "node": name,
                "pid": running.get(name),
                "log": str(cluster.layout(name).log),
            }
            for name, view in zip(cluster.names, views, strict=True)
        ]
        print_json({"url": cluster.url, "leader": leader, "nodes": nodes})
        return
    rows = [
        (name, *status_row(view)[1:], running.get(name, ""))
        for name, view in zip(cluster.names, views, strict=True)
    ]
    print_table((*STATUS_COLUMNS, "pid"), rows)
    for name, view in zip(cluster.names, views, strict=True):
        if view.problem == "CRASHED":
            say(f"{name} is not running though nobody stopped it; its log: {cluster.layout(name).log}")
    if not leader:
        say("no majority of the nodes follows a leader")
