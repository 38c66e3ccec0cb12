"""A table of an SQL database as loader and writer of a view: SQLite and PostgreSQL, or what speaks alike.

    table = SqlTable(lambda: sqlite3.connect("shop.db"), "users", key="id", value="profile")
    table.create_marks()                        # once: the table in which applied revisions are remembered
    view = client.through(loader=table.load, writer=table.write, mode="write_behind", prefix="user:")

How a change reaches the table exactly once, although the writer may be called with it again (a crash after
the commit) or late (a drainer that was paused): in the same transaction as the row, a table of marks
remembers the revision that was applied last for each key.

    INSERT INTO replcache_applied (name, key, revision) VALUES (?, ?, ?)
    ON CONFLICT (name, key) DO UPDATE SET revision = excluded.revision
    WHERE excluded.revision > replcache_applied.revision

Only when this changed a row, the change itself is applied. Row and mark are committed together, so a repeated
change finds its own mark, and an old one a newer mark, also after the row was deleted. `apply` may do
anything in that transaction (add to a journal, update several tables), not only upserts.
"""

import importlib
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol
from urllib.parse import quote

from replcache.errors import InvalidRequest
from replcache.patterns.source import Deleted, Row

MARKS_TABLE = "replcache_applied"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")


class Cursor(Protocol):
    """What is used of a DB-API cursor (PEP 249)."""

    @property
    def rowcount(self) -> int: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchmany(self, size: int = ..., /) -> Any: ...

    def close(self) -> Any: ...


class Connection(Protocol):
    """What is used of a DB-API connection."""

    def cursor(self) -> Any: ...

    def commit(self) -> Any: ...

    def rollback(self) -> Any: ...


class SqlTable:
    """Two columns of a table: a text key that is its primary key, and a value.

    Each thread has a connection of its own, made by `connect` when it is first needed; one that raised is
    closed and made anew the next time.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        table: str,
        *,
        key: str = "key",
        value: str = "value",
        as_json: bool = True,
        marks: str = MARKS_TABLE,
        placeholder: str = "?",
        apply: Callable[[Any, Row], None] | None = None,
    ) -> None:
        """Opens nothing.

        Args:
            connect: makes a DB-API connection, not in autocommit mode.
            table, key, value, marks: names, not quoted.
            as_json: the column holds JSON text; False: what set() was given, as the driver takes it.
            placeholder: "?" (sqlite3) or "%s" (psycopg).
            apply: called with (cursor, row) instead of the upsert or delete, in the same transaction.

        Raises:
            InvalidRequest: a name is not letters, digits and underscores.
        """
        for name in (table, key, value, marks):
            if not _NAME.fullmatch(name):
                raise InvalidRequest(f"{name!r} is no name of a table or column", field="table")
        if placeholder not in ("?", "%s"):
            raise InvalidRequest(f"placeholder={placeholder!r}: ? or %s", field="placeholder")
        self.table, self.key, self.value, self.marks = table, key, value, marks
        self._connect = connect
        self._as_json = as_json
        self._apply = apply if apply is not None else self._upsert
        self._local = threading.local()
        mark = placeholder
        self._select = f"SELECT {value} FROM {table} WHERE {key} = {mark}"
        self._scan = f"SELECT {key}, {value} FROM {table} WHERE {key} > {mark} ORDER BY {key} LIMIT {mark}"
        self._insert = (
            f"INSERT INTO {table} ({key}, {value}) VALUES ({mark}, {mark}) "
            f"ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}"
        )
        self._delete = f"DELETE FROM {table} WHERE {key} = {mark}"
        self._mark = (
            f"INSERT INTO {marks} (name, key, revision) VALUES ({mark}, {mark}, {mark}) "
            f"ON CONFLICT (name, key) DO UPDATE SET revision = excluded.revision "
            f"WHERE excluded.revision > {marks}.revision"
        )

    # --- schema ---

    def create_marks(self) -> None:
        """Makes the table of marks if it is not there. It may be shared by all tables of the database."""
        with _Transaction(self) as cursor:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {self.marks} (name TEXT NOT NULL, key TEXT NOT NULL, "
                "revision BIGINT NOT NULL, PRIMARY KEY (name, key))"
            )

    # --- loader and writer ---

    def load(self, key: str) -> Any:
        """The loader: the value, or None when there is no such row."""
        with _Transaction(self) as cursor:
            cursor.execute(self._select, (key,))
            found = cursor.fetchone()
        return None if found is None else self._decode(found[0])

    def write(self, rows: Sequence[Row]) -> None:
        """The writer: all rows in one transaction, each only if it is newer than what was applied for its
        key."""
        with _Transaction(self) as cursor:
            for row in rows:
                cursor.execute(self._mark, (self.table, row.key, row.revision))
                if cursor.rowcount:
                    self._apply(cursor, row)

    def rows(self, page_size: int = 500) -> Iterator[tuple[str, Any]]:
        """All rows in the order of their keys, page by page, each page from a transaction of its own."""
        after = ""
        while True:
            with _Transaction(self) as cursor:
                cursor.execute(self._scan, (after, page_size))
                page = list(cursor.fetchmany(page_size))
            for key, value in page:
                yield key, self._decode(value)
            if len(page) < page_size:
                return
            after = page[-1][0]

    def close(self) -> None:
        """Closes the calling thread's connection."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    # --- inside ---

    def _upsert(self, cursor: Cursor, row: Row) -> None:
        if isinstance(row.value, Deleted):
            cursor.execute(self._delete, (row.key,))
        else:
            cursor.execute(self._insert, (row.key, self._encode(row.value)))

    def _encode(self, value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if self._as_json else value

    def _decode(self, value: Any) -> Any:
        return json.loads(value) if self._as_json and isinstance(value, str | bytes) else value

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection


def open_table(
    url: str, table: str, *, key: str = "key", value: str = "value", as_json: bool = True
) -> SqlTable:
    """A table by the address of its database: sqlite:///relative.db, sqlite:////absolute.db, postgresql://...

    Raises:
        InvalidRequest: another kind of address, or psycopg is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        path = rest[1:]
        return SqlTable(
            lambda: sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True),
            table,
            key=key,
            value=value,
            as_json=as_json,
        )
    if separator and scheme in ("postgresql", "postgres"):
        try:
            psycopg = importlib.import_module("psycopg")
        except ImportError as err:
            raise InvalidRequest(f"{scheme}: psycopg is not installed ({err})", field="db") from err
        return SqlTable(
            lambda: psycopg.connect(url), table, key=key, value=value, as_json=as_json, placeholder="%s"
        )
    raise InvalidRequest(f"db={without_password(url)!r}: sqlite:///file or postgresql://...", field="db")


def without_password(text: str) -> str:
    """Text that may hold the address of a database, to be shown: without who and with what password."""
    return re.sub(r"://\S*@", "://***@", text)


class _Transaction:
    """`with` commits, or rolls back and drops the connection."""

    def __init__(self, table: SqlTable) -> None:
        self._table = table

    def __enter__(self) -> Any:
        self._connection = self._table._connection()
        self._cursor = self._connection.cursor()
        return self._cursor

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            try:
                with closing(self._cursor):
                    self._connection.commit()
            except BaseException:
                # Whether it was committed is not known; the connection is not to be trusted.
                self._table.close()
                raise
        else:
            # Closing rolls back, and works for connections that are broken too.
            self._table.close()
