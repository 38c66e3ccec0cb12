"""`replcache find | invalidate | del-prefix | sweep`: many entries at once, by tag or by prefix."""

from typing import Annotated

import typer

from replcache.cli.connection import Connection, connected
from replcache.cli.data_commands import (
    PANEL,
    FenceOption,
    ReadLevel,
    ReadOption,
    StalenessOption,
    fence_of,
    first_entries,
    print_entries,
)
from replcache.cli.output import print_json

TagsArgument = Annotated[list[str], typer.Argument(metavar="TAG...", help="Up to 64 tags.")]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(find))
    app.command(rich_help_panel=PANEL)(connected(invalidate))
    app.command(name="del-prefix", rich_help_panel=PANEL)(connected(delete_prefix))
    app.command(rich_help_panel=PANEL)(connected(sweep))


def find(
    connection: Connection,
    tags: TagsArgument,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0: all.")] = 100,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="One key a line, no values.")] = False,
    read: ReadOption = ReadLevel.LINEARIZABLE,
    max_staleness: StalenessOption = None,
) -> None:
    """List entries that carry all of the tags, in the order of their keys."""
    with connection.client() as client:
        entries = client.find(tags, keys_only=keys_only, read=read.value, max_staleness=max_staleness)
        found = first_entries(entries, limit)
    print_entries(connection, found, keys_only, limit)


def invalidate(connection: Connection, tags: TagsArgument) -> None:
    """Remove every entry that carries one of the tags, in one moment, and print how many that were."""
    with connection.client() as client:
        count = client.invalidate_tags(*tags)
    print_json({"invalidated": count}) if connection.as_json else typer.echo(str(count))


def delete_prefix(
    connection: Connection,
    prefix: Annotated[str, typer.Argument(help="All keys that begin with this; not empty.")],
    fence: FenceOption = None,
) -> None:
    """Delete all keys with a prefix, up to 2,000 at a time, and print how many that were."""
    with connection.client() as client:
        count = client.delete_prefix(prefix, fence=fence_of(fence))
    print_json({"deleted": count}) if connection.as_json else typer.echo(str(count))


def sweep(
    connection: Connection,
    prefix: Annotated[str, typer.Argument(help="Only below keys that begin with this.")] = "",
) -> None:
    """Delete parts of large values that belong to nothing any more, and print how many that were.

    They are left when a large value (above 1 MiB) is deleted, made small, invalidated or evicted by somebody
    who does not know its parts. Reads all keys below the prefix.
    """
    with connection.client() as client:
        count = client.sweep(prefix)
    print_json({"swept": count}) if connection.as_json else typer.echo(str(count))
