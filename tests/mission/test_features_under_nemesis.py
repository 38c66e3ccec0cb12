"""Watches, tags, write-behind and stock while everything is broken that tests/fault/nemesis.py can break.

One cluster, one schedule of faults from the seed, all four at once. What the checker judges for registers,
counters, locks, appends, ttl and exactly-once (`make chaos`) is judged here by what each feature promises.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence

import pytest

from replcache import AsyncClient, Client
from replcache.client.watch import WatchEvent, WatchKind
from replcache.errors import NotApplied, OutcomeUnknown, ReplcacheError
from replcache.patterns.source import Row
from tests.fault.nemesis import ENVIRONMENT, FAULTS, Nemesis
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

SECONDS = 90.0
TIMEOUT = "60s"
KEYS = 20


async def break_things(nemesis: Nemesis, rng: random.Random, stop: asyncio.Event) -> None:
    end = asyncio.get_running_loop().time() + SECONDS
    while asyncio.get_running_loop().time() < end:
        print(await nemesis.inject(rng), flush=True)
        await pause(stop, nemesis.pause_s(rng))
    await nemesis.heal()
    stop.set()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class Watching:
    """A writer of w/..., and watchers that begin with a snapshot and are told when to begin anew."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: dict[int, int] = {}
        self.unknown = 0
        self.seen: list[list[WatchEvent]] = [[] for _ in range(3)]

    async def write(self, stop: asyncio.Event) -> None:
        async with AsyncClient(self._url, timeout=TIMEOUT) as client:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    done = await client.set(f"w/{number % KEYS}", number)
                    self.acknowledged[done.revision] = number
                except (NotApplied, OutcomeUnknown):
                    self.unknown += 1
                await pause(stop, 0.01)
            await client.set("w/end", "end")

    async def watch(self, events: list[WatchEvent]) -> None:
        async with (
            AsyncClient(self._url, timeout=TIMEOUT) as client,
            client.watch(prefix="w/", start="snapshot", stall_timeout="120s") as watch,
        ):
            async for event in watch:
                events.append(event)
                if event.key == b"w/end":
                    return

    def check(self, client: Client) -> None:
        wanted = {entry.key: entry.value for entry in client.scan("w/")}
        for events in self.seen:
            state: dict[bytes, object] = {}
            revisions: set[int] = set()
            synced = last = 0
            for event in events:
                if event.kind is WatchKind.RESYNC:
                    self._nothing_left_out(revisions, synced, last)
                    state, revisions, synced, last = {}, set(), 0, 0
                elif event.kind is WatchKind.SYNCED:
                    synced = last = event.revision
                elif event.entry is not None:
                    state[event.key] = event.entry.value
                if event.kind is WatchKind.PUT:
                    assert event.revision > last, "each change once, in order"
                    last = event.revision
                    revisions.add(last)
            self._nothing_left_out(revisions, synced, last)
            assert state == wanted
        begun_anew = sum(event.kind is WatchKind.RESYNC for events in self.seen for event in events)
        print(
            f"watch: {len(self.acknowledged)} writes, {self.unknown} unknown, begun anew {begun_anew} times"
        )
        assert len(self.acknowledged) > 100

    def _nothing_left_out(self, revisions: set[int], synced: int, last: int) -> None:
        wanted = {revision for revision in self.acknowledged if synced < revision <= last}
        assert wanted <= revisions, sorted(wanted - revisions)[:5]


