"""SqlTable on SQLite: each change once, newer ones win."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from replcache.errors import InvalidRequest
from replcache.patterns.source import DELETED, Row
from replcache.patterns.sql import SqlTable


def make(path: Path, **options: Any) -> SqlTable:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, profile TEXT)")
        connection.execute("CREATE TABLE IF NOT EXISTS journal (id TEXT, profile TEXT)")
    connection.close()
    table = SqlTable(lambda: sqlite3.connect(path), "users", key="id", value="profile", **options)
    table.create_marks()
    return table


def test_what_was_written_is_loaded(tmp_path: Path) -> None:
    table = make(tmp_path / "db")
    values = [{"name": "Ada"}, [1, 2], "text", 0, None, False]
    table.write([Row(f"k{number}", value, 1) for number, value in enumerate(values)])
    assert [table.load(f"k{number}") for number in range(len(values))] == values
    assert table.load("missing") is None
    assert dict(table.rows(page_size=2)) == {f"k{number}": value for number, value in enumerate(values)}


def test_an_older_change_and_a_repeated_one_do_nothing(tmp_path: Path) -> None:
    table = make(tmp_path / "db")
    table.write([Row("a", "new", 7)])
    table.write([Row("a", "old", 6), Row("b", 1, 6)])
    table.write([Row("a", "same revision", 7)])
    assert (table.load("a"), table.load("b")) == ("new", 1)


def test_a_deleted_row_does_not_come_back(tmp_path: Path) -> None:
    table = make(tmp_path / "db")
    table.write([Row("a", 1, 1)])
    table.write([Row("a", DELETED, 3)])
    table.write([Row("a", 2, 2)])
    assert table.load("a") is None
    table.write([Row("a", 4, 4)])
    assert table.load("a") == 4


def test_apply_runs_once_for_each_change(tmp_path: Path) -> None:
    def journal(cursor: Any, row: Row) -> None:
        cursor.execute("INSERT INTO journal VALUES (?, ?)", (row.key, str(row.value)))

    table = make(tmp_path / "db", apply=journal)
    rows = [Row("a", 1, 1), Row("b", 2, 2)]
    table.write(rows)
    table.write(rows)
    table.write([Row("a", 3, 3), *rows])
    found = sqlite3.connect(tmp_path / "db").execute("SELECT * FROM journal").fetchall()
    assert found == [("a", "1"), ("b", "2"), ("a", "3")]


def test_a_failing_row_takes_the_whole_batch_back(tmp_path: Path) -> None:
    table = make(tmp_path / "db")
    with pytest.raises(TypeError):
        table.write([Row("a", 1, 1), Row("b", object(), 2)])
    assert table.load("a") is None
    table.write([Row("a", 1, 1)])
    assert table.load("a") == 1


def test_threads_have_their_own_connections(tmp_path: Path) -> None:
    table = make(tmp_path / "db")
    table.write([Row("a", 1, 1)])
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: (seen.append(table.load("a")), table.close()))
    thread.start()
    thread.join(10)
    assert seen == [1]


@pytest.mark.parametrize("name", ["users; DROP TABLE users", "", "1a", 'a"b', "a.b.c"])
def test_names_are_names(name: str) -> None:
    with pytest.raises(InvalidRequest):
        SqlTable(lambda: None, name)
