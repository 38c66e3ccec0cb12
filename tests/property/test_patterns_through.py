"""Views between the cache and a database, in random interleavings with failures of both."""

import asyncio
import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache import AsyncClient
from replcache.errors import OutcomeUnknown, ReplcacheError
from replcache.patterns.source import DELETED
from replcache.patterns.through import AsyncThrough
from tests.helpers.database import DatabaseError, VirtualDatabase
from tests.helpers.virtual_cluster import VirtualCluster
from tests.helpers.virtual_loop import VirtualClock, run_virtually

KEYS = ("a", "b", "c")
SEEDS = st.integers(0, 2**32 - 1)


class World:
    """Some processes with the same view. A read may see a value if nothing newer was acknowledged before it
    began; what was never acknowledged may be seen at any time."""

    def __init__(self, clock: VirtualClock, seed: int, mode: str, **options: Any) -> None:
        self.clock = clock
        self.rng = random.Random(seed)
        self.cluster = VirtualCluster(clock, seed)
        self.database = VirtualDatabase(clock, self.rng)
        self.mode = mode
        self.options = options
        self.acknowledged = dict.fromkeys(KEYS, 0)
        # value -> revision, None while it is not acknowledged.
        self.revisions: dict[str, dict[Any, int | None]] = {key: {} for key in KEYS}
        self.next_value = 0
        self.failed_writes = self.reads = self.written = 0

    def process(self) -> tuple[AsyncClient, AsyncThrough]:
        client = self.cluster.client()
        view = client.through(
            loader=self.database.load,
            writer=self.database.write,
            mode=self.mode,
            prefix="row:",
            name="rows",
            ttl="10m",
            **self.options,
        )
        return client, view

    async def actor(self, view: AsyncThrough, steps: int) -> None:
        for _ in range(steps):
            await self.clock.sleep(self.rng.random() * 0.03)
            key = self.rng.choice(KEYS)
            chance = self.rng.random()
            if chance < 0.45:
                await self.read(view, key)
            elif chance < 0.5:
                with contextlib.suppress(OutcomeUnknown):
                    await view.invalidate(key)
            else:
                await self.write(view, key)

    async def write(self, view: AsyncThrough, key: str) -> None:
        self.next_value += 1
        value = self.next_value
        self.revisions[key][value] = None
        try:
            revision = await view.set(key, value)
        except (DatabaseError, OutcomeUnknown):
            self.failed_writes += 1
            return
        self.written += 1
        self.revisions[key][value] = revision
        self.acknowledged[key] = max(self.acknowledged[key], revision)

    async def read(self, view: AsyncThrough, key: str) -> None:
        at_least = self.acknowledged[key]
        try:
            value = await view.get(key)
        except OutcomeUnknown:
            return
        self.reads += 1
        revision = 0 if value is None else self.revisions[key][value]
        assert revision is None or revision >= at_least, (
            f"{key}: read {value} of revision {revision}; {at_least} was acknowledged before"
        )

    def cached(self, key: str) -> Any:
        entry = self.cluster.raft.machine.peek(f"row:{key}".encode())
        if entry is None or entry.content_type != "application/json":
            return None
        return int(entry.value)

    def check_journal(self) -> None:
        """Each change took effect once, and never an older one after a newer."""
        for key in KEYS:
            revisions = [row.revision for row in self.database.journal if row.key == key]
            assert revisions == sorted(set(revisions)), f"{key}: {revisions}"


def walk_direct(seed: int, mode: str, fail: float = 0.15, marks: bool = True) -> World:
    async def work(clock: VirtualClock) -> World:
        world = World(clock, seed, mode, wait="60s")
        world.database.fail = fail
        world.database.marks = marks
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(world.actor(world.process()[1], 10))
        for key in KEYS:
            cached = world.cached(key)
            assert cached is None or cached == world.database.rows.get(key), (
                key,
                cached,
                world.database.rows,
            )
        await world.cluster.close()
        return world

    return run_virtually(work)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_write_through_keeps_both_equal(seed: int) -> None:
    walk_direct(seed, "write_through")


@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
def test_write_through_needs_no_help_of_the_database_while_its_locks_hold(seed: int) -> None:
    walk_direct(seed, "write_through", marks=False)


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_write_around_never_shows_what_was_replaced(seed: int) -> None:
    walk_direct(seed, "write_around")


@pytest.mark.parametrize("mode", ["write_through", "write_around"])
def test_the_walks_meet_failures_and_writes(mode: str) -> None:
    worlds = [walk_direct(seed, mode) for seed in range(3)]
    assert sum(world.failed_writes for world in worlds) > 3
    assert sum(world.written for world in worlds) > 20
    assert sum(world.reads for world in worlds) > 20


