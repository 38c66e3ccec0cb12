"""`replcache serve`, `replcache config`, `replcache version`: what concerns one server process."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import JsonOption, reported_errors
from replcache.cli.output import print_json, print_table
from replcache.client import is_quiet_by_default
from replcache.errors import ConfigError

if TYPE_CHECKING:
    from replcache.config import LoadedConfig

PANEL = "Server"
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="REPLCACHE_CONFIG", help="TOML file with settings.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of this node.")]
DataOption = Annotated[Path | None, typer.Option("--data-dir", help="Log, snapshots and identity.")]
ListenOption = Annotated[str | None, typer.Option("--grpc-listen", help="host:port for clients.")]
PeerOption = Annotated[str | None, typer.Option("--peer-listen", help="host:port for the other nodes.")]
HttpOption = Annotated[str | None, typer.Option("--http-listen", help="host:port for metrics and health.")]
MembersOption = Annotated[
    str | None,
    typer.Option("--members", help="n1=peer_host:port/client_host:port,n2=...: who founds the cluster."),
]
InsecureOption = Annotated[
    bool | None,
    typer.Option("--insecure", help="Allow to listen beyond loopback without TLS.", show_default=False),
]


# Every setting is a flag of its own name; the options below are only the ones that --help shows.
_ANY_FLAG = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL, context_settings=_ANY_FLAG)(serve)
    app.command(name="config", rich_help_panel=PANEL, context_settings=_ANY_FLAG)(show_config)
    app.command(rich_help_panel=PANEL)(version)


def serve(
    context: typer.Context,
    config: ConfigOption = None,
    name: NameOption = None,
    data_dir: DataOption = None,
    grpc_listen: ListenOption = None,
    peer_listen: PeerOption = None,
    http_listen: HttpOption = None,
    members: MembersOption = None,
    insecure: InsecureOption = None,
) -> None:
    """Run one node until it is told to stop (TERM or Ctrl-C: hands over leadership, drains, exits 0).

    Every setting of `replcache config` is also a flag: --heartbeat-s 0.2
    """
    with reported_errors(as_json=False):
        loaded = load_settings(
            config,
            context.args,
            name=name,
            data_dir=data_dir,
            grpc_listen=grpc_listen,
            peer_listen=peer_listen,
            http_listen=http_listen,
            members=members,
            insecure=insecure,
        )
        if is_quiet_by_default:
            # A node's log must have what gRPC says of refused handshakes; gRPC is not loaded yet.
            os.environ.pop("GRPC_VERBOSITY", None)
        from replcache.server.app import run

        raise typer.Exit(run(loaded.config))


def show_config(
    context: typer.Context,
    config: ConfigOption = None,
    name: NameOption = None,
    data_dir: DataOption = None,
    grpc_listen: ListenOption = None,
    peer_listen: PeerOption = None,
    http_listen: HttpOption = None,
    members: MembersOption = None,
    insecure: InsecureOption = None,
    sample: Annotated[bool, typer.Option("--sample", help="Print a commented sample file instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the effective settings and their origins. Exit 2, with all problems, when they do not fit."""
    with reported_errors(as_json):
        from replcache.config import sample_toml, toml_value

        if sample:
            typer.echo(sample_toml(), nl=False)
            return
        loaded = load_settings(
            config,
            context.args,
            name=name,
            data_dir=data_dir,
            grpc_listen=grpc_listen,
            peer_listen=peer_listen,
            http_listen=http_listen,
            members=members,
            insecure=insecure,
        )
        values = loaded.config.model_dump(mode="json")
        origins = {name: loaded.origins.get(name, "default") for name in values}
        if as_json:
            print_json({name: {"value": values[name], "origin": origins[name]} for name in values})
            return
        rows = [(name, toml_value(getattr(loaded.config, name)), origins[name]) for name in values]
        print_table(["setting", "value", "from"], rows)


def version(as_json: JsonOption = False) -> None:
    """Print the versions of replcache and of what it stands on."""
    import importlib.metadata
    import platform

    import replcache

    versions = {"replcache": replcache.__version__, "python": platform.python_version()}
    for package in ("grpcio", "protobuf", "pysyncobj", "uvloop"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    if as_json:
        print_json(versions)
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in versions.items()))


def load_settings(config: Path | None, more: list[str], **flags: Any) -> "LoadedConfig":
    """Puts file, environment and flags together; raises ConfigError with all problems."""
    from replcache.config import load_config

    given = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    return load_config(config, flags={**given, **parse_flags(more)})


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Settings of `--name value` and `--name=value`; a flag without a value means true.

    Raises:
        ConfigError: an argument that is no flag.
    """
    flags: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise ConfigError(f"{argument!r} is neither an option nor the value of one")
        name, separator, value = argument[2:].partition("=")
        if not separator:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        flags[name.replace("-", "_")] = value
    return flags
