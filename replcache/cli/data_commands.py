"""`replcache get | set | update | incr | del | touch | scan`: entries from the command line.

Keys and values are UTF-8 text as typed, the exact bytes of a file with --file, or of stdin with `-`.
"""

import sys
from collections.abc import Iterable
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, RawValue, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.output import (
    bytes_fields,
    print_bytes,
    print_json,
    print_table,
    printable,
    say,
    without_none,
)
from replcache.cli.units import short_duration
from replcache.errors import ConfigError

if TYPE_CHECKING:
    from replcache.client.types import Entry

PANEL = "Data"


class ReadLevel(StrEnum):
    LINEARIZABLE = "linearizable"
    SESSION = "session"
    ONE = "one"


KeyArgument = Annotated[str, typer.Argument(help="The key, as UTF-8 text.")]
ReadOption = Annotated[
    ReadLevel, typer.Option("--read", help="one: the asked node's own copy, which can be stale.")
]
StalenessOption = Annotated[
    Any,
    duration_option(
        "--max-staleness", help="With --read one: refuse (exit 3) rather than answer with older data."
    ),
]
TtlOption = Annotated[Any, duration_option("--ttl", help="The entry expires after this.")]
IfVersionOption = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the version is this (0: key is missing).")
]
FenceOption = Annotated[
    str | None,
    typer.Option("--fence", metavar="LOCK:TOKEN", help="Only while that lock is held under that token."),
]
FileOption = Annotated[Path | None, typer.Option("--file", "-f", help="Take the value from this file.")]
ValueArgument = Annotated[str | None, typer.Argument(help="The value as text; - reads stdin.")]
TypeOption = Annotated[str | None, typer.Option("--content-type", help="MIME type stored with the value.")]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(get))
    app.command(name="set", rich_help_panel=PANEL)(connected(set_entry))
    app.command(rich_help_panel=PANEL)(connected(update))
    app.command(rich_help_panel=PANEL, context_settings={"ignore_unknown_options": True})(connected(incr))
    app.command(name="del", rich_help_panel=PANEL)(connected(delete))
    app.command(rich_help_panel=PANEL)(connected(touch))
    app.command(rich_help_panel=PANEL)(connected(scan))


def get(
    connection: Connection,
    key: KeyArgument,
    read: ReadOption = ReadLevel.LINEARIZABLE,
    max_staleness: StalenessOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say how it was read, on stderr.")] = False,
) -> None:
    """Print the value of a key, byte for byte. Exit 1 when there is no such key."""
    with connection.client() as client:
        entry = client.get(key, read=read.value, max_staleness=max_staleness, full=True)
    if entry is None:
        if connection.as_json:
            print_json(None)
        else:
            say(f"no such key: {key}")
        raise typer.Exit(int(Exit.NEGATIVE))
    if connection.as_json:
        print_json(entry_fields(entry))
        return
    print_bytes(entry.raw)
    if verbose:
        say(
            ", ".join(
                f"{name} {value}"
                for name, value in entry_fields(entry).items()
                if name not in ("key", "value", "served")
            )
        )
        say(", ".join(f"{name} {value}" for name, value in entry_fields(entry)["served"].items()))


def set_entry(
    connection: Connection,
    key: KeyArgument,
    value: ValueArgument = None,
    file: FileOption = None,
    ttl: TtlOption = None,
    content_type: TypeOption = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if the key is missing.")] = False,
    if_present: Annotated[bool, typer.Option("--if-present", help="Only if the key exists.")] = False,
    if_version: IfVersionOption = None,
    fence: FenceOption = None,
    idle: Annotated[
        Any, duration_option("--idle", help="It expires when nobody reads it for so long.")
    ] = None,
    max_reads: Annotated[int, typer.Option("--max-reads", min=0, help="It goes after so many reads.")] = 0,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="A name to find and invalidate it by; may be repeated.")
    ] = None,
    lease: Annotated[
        int | None, typer.Option("--lease", min=1, metavar="ID", help="It goes when this lease ends.")
    ] = None,
) -> None:
    """Create or replace an entry. Exit 1 when a condition does not hold."""
    raw = _value(value, file, content_type)
    with connection.client() as client:
        result = client.set(
            key,
            raw,
            ttl=ttl,
            idle=idle,
            max_reads=max_reads,
            tags=tags or (),
            lease=lease,
            nx=if_absent,
            xx=if_present,
            if_version=if_version,
            fence=fence_of(fence),
        )
    _print_version(connection, result.version, result.revision)


