"""A process with a write-behind view over SQLite, for tests that kill it.

    python -m tests.helpers.behind_worker URL DATABASE [--sets N] [--crash-after-commit K] ...

Prints "ready", then "acknowledged N" when its sets are, then drains until it is killed. Every change that
takes effect is a line of the table `journal`, every call of the writer one of `calls`.
"""

import argparse
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replcache import Client
from replcache.patterns.source import Row
from replcache.patterns.sql import SqlTable


def prepare(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, value TEXT);"
        "CREATE TABLE IF NOT EXISTS journal (key TEXT, value TEXT, revision INTEGER);"
        "CREATE TABLE IF NOT EXISTS calls (rows INTEGER);"
    )
    connection.close()


def table_of(path: Path) -> SqlTable:
    def apply(cursor: Any, row: Row) -> None:
        cursor.execute("INSERT INTO journal VALUES (?, ?, ?)", (row.key, str(row.value), row.revision))
        cursor.execute(
            "INSERT INTO rows VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (row.key, str(row.value)),
        )

    table = SqlTable(lambda: sqlite3.connect(path, timeout=20), "rows", apply=apply)
    table.create_marks()
    return table


class Writer:
    """Counts its calls in the database; dies by SIGKILL after the commit of one of them if asked to."""

    def __init__(self, path: Path, crash_after: int) -> None:
        self.path = path
        self.table = table_of(path)
        self.calls = 0
        self.crash_after = crash_after

    def __call__(self, rows: Sequence[Row]) -> None:
        self.table.write(rows)
        connection = sqlite3.connect(self.path, timeout=20)
        with connection:
            connection.execute("INSERT INTO calls VALUES (?)", (len(rows),))
        connection.close()
        self.calls += 1
        if self.calls == self.crash_after:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("database", type=Path)
    parser.add_argument("--sets", type=int, default=0)
    parser.add_argument("--crash-after-commit", type=int, default=0)
    parser.add_argument("--flush-every", default="200ms")
    parser.add_argument("--prefix", default="row:")
    arguments = parser.parse_args()
    writer = Writer(arguments.database, arguments.crash_after_commit)
    with Client(arguments.url, timeout="20s") as client:
        view = client.through(
            loader=writer.table.load,
            writer=writer,
            mode="write_behind",
            prefix=arguments.prefix,
            flush_every=arguments.flush_every,
            drain_ttl="2s",
        )
        view.start()
        print("ready", flush=True)
        threads = [
            threading.Thread(
                target=lambda first=first: [view.set(f"{n}", n) for n in range(first, arguments.sets, 20)]
            )
            for first in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"acknowledged {arguments.sets}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