class Tagging:
    """Rounds of sets under one tag and its invalidation; readers never see what was invalidated before."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.invalidated = 0
        self.reads = 0

    async def write(self, stop: asyncio.Event) -> None:
        async with AsyncClient(self._url, timeout=TIMEOUT) as client:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    for key in range(KEYS):
                        await client.set(f"t/{key}", number, tags=["all"])
                    await client.invalidate_tags("all")
                except (NotApplied, OutcomeUnknown):
                    continue
                self.invalidated = number

    async def read(self, stop: asyncio.Event) -> None:
        async with AsyncClient(self._url, timeout=TIMEOUT) as client:
            while not stop.is_set():
                gone = self.invalidated
                try:
                    found = await client.get_many([f"t/{key}" for key in range(KEYS)])
                except ReplcacheError:
                    continue
                self.reads += 1
                old = [entry.value for entry in found.values() if entry is not None and entry.value <= gone]
                assert not old, f"{old} was invalidated by round {gone}"

    def check(self) -> None:
        print(f"tags: {self.invalidated} rounds, {self.reads} reads")
        assert self.invalidated > 10
        assert self.reads > 100


class Stock:
    def __init__(self, url: str) -> None:
        self._url = url
        self.sold: Counter[int] = Counter()
        self.unknown = 0

    async def buy(self, stop: asyncio.Event) -> None:
        async with AsyncClient(self._url, timeout=TIMEOUT) as client:
            while not stop.is_set():
                try:
                    self.sold[await client.incr("stock", -1, minimum=0)] += 1
                except NotApplied:
                    pass
                except OutcomeUnknown:
                    self.unknown += 1

    def check(self, client: Client, articles: int) -> None:
        gone = articles - client.get_value("stock")
        print(f"stock: {gone} sold, {self.unknown} unknown")
        assert max(self.sold.values()) == 1, "no article twice"
        assert len(self.sold) <= gone <= len(self.sold) + self.unknown
        assert gone > 100


class WriteBehind(threading.Thread):
    """Sets through the replicated queue; the database is a table in this process, row -> newest value."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.stop_asked = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.cached: dict[str, object] = {}
        self._revisions: dict[str, int] = {}
        self.error: BaseException | None = None

    def _write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.revision > self._revisions.get(row.key, 0):  # a batch may come again, never a mix
                self._revisions[row.key] = row.revision
                self.rows[row.key] = row.value

    def run(self) -> None:
        try:
            with Client(self._url, timeout=TIMEOUT) as client:
                view = client.through(
                    writer=self._write, mode="write_behind", prefix="row:", flush_every="200ms"
                )
                number = 0
                while not self.stop_asked.wait(0.01):
                    number += 1
                    key = str(number % KEYS)
                    self.attempted[key] = number
                    try:
                        view.set(key, number)
                        self.acknowledged[key] = number
                    except (NotApplied, OutcomeUnknown):
                        continue
                wait_until(lambda: view.lag().rows == 0, 60, "the queue is empty")
                self.cached = {key: view.get(key) for key in self.acknowledged}
        except BaseException as error:
            self.error = error
            raise

    def check(self) -> None:
        self.join(120)
        assert not self.is_alive()
        assert self.error is None, self.error
        print(f"write-behind: {max(self.attempted.values())} sets")
        for key, value in self.acknowledged.items():
            assert value <= self.rows[key] <= self.attempted[key], key
        assert self.rows == self.cached


@pytest.mark.timeout(400)
def test_features_keep_their_promises_under_the_nemesis(cluster: ProcessCluster, seed: int) -> None:
    cluster.start(**ENVIRONMENT)
    cluster.wait_ready()
    articles = 10**9
    watching, tagging, stock = Watching(cluster.url), Tagging(cluster.url), Stock(cluster.url)
    behind = WriteBehind(cluster.url)
    with cluster.client("60s") as client:
        client.set("stock", articles)

        async def run() -> None:
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(watching.write(stop))
                for events in watching.seen:
                    group.create_task(watching.watch(events))
                group.create_task(tagging.write(stop))
                for _ in range(2):
                    group.create_task(tagging.read(stop))
                for _ in range(4):
                    group.create_task(stock.buy(stop))
                group.create_task(break_things(Nemesis(cluster, list(FAULTS)), random.Random(seed), stop))

        behind.start()
        asyncio.run(run())
        behind.stop_asked.set()
        cluster.wait_ready()
        behind.check()
        watching.check(client)
        tagging.check()
        stock.check(client, articles)