def update(
    connection: Connection,
    key: KeyArgument,
    value: ValueArgument = None,
    file: FileOption = None,
    append: Annotated[bool, typer.Option("--append", help="Put the bytes behind the value.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="JSON merge patch (RFC 7396).")] = False,
    add: Annotated[str | None, typer.Option("--add", help="Add this number to the value.")] = None,
    ttl: TtlOption = None,
    content_type: TypeOption = None,
    if_version: IfVersionOption = None,
    fence: FenceOption = None,
) -> None:
    """Change an existing entry in one step. Exit 1 when there is no such key."""
    if append + merge + (add is not None) > 1:
        raise ConfigError("--append, --merge and --add exclude each other")
    common: dict[str, Any] = {"ttl": ttl, "if_version": if_version, "fence": fence_of(fence)}
    if add is not None:
        if value is not None or file is not None:
            raise ConfigError("--add takes no further value")
        common["add"] = _number(add)
    else:
        raw = _value(value, file, content_type)
        if merge:
            common["merge"] = _json_object(raw.data)
        elif append:
            common["append"] = raw.data
        else:
            common["value"] = raw
    with connection.client() as client:
        entry = client.update(key, **common)
    if connection.as_json:
        print_json(entry_fields(entry))
    else:
        print_bytes(entry.raw)


def incr(
    connection: Connection,
    key: KeyArgument,
    delta: Annotated[int, typer.Argument(help="May be negative.")] = 1,
    initial: Annotated[int, typer.Option(help="What a missing key counts from.")] = 0,
    ttl: TtlOption = None,
    minimum: Annotated[int | None, typer.Option("--min", help="Refuse (exit 4) to go below.")] = None,
    maximum: Annotated[int | None, typer.Option("--max", help="Refuse (exit 4) to go above.")] = None,
    fence: FenceOption = None,
) -> None:
    """Add to a number, creating it when the key is missing, and print the result."""
    with connection.client() as client:
        value = client.incr(
            key, delta, initial=initial, ttl=ttl, minimum=minimum, maximum=maximum, fence=fence_of(fence)
        )
    print_json({"key": key, "value": value}) if connection.as_json else typer.echo(str(value))


def delete(
    connection: Connection,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="The keys, as UTF-8 text.")],
    if_version: IfVersionOption = None,
    fence: FenceOption = None,
) -> None:
    """Delete entries. Exit 1 when one of them was not there."""
    with connection.client() as client:
        results = [client.delete(key, if_version=if_version, fence=fence_of(fence)) for key in keys]
    if connection.as_json:
        print_json([{"key": k, "deleted": r.deleted} for k, r in zip(keys, results, strict=True)])
    for key, result in zip(keys, results, strict=True):
        if not result.deleted and not connection.as_json:
            say(f"no such key: {key}")
    if not all(result.deleted for result in results):
        raise typer.Exit(int(Exit.NEGATIVE))


def touch(
    connection: Connection,
    key: KeyArgument,
    ttl: TtlOption = None,
    fence: FenceOption = None,
) -> None:
    """Give an entry a new ttl, or none without --ttl. Exit 1 when there is no such key."""
    with connection.client() as client:
        result = client.touch(key, ttl=ttl, fence=fence_of(fence))
    _print_version(connection, result.version, result.revision)


