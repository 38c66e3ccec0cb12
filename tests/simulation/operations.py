"""What simulated clients do: each kind of operation as a command, and its result in the words of a model.

Keys are prefixed by their kind, and each prefix has its model (replcache/verify/models): r register,
a append-only list, c counter, t value with ttl, l lock (with the list that it protects under p).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replcache.statemachine.commands import (
    Command,
    Condition,
    Delete,
    Fence,
    Increment,
    LockAcquire,
    LockRelease,
    LockRenew,
    Op,
    Set,
    SetMany,
    Touch,
    Update,
)
from replcache.statemachine.results import CommandResult, Refusal, RefusalCode
from tests.simulation.mixed import MixedOperations

# A reply that says nothing happened: the call takes no part in the history.
FAILED = object()
# The lock is not ours yet, but we stand in its queue.
QUEUED = object()


@dataclass
class Call:
    """One call of a client.

    Attributes:
        record: (op, key, input) for the history; several for a batch; empty: not judged by a model.
        ops: of the command; empty for a read.
        to_output: from the command's result, or from the entry read, to the history's output (or FAILED).
        level: of a read: "linearizable", "one" or "session".
        lock: (name, owner) whose grant is waited for when the answer is QUEUED.
        timeout_s: of the whole call; 0: the usual one.
    """

    kind: str
    record: list[tuple[str, str, Any]]
    ops: tuple[Op, ...] = ()
    set_many: SetMany | None = None
    atomic: bool = False
    read_key: bytes = b""
    level: str = "linearizable"
    lock: tuple[str, bytes] = ("", b"")
    timeout_s: float = 0.0
    to_output: Callable[[Any], Any] = lambda result: None

    @property
    def is_write(self) -> bool:
        return bool(self.ops) or self.set_many is not None

    def command(self, **identity: Any) -> Command:
        return Command(ops=self.ops, set_many=self.set_many, atomic=self.atomic, **identity)


def number_of(entry: Any) -> int | None:
    return int(entry.value) if entry is not None else None


def list_of(value: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in value.split(b",") if part)


def last_result(result: CommandResult) -> Any:
    """The result of the last operation, or the refusal of all."""
    if isinstance(result, tuple):
        return result[-1]
    return result


@dataclass
class LockState:
    """What a client knows of a lock."""

    token: int = 0


class Operations:
    """Draws calls of one client. `unique` gives values that nobody else ever writes."""

    def __init__(self, rng: random.Random, owner: int, keys: int, unique: Callable[[], int]) -> None:
        self._rng = rng
        self._owner = f"owner{owner}"
        self._keys = keys
        self._unique = unique
        self._seen_versions: dict[str, int] = {}
        self._seen_values: dict[str, int] = {}
        self._locks: dict[str, LockState] = {}
        self._mixed_operations = MixedOperations(rng, self._owner)

    def draw(self, kind: str) -> Call:
        number = self._rng.randrange(self._keys)
        return getattr(self, f"_{kind}")(number)

    # --- registers -----------------------------------------------------------------------------------------

    def _set(self, number: int) -> Call:
        key, value = f"r{number}", self._unique()
        return Call(
            "set",
            [("write", key, value)],
            (Set(key.encode(), b"%d" % value),),
            to_output=lambda r: last_result(r).version,
        )

    def _get(self, number: int, level: str = "linearizable") -> Call:
        prefix = self._rng.choice("rrraactl")
        key = f"{'p' if prefix == 'l' else prefix}{number}"
        record_key = f"l{number}" if prefix == "l" else key
        convert = {
            "r": self._register_read(key),
            "a": lambda e: list_of(e.value) if e is not None else None,
            "p": lambda e: list_of(e.value) if e is not None else (),
            "c": number_of,
            "t": number_of,
        }[key[0]]
        record = [("read", record_key, None)] if level == "linearizable" else []
        return Call("get", record, read_key=key.encode(), level=level, to_output=convert)

    def _register_read(self, key: str) -> Callable[[Any], Any]:
        def convert(entry: Any) -> Any:
            if entry is None:
                return None
            self._seen_versions[key], self._seen_values[key] = entry.version, int(entry.value)
            return (int(entry.value), entry.version)

        return convert

    def _one(self, number: int) -> Call:
        return self._get(number, "one")

    def _session(self, number: int) -> Call:
        return self._get(number, "session")

    def _cas(self, number: int) -> Call:
        key, value = f"r{number}", self._unique()
        kind = self._rng.choice(["absent", "present", "version", "value"])
        version, seen = self._seen_versions.get(key, 0), self._seen_values.get(key, -1)
        condition, operand = {
            "absent": (Condition(if_absent=True), None),
            "present": (Condition(if_present=True), None),
            "version": (Condition(if_version=version), version),
            "value": (Condition(if_value=b"%d" % seen), seen),
        }[kind]

        def convert(result: CommandResult) -> Any:
            last = last_result(result)
            if isinstance(last, Refusal):
                return (False, None) if last.code == RefusalCode.CONDITION_FAILED else FAILED
            return (True, last.version)

        return Call(
            "cas",
            [("write_if", key, (kind, operand, value))],
            (Set(key.encode(), b"%d" % value, condition=condition),),
            to_output=convert,
        )

    def _delete(self, number: int) -> Call:
        key = f"r{number}"
        return Call(
            "delete",
            [("delete", key, None)],
            (Delete(key.encode()),),
            to_output=lambda r: last_result(r).deleted,
        )

    def _batch(self, number: int) -> Call:
        keys = [f"r{other}" for other in range(self._keys)]
        values = [self._unique() for _ in keys]
        many = SetMany([key.encode() for key in keys], [b"%d" % value for value in values])
        return Call(
            "batch",
            [("write", key, value) for key, value in zip(keys, values, strict=True)],
            set_many=many,
            atomic=self._rng.random() < 0.5,
            to_output=lambda r: list(r.versions),
        )

    # --- lists and counters --------------------------------------------------------------------------------

    def _append(self, number: int) -> Call:
        key, value = f"a{number}", self._unique()
        return Call(
            "append",
            [("append", key, value)],
            (
                Set(key.encode(), b"", condition=Condition(if_absent=True)),
                Update(key.encode(), append=b"%d," % value),
            ),
            to_output=lambda r: list_of(last_result(r).entry.value),
        )

    def burst(self) -> list[Call]:
        """Appends that go to one node at the same moment, each with its own patience and no protection."""
        calls = []
        for _ in range(self._rng.choice([2, 3, 5])):
            call = self._append(self._rng.randrange(self._keys))
            call.timeout_s = self._rng.choice([0.02, 0.06, 0.2, 0.8])
            calls.append(call)
        return calls

    def _mixed(self, _number: int) -> Call:
        """Anything that the state machine can do."""
        return Call("mixed", [], self._mixed_operations.draw(), atomic=self._rng.random() < 0.2)

    def _increment(self, number: int) -> Call:
        key, delta = f"c{number}", self._rng.choice([1, 2, 3, 10])
        return Call(
            "increment",
            [("add", key, delta)],
            (Increment(key.encode(), delta),),
            to_output=lambda r: last_result(r).value,
        )

    # --- ttl -----------------------------------------------------------------------------------------------

    def _ttl(self, number: int) -> Call:
        key = f"t{number}"
        ttl_ms = self._rng.choice([150, 400, 800, 1500])
        if self._rng.random() < 0.25:

            def convert(result: CommandResult) -> Any:
                return not isinstance(last_result(result), Refusal)

            return Call("touch", [("touch", key, ttl_ms)], (Touch(key.encode(), ttl_ms),), to_output=convert)
        value = self._unique()
        return Call(
            "ttl", [("write", key, (value, ttl_ms))], (Set(key.encode(), b"%d" % value, ttl_ms=ttl_ms),)
        )

    # --- locks ---------------------------------------------------------------------------------------------

    def _lock(self, number: int) -> Call:
        key = f"l{number}"
        lock = self._locks.setdefault(key, LockState())
        if not lock.token:
            return self._acquire(key, lock)
        action = self._rng.choice(["append", "append", "append", "renew", "release"])
        return {"append": self._fenced, "renew": self._renew, "release": self._release}[action](key, lock)

    def _acquire(self, key: str, lock: LockState) -> Call:
        ttl_ms = self._rng.choice([300, 700, 1500])
        wait_ms = self._rng.choice([0, 0, 300, 1500])

        def convert(result: CommandResult | int) -> Any:
            if isinstance(result, int):  # the token, from waiting
                lock.token = result
                return result
            last = last_result(result)
            if isinstance(last, Refusal):
                return None if last.code == RefusalCode.LOCK_BUSY else FAILED
            if last.token == 0:
                return QUEUED
            lock.token = last.token
            return last.token

        return Call(
            "acquire",
            [("acquire", key, (self._owner, ttl_ms))],
            (LockAcquire(key, self._owner.encode(), ttl_ms, wait_ms=wait_ms),),
            lock=(key, self._owner.encode()),
            to_output=convert,
        )

    def _renew(self, key: str, lock: LockState) -> Call:
        token, ttl_ms = lock.token, self._rng.choice([300, 1000])

        def convert(result: CommandResult) -> Any:
            held = not isinstance(last_result(result), Refusal)
            lock.token = token if held else 0
            return held

        return Call(
            "renew",
            [("renew", key, (self._owner, token, ttl_ms))],
            (LockRenew(key, self._owner.encode(), token, ttl_ms),),
            to_output=convert,
        )

    def _release(self, key: str, lock: LockState) -> Call:
        token = lock.token
        lock.token = 0

        def convert(result: CommandResult) -> Any:
            last = last_result(result)
            return False if isinstance(last, Refusal) else last.released

        return Call(
            "release",
            [("release", key, (self._owner, token))],
            (LockRelease(key, self._owner.encode(), token),),
            to_output=convert,
        )

    def _fenced(self, key: str, lock: LockState) -> Call:
        """An append to the list that the lock protects, refused unless the token is the newest."""
        token, value = lock.token, self._unique()
        data = f"p{key[1:]}".encode()
        fence = Fence(key, token)

        def convert(result: CommandResult) -> Any:
            last = last_result(result)
            if isinstance(last, Refusal):
                lock.token = 0
                return False
            return len(list_of(last.entry.value))

        return Call(
            "fenced",
            [("append", key, (token, value))],
            (
                Set(data, b"", condition=Condition(if_absent=True), fence=fence),
                Update(data, append=b"%d," % value, fence=fence),
            ),
            to_output=convert,
        )

    def forget_lock(self, call: Call) -> None:
        """The outcome is unknown: ask again instead of believing."""
        if call.kind in ("acquire", "renew", "release", "fenced"):
            self._locks[call.record[0][1]] = LockState()
