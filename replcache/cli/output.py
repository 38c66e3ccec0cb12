"""What commands print: data on stdout (tables for people, JSON for programs), everything else on stderr."""

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from replcache.errors import ReplcacheError


def print_json(data: object) -> None:
    """One JSON document, a line when stdout is not a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(data, indent=indent, ensure_ascii=False) + "\n")


def print_json_line(data: object) -> None:
    """One of many JSON documents, a line each, seen at once by who reads the pipe."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_bytes(data: bytes) -> None:
    """Exactly these bytes; a terminal gets a line break behind them, a pipe does not."""
    sys.stdout.buffer.write(data)
    if sys.stdout.isatty() and not data.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Progress and remarks: stderr, so that stdout stays data."""
    print(text, file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table for people; numbers stand right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        cells = [row[number] for row in rows if row[number] != ""]
        numeric = bool(cells) and all(isinstance(cell, int | float) for cell in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text, not str: keys and values may hold what rich would read as markup.
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    # A pipe has no width: never cut there what a person piped to grep.
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


def print_error(error: ReplcacheError, as_json: bool) -> None:
    if as_json:
        fields: dict[str, object] = {
            "reason": error.reason,
            "message": str(error),
            "may_have_executed": error.may_have_executed,
        }
        if error.retry_after_s is not None:
            fields["retry_after_s"] = error.retry_after_s
        if error.metadata:
            fields["metadata"] = dict(error.metadata)
        print(json.dumps({"error": fields}, ensure_ascii=False), file=sys.stderr)
        return
    say(f"error: {error} [{error.reason}]")
    if error.may_have_executed:
        say("       the write may or may not have been executed")


def text_or_base64(data: bytes) -> tuple[str, str]:
    """(text, encoding): UTF-8 when the bytes are that, else base64."""
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode("ascii"), "base64"


def bytes_fields(name: str, data: bytes) -> dict[str, str]:
    """JSON fields for bytes: {name: text}, or {name: base64 text, name_encoding: "base64"}."""
    text, encoding = text_or_base64(data)
    return {name: text} if encoding == "utf-8" else {name: text, f"{name}_encoding": encoding}


def printable(data: bytes, limit: int = 60) -> str:
    """One line for a table cell."""
    text = data.decode("utf-8", "replace")
    text = "".join(character if character.isprintable() else "·" for character in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def progress_line(what: str) -> Iterator[Callable[[str], None]]:
    """Shows what is waited for on stderr: a spinner on a terminal, a line for each change elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(what) as status:
            yield lambda text: status.update(f"{what}: {text}")
        return
    last = ""

    def update(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            say(f"{what}: {text}")

    yield update
