"""`replcache snapshot save | info | restore`: the state of a cluster as a file, and a new cluster from it."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from replcache.cli.connection import Connection, JsonOption, connected, reported_errors
from replcache.cli.nodes import NodeView, look_at_all
from replcache.cli.output import print_json, print_table, say
from replcache.cli.server_commands import (
    ConfigOption,
    DataOption,
    MembersOption,
    NameOption,
    load_settings,
)
from replcache.cli.units import short_size
from replcache.errors import ConfigError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from replcache.raft.backup import BackupInfo

LOOK_TIMEOUT_S = 2.0
# A node that sends nothing for a whole minute is stuck; the whole may take as long as it takes.
STREAM_TIMEOUT_S = 3600.0
FileArgument = Annotated[Path, typer.Argument(help="The snapshot file.", dir_okay=False)]
app = typer.Typer(no_args_is_help=True, help="Save the state of a cluster to a file, and restore it.")


def register(parent: typer.Typer) -> None:
    app.command()(connected(save))
    app.command()(info)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(restore)
    parent.add_typer(app, name="snapshot", rich_help_panel="Operation")


def save(
    connection: Connection,
    file: FileArgument,
    node: Annotated[str, typer.Option("--node", help="Name of the node to read from.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Save the state as of one applied index, while the cluster goes on.

    Without --node a follower is asked, the one that has applied most. The file is checked to its end before
    it gets its name. It holds everything, values included, and is not encrypted.
    """
    from replcache.raft.backup import read_backup
    from replcache.raft.disk import OsDisk

    if file.exists() and not force:
        raise ConfigError(f"{file} exists; choose another name, or say --force")
    views = look_at_all(connection, connection.endpoints, LOOK_TIMEOUT_S)
    chosen = _source(views, node)
    partial = file.with_name(f"{file.name}.partial")
    try:
        index = _download(connection, chosen.endpoint, partial)
        found = read_backup(OsDisk(), str(partial))
        partial.replace(file)
        OsDisk().fsync_dir(str(file.absolute().parent))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    assert found.index == index
    _show(found, connection.as_json, str(file))


def info(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check a file to its end and say what is in it. Exit 7 when it is damaged."""
    from replcache.raft.backup import read_backup
    from replcache.raft.disk import OsDisk

    with reported_errors(as_json):
        _require_readable(file)
        _show(read_backup(OsDisk(), str(file)), as_json, str(file))


def restore(
    context: typer.Context,
    file: FileArgument,
    config: ConfigOption = None,
    name: NameOption = None,
    data_dir: DataOption = None,
    members: MembersOption = None,
    cluster_name: Annotated[
        str | None, typer.Option("--cluster-name", help="Of the new cluster; not that of the old one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the data directory of one node of a NEW cluster that begins with the file's state.

    The settings are those that the node will be started with (file, environment, flags, as for serve). Do it
    for every member, with the same file, cluster_name and members, then start them all. An existing data
    directory must be empty.
    """
    from replcache.raft.backup import restore_backup
    from replcache.raft.disk import OsDisk
    from replcache.server.app import raft_config

    with reported_errors(as_json):
        given = {"name": name, "data_dir": data_dir, "members": members, "cluster_name": cluster_name}
        settings = load_settings(config, context.args, **given).config
        if settings.join:
            raise ConfigError(
                "join = true: a node that joins gets its state from the others, not from a file"
            )
        wanted = raft_config(settings)
        _require_readable(file)
        found = restore_backup(
            OsDisk(),
            str(file),
            wanted.data_dir,
            cluster_id=wanted.cluster_id,
            name=wanted.name,
            members=wanted.members,
        )
        if not as_json:
            others = ", ".join(member.name for member in wanted.members)
            say(f"{wanted.data_dir} is the data directory of {wanted.name}; the cluster starts with {others}")
        _show(found, as_json, str(file))


def _require_readable(file: Path) -> None:
    """Exit 7 says that what a file holds can't be trusted; here the command line names a wrong one."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error


def _source(views: list[NodeView], name: str) -> NodeView:
    """The node to read from; a follower rather than the leader, which has more to do."""
    up = [view for view in views if view.is_up and (not name or view.name == name)]
    if not up:
        known = ", ".join(f"{view.endpoint} {view.problem}" for view in views if not view.is_up)
        what = f"{name} is not among the nodes that answer" if name else "no node answers"
        raise Unavailable(what + f" ({known})" * bool(known))
    return max(up, key=lambda view: (view.role == "follower", view.applied_index))


def _download(connection: Connection, endpoint: str, target: Path) -> int:
    """Writes the stream to a file and syncs it; returns the applied index."""
    import grpc

    from replcache.client.status import from_rpc_error
    from replcache.pb.v1 import cluster_pb2, cluster_pb2_grpc

    index = 0
    with contextlib.ExitStack() as stack:
        calls = stack.enter_context(connection.calls(endpoint))
        stub = cluster_pb2_grpc.ClusterStub(calls)  # type: ignore[no-untyped-call]  # generated
        # Values are in it: nobody else may read it.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        output = stack.enter_context(os.fdopen(descriptor, "wb"))
        try:
            for message in stub.Snapshot(cluster_pb2.SnapshotRequest(), timeout=STREAM_TIMEOUT_S):
                index = index or message.applied_index
                output.write(message.data)
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
            if isinstance(failure, OutcomeUnknown):
                # Nothing was to be executed: a stream that broke may be asked for again.
                failure = Unavailable(str(failure))
            raise failure from error
        output.flush()
        os.fsync(output.fileno())
    return index


def _show(found: "BackupInfo", as_json: bool, name: str) -> None:
    fields: dict[str, object] = {
        "file": name,
        "bytes": found.size,
        "cluster_id": found.cluster_id.hex(),
        "applied_index": found.index,
        "term": found.term,
        "revision": found.revision,
        "state_hash": found.digest.hex(),
        "keys": found.keys,
        "value_bytes": found.value_bytes,
        "locks": found.locks,
        "sessions": found.sessions,
        "members": [member.name for member in found.members],
    }
    if as_json:
        print_json(fields)
        return
    fields["bytes"] = short_size(found.size)
    fields["value_bytes"] = short_size(found.value_bytes)
    fields["members"] = ", ".join(member.name for member in found.members)
    print_table(["what", "value"], [(key.replace("_", " "), str(value)) for key, value in fields.items()])
