"""A long random walk against the naive model: Hypothesis looks for small failures, this meets rare ones.

Few keys, much time passing, most operations succeed; the seed is printed and can be given again.
"""

import random
from typing import Any

import pytest

from replcache.statemachine.commands import (
    Accessed,
    Compare,
    Condition,
    Delete,
    DeleteRange,
    Evict,
    Get,
    Increment,
    InvalidateTags,
    Set,
    Touch,
    Txn,
    Update,
)
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import Refusal
from tests.helpers.machine import Driver
from tests.property.key_model import KeyModel
from tests.property.test_statemachine_model import plain

KEYS = [b"a", b"ab", b"b"]
STEPS = 6000


def random_op(rng: random.Random, inside: bool = False) -> Any:
    key = rng.choice(KEYS)
    ttl, idle = rng.choice([0, 0, 0, 50, 200]), rng.choice([0, 0, 0, 40, 100])
    tags = tuple(rng.sample(["t", "u"], rng.choice([0, 0, 1, 2])))
    condition = rng.choice(
        [None, None, None, Condition(if_present=True), Condition(if_version=rng.randrange(4))]
    )
    kind = rng.randrange(14 if inside else 17)
    if kind < 3:
        reads = rng.choice([0, 0, 2])
        value = rng.choice([b"1", b"5", b"x"])
        keep = rng.random() < 0.3
        return Set(key, value, "", ttl, idle, reads, tags, keep_ttl=keep, condition=condition)
    if kind < 6:
        change = rng.choice([{"append": b"1"}, {"replace": b"7"}, {"add_integer": 2}, {"add_decimal": "0.5"}])
        return Update(key, ttl_ms=rng.choice([None, None, ttl]), condition=condition, **change)
    if kind < 8:
        return Increment(key, 1, 10, ttl)
    if kind < 10:
        return Get(key)
    if kind == 10:
        return Touch(key, ttl, idle, condition)
    if kind == 11:
        return Delete(key, condition)
    if kind == 12:
        return InvalidateTags(tags)
    if kind == 13:
        return DeleteRange(key, rng.choice([b"", b"b"]), rng.choice([0, 1]))
    if kind == 14:
        return Accessed((key, rng.choice(KEYS)))
    if kind == 15:
        return Evict((key,), (rng.randrange(50),) if rng.random() < 0.5 else (), "lru")
    branches = [tuple(random_op(rng, True) for _ in range(rng.randrange(3))) for _ in range(2)]
    return Txn((Compare(key, condition or Condition(if_absent=True)),), (), *branches)


@pytest.mark.parametrize("part", range(3))
def test_walk(rng: random.Random, part: int) -> None:
    driver, model = Driver(), KeyModel()
    for step in range(STEPS // 3):
        if rng.random() < 0.4:
            driver.pass_ms(rng.choice([1, 10, 30, 39, 40, 64, 100]))
            model.tick(driver.clock_ms)
        ops = [random_op(rng) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.3:
            result = driver.atomic(*ops)
            expected = model.atomic(ops)
            if isinstance(result, Refusal):
                assert result.cause is not None
                assert (result.failed_op, result.cause.name) == expected, ops
            else:
                assert isinstance(result, tuple)
                assert [plain(one) for one in result] == expected, ops
        else:
            assert [plain(one) for one in driver.do(*ops)] == model.each(ops), ops
        machine = driver.machine
        assert machine.revision == model.revision, ops
        for key in KEYS:
            entry, item = machine.peek(key), model.items.get(key)
            seen = entry and (
                entry.value,
                entry.version,
                entry.expires_at_ms,
                entry.reads_left,
                entry.mod_revision,
            )
            assert seen == (item and (item.value, item.version, item.due(), item.reads, item.mod)), ops
        if step % 50 == 0:
            machine.check_invariants()
            driver.machine = StateMachine.restore(machine.begin_snapshot().chunks())
