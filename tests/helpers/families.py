"""Random histories for each model (see linearizability.py): the calls, and replies that may fit."""

import random
from collections.abc import Iterator

from replcache.verify.history import Value
from replcache.verify.models import (
    AppendList,
    Counter,
    ExpiringRegister,
    FencedLock,
    GrowSet,
    MultiRegister,
    Mutex,
    OnceCounter,
    Register,
    State,
    StringStore,
)
from tests.helpers.linearizability import Family

Call = tuple[str, Value]


def _register_call(rng: random.Random) -> Call:
    value = rng.randint(1, 5)
    return rng.choice([("read", None), ("read", None), ("write", value), ("cas", (rng.randint(1, 3), value))])


def _conditional_call(rng: random.Random) -> Call:
    value = rng.randint(1, 3)
    condition = rng.choice(
        [("absent", None), ("present", None), ("version", rng.randint(0, 2)), ("value", 1)]
    )
    return rng.choice(
        [
            ("read", None),
            ("write", value),
            ("write_if", (*condition, value)),
            ("delete", None),
            ("delete_if", condition),
        ]
    )


def _register_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    versioned = rng.random() < 0.5
    match op:
        case "read":
            seen = None if state[0] is None else (state[0], state[1] if versioned else None)
            return [seen, (rng.randint(1, 3), None)]
        case "write":
            return [state[1] + 1 if versioned else None]
        case "write_if":
            return [(True, state[1] + 1 if versioned else None), (False, None)]
        case "delete":
            return [True, False, None]
    return [True, False]


def _bare_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    if op == "read":
        return [None if state[0] is None else (state[0], None), (rng.randint(1, 3), None)]
    if op == "write_if":
        return [(True, None), (False, None)]
    return [None] if op in ("write", "delete") else [True, False]


def _counter_call(rng: random.Random) -> Call:
    return rng.choice([("read", None), ("add", rng.choice([-1, 1, 1, 2]))])


def _counter_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    if op == "read":
        return [state, rng.randint(0, 3)]
    return [None, (state or 0) + value, rng.randint(0, 3)]


def _once_call(rng: random.Random) -> Call:
    number = rng.randint(1, 3)
    return rng.choice(
        [("read", None), ("add_once", (number, f"r{number}")), ("add_once", (number, f"r{number}"))]
    )


def _once_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    if op == "read":
        return [state[0], rng.randint(0, 3)]
    replies = [reply for known, reply in state[1] if known == value[1]]
    return [None, (state[0] or 0) + value[0], *replies]


def _append_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    if op == "read":
        return [tuple(state), tuple(state)[:-1], None]
    return [None, len(state) + 1, (*state, value)]


def _set_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    if op == "read":
        return [tuple(sorted(state)), tuple(sorted(state))[:-1]]
    return [None]


def _lock_call(rng: random.Random) -> Call:
    owner, token, ttl_ms = rng.choice("ab"), rng.randint(1, 3), rng.choice([2, 5, 100])
    return rng.choice(
        [
            ("acquire", (owner, ttl_ms)),
            ("acquire", (owner, ttl_ms)),
            ("renew", (owner, token, ttl_ms)),
            ("release", (owner, rng.choice([0, token]))),
            ("append", (token, rng.randint(1, 9))),
            ("read", None),
        ]
    )


def _lock_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    match op:
        case "acquire":
            return [state[1], state[1] + 1, state[1] + 2, None]
        case "append":
            return [False, True, len(state[5]) + 1]
        case "read":
            return [state[5], state[5][:-1]]
    return [True, False]


def _ttl_call(rng: random.Random) -> Call:
    ttl_ms = rng.choice([0, 2, 5, 15])
    write = ("write", (rng.randint(1, 3), ttl_ms))
    return rng.choice([("read", None), ("read", None), write, ("touch", ttl_ms), ("delete", None)])


def _ttl_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    if op == "read":
        return [state[0], None, rng.randint(1, 3)]
    return [True, False] if op in ("touch", "delete") else [None]


def _kv_call(rng: random.Random) -> Call:
    text = rng.choice(["x", "y", "xy"])
    return rng.choice([("get", None), ("get", None), ("append", text), ("append", text), ("put", text)])


def _txn_call(rng: random.Random) -> Call:
    parts: Iterator[Value] = (
        (action, rng.choice("xy"), rng.randint(1, 2) if action == "write" else None)
        for action in rng.choices(["read", "write"], k=rng.randint(1, 2))
    )
    return "txn", tuple(parts)


def _txn_outputs(rng: random.Random, state: State, op: str, value: Value) -> list[Value]:
    values, parts = dict(state), []
    for action, key, given in value:
        if action == "write":
            values[key] = given
        parts.append((action, key, values.get(key)))
    return [tuple(parts)]


def _unique_call(rng: random.Random) -> Call:
    return rng.choice([("read", None), ("write", rng.randint(1, 1 << 30))])


def _kept_call(rng: random.Random) -> Call:
    """No deletes; values are unique now and then."""
    name, value = "delete", None
    while name.startswith("delete"):
        name, value = _conditional_call(rng)
    return (name, rng.randint(1, 1 << 30)) if name == "write" and rng.random() < 0.5 else (name, value)


def _growing_call(rng: random.Random) -> Call:
    return rng.choice([("read", None), ("add", rng.randint(1, 2))])


FAMILIES = {
    "register": Family(Register(), _register_call, _bare_outputs),
    "conditions": Family(Register(), _conditional_call, _bare_outputs),
    "versions": Family(Register(), _conditional_call, _register_outputs),
    "unique": Family(Register(), _unique_call, _bare_outputs),
    "kept": Family(Register(), _kept_call, _register_outputs),
    "growing": Family(Counter(), _growing_call, _counter_outputs),
    "counter": Family(Counter(), _counter_call, _counter_outputs),
    "exactly-once": Family(OnceCounter(), _once_call, _once_outputs),
    "append": Family(
        AppendList(),
        lambda rng: rng.choice(
            [("read", None), ("append", rng.randint(1, 9)), ("append", rng.randint(1, 2))]
        ),
        _append_outputs,
    ),
    "set": Family(
        GrowSet(), lambda rng: rng.choice([("read", None), ("add", rng.randint(1, 4))]), _set_outputs
    ),
    "lock": Family(FencedLock(early_tolerance_ns=0), _lock_call, _lock_outputs),
    "ttl": Family(ExpiringRegister(0, 3_000_000), _ttl_call, _ttl_outputs),
    "kv": Family(
        StringStore(), _kv_call, lambda rng, state, op, value: [state, "x"] if op == "get" else [None]
    ),
    "strings": Family(
        StringStore(),
        lambda rng: rng.choice([("get", None), ("append", rng.choice(["x", "y", "xy", "yx"]))]),
        lambda rng, state, op, value: [state, state[:-1]] if op == "get" else [None],
    ),
    "mutex": Family(
        Mutex(), lambda rng: (rng.choice(["acquire", "release"]), None), lambda rng, state, op, value: [None]
    ),
    "transactions": Family(MultiRegister({"x": 1, "y": 1}), _txn_call, _txn_outputs),
}
