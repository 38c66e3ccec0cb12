"""`replcache election ...`: run a command as the leader, and see who leads."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.lock_commands import PANEL, run_while_held
from replcache.cli.output import print_json, print_json_line, say
from replcache.errors import ConfigError

if TYPE_CHECKING:
    from replcache.client.types import Leader

NameArgument = Annotated[str, typer.Argument(help="Name of the election.")]


def register(parent: typer.Typer) -> None:
    app = typer.Typer(no_args_is_help=True, help="Lead, and see who leads.")
    app.command()(connected(campaign))
    app.command()(connected(leader))
    app.command()(connected(observe))
    parent.add_typer(app, name="election", rich_help_panel=PANEL)


def campaign(
    connection: Connection,
    name: NameArgument,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND...", help="What the leader runs.")
    ] = None,
    value: Annotated[str, typer.Option("--value", help="What observers see, up to 256 bytes.")] = "",
    ttl: Annotated[
        Any, duration_option("--ttl", help="The next one leads this long after the last renewal.")
    ] = "10s",
    wait: Annotated[Any, duration_option("--wait", help="How long to be a candidate; 0: not at all.")] = "1h",
    grace: Annotated[
        Any, duration_option("--grace", help="Time between TERM and KILL when the leadership is lost.")
    ] = "5s",
) -> None:
    """Wait for the leadership, and run a command while it lasts.

    The command finds the fencing token in REPLCACHE_FENCE_TOKEN, as below `replcache lock`. Exit codes as
    there: 1 not elected within --wait, 8 the leadership was lost, else the command's own.
    """
    if not command:
        raise ConfigError("nothing to run: replcache election campaign NAME -- COMMAND...")
    with connection.client() as client:
        term = client.election(name, ttl=ttl).campaign(value, wait=wait)
        with term:
            code = run_while_held(term, name, command, grace)
    raise typer.Exit(code)


def leader(connection: Connection, name: NameArgument) -> None:
    """Print the value of the leader. Exit 1 when nobody leads."""
    with connection.client() as client:
        found = client.election(name).leader()
    if connection.as_json:
        print_json(_fields(found))
    elif found is not None:
        typer.echo(found.value)
    else:
        say(f"nobody leads: {name}")
    if found is None:
        raise typer.Exit(int(Exit.NEGATIVE))


def observe(
    connection: Connection,
    name: NameArgument,
    limit: Annotated[int, typer.Option(min=0, help="End after so many lines; 0: on Ctrl-C.")] = 0,
) -> None:
    """Print the leader now, and every new leader and value as they come, a line each, until Ctrl-C."""
    with connection.client() as client:
        for seen, found in enumerate(client.election(name).observe(), 1):
            if connection.as_json:
                print_json_line(_fields(found))
            else:
                text = "nobody" if found is None else f"{found.value} (token {found.token})"
                print(text, flush=True)
            if seen == limit:
                return


def _fields(found: "Leader | None") -> dict[str, object] | None:
    if found is None:
        return None
    return {"value": found.value, "token": found.token, "expires_in_s": found.expires_in_s}
