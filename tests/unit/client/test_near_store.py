"""The near cache's rules: what is kept, what is served, how fresh it is; against a model of the history."""

import functools
import random
import threading
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.client.codec import AutoCodec
from replcache.client.near_store import Freshness, NearStore, Row
from replcache.client.types import Consistency, Entry, ReadInfo

FOREVER = float("inf")


def entry(key: bytes, value: bytes = b"", revision: int = 1) -> Entry:
    served = ReadInfo("n1", revision, 1, Consistency.LINEARIZABLE, None)
    return Entry(AutoCodec(), key, value, "", 1, revision, None, served)


def read(
    store: NearStore, key: bytes, revision: int, value: bytes = b"", good_until: float = FOREVER
) -> bool:
    store.begin_read(key)
    return store.end_read(key, Row(entry(key, value, revision), revision, good_until))


def test_nothing_is_kept_before_a_watch_is_responsible() -> None:
    store = NearStore(10)
    assert not read(store, b"k", 5)
    store.restart(7)
    assert not read(store, b"k", 6)
    assert read(store, b"k", 7)
    assert store.lookup(b"k", 0.0) is not None


def test_change_takes_out_what_was_read_before_it_only() -> None:
    store = NearStore(10)
    store.restart(1)
    assert read(store, b"k", 5)
    store.changed(b"k", 5)
    assert store.lookup(b"k", 0.0) is not None
    store.changed(b"other", 9)
    assert store.lookup(b"k", 0.0) is not None
    store.changed(b"k", 6)
    assert store.lookup(b"k", 0.0) is None
    assert store.invalidations == 1


def test_answer_that_a_change_overtook_is_not_kept() -> None:
    """The classical race: read, change, invalidation arrives, then the old answer arrives."""
    store = NearStore(10)
    store.restart(1)
    store.begin_read(b"k")
    store.changed(b"k", 6)
    assert not store.end_read(b"k", Row(entry(b"k"), 5, FOREVER))
    assert store.lookup(b"k", 0.0) is None
    store.begin_read(b"k")
    store.changed(b"k", 6)
    assert store.end_read(b"k", Row(entry(b"k"), 6, FOREVER))


def test_change_is_remembered_for_all_readers_that_are_under_way() -> None:
    store = NearStore(10)
    store.restart(1)
    store.begin_read(b"k")
    store.begin_read(b"k")
    store.changed(b"k", 6)
    assert not store.end_read(b"k", Row(entry(b"k"), 5, FOREVER))
    assert not store.end_read(b"k", Row(entry(b"k"), 5, FOREVER))
    assert read(store, b"k", 6)


def test_older_answer_does_not_replace_a_newer_one() -> None:
    store = NearStore(10)
    store.restart(1)
    store.begin_read(b"k")
    assert read(store, b"k", 8, b"new")
    assert not store.end_read(b"k", Row(entry(b"k", b"old"), 7, FOREVER))
    row = store.lookup(b"k", 0.0)
    assert row is not None
    assert row.entry is not None
    assert row.entry.raw == b"new"


def test_failed_read_leaves_nothing_behind() -> None:
    store = NearStore(10)
    store.restart(1)
    store.begin_read(b"k")
    assert not store.end_read(b"k", None)
    assert store._reading == {}


def test_ttl_ends_by_the_own_clock() -> None:
    store = NearStore(10)
    store.restart(1)
    read(store, b"k", 5, good_until=10.0)
    assert store.lookup(b"k", 9.99) is not None
    assert store.lookup(b"k", 10.0) is None
    assert len(store) == 0


def test_restart_forgets_everything() -> None:
    store = NearStore(10)
    store.restart(1)
    read(store, b"k", 5)
    store.restart(9)
    assert store.lookup(b"k", 0.0) is None
    assert not read(store, b"k", 8)


