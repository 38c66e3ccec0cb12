"""Redis commands as operations of one log entry.

A Plan says which operations a command is and how their outcomes become its result. A command alone is a
batch of its own, a pipeline is one batch of all its commands: as with MULTI they are executed together,
nothing comes between them, and one that fails does not undo the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from replcache.client import convert
from replcache.client.base import Prepared
from replcache.client.requests import (
    INT64_MAX,
    INT64_MIN,
    delete_operation,
    get_operation,
    increment_operation,
    set_operation,
    touch_operation,
    update_operation,
)
from replcache.client.types import Entry
from replcache.compat.arguments import encoded, expiry_ms, milliseconds, ttl_left_ms, until
from replcache.compat.exceptions import NOT_AN_INTEGER, DataError, ResponseError, translated
from replcache.constants import MANIFEST_TYPE, TTL_MS_MAX
from replcache.errors import ConditionFailed, NotFound, ReplcacheError

Outcomes = list[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """is_read: only gets, so no log entry is needed."""

    name: str
    operations: list[Prepared]
    result: Callable[[Outcomes], Any]
    is_read: bool = False


def checked(outcome: Any, name: str) -> Any:
    """The outcome, unless it is an error that is not a plain answer of the command."""
    if isinstance(outcome, ReplcacheError) and not isinstance(outcome, ConditionFailed | NotFound):
        raise translated(outcome, name) from outcome
    return outcome


def refused(outcome: Any) -> bool:
    return isinstance(outcome, ConditionFailed | NotFound)


class Commands:
    """Makes plans; knows the prefix of the database and whether to decode. Names and arguments are redis-
    py's."""

    def __init__(self, prefix: bytes, decode: Callable[[bytes], Any]) -> None:
        self._prefix = prefix
        self._decode = decode

    def key(self, name: Any) -> bytes:
        return self._prefix + encoded(name)

    def value(self, entry: Entry | None) -> Any:
        if entry is None:
            return None
        if entry.content_type == MANIFEST_TYPE:
            # In one log entry with other commands there is no reading of its parts.
            raise ResponseError("the value is stored in parts: only get reads it")
        return self._decode(entry.raw)

    def _get(self, name: Any) -> Prepared:
        return get_operation(self.key(name)), convert.get_result

    def _setting(self, name: Any, value: Any, ttl_ms: int | None = None, **options: Any) -> Prepared:
        ttl = None if ttl_ms is None else _ttl_s(ttl_ms)
        operation = set_operation(self.key(name), encoded(value), "", ttl=ttl, **options)
        return operation, convert.set_result

    def _reading(self, command: str, names: list[Any], result: Callable[[list[Entry | None]], Any]) -> Plan:
        def convert_all(outcomes: Outcomes) -> Any:
            return result([checked(outcome, command) for outcome in outcomes])

        return Plan(command, [self._get(name) for name in names], convert_all, is_read=True)

    # --- strings ---

    def get(self, name: Any) -> Plan:
        return self._reading("GET", [name], lambda found: self.value(found[0]))

    def mget(self, keys: Any, *args: Any) -> Plan:
        names = [keys] if isinstance(keys, str | bytes) else list(keys)
        return self._reading("MGET", [*names, *args], lambda found: [self.value(entry) for entry in found])

    def set(
        self,
        name: Any,
        value: Any,
        ex: int | timedelta | None = None,
        px: int | timedelta | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: bool = False,
        exat: int | datetime | None = None,
        pxat: int | datetime | None = None,
    ) -> Plan:
        ttl_ms = expiry_ms(ex, px, exat, pxat, "set")
        if (nx and xx) or (keepttl and ttl_ms is not None):
            raise DataError("``nx`` and ``xx``, ``keepttl`` and an expiry are mutually exclusive.")
        setting = self._setting(name, value, ttl_ms, if_absent=nx, if_present=xx, keep_ttl=keepttl)
        if not get:
            return Plan("SET", [setting], lambda done: None if refused(checked(done[0], "SET")) else True)

        def previous(outcomes: Outcomes) -> Any:
            checked(outcomes[1], "SET")
            return self.value(checked(outcomes[0], "SET"))

        return Plan("SET", [self._get(name), setting], previous)

    def setnx(self, name: Any, value: Any) -> Plan:
        setting = self._setting(name, value, if_absent=True)
        return Plan("SETNX", [setting], lambda done: not refused(checked(done[0], "SETNX")))

    def setex(self, name: Any, time: int | timedelta, value: Any) -> Plan:
        setting = self._setting(name, value, expiry_ms(time, None, None, None, "setex"))
        return Plan("SETEX", [setting], lambda done: bool(checked(done[0], "SETEX")))

    def psetex(self, name: Any, time_ms: int | timedelta, value: Any) -> Plan:
        setting = self._setting(name, value, expiry_ms(None, time_ms, None, None, "psetex"))
        return Plan("PSETEX", [setting], lambda done: bool(checked(done[0], "PSETEX")))

    def mset(self, mapping: Mapping[Any, Any]) -> Plan:
        if not mapping:
            raise ResponseError("wrong number of arguments for 'mset' command")
        settings = [self._setting(name, value) for name, value in mapping.items()]
        return Plan("MSET", settings, lambda done: all(checked(one, "MSET") for one in done))

    def getset(self, name: Any, value: Any) -> Plan:
        def previous(outcomes: Outcomes) -> Any:
            checked(outcomes[1], "GETSET")
            return self.value(checked(outcomes[0], "GETSET"))

        return Plan("GETSET", [self._get(name), self._setting(name, value)], previous)

    def getdel(self, name: Any) -> Plan:
        deleting = delete_operation(self.key(name)), convert.delete_result
        return Plan(
            "GETDEL", [self._get(name), deleting], lambda done: self.value(checked(done[0], "GETDEL"))
        )

    def getex(
        self,
        name: Any,
        ex: int | timedelta | None = None,
        px: int | timedelta | None = None,
        exat: int | datetime | None = None,
        pxat: int | datetime | None = None,
        persist: bool = False,
    ) -> Plan:
        ttl_ms = expiry_ms(ex, px, exat, pxat, "getex")
        if persist and ttl_ms is not None:
            raise DataError("``persist`` excludes the others")
        if ttl_ms is None and not persist:
            return self.get(name)
        touching = self._touching(name, ttl_ms)
        return Plan("GETEX", [self._get(name), touching], lambda done: self.value(checked(done[0], "GETEX")))

    def append(self, key: Any, value: Any) -> Plan:
        data = encoded(value)
        appending = update_operation(self.key(key), append=data), convert.update_result
        # Behind it, so that an append that is refused leaves no empty key behind.
        creating = self._setting(key, data, if_absent=True)

        def length(outcomes: Outcomes) -> int:
            appended = checked(outcomes[0], "APPEND")
            if not refused(appended):
                return len(appended.raw)
            checked(outcomes[1], "APPEND")
            return len(data)

        return Plan("APPEND", [appending, creating], length)

    def strlen(self, name: Any) -> Plan:
        return self._reading("STRLEN", [name], lambda found: len(found[0].raw) if found[0] else 0)

    # --- numbers ---

    def incrby(self, name: Any, amount: int = 1) -> Plan:
        if isinstance(amount, bool) or not isinstance(amount, int):
            amount = _integer(amount)
        if not INT64_MIN <= amount <= INT64_MAX:
            raise ResponseError(NOT_AN_INTEGER)
        adding = increment_operation(self.key(name), amount), convert.increment_result
        return Plan("INCRBY", [adding], lambda done: checked(done[0], "INCRBY"))

    def incr(self, name: Any, amount: int = 1) -> Plan:
        return self.incrby(name, amount)

    def decrby(self, name: Any, amount: int = 1) -> Plan:
        return self.incrby(name, -_integer(amount))

    def decr(self, name: Any, amount: int = 1) -> Plan:
        return self.decrby(name, amount)

    def incrbyfloat(self, name: Any, amount: float = 1.0) -> Plan:
        creating = self._setting(name, b"0", if_absent=True)
        adding = update_operation(self.key(name), add=float(amount)), convert.update_result
        return Plan(
            "INCRBYFLOAT", [creating, adding], lambda done: float(checked(done[1], "INCRBYFLOAT").raw)
        )

    # --- keys ---

    def delete(self, *names: Any) -> Plan:
        if not names:
            raise ResponseError("wrong number of arguments for 'del' command")
        deleting: list[Prepared] = [
            (delete_operation(self.key(name)), convert.delete_result) for name in names
        ]
        return Plan("DEL", deleting, lambda done: sum(checked(one, "DEL").deleted for one in done))

    def unlink(self, *names: Any) -> Plan:
        return self.delete(*names)

    def exists(self, *names: Any) -> Plan:
        if not names:
            raise ResponseError("wrong number of arguments for 'exists' command")
        return self._reading("EXISTS", list(names), lambda found: sum(entry is not None for entry in found))

    def touch(self, *args: Any) -> Plan:
        return self.exists(*args)

    def type(self, name: Any) -> Plan:
        return self._reading("TYPE", [name], lambda found: self._decode(b"string" if found[0] else b"none"))

    def ttl(self, name: Any) -> Plan:
        def seconds(found: list[Entry | None]) -> int:
            if found[0] is None:
                return -2
            left_ms = ttl_left_ms(found[0].expires_in_s)
            return left_ms if left_ms < 0 else (left_ms + 500) // 1000

        return self._reading("TTL", [name], seconds)

    def pttl(self, name: Any) -> Plan:
        return self._reading(
            "PTTL", [name], lambda found: ttl_left_ms(found[0].expires_in_s) if found[0] else -2
        )

    def _touching(self, name: Any, ttl_ms: int | None) -> Prepared:
        ttl = None if ttl_ms is None else _ttl_s(ttl_ms)
        return touch_operation(self.key(name), ttl=ttl), convert.touch_result

    def _expiring(self, command: str, name: Any, ttl_ms: int) -> Plan:
        if ttl_ms <= 0:
            deleting = delete_operation(self.key(name)), convert.delete_result
            return Plan(command, [deleting], lambda done: checked(done[0], command).deleted)
        touching = self._touching(name, ttl_ms)
        return Plan(command, [touching], lambda done: not refused(checked(done[0], command)))

    def expire(self, name: Any, time: int | timedelta) -> Plan:
        return self._expiring("EXPIRE", name, milliseconds(time, 1000))

    def pexpire(self, name: Any, time: int | timedelta) -> Plan:
        return self._expiring("PEXPIRE", name, milliseconds(time, 1))

    def expireat(self, name: Any, when: int | datetime) -> Plan:
        return self._expiring("EXPIREAT", name, until(when, 1000))

    def pexpireat(self, name: Any, when: int | datetime) -> Plan:
        return self._expiring("PEXPIREAT", name, until(when, 1))

    def persist(self, name: Any) -> Plan:
        def had_one(outcomes: Outcomes) -> bool:
            entry = checked(outcomes[0], "PERSIST")
            checked(outcomes[1], "PERSIST")
            return entry is not None and entry.expires_in_s is not None

        return Plan("PERSIST", [self._get(name), self._touching(name, None)], had_one)

    # --- connection ---

    def ping(self) -> Plan:
        # A linearizable read of a key that is never there: a majority answers.
        return Plan("PING", [(get_operation(b"\0ping"), convert.get_result)], lambda _: True, is_read=True)


def _ttl_s(ttl_ms: int) -> float:
    """A point of time that is over is the shortest ttl there is, one in a distant future the longest."""
    return min(max(1, ttl_ms), TTL_MS_MAX) / 1000


def _integer(value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ResponseError(NOT_AN_INTEGER) from None


# The commands that are one plan: they work alone and in a pipeline.
PLANNED = (
    "append", "decr", "decrby", "delete", "exists", "expire", "expireat", "get", "getdel", "getex", "getset",
    "incr", "incrby", "incrbyfloat", "mget", "mset", "persist", "pexpire", "pexpireat", "ping", "psetex",
    "pttl", "set", "setex", "setnx", "strlen", "touch", "ttl", "type", "unlink",
)  # fmt: skip
