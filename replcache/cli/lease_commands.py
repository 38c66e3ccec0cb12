"""`replcache lease ...`: lifetimes for keys and locks, from scripts that keep them alive themselves."""

from typing import Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.lock_commands import PANEL
from replcache.cli.output import bytes_fields, print_json, printable, say
from replcache.cli.units import short_duration

LeaseArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="As printed by `lease grant`.")]


def register(parent: typer.Typer) -> None:
    app = typer.Typer(no_args_is_help=True, help="Grant, keep alive, revoke and show leases.")
    app.command()(connected(grant))
    app.command()(connected(keep))
    app.command()(connected(revoke))
    app.command()(connected(show))
    parent.add_typer(app, name="lease", rich_help_panel=PANEL)


def grant(
    connection: Connection,
    ttl: Annotated[Any, duration_option("--ttl", help="It ends after this unless it is kept alive.")] = "30s",
) -> None:
    """Print the id of a new lease, for `set --lease` and `lease keep`. It is not kept alive by itself."""
    with connection.client() as client:
        lease_id = client.lease(ttl).grant()
    print_json({"lease_id": lease_id}) if connection.as_json else typer.echo(str(lease_id))


def keep(connection: Connection, lease_id: LeaseArgument) -> None:
    """Start the ttl of a lease anew. Exit 1 when it is gone."""
    with connection.client() as client:
        _answer(connection, "alive", lease_id, client.keep_lease(lease_id))


def revoke(connection: Connection, lease_id: LeaseArgument) -> None:
    """End a lease and everything on it. Exit 1 when there is no such lease."""
    with connection.client() as client:
        _answer(connection, "revoked", lease_id, client.revoke_lease(lease_id))


def show(connection: Connection, lease_id: LeaseArgument) -> None:
    """Print what hangs on a lease, up to 1,000 keys and locks. Exit 1 when there is no such lease."""
    with connection.client() as client:
        view = client.describe_lease(lease_id)
    if view is None:
        _answer(connection, "alive", lease_id, False)
        return
    if connection.as_json:
        fields = {"lease_id": lease_id, "ttl_s": view.ttl_s, "expires_in_s": view.expires_in_s}
        keys = [bytes_fields("key", key) for key in view.keys]
        print_json({**fields, "keys": keys, "locks": list(view.locks)})
        return
    typer.echo(f"expires in {short_duration(view.expires_in_s)} of {short_duration(view.ttl_s)}")
    for key in view.keys:
        typer.echo(f"key  {printable(key, limit=1 << 20)}")
    for name in view.locks:
        typer.echo(f"lock {name}")


def _answer(connection: Connection, what: str, lease_id: int, done: bool) -> None:
    if connection.as_json:
        print_json({what: done})
    elif not done:
        say(f"no such lease: {lease_id}")
    if not done:
        raise typer.Exit(int(Exit.NEGATIVE))
