"""Cache and database on a real cluster, and many more interleavings than `make test` has time for."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import replcache.compat as compat
from replcache import AsyncClient, AsyncThrough, Client
from replcache.client.types import Entry
from replcache.patterns.fill import Fills, FillTicket
from tests.helpers.behind_worker import prepare
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.redis_server import MISSING, RedisServer
from tests.helpers.wait import wait_until
from tests.property import test_patterns_origin as origin_walks
from tests.property import test_patterns_through as walks

ROOT = Path(__file__).resolve().parents[2]
# How many random interleavings each of the walks makes.
WALKS = int(os.environ.get("REPLCACHE_MISSION_WALKS", "200"))


@pytest.fixture(name="cluster", scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path_factory.mktemp("cluster"), random.Random())
    try:
        cluster.start()
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(name="client")
def _client(cluster: ProcessCluster) -> Iterator[Client]:
    with cluster.client(timeout="20s") as client:
        yield client


@pytest.fixture(name="workers")
def _workers() -> Iterator[list["subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for worker in started:
        worker.kill()
        worker.communicate()


def start_worker(
    workers: list["subprocess.Popen[str]"], cluster: ProcessCluster, database: Path, *options: str
) -> "subprocess.Popen[str]":
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.behind_worker", cluster.url, str(database), *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    workers.append(worker)
    assert worker.stdout is not None
    assert worker.stdout.readline().strip() == "ready"
    return worker


def query(database: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(database, timeout=20)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def replcache(cluster: ProcessCluster, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "replcache.cli.main", *arguments]


def environment(cluster: ProcessCluster) -> dict[str, str]:
    return {**os.environ, "REPLCACHE_URL": cluster.url, "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")
def test_row04_one_incr_is_one_incr_while_the_server_is_frozen(cluster: ProcessCluster) -> None:
    """The measurement that redis-py fails: the server is frozen while an INCR is under way."""

    def frozen(redis: Any, freeze: Any, resume: Any) -> int:
        redis.set("n", 0)
        freeze()
        timer = threading.Timer(3.5, resume)
        timer.start()
        try:
            result = redis.incr("n")
        finally:
            timer.join()
        assert int(redis.get("n")) == result
        return int(result)

    server = RedisServer()
    theirs = frozen(
        server.client(socket_timeout=1.0),
        lambda: server.signal(signal.SIGSTOP),
        lambda: server.signal(signal.SIGCONT),
    )
    server.close()
    with compat.Redis.from_url(cluster.url, socket_timeout=20) as redis:
        leader = cluster.leader(redis.client)
        ours = frozen(redis, lambda: cluster.pause(leader), lambda: cluster.resume(leader))
    print(f"\none INCR with a server frozen for 3.5 s: redis-py {theirs}, replcache.compat {ours}")
    assert ours == 1


def test_row10_write_behind_survives_kills(
    cluster: ProcessCluster, client: Client, tmp_path: Path, workers: list["subprocess.Popen[str]"]
) -> None:
    database = tmp_path / "rows.db"
    prepare(database)
    # Acknowledged, not yet flushed: then the leader, which accepted them, and the process itself are killed.
    first = start_worker(workers, cluster, database, "--sets", "1000", "--flush-every", "60s")
    assert first.stdout is not None
    assert first.stdout.readline().strip() == "acknowledged 1000"
    # The first sweep of a drainer is at once and may have met some; most of them wait.
    assert query(database, "SELECT count(*) FROM journal")[0][0] < 500
    leader = cluster.leader(client)
    cluster.kill(leader)
    first.kill()
    # The next drainer dies between a commit and the removal of its records.
    second = start_worker(workers, cluster, database, "--crash-after-commit", "1")
    assert second.wait(60) == -signal.SIGKILL
    flushed = query(database, "SELECT count(*) FROM journal")[0][0]
    assert 0 < flushed < 1000
    start_worker(workers, cluster, database)
    wait_until(
        lambda: query(database, "SELECT count(*) FROM journal")[0][0] >= 1000,
        60,
        "all rows are in the database",
    )
    view = client.through(mode="write_behind", prefix="row:", drain=False)
    wait_until(lambda: view.lag().rows == 0, 30, "the queue is empty")
    cluster.start(leader)
    cluster.wait_ready()
    journal = query(database, "SELECT key, value FROM journal")
    assert sorted(journal, key=lambda row: int(row[0])) == [(str(n), str(n)) for n in range(1000)]
    calls = query(database, "SELECT rows FROM calls")
    print(f"\n1,000 sets through three drainers: {len(calls)} calls of the writer, {calls}")
    assert len(calls) <= 10


def test_row10_a_thousand_sets_are_few_batches(cluster: ProcessCluster) -> None:
    calls: list[list[Any]] = []

    async def use() -> float:
        client = AsyncClient(cluster.url, timeout="60s")
        together = asyncio.Semaphore(100)

        async def put(view: AsyncThrough, number: int) -> None:
            async with together:
                await view.set(str(number), number)

        async with client.through(
            writer=lambda rows: calls.append(list(rows)), mode="write_behind", prefix="few:"
        ) as view:
            began = time.monotonic()
            await asyncio.gather(*(put(view, number) for number in range(1000)))
            seconds = time.monotonic() - began
            await view.flush(timeout="60s")
        await client.close()
        return seconds

    seconds = asyncio.run(use())
    sizes = [len(rows) for rows in calls]
    print(f"\n1,000 sets in {seconds:.2f} s: {sizes} rows in the calls of the writer")
    # One call in each flush interval (200 ms): ten, unless the machine needs much longer than a second.
    assert len(calls) <= max(10, seconds / 0.2 + 3)
    assert sorted(int(row.key) for rows in calls for row in rows) == list(range(1000))


def test_row10_walks() -> None:
    for seed in range(WALKS):
        walks.walk_behind(seed)


def test_row11_write_around_walks() -> None:
    for seed in range(WALKS):
        walks.walk_direct(seed, "write_around")


def test_row12_write_through_walks() -> None:
    for seed in range(WALKS):
        walks.walk_direct(seed, "write_through", marks=bool(seed % 2))


def test_row13_a_cold_key_is_loaded_once_and_a_late_fill_is_refused(client: Client) -> None:
    loads: list[str] = []
    everybody = threading.Barrier(100)

    def load(key: str) -> str:
        loads.append(key)
        threading.Event().wait(0.3)
        return "loaded"

    view = client.through(loader=load, prefix="cold:")
    seen: list[str] = []

    def read() -> None:
        everybody.wait(30)
        seen.append(view.get("k"))

    threads = [threading.Thread(target=read) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (loads, seen) == (["k"], ["loaded"] * 100)
    fills = Fills(client)
    ticket = fills.begin_fill("late")
    assert isinstance(ticket, FillTicket)
    fills.invalidate("late")
    assert not fills.finish_fill(ticket, "outdated")
    again = fills.begin_fill("late")
    assert not isinstance(again, Entry)


def test_row21_ten_thousand_interleavings_of_origin_versions() -> None:
    refused = sum(origin_walks.walk(seed, actors=3, steps=3) for seed in range(50 * WALKS))
    assert refused > 50 * WALKS


def test_row22_prewarming_goes_on_after_a_kill(
    cluster: ProcessCluster, client: Client, tmp_path: Path
) -> None:
    keys = [f"warm:{number}" for number in range(6000)]
    file = tmp_path / "keys.jsonl"
    file.write_text("".join(json.dumps({"key": key, "value": {"of": key}}) + "\n" for key in keys))

    def hit_rate() -> float:
        rng = random.Random(1)
        wanted = rng.choices(keys, k=2000)
        found = client.get_many(wanted)
        return sum(found[key] is not None for key in wanted) / len(wanted)

    cold = hit_rate()
    command = replcache(cluster, "prewarm", str(file), "--rate", "2k/s")
    state = tmp_path / "keys.jsonl.state"
    killed = subprocess.Popen(command, cwd=tmp_path, env=environment(cluster), stderr=subprocess.DEVNULL)
    wait_until(lambda: state.exists() and json.loads(state.read_text())["done"] > 1000, 60, "a part is done")
    killed.kill()
    killed.wait()
    done = json.loads(state.read_text())["done"]
    assert 1000 < done < 6000
    began = time.monotonic()
    rest = subprocess.run(
        [*command, "--json"],
        cwd=tmp_path,
        env=environment(cluster),
        capture_output=True,
        check=True,
        timeout=120,
    )
    seconds = time.monotonic() - began
    report = json.loads(rest.stdout)
    assert (report["done"], report["skipped"]) == (6000, done)
    assert report["failed"] == 0
    assert not state.exists()
    warm = hit_rate()
    rate = (6000 - done) / report["seconds"]
    print(f"\nhit rate cold {cold:.0%}, warm {warm:.0%}; {rate:.0f} keys/s of 2000 ({seconds:.1f} s in all)")
    assert cold <= 0.10
    assert warm >= 0.95
    assert rate < 2400


def test_row24_a_thousand_updates_of_a_key_are_few_writes(cluster: ProcessCluster) -> None:
    written: list[Any] = []

    async def use() -> float:
        client = AsyncClient(cluster.url, timeout="20s")
        view = client.through(writer=written.extend, mode="write_behind", prefix="hot:")
        async with view:
            await view.set("k", "first")
            await view.flush()
            written.clear()
            began = time.monotonic()
            # Twenty callers, together a thousand updates in a second if the machine can do that.
            for first in range(0, 980, 20):
                await asyncio.gather(*(view.set("k", first + n) for n in range(20)))
            for number in range(980, 1000):
                await view.set("k", number)
            seconds = time.monotonic() - began
            print(f"\n1,000 updates in {seconds:.2f} s: {len(written)} database writes during them")
            assert len(written) <= 5 * max(1.0, seconds)
            await view.flush()
        await client.close()
        return seconds

    asyncio.run(use())
    assert written[-1].value == 999


def test_row25_reconcile_finds_and_repairs(cluster: ProcessCluster, client: Client, tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE items (id TEXT PRIMARY KEY, data TEXT)")
    rows = {str(number): {"n": number} for number in range(2000)}
    with connection:
        connection.executemany(
            "INSERT INTO items VALUES (?, ?)", [(k, json.dumps(v)) for k, v in rows.items()]
        )
    connection.close()
    client.set_many({f"item:{key}": value for key, value in rows.items()})
    for key in random.Random(3).sample(sorted(rows), 100):
        client.set(f"item:{key}", {"n": "planted"})
    columns = (
        "--table",
        "items",
        "--key-column",
        "id",
        "--value-column",
        "data",
        "--prefix",
        "item:",
        "--json",
    )
    command = replcache(cluster, "reconcile", "--db", f"sqlite:///{database}", *columns)
    reports = []
    for code in (1, 0):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(cluster), capture_output=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stderr
        reports.append(json.loads(done.stdout))
    assert (reports[0]["different"], reports[0]["repaired"]) == (100, 100)
    assert (reports[1]["different"], reports[1]["checked"]) == (0, 2000)
    found = client.get_many([f"item:{key}" for key in rows])
    assert all(found[f"item:{key}"].value == value for key, value in rows.items())  # type: ignore[union-attr]  # all are there