def test_same_hits_and_misses_as_functools_lru_cache(rng: random.Random) -> None:
    """100,000 look-ups of a skewed distribution."""
    store = NearStore(128)
    store.restart(0)
    misses: list[int] = []

    @functools.lru_cache(maxsize=128)
    def reference(number: int) -> int:
        misses.append(number)
        return number

    ours: list[int] = []
    for _ in range(100_000):
        number = int(rng.paretovariate(0.6)) % 1000
        reference(number)
        key = str(number).encode()
        if store.lookup(key, 0.0) is None:
            ours.append(number)
            read(store, key, 1)
    assert ours == misses
    assert store.evictions == len(misses) - 128


def test_freshness_needs_a_proof_and_everything_up_to_it() -> None:
    freshness = Freshness(0.25)
    assert not freshness.is_fresh(0.0)
    freshness.note_proof(1.0, 10)
    assert not freshness.is_fresh(1.0)
    freshness.note_delivered(9)
    assert not freshness.is_fresh(1.0)
    freshness.note_delivered(10)
    assert freshness.is_fresh(1.25)
    assert not freshness.is_fresh(1.26)
    freshness.note_proof(0.5, 3)
    freshness.note_delivered(20)
    assert freshness.proven_at == 1.0
    freshness.reset()
    assert not freshness.is_fresh(1.0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 3)), max_size=60))
def test_hit_is_never_older_than_the_bound(steps: list[tuple[int, int, int]]) -> None:
    """A history of writes, a watch that delivers it late, reads that are answered late, proofs that come
    late; each step takes one unit of time. What is served must hold every write that was acknowledged
    longer ago than the bound."""
    bound = 8.0
    store, freshness = NearStore(2), Freshness(bound)
    store.restart(0)
    history: list[tuple[float, bytes, int]] = []  # (acknowledged at, key, revision); revision = index + 1
    delivered = 0
    reads: list[tuple[bytes, int, int]] = []  # (key, value = revision of its last change, revision seen)
    proofs: list[tuple[float, int]] = []
    now = 0.0

    def newest(key: bytes, upto: int) -> int:
        return max((r for _, k, r in history[:upto] if k == key), default=0)

    for action, which, amount in steps:
        now += 1.0
        key = b"k%d" % which
        if action == 0:
            history.append((now, key, len(history) + 1))
        elif action == 1:
            for _, changed, revision in history[delivered : delivered + amount]:
                store.changed(changed, revision)
            delivered = min(len(history), delivered + amount)
            freshness.note_delivered(delivered)
        elif action == 2:
            store.begin_read(key)
            reads.append((key, newest(key, len(history)), len(history)))
        elif action == 3 and reads:
            name, value, seen = reads.pop(amount % len(reads))
            store.end_read(name, Row(entry(name, b"%d" % value), seen, FOREVER))
        elif action == 4:
            proofs.append((now, len(history)))
        elif action == 5 and proofs:
            freshness.note_proof(*proofs.pop(0))
            freshness.note_delivered(delivered)
        if freshness.is_fresh(now) and (row := store.lookup(key, now)) is not None:
            assert row.entry is not None
            must_hold = max((r for at, k, r in history if k == key and at < now - bound), default=0)
            assert int(row.entry.raw) >= must_hold


def test_two_threads_do_not_take_one_proof_for_another() -> None:
    """One looks at the first proof; before it takes it, another one does: the next is not proven."""
    freshness = Freshness(1.0)
    others: list[threading.Thread] = []

    class Meddled(deque[tuple[float, int]]):
        def __getitem__(self, index: object) -> tuple[float, int]:
            found = super().__getitem__(index)  # type: ignore[index]
            if not others:
                others.append(threading.Thread(target=freshness.note_delivered, args=(10,)))
                others[0].start()
                others[0].join(0.2)
            return found

    freshness.note_proof(1.0, 10)
    freshness.note_proof(2.0, 20)
    freshness._pending = Meddled(freshness._pending)
    freshness.note_delivered(10)
    others[0].join()
    assert freshness.proven_at == 1.0