def scan(
    connection: Connection,
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0: all.")] = 100,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="One key a line, no values.")] = False,
    read: ReadOption = ReadLevel.LINEARIZABLE,
    max_staleness: StalenessOption = None,
) -> None:
    """List entries in the order of their keys."""
    with connection.client() as client:
        entries = client.scan(prefix, keys_only=keys_only, read=read.value, max_staleness=max_staleness)
        found = first_entries(entries, limit)
    print_entries(connection, found, keys_only, limit)


def first_entries(entries: Iterable["Entry"], limit: int) -> "list[Entry]":
    """For print_entries: one entry above the limit (0: none) tells that there are more."""
    return list(islice(entries, limit + 1 if limit else None))


def print_entries(connection: Connection, entries: "list[Entry]", keys_only: bool, limit: int) -> None:
    """What scan and find print of first_entries()."""
    is_cut = 0 < limit < len(entries)
    found = entries[:limit] if is_cut else entries
    if connection.as_json:
        print_json({"entries": [entry_fields(entry, keys_only) for entry in found], "more": is_cut})
    elif keys_only:
        for entry in found:
            typer.echo(printable(entry.key, limit=1 << 20))
    else:
        rows = [
            (printable(e.key), printable(e.raw), len(e.raw), e.version, e.content_type, _left(e))
            for e in found
        ]
        print_table(["key", "value", "bytes", "version", "type", "expires in"], rows)
    if is_cut:
        say(f"there are more than {limit}: see --limit")


def entry_fields(entry: "Entry", keys_only: bool = False) -> dict[str, Any]:
    """The JSON form of an entry; what does not apply is left out."""
    served = entry.served
    return {
        **bytes_fields("key", entry.key),
        **({} if keys_only else bytes_fields("value", entry.raw)),
        **without_none(
            {
                "content_type": entry.content_type or None,
                "version": entry.version,
                "create_revision": entry.create_revision or None,
                "mod_revision": entry.mod_revision,
                "expires_in_s": entry.expires_in_s,
                "idle_ttl_s": entry.idle_ttl_s,
                "reads_left": entry.reads_left or None,
                "tags": list(entry.tags) or None,
                "lease_id": entry.lease_id or None,
            }
        ),
        "served": without_none(
            {
                "node": served.node,
                "as": str(served.served_as),
                "revision": served.revision,
                "term": served.term,
                "staleness_s": served.staleness_s,
            }
        ),
    }


def _left(entry: "Entry") -> str:
    return "" if entry.expires_in_s is None else short_duration(entry.expires_in_s)


def _print_version(connection: Connection, version: int, revision: int) -> None:
    if connection.as_json:
        print_json({"version": version, "revision": revision})
    else:
        typer.echo(f"version {version}, revision {revision}")


def _value(value: str | None, file: Path | None, content_type: str | None) -> RawValue:
    """What was typed, or the content of a file or of stdin."""
    # Here it is refused; in the client it would fail only when the message is packed.
    (content_type or "").encode()
    if (value is None) == (file is None):
        raise ConfigError("give a value, - for stdin, or --file: exactly one of them")
    if file is not None:
        try:
            return RawValue(file.read_bytes(), content_type or "")
        except OSError as error:
            raise ConfigError(f"--file: {error}") from error
    if value == "-":
        return RawValue(sys.stdin.buffer.read(), content_type or "")
    assert value is not None
    return RawValue(value.encode("utf-8", "surrogateescape"), content_type or "text/plain")


def fence_of(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    name, separator, token = text.rpartition(":")
    # A token has 64 bits; int() refuses very long texts in its own way.
    if not separator or not name or not (token.isascii() and token.isdecimal() and len(token) <= 20):
        raise ConfigError(f"--fence {text!r}: write LOCK:TOKEN")
    return name, int(token)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--add {text!r} is no number") from error


def _json_object(data: bytes) -> dict[str, Any]:
    import json

    try:
        patch = json.loads(data)
    except ValueError as error:
        raise ConfigError(f"--merge: the patch is no JSON: {error}") from error
    if not isinstance(patch, dict):
        raise ConfigError("--merge: the patch is no JSON object")
    return patch
