"""The estimates: within what their papers promise, on streams that look like those of caches."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.server.sketches import WIDTH_MIN, FrequencySketch, RecencySketch, SpaceSaving


def zipf(rng: random.Random, keys: int, number: int, skew: float = 1.0) -> list[bytes]:
    weights = [1 / (rank**skew) for rank in range(1, keys + 1)]
    return [b"%d" % key for key in rng.choices(range(keys), weights, k=number)]


def fed(sketch: SpaceSaving, stream: list[bytes], window: int) -> Counter[bytes]:
    for start in range(0, len(stream), window):
        sketch.merge(Counter(stream[start : start + window]))
    return Counter(stream)


@pytest.mark.parametrize("window", [1, 100, 10_000])
def test_hottest_ten_keys_are_found_with_their_counts(window: int) -> None:
    rng = random.Random(5)
    sketch = SpaceSaving(1024)
    truth = fed(sketch, zipf(rng, 20_000, 8_000 if window == 1 else 60_000), window)
    found = sketch.top(10)
    assert [key for key, _, _ in found[:5]] == [key for key, _ in truth.most_common(5)]
    for key, count, error in found:
        assert count - error <= truth[key] <= count
        assert abs(count - truth[key]) <= 0.1 * truth[key]


@given(
    st.lists(st.lists(st.sampled_from([b"%d" % n for n in range(40)]), max_size=20), max_size=8),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_counts_are_never_below_the_truth_nor_above_it_by_more_than_the_error(
    windows: list[list[bytes]], capacity: int, scale: int
) -> None:
    sketch = SpaceSaving(capacity)
    truth: Counter[bytes] = Counter()
    for window in windows:
        sketch.merge(Counter(window), scale)
        for key in window:
            truth[key] += scale
    kept = {key: (count, error) for key, count, error in sketch.top(1000)}
    assert len(kept) <= 8 * capacity
    for key, (count, error) in kept.items():
        assert count - error <= truth[key] <= count
    for key, number in truth.items():
        if key not in kept:
            assert number <= sketch.floor


def test_frequencies_are_near_the_truth_and_grow_keeps_them() -> None:
    rng = random.Random(6)
    sketch = FrequencySketch()
    stream = zipf(rng, 5000, 30_000)
    truth = Counter(stream)
    for key in stream:
        sketch.add(hash(key), 1)
    before = {key: sketch.estimate(hash(key)) for key in truth}
    for key, count in truth.items():
        assert before[key] >= min(count, 255)
    rare = [key for key, count in truth.items() if count <= 2]
    assert sum(before[key] <= 4 for key in rare) >= 0.8 * len(rare)
    sketch.grow()
    assert sketch.width == 2 * WIDTH_MIN
    assert {key: sketch.estimate(hash(key)) for key in truth} == before


def test_frequencies_of_the_past_fade() -> None:
    sketch = FrequencySketch()
    for _ in range(200):
        sketch.add(hash(b"once hot"), 1)
    assert sketch.estimate(hash(b"once hot")) == 200
    for number in range(5 * WIDTH_MIN):
        sketch.add(hash(b"%d" % (number % 2000)), 10)
    assert sketch.estimate(hash(b"once hot")) <= 20
    assert sketch.estimate(hash(b"never")) <= 20


def test_last_use_is_never_too_early_and_mostly_exact() -> None:
    sketch = RecencySketch()
    truth = {}
    rng = random.Random(7)
    for now in range(1, 20_000):
        key = b"%d" % rng.randrange(1500)
        sketch.note(hash(key), now)
        truth[key] = now
    before = {key: sketch.last(hash(key)) for key in truth}
    assert all(before[key] >= last for key, last in truth.items())
    assert sum(before[key] == last for key, last in truth.items()) > 0.85 * len(truth)
    sketch.grow()
    assert {key: sketch.last(hash(key)) for key in truth} == before
    assert sketch.last(hash(b"never")) == 0 or sketch.last(hash(b"never")) in truth.values()
