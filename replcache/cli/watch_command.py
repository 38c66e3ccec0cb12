"""`replcache watch`: changes as they happen, a line each."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.data_commands import PANEL
from replcache.cli.output import bytes_fields, print_json_line, printable, without_none
from replcache.errors import ConfigError

if TYPE_CHECKING:
    from replcache.client.watch import WatchEvent


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(watch))


def watch(
    connection: Connection,
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this; without: all.")] = "",
    key: Annotated[str | None, typer.Option("--key", help="Only this key.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only entries that carry this tag.")] = None,
    start: Annotated[
        str, typer.Option("--start", help="now, snapshot (first what is there), or a revision.")
    ] = "now",
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Leave the values out.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="End after so many events; 0: on Ctrl-C.")] = 0,
    seconds: Annotated[Any, duration_option("--for", help="End after this time.")] = None,
) -> None:
    """Print every change of a range, in the order of its revisions, until Ctrl-C.

    Follows the cluster over leader changes and goes on at another node when one stops. Fails (exit 4) rather
    than leave changes out, when they are no longer kept; --start snapshot begins anew then (event `resync`).
    """
    import time

    if start not in ("now", "snapshot") and not (start.isascii() and start.isdecimal()):
        raise ConfigError(f"--start {start!r}: now, snapshot, or a revision")
    if (key is not None) + (tag is not None) + bool(prefix) > 1:
        raise ConfigError("a prefix, --key and --tag exclude each other")
    end = None if seconds is None else time.monotonic() + seconds
    seen = 0
    with connection.client() as client:
        begin = start if not start.isdecimal() else int(start)
        with client.watch(key=key, prefix=prefix, tag=tag, start=begin, keys_only=keys_only) as events:
            while not limit or seen < limit:
                left = 1.0 if end is None else end - time.monotonic()
                if left <= 0:
                    return
                event = events.next(min(left, 1.0))
                if event is not None:
                    seen += 1
                    _print(event, connection.as_json)


def _print(event: "WatchEvent", as_json: bool) -> None:
    entry = event.entry
    if as_json:
        fields: dict[str, Any] = {"kind": str(event.kind), "revision": event.revision}
        if event.key:
            fields |= bytes_fields("key", event.key)
        if entry is not None:
            fields |= bytes_fields("value", entry.raw)
            fields |= without_none({"version": entry.version, "expires_in_s": entry.expires_in_s})
        print_json_line(fields)
        return
    value = "" if entry is None else printable(entry.raw)
    print(f"{event.revision:>8}  {event.kind!s:<7}  {printable(event.key)}  {value}".rstrip(), flush=True)
