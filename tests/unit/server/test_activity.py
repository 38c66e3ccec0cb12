"""What a node counts about its keys: exact where it says so, and near the truth where it samples."""

import random
from collections import Counter

import pytest

from replcache import constants
from replcache.server.activity import Activity, Window, common_namespace
from replcache.statemachine.commands import Command, Delete, Evict, NamespaceSet, Set
from replcache.statemachine.entries import Entry
from replcache.statemachine.namespaces import NamespaceTable
from tests.helpers.fake_raft import FakeRaft

FOUND = Entry(b"v")


def named(*prefixes: bytes) -> NamespaceTable:
    table = NamespaceTable()
    for prefix in prefixes:
        assert table.set(prefix.hex(), prefix, 0, 0, has_rows=False) is None
    return table


def test_common_namespace_is_that_of_every_single_key() -> None:
    """Whenever it names one, each key alone has it too; and it does so in the cases that are common."""
    rng = random.Random(11)
    table = named(b"b", b"da", b"db", b"f\xff")
    letters = [b"a", b"b", b"c", b"d", b"da", b"daz", b"db", b"dc", b"f\xff\xff", b"g", b"bbb"]
    for _ in range(3000):
        keys = [rng.choice(letters) + rng.choice(letters) for _ in range(rng.randint(1, 4))]
        alone = {found.name if (found := table.find(key)) else "" for key in keys}
        common = common_namespace(table, keys)
        if common is not None:
            assert alone == {common}, keys
        elif len(alone) == 1 and alone != {""}:
            raise AssertionError(f"{keys} are all in {alone}")


@pytest.mark.parametrize("batch", [1, 7, 100, 1000])
def test_samples_of_many_keys_add_up_to_the_truth(batch: int) -> None:
    rng = random.Random(12)
    window = Window(rng.random)
    truth: Counter[bytes] = Counter()
    estimate: Counter[bytes] = Counter()
    sampled = 0
    for _ in range(12):
        for _ in range(36_000 // batch // 3):
            keys = [b"%d" % min(int(rng.expovariate(0.3)), 50) for _ in range(batch)]
            truth.update(keys)
            window.add(keys)
        for stride, counter in window.take().items():
            sampled += counter.total()
            for key, count in counter.items():
                estimate[key] += count * stride
    assert sampled < truth.total() / 3
    for key, count in truth.most_common(3):
        assert abs(estimate[key] - count) < 0.1 * count


def test_few_keys_are_counted_exactly() -> None:
    window = Window(lambda: 0.99)
    for _ in range(3):
        for _ in range(constants.ACTIVITY_SAMPLES // 2):
            window.add([b"k", b"l"])
        (taken,) = window.take().values()
        assert taken == {b"k": constants.ACTIVITY_SAMPLES // 2, b"l": constants.ACTIVITY_SAMPLES // 2}


async def test_hits_misses_writes_and_removals_are_counted_by_namespace() -> None:
    raft = FakeRaft()
    activity = Activity(raft)
    raft.add_applied_listener(activity.on_applied)
    activity.read([b"n1", b"x"], [FOUND, None], 1)
    deadline = raft.clock.now() + 60
    await raft.propose(Command(ops=(NamespaceSet("n", b"n", 0), NamespaceSet("m", b"m", 0))), deadline)
    activity.read([b"n1", b"n2", b"n1"], [FOUND, None, FOUND], 1)
    activity.read([b"m1", b"x", b"n1"], [FOUND, None, FOUND], 1)
    activity.read([b"m1"], [None], 1)
    activity.wrote([b"n1", b"n2"])
    activity.wrote([b"n1", b"x", b"m1"])
    activity.wrote([])
    sets = [Set(key, b"v", ttl_ms=10) for key in (b"n1", b"x1", b"x2")]
    await raft.propose(Command(ops=(*sets, Set(b"m1", b"v"), Set(b"n3", b"v"))), deadline)
    await raft.propose(Command(ops=(Evict((b"m1", b"gone")), Delete(b"n3"))), deadline)
    raft.advance_ms(100)
    figures = {
        name: (one.hits, one.misses, one.writes, one.expired, one.evicted)
        for name, one in activity.counts.items()
    }
    assert figures == {"": (1, 2, 1, 2, 0), "n": (3, 1, 3, 1, 0), "m": (1, 1, 1, 0, 1)}
    assert activity.most_read(2) == [(b"n1", 4, 0), (b"x", 2, 0)]
    assert activity.most_written(1) == [(b"n1", 2, 0)]


def test_hit_rate_is_that_of_requests_not_of_stored_data() -> None:
    """hits / (hits + misses). A popular formula, cached entries / (cached and stored entries), says 1/4
    here, whatever is asked for."""
    activity = Activity(FakeRaft())
    cached, stored = {b"a"}, {b"a", b"b", b"c", b"d"}
    for key in [b"a"] * 98 + [b"b"] * 2:
        entry = FOUND if key in cached else None
        activity.read([key], [entry], entry is None)
    counts = activity.counts[""]
    assert counts.hits / (counts.hits + counts.misses) == 0.98
    assert len(cached) / len(stored) == 0.25
