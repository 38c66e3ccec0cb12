"""The databases of the example: SQLite in a file, or a PostgreSQL of its own on a unix socket."""

import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 30.0
DATABASE_USER = "demo"
BUSY_TIMEOUT_S = 30.0
DEBIAN_BINARIES = Path("/usr/lib/postgresql")


class NoDatabase(Exception):
    """Something is not installed; the message says what."""


class Database:
    """Statements in transactions of their own; each thread has a connection of its own."""

    def __init__(self, title: str, connect: Callable[[], Any], placeholder: str) -> None:
        self.title, self.connect, self.placeholder = title, connect, placeholder
        self._local = threading.local()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement with ? for parameters."""
        connection = self._connection()
        rows = connection.execute(sql.replace("?", self.placeholder), parameters).fetchall()
        connection.commit()
        return list(rows)

    def change(self, sql: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        """Executes a statement for each of the rows, in one transaction."""
        connection = self._connection()
        connection.cursor().executemany(sql.replace("?", self.placeholder), rows)
        connection.commit()

    def _connection(self) -> Any:
        if not hasattr(self._local, "connection"):
            self._local.connection = self.connect()
        return self._local.connection


@contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    path = folder / "movies.db"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)

    # Readers do not wait for the writer.
    connect().execute("PRAGMA journal_mode = WAL")
    yield Database(f"SQLite {sqlite3.sqlite_version}", connect, "?")


@contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """A new cluster that nobody reaches over the network; it ends with the block. Its log goes to the folder.

    The server refuses to run as root: then it runs as the user postgres, or nobody.

    Raises:
        NoDatabase: the server or psycopg is missing.
    """
    try:
        import psycopg
    except ImportError as err:
        raise NoDatabase(f"psycopg is missing ({err}): pip install 'replcache[postgresql]'") from err
    binaries = _binaries()
    user = _server_user()
    run_as: dict[str, Any] = (
        {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    )
    log = folder / "postgresql.log"
    with tempfile.TemporaryDirectory(prefix="replcache-pg-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
        server = _start(binaries, home, log, run_as)

        def connect() -> Any:
            return psycopg.connect(f"host={home} user={DATABASE_USER} dbname=postgres")

        try:
            version = _wait_until_ready(server, connect, log)
            yield Database(f"PostgreSQL {version}", connect, "%s")
        finally:
            server.terminate()
            try:
                # SIGTERM waits for the sessions of other threads; SIGQUIT does not, and the data is not kept.
                server.wait(1.0)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait()


DATABASES = {"sqlite": sqlite, "postgresql": postgresql}


def _start(binaries: Path, home: Path, log: Path, run_as: dict[str, Any]) -> "subprocess.Popen[bytes]":
    data = home / "data"
    with log.open("wb") as output:
        common: dict[str, Any] = {"cwd": home, "stdout": output, "stderr": output, **run_as}
        initdb: list[str | Path] = [
            binaries / "initdb",
            "--pgdata",
            data,
            "--auth",
            "trust",
            "--username",
            DATABASE_USER,
        ]
        if subprocess.run([*initdb, "--no-sync", "--encoding", "UTF8"], check=False, **common).returncode:
            raise RuntimeError(f"initdb failed:\n{log.read_text()[-2000:]}")
        # The data fits into memory, where an index costs little more than reading on.
        settings = ["-c", "listen_addresses=", "-c", "random_page_cost=1.1"]
        return subprocess.Popen([binaries / "postgres", "-D", data, "-k", home, *settings], **common)


def _binaries() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for folder in sorted(DEBIAN_BINARIES.glob("*/bin"), key=lambda path: -float(path.parent.name)):
        if (folder / "initdb").exists():
            return folder
    raise NoDatabase("PostgreSQL is missing: apt-get install postgresql (it need not run)")


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None: as who runs this."""
    if os.geteuid() != 0:
        return None
    names = [entry.pw_name for entry in pwd.getpwall()]
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _wait_until_ready(server: "subprocess.Popen[bytes]", connect: Callable[[], Any], log: Path) -> str:
    import psycopg

    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with connect() as connection:
                return str(connection.execute("SHOW server_version").fetchone()[0]).split()[0]
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text()[-2000:]}") from None
        time.sleep(0.05)