def walk_behind(seed: int, kills: bool = True, drop: float = 0.02) -> World:
    async def work(clock: VirtualClock) -> World:
        world = World(
            clock, seed, "write_behind", flush_every="30ms", max_batch=2, drain_ttl="300ms", shards=2
        )
        world.cluster.drop_answers = drop
        world.database.fail = world.database.fail_after_commit = 0.1
        await asyncio.gather(*(life(world, kills) for _ in range(3)))
        world.cluster.drop_answers = world.database.fail = world.database.fail_after_commit = 0.0
        _, last = world.process()
        await last.flush(timeout="60s")
        world.check_journal()
        for key in KEYS:
            known = {revision: value for value, revision in world.revisions[key].items() if revision}
            row = world.database.rows.get(key)
            newest = max(known, default=0)
            if row not in known.values():
                # The outcome of its write was unknown, and it came last.
                assert row is None if not newest and row is None else world.revisions[key][row] is None
                newest = 0
            if newest:
                assert row == known[newest], (key, row, known)
            assert world.cached(key) in (None, row)
        assert (await last.lag()).rows == 0
        await world.cluster.close()
        return world

    return run_virtually(work)


async def life(world: World, kills: bool) -> None:
    """A process that is killed now and then, also while its drainer writes, and comes back."""
    for _ in range(3 if kills else 1):
        client, view = world.process()
        await view.start()
        try:
            async with asyncio.timeout(world.rng.random() * 0.8 if kills else 60):
                await world.actor(view, 12)
        except TimeoutError:
            pass
        await client.close()


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_write_behind_brings_each_change_to_the_database_once(seed: int) -> None:
    walk_behind(seed)


def test_the_walk_meets_repeats_of_what_was_committed() -> None:
    worlds = [walk_behind(seed) for seed in range(4)]
    repeated = 0
    for world in worlds:
        seen = [row for call in world.database.calls for row in call]
        repeated += len(seen) - len({(row.key, row.revision) for row in seen})
    assert repeated > 1
    assert sum(world.written for world in worlds) > 30


def test_a_pending_value_is_read_even_when_its_entry_is_gone() -> None:
    async def work(clock: VirtualClock) -> None:
        world = World(clock, 1, "write_behind", flush_every="10s", drain=True)
        _, view = world.process()
        world.database.rows["a"] = "outdated"
        await view.set("a", {"new": 1})
        assert await view.invalidate("a")
        assert await view.get("a") == {"new": 1}
        await view.delete("a")
        assert await view.get("a", "none") == "none"
        assert world.database.loads == 0
        await view.flush()
        assert "a" not in world.database.rows
        assert [row.value for row in world.database.journal][-1] is DELETED
        await world.cluster.close()

    run_virtually(work)


def test_updates_of_one_key_are_written_together() -> None:
    async def work(clock: VirtualClock) -> None:
        world = World(clock, 2, "write_behind")
        _, view = world.process()
        began = clock.now()
        for number in range(200):
            await view.set("a", number)
            await clock.sleep(max(0.0, began + (number + 1) / 200 - clock.now()))
        writes = len(world.database.calls)
        await view.flush()
        assert world.database.rows == {"a": 199}
        assert writes <= 5 * (clock.now() - began), (writes, clock.now() - began)
        await world.cluster.close()

    run_virtually(work)


def test_too_far_behind_is_refused_and_nothing_is_written() -> None:
    async def work(clock: VirtualClock) -> None:
        world = World(clock, 3, "write_behind", max_rows=20, flush_every="50ms")
        _, view = world.process()
        world.database.is_down = True
        with pytest.raises(ReplcacheError, match="behind view") as refused:
            for number in range(100):
                await view.set(f"k{number}", number)
        assert refused.value.reason == "OVERLOADED"
        assert not refused.value.may_have_executed
        lag = await view.lag()
        assert 15 <= lag.rows <= 25
        assert view.stats().refused_writes == 1
        world.database.is_down = False
        await view.flush()
        await clock.sleep(1)
        await view.set("k1", "again")
        await view.flush()
        assert world.database.rows["k1"] == "again"
        assert len(world.database.rows) == lag.rows
        await world.cluster.close()

    run_virtually(work)


def test_lag_in_seconds_grows_while_the_database_refuses() -> None:
    async def work(clock: VirtualClock) -> None:
        world = World(clock, 4, "write_behind", max_lag="5s")
        _, view = world.process()
        await view.set("a", 1)
        await view.flush()
        world.database.is_down = True
        await view.set("a", 2)
        await clock.sleep(4)
        assert 3 < (await view.lag()).seconds < 6
        await clock.sleep(4)
        with pytest.raises(ReplcacheError, match="behind view"):
            for number in range(3):
                await view.set("a", number)
        world.database.is_down = False
        await view.flush()
        assert (await view.lag()).rows == 0
        await world.cluster.close()

    run_virtually(work)
