"""`replcache prewarm | reconcile`: a cold cache, and a cache that may differ from its database."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.output import print_json, print_table, progress_line, say
from replcache.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from replcache.patterns.prewarm import PrewarmProgress
    from replcache.patterns.sql import SqlTable

PANEL = "Database"
_SHOWN_MAX = 20

DatabaseOption = Annotated[
    str, typer.Option("--db", help="sqlite:///file, sqlite:////absolute/file or postgresql://...")
]
TableOption = Annotated[str, typer.Option("--table", help="The table.")]
KeyOption = Annotated[str, typer.Option("--key-column", help="Its column with the key.")]
ValueOption = Annotated[str, typer.Option("--value-column", help="Its column with the value.")]
TextOption = Annotated[bool, typer.Option("--text", help="The column holds text, not JSON.")]
PrefixOption = Annotated[str, typer.Option("--prefix", help="Put before each key in the cache.")]
RateOption = Annotated[str | None, typer.Option("--rate", help='Keys a second, such as "2k/s".')]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(prewarm))
    app.command(rich_help_panel=PANEL)(connected(reconcile))


def prewarm(
    connection: Connection,
    file: Annotated[Path, typer.Argument(help='Lines {"key": ..., "value": ...}, or keys with --db.')],
    rate: RateOption = None,
    concurrency: Annotated[int, typer.Option(min=1, max=500, help="Loads from --db at once.")] = 8,
    prefix: PrefixOption = "",
    ttl: Annotated[Any, duration_option("--ttl", help="Entries expire after this.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="How far it is; default: FILE.state, removed at the end.")
    ] = None,
    database: DatabaseOption = "",
    table: TableOption = "",
    key_column: KeyOption = "key",
    value_column: ValueOption = "value",
    is_text: TextOption = False,
) -> None:
    """Fill what is missing in the cache; what is there is left alone. A run that was killed can be repeated:
    it goes on where it stopped.
    """
    if not file.is_file():
        raise ConfigError(f"{file} is no file that can be read")
    path = state if state is not None else file.with_name(file.name + ".state")
    options: dict[str, Any] = {"rate": rate, "concurrency": concurrency, "prefix": prefix, "ttl": ttl}
    with connection.value_client() as client, progress_line("prewarm") as update:
        options["state"] = path
        options["progress"] = lambda progress: update(_line(progress))
        if database:
            source = _table(database, table, key_column, value_column, is_text)
            progress = client.prewarm(source.load, (key for key, _ in _lines(file, False)), **options)
        else:
            progress = client.prewarm(_lines(file, True), **options)
    if connection.as_json:
        print_json({name: getattr(progress, name) for name in progress.__slots__})
    else:
        say(_line(progress))
    if progress.failed:
        say(f"the last error: {progress.error}")
        raise typer.Exit(int(Exit.NEGATIVE))
    path.unlink(missing_ok=True)


def _line(progress: "PrewarmProgress") -> str:
    return (
        f"{progress.done} keys ({progress.skipped} of them by an earlier run): {progress.stored} stored, "
        f"{progress.present} were there, {progress.absent} without a row, {progress.failed} failed; "
        f"{progress.rate:.0f}/s"
    )


def _lines(file: Path, with_values: bool) -> Iterator[tuple[str, Any]]:
    """A line is a JSON object with key and value, or a JSON string, which is a key."""
    # A byte that is no UTF-8 becomes a sign that no text has: the line is refused with its number.
    with file.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                line.encode()
                found = json.loads(line)
                key = found if isinstance(found, str) else found["key"]
                value = found["value"] if with_values else None
            except (ValueError, KeyError, TypeError) as err:
                wanted = (
                    '{"key": ..., "value": ...}' if with_values else "a JSON string, or an object with key"
                )
                raise InvalidRequest(f"{file}:{number}: {wanted} is expected ({err})", field="file") from err
            if not isinstance(key, str):
                raise InvalidRequest(f"{file}:{number}: the key is no text", field="file")
            yield key, value


def reconcile(
    connection: Connection,
    database: DatabaseOption,
    table: TableOption,
    key_column: KeyOption = "key",
    value_column: ValueOption = "value",
    is_text: TextOption = False,
    prefix: PrefixOption = "",
    ttl: Annotated[Any, duration_option("--ttl", help="Of entries that are loaded again.")] = None,
    rate: RateOption = None,
    repair: Annotated[bool, typer.Option(help="Replace what differs by what the database has.")] = True,
) -> None:
    """Compare the cached entries of a table with its rows. Exit 1 when some differed, repaired or not.

    Without --prefix the keys are read from the table, so entries whose row is gone are not found.
    """
    from replcache.patterns.reconcile import reconcile as run

    source = _table(database, table, key_column, value_column, is_text)
    with connection.value_client() as client:
        view = client.through(loader=source.load, prefix=prefix, name=table, ttl=ttl)
        keys = None if prefix else (key for key, _ in source.rows())
        report = run(view, keys, repair=repair, rate=rate)
    if connection.as_json:
        differences = [{"key": one.key, "kind": one.kind} for one in report.differences]
        fields = {name: getattr(report, name) for name in ("checked", "missing", "different", "repaired")}
        print_json({**fields, "differences": differences})
    else:
        if report.differences:
            rows = [(one.key, one.kind) for one in report.differences[:_SHOWN_MAX]]
            print_table(("KEY", "DIFFERENCE"), rows)
        say(
            f"{report.checked} entries compared, {report.different} different, {report.repaired} repaired; "
            f"{report.missing} keys are not cached"
        )
    if report.different:
        raise typer.Exit(int(Exit.NEGATIVE))


def _table(database: str, table: str, key: str, value: str, is_text: bool) -> "SqlTable":
    """The table, tried out.

    Raises:
        ConfigError: it can't be read.
    """
    from replcache.patterns.sql import open_table, without_password

    source = open_table(database, table, key=key, value=value, as_json=not is_text)
    try:
        source.load("")
    except Exception as err:
        # Each driver has errors of its own, and some repeat the address.
        raise ConfigError(without_password(f"{database}: {err}".strip())) from err
    return source
