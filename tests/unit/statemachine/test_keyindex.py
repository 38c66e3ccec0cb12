"""The key index against sorted(), through churn; scans."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.statemachine import keyindex
from replcache.statemachine.commands import Command, Delete, Set, SetMany
from replcache.statemachine.keyindex import KeyIndex, merged_blocks
from tests.helpers.machine import Driver

short_keys = st.binary(max_size=2)


@given(st.lists(st.lists(short_keys).map(lambda run: sorted(set(run)))), st.integers(1, 4))
def test_merged_blocks_is_the_sorted_union(runs: list[list[bytes]], block: int) -> None:
    blocks = list(merged_blocks(runs, [0] * len(runs), block))
    assert [key for keys in blocks for key in keys] == sorted(set().union(*runs))
    assert all(0 < len(keys) <= block * len(runs) for keys in blocks)


def all_keys(index: KeyIndex, table: dict[bytes, int]) -> list[bytes]:
    return [key for keys in index.iterate(b"", False, 100) for key in keys if key in table]


@pytest.mark.parametrize("fresh_max", [4, 16])
def test_against_sorted_through_churn(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch, fresh_max: int
) -> None:
    """Small limits, so that all levels, merges and the garbage rule are exercised."""
    monkeypatch.setattr(keyindex, "FRESH_KEYS_MAX", fresh_max)
    monkeypatch.setattr(keyindex, "FANOUT", 3)
    monkeypatch.setattr(keyindex, "MERGE_BLOCK_KEYS", 5)
    monkeypatch.setattr(keyindex, "GARBAGE_KEYS_MAX", 100)
    table: dict[bytes, int] = {}
    index = KeyIndex(table)
    most = 0
    for step in range(30_000):
        key = b"%d" % rng.randrange(3000 if step < 15_000 else 300)
        if rng.random() < 0.6:
            if key not in table:
                table[key] = step
                index.add(key)
        elif key in table:
            del table[key]
            index.note_removals(1)
        if step % 1000 == 0:
            assert all_keys(index, table) == sorted(table)
        most = max(most, sum(len(run) for run in index.runs()) - 4 * len(table))
    assert all_keys(index, table) == sorted(table)
    # Dead and double keys stay within the rule's bounds, give or take the lower levels.
    assert most < 6000, most


def test_a_table_that_empties_lets_go_of_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyindex, "GARBAGE_KEYS_MAX", 1000)
    table = dict.fromkeys([b"%06d" % number for number in range(50_000)], 0)
    index = KeyIndex.from_sorted(table, list(table))
    for key in list(table):
        del table[key]
        index.note_removals(1)
    assert sum(len(run) for run in index.runs()) < 5000


def test_iteration_is_over_the_moment_it_began() -> None:
    table = dict.fromkeys([b"a", b"c"], 0)
    index = KeyIndex(table)
    index.add_many([b"a", b"c"])
    iterator = index.iterate(b"", False, 1)
    assert next(iterator) == [b"a"]
    table[b"b"] = 0
    index.add(b"b")
    assert [key for keys in iterator for key in keys] == [b"c"]
    assert [key for keys in index.iterate(b"a", True, 9) for key in keys] == [b"b", b"c"]


@settings(max_examples=60, deadline=None)
@given(st.sets(short_keys.filter(bool)), short_keys, st.integers(1, 5))
def test_scan_pages_are_the_sorted_keys(present: set[bytes], prefix: bytes, limit: int) -> None:
    driver = Driver()
    driver.do(*(Set(key, key) for key in sorted(present)))
    expected = sorted(key for key in present if key.startswith(prefix))
    found: list[bytes] = []
    more = True
    while more:
        page, more = driver.machine.scan(prefix, found[-1] if found else b"", limit)
        assert len(page) <= limit
        assert all(entry.value == key for key, entry in page)
        found += [key for key, _ in page]
    assert found == expected


def test_scan_with_dead_keys_in_between_stops_in_time_and_goes_on() -> None:
    driver = Driver()
    keys = [b"%05d" % number for number in range(50_000)]
    for start in range(0, 50_000, 5000):
        part = keys[start : start + 5000]
        driver.run(Command(set_many=SetMany(part, part, "", 1000)))
    driver.one(Set(b"99999", b"last"))
    driver.pass_ms(1000)
    page, after = driver.machine.scan_page(b"", b"", 10)
    assert page == []
    assert after is not None
    assert b"19" < after < b"3"
    entries, more = driver.machine.scan(b"", b"", 10)
    assert [key for key, _ in entries] == [b"99999"]
    assert not more


def test_scan_of_nothing() -> None:
    driver = Driver()
    assert driver.machine.scan(b"", b"", 10) == ([], False)
    driver.do(Set(b"a", b""), Delete(b"a"))
    assert driver.machine.scan(b"", b"", 10) == ([], False)
