"""Views through the blocking client; the interleavings are in tests/property/test_patterns_through.py."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from replcache import Client
from replcache.errors import DeadlineExceeded, InvalidRequest
from replcache.patterns.source import DELETED, Row
from replcache.patterns.through_options import Mode
from tests.helpers.client_driver import ClusterThread
from tests.helpers.wait import wait_until


@pytest.fixture(name="client", scope="module")
def _client() -> Iterator[Client]:
    cluster = ClusterThread(nodes=1)
    with Client(cluster.url) as client:
        yield client
    cluster.close()


class Table:
    """Rows in memory, seen by the threads that use it."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.loads: list[str] = []
        self.batches: list[Sequence[Row]] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None

    def load(self, key: str) -> Any:
        self.loads.append(key)
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        return self.rows.get(key)

    def write(self, rows: Sequence[Row]) -> None:
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        self.batches.append(list(rows))
        for key, value, _ in rows:
            if value is DELETED:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


@pytest.mark.parametrize("mode", ["cache_aside", "read_through", "write_through", "write_around"])
def test_reads_load_once_in_the_calling_thread(client: Client, mode: str) -> None:
    table = Table()
    table.rows = {"1": {"name": "Ada"}, "2": 0}
    view = client.through(loader=table.load, writer=table.write, mode=mode, prefix=f"{mode}:")
    for _ in range(3):
        assert view.get("1") == {"name": "Ada"}
        assert view.get("2", "default") == 0
        assert view.get("3", "default") == "default"
    # No row is not remembered unless asked for.
    assert table.loads == ["1", "2", "3", "3", "3"]
    assert table.threads == {threading.current_thread().name}
    assert client.get_value(f"{mode}:1") == {"name": "Ada"}
    stats = view.stats()
    assert (stats.hits, stats.misses, stats.loads, stats.absent) == (4, 5, 5, 3)


def test_that_there_is_no_row_can_be_remembered(client: Client) -> None:
    table = Table()
    view = client.through(loader=table.load, prefix="negative:", negative_ttl="1m")
    assert [view.get("x", 7) for _ in range(3)] == [7, 7, 7]
    assert table.loads == ["x"]
    table.rows["x"] = 1
    assert view.invalidate("x")
    assert view.get("x", 7) == 1


@pytest.mark.parametrize("mode", ["write_through", "write_around"])
def test_writes_reach_the_database_first(client: Client, mode: str) -> None:
    table = Table()
    view = client.through(loader=table.load, writer=table.write, mode=mode, prefix=f"w:{mode}:")
    first = view.set("a", 1)
    second = view.set("a", {"b": 2})
    assert second > first
    assert table.rows == {"a": {"b": 2}}
    assert client.get_value(f"w:{mode}:a") == ({"b": 2} if mode == "write_through" else None)
    assert view.get("a") == {"b": 2}
    assert view.delete("a") > second
    assert (table.rows, view.get("a")) == ({}, None)


@pytest.mark.parametrize("with_loader", [True, False])
def test_a_refusing_database_leaves_write_through_unchanged(client: Client, with_loader: bool) -> None:
    table = Table()
    prefix = f"refuse:{with_loader}:"
    view = client.through(
        loader=table.load if with_loader else None, writer=table.write, mode="write_through", prefix=prefix
    )
    view.set("a", 1)
    table.error = ValueError("the database says no")
    with pytest.raises(ValueError, match="says no"):
        view.set("a", 2)
    with pytest.raises(ValueError, match="says no"):
        view.set("new", 2)
    table.error = None
    assert client.get_value(f"{prefix}a") == 1
    assert client.get(f"{prefix}new") is None
    assert table.rows == {"a": 1}
    assert client.locks() == ()


def test_what_a_refusal_takes_back_is_not_the_life_of_a_newer_value(client: Client) -> None:
    """Without a loader the old value gets its life back: the old one only."""

    def write(rows: Sequence[Row]) -> None:
        client.set("newer:a", "of somebody else", ttl="1m")
        raise ValueError("the database says no")

    view = client.through(writer=write, mode="write_through", prefix="newer:")
    client.set("newer:a", "lasts for ever")
    with pytest.raises(ValueError, match="says no"):
        view.set("a", 1)
    entry = client.get("newer:a")
    assert entry is not None and entry.value == "of somebody else"
    assert entry.expires_in_s is not None and entry.expires_in_s <= 60


def test_a_failing_loader_leaves_nothing_behind(client: Client) -> None:
    table = Table()
    view = client.through(loader=table.load, prefix="failing:")
    table.error = KeyError("gone")
    with pytest.raises(KeyError):
        view.get("a")
    assert client.get("failing:a") is None
    table.error, table.rows["a"] = None, 5
    assert view.get("a") == 5


def test_write_behind_writes_later_in_batches(client: Client) -> None:
    table = Table()
    with client.through(
        loader=table.load,
        writer=table.write,
        mode="write_behind",
        prefix="b:",
        max_batch=10,
        flush_every=0.05,
    ) as view:
        revisions = [view.set(str(number), number) for number in range(30)]
        assert view.get("7") == 7
        view.delete("8")
        view.flush()
        assert table.rows == {str(number): number for number in range(30) if number != 8}
        assert view.lag() == (0, 0.0) or view.lag().rows == 0
        assert max(map(len, table.batches)) <= 10
        carried = {row.revision for batch in table.batches for row in batch}
        assert set(revisions[9:]) <= carried
        assert view.stats().rows_written >= 30
        assert view.stats().is_drainer
        assert threading.current_thread().name not in table.threads
    assert client.locks() == ()


def test_flush_says_why_it_could_not(client: Client) -> None:
    table = Table()
    table.error = ValueError("disk full")
    with client.through(writer=table.write, mode="write_behind", prefix="f:", flush_every=0.02) as view:
        view.set("a", 1)
        with pytest.raises(DeadlineExceeded, match="ValueError: disk full"):
            view.flush(timeout=0.5)
        table.error = None
        view.flush()
    assert table.rows == {"a": 1}


def test_another_object_goes_on_where_one_stopped(client: Client) -> None:
    table = Table()
    producer = client.through(mode="write_behind", prefix="go:", drain=False)
    producer.set("a", 1)
    assert producer.lag().rows == 1
    with client.through(writer=table.write, mode="write_behind", prefix="go:", flush_every=0.02):
        wait_until(lambda: table.rows == {"a": 1}, 10, "the row is written")
        wait_until(lambda: producer.lag().rows == 0, 10, "the queue is empty")
    producer.close()


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "sideways"},
        {},
        {"mode": "write_through", "loader": print},
        {"mode": "write_behind"},
        {"loader": print, "prefix": b"x"},
        {"loader": print, "ttl": "soon"},
        {"mode": "write_behind", "writer": print, "max_batch": 0},
        {"mode": "write_behind", "writer": print, "shards": 0},
    ],
)
def test_bad_arguments_are_refused_at_once(client: Client, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        client.through(**options)


def test_keys_are_text_and_a_view_without_writer_says_what_to_do(client: Client) -> None:
    view = client.through(loader=lambda key: key)
    with pytest.raises(InvalidRequest, match="keys of a view are str"):
        view.get(b"x")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidRequest, match="invalidate"):
        view.set("x", 1)
    with pytest.raises(InvalidRequest, match="plain functions"):

        async def load(key: str) -> str:
            return key

        client.through(loader=load).get("coroutine")
    assert set(Mode) == {"cache_aside", "read_through", "write_through", "write_behind", "write_around"}
