"""The workloads: what each looks for is in its docstring. Values are unique, so that every reply can be
traced to the write it came from.
"""

from collections.abc import Mapping
from typing import Final

from replcache.errors import ConditionFailed, FenceRejected, LockLost, LockTimeout, NotFound
from replcache.verify.history import Assumptions, Outcome, Value
from replcache.verify.models import (
    AppendList,
    Counter,
    ExpiringRegister,
    FencedLock,
    Model,
    OnceCounter,
    Register,
)
from replcache.verify.models.leases import EARLY_TOLERANCE_NS, LATE_TOLERANCE_NS
from replcache.verify.port import READ_LEVELS, Condition, Fence, Found, Port, ReadLevel
from replcache.verify.workload import Answer, Ended, Process, Workload


def _number(value: bytes) -> int:
    return int(value.decode())


def _numbers(value: bytes) -> tuple[int, ...]:
    """Elements of an append list: each is written as "n,"."""
    return tuple(int(part) for part in value.decode().split(",") if part)


def _answer(output: Value, found: Found | None) -> Answer:
    if found is None:
        return Answer(output)
    return Answer(output, found.revision, found.staleness_s, found.node)


class RegisterWorkload(Workload):
    """Reads, writes, compare-and-set by version, create, delete: stale reads, lost updates, wrong CAS."""

    name = "register"
    read_levels = READ_LEVELS
    assumptions = Assumptions(("write",), ok_min=20, ok_share_min=0.02)

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}  # last seen of each key: makes some conditions hold

    def model(self) -> Model:
        return Register()

    async def step(self, process: Process, key: str) -> None:
        choice = process.rng.random()
        if choice < 0.5:
            await self._read(process, key, process.run.options.read_level)
        elif choice < 0.75:
            await self._write(process, key)
        elif choice < 0.95:
            version = self._versions.get(key, 0)
            await self._write_if(process, key, Condition(version=version), ("version", version))
        elif choice < 0.97 or not self._may_delete(process, key):
            await self._write_if(process, key, Condition(absent=True), ("absent", None))
        else:
            await self._delete(process, key)

    def _may_delete(self, process: Process, key: str) -> bool:
        """Every fourth key: versions start over after a delete, which makes a key much slower to check."""
        return process.run.options.read_level == "linearizable" and key.endswith(("0", "4", "8"))

    async def final(self, process: Process, key: str) -> Ended:
        return await self._read(process, key, "linearizable")

    async def _read(self, process: Process, key: str, level: ReadLevel) -> Ended:
        async def read() -> Answer:
            found = await process.port.get(key, level)
            if found is None:
                self._versions[key] = 0
                return Answer(None)
            self._versions[key] = found.version
            return _answer((_number(found.value), found.version or None), found)

        weak = "" if level == "linearizable" or process.run.options.is_strict else level
        return await process.call("read", key, None, read, is_read=True, level=weak)

    async def _write(self, process: Process, key: str) -> Ended:
        value = process.unique()

        async def write() -> Answer:
            wrote = await process.port.set(key, b"%d" % value)
            self._versions[key] = wrote.version
            return Answer(wrote.version or None, wrote.revision, None, wrote.node)

        return await process.call("write", key, value, write)

    async def _write_if(
        self, process: Process, key: str, condition: Condition, words: tuple[str, Value]
    ) -> Ended:
        value = process.unique()

        async def write() -> Answer:
            wrote = await process.port.set(key, b"%d" % value, condition=condition)
            self._versions[key] = wrote.version
            return Answer((True, wrote.version or None), wrote.revision, None, wrote.node)

        refused: Mapping[type, Value] = {ConditionFailed: (False, None)}
        return await process.call("write_if", key, (*words, value), write, refused=refused)

    async def _delete(self, process: Process, key: str) -> Ended:
        async def delete() -> Answer:
            return Answer(await process.port.delete(key))

        return await process.call("delete", key, None, delete)


class CounterWorkload(Workload):
    """Additions and reads: an addition applied twice, lost, or seen and gone again."""

    name = "counter"

    def model(self) -> Model:
        return Counter()

    async def step(self, process: Process, key: str) -> None:
        if process.rng.random() < 0.4:
            await self.final(process, key)
            return
        # Never below zero: a value that only grows is quick to check, and no error hides behind it.
        delta = process.rng.choice((1, 1, 1, 2, 5))

        async def add() -> Answer:
            return Answer(await process.port.add(key, delta))

        await process.call("add", key, delta, add)

    async def final(self, process: Process, key: str) -> Ended:
        return await process.call("read", key, None, lambda: read_number(process.port, key), is_read=True)


async def read_number(port: Port, key: str) -> Answer:
    found = await port.get(key, "linearizable")
    return _answer(None if found is None else _number(found.value), found)


class OnceWorkload(Workload):
    """The same addition is sent again on purpose: after unknown outcomes, and although it was answered. It
    must be executed once, and every answer must be the first one."""

    name = "exactly-once"
    calls_per_step = 3

    def model(self) -> Model:
        return OnceCounter()

    async def step(self, process: Process, key: str) -> None:
        if process.rng.random() < 0.3:
            await self.final(process, key)
            return
        delta = process.rng.choice((1, 2, 3))
        request_id = f"{process.run.options.prefix}{process.unique()}"[-60:]
        for _ in range(self.calls_per_step):
            ended = await self._add(process, key, delta, request_id)
            if ended.is_ok and process.rng.random() < 0.7:
                break

    async def _add(self, process: Process, key: str, delta: int, request_id: str) -> Ended:
        async def add() -> Answer:
            return Answer(await process.port.add_once(key, delta, request_id))

        return await process.call("add_once", key, (delta, request_id), add)

    async def final(self, process: Process, key: str) -> Ended:
        return await process.call("read", key, None, lambda: read_number(process.port, key), is_read=True)


class AppendWorkload(Workload):
    """Unique numbers appended to a list, and reads of all of it: lost, duplicate, reordered or aborted
    writes, split brain."""

    name = "append"
    assumptions = Assumptions(("append",), ok_min=20, ok_share_min=0.02)

    def model(self) -> Model:
        return AppendList()

    async def prepare(self, key: str, port: Port) -> None:
        await create_empty(port, key)

    async def step(self, process: Process, key: str) -> None:
        if process.rng.random() < 0.4:
            await self.final(process, key)
            return
        element = process.unique()

        async def append() -> Answer:
            found = await process.port.append(key, b"%d," % element)
            return _answer(len(_numbers(found.value)), found)

        await process.call("append", key, element, append)

    async def final(self, process: Process, key: str) -> Ended:
        return await process.call("read", key, None, lambda: read_list(process.port, key), is_read=True)


async def create_empty(port: Port, key: str) -> None:
    try:
        await port.set(key, b"", condition=Condition(absent=True))
    except ConditionFailed:
        return  # an earlier try, whose outcome was unknown, did it


async def read_list(port: Port, key: str) -> Answer:
    found = await port.get(key, "linearizable")
    return _answer(None if found is None else _numbers(found.value), found)


class LockWorkload(Workload):
    """A lock with short leases protects a list; appends carry the fencing token. Holders dawdle beyond
    their lease, forget to release, renew. Two holders at once, tokens that do not grow, writes under an old
    token, grants that never end."""

    name = "lock"
    calls_per_step = 8
    assumptions = Assumptions(("append",), ok_min=20, ok_share_min=0.02)

    def __init__(self, ttl_ms: int = 1000, early_tolerance_ns: int = EARLY_TOLERANCE_NS) -> None:
        self._ttl_ms = ttl_ms
        self._early_ns = early_tolerance_ns

    def model(self) -> Model:
        return FencedLock(**self.model_options())

    def model_options(self) -> dict[str, Value]:
        return {"early_tolerance_ns": self._early_ns}

    def data_keys(self, key: str) -> tuple[str, ...]:
        return (_protected(key),)

    async def prepare(self, key: str, port: Port) -> None:
        await create_empty(port, _protected(key))

    async def step(self, process: Process, key: str) -> None:
        owner = f"{process.index}-{process.unique()}"
        token = await self._acquire(process, key, owner)
        if token is None:
            await process.pause(0.05)
            return
        if token == 0:  # unknown: whatever it got is given back
            await self._release(process, key, owner, 0)
            return
        await self.final(process, key)
        await self._append(process, key, token)
        if process.rng.random() < 0.3:
            await self._renew(process, key, owner, token)
        if process.rng.random() < 0.2:  # a holder that sleeps longer than its lease
            await process.pause(2 * self._ttl_ms / 1000)
        await self._append(process, key, token)
        if process.rng.random() < 0.9:
            await self._release(process, key, owner, token)
        if process.rng.random() < 0.2:  # a write that comes after the lock is gone
            await self._append(process, key, token)

    async def final(self, process: Process, key: str) -> Ended:
        name = _protected(key)
        return await process.call("read", key, None, lambda: read_list(process.port, name), is_read=True)

    async def _acquire(self, process: Process, key: str, owner: str) -> int | None:
        """The token; 0: unknown; None: not granted."""
        wait_ms = process.rng.choice((0, 100, 1000))

        async def acquire() -> Answer:
            return Answer(await process.port.acquire(key, owner, self._ttl_ms, wait_ms))

        ended = await process.call(
            "acquire", key, (owner, self._ttl_ms), acquire, refused={LockTimeout: None}
        )
        if ended.outcome is Outcome.UNKNOWN:
            return 0
        return int(ended.output) if ended.is_ok and ended.output is not None else None

    async def _renew(self, process: Process, key: str, owner: str, token: int) -> Ended:
        async def renew() -> Answer:
            await process.port.renew(key, owner, token, self._ttl_ms)
            return Answer(True)

        value = (owner, token, self._ttl_ms)
        return await process.call("renew", key, value, renew, refused={LockLost: False})

    async def _release(self, process: Process, key: str, owner: str, token: int) -> Ended:
        async def release() -> Answer:
            return Answer(await process.port.release(key, owner, token))

        return await process.call("release", key, (owner, token), release, refused={LockLost: False})

    async def _append(self, process: Process, key: str, token: int) -> Ended:
        element = process.unique()

        async def append() -> Answer:
            found = await process.port.append(_protected(key), b"%d," % element, Fence(key, token))
            return _answer(len(_numbers(found.value)), found)

        return await process.call("append", key, (token, element), append, refused={FenceRejected: False})


def _protected(lock: str) -> str:
    return f"{lock}/list"


class TtlWorkload(Workload):
    """Values with a short life: gone too early, never, or back again after they were gone."""

    name = "ttl"
    keys_per_process = 2.0
    assumptions = Assumptions((), ok_min=20, ok_share_min=0.02)

    def __init__(
        self,
        ttl_ms: int = 800,
        early_tolerance_ns: int = EARLY_TOLERANCE_NS,
        late_tolerance_ns: int | None = LATE_TOLERANCE_NS,
    ) -> None:
        self._ttl_ms = ttl_ms
        self._missing: set[str] = set()  # keys whose last read found nothing
        self._tolerances = {"early_tolerance_ns": early_tolerance_ns, "late_tolerance_ns": late_tolerance_ns}

    def model(self) -> Model:
        return ExpiringRegister(**self.model_options())

    def model_options(self) -> dict[str, Value]:
        return dict(self._tolerances)

    async def step(self, process: Process, key: str) -> None:
        """Mostly reads, so that values live until they expire; then somebody writes the next one."""
        choice = process.rng.random()
        ttl_ms = process.rng.choice((self._ttl_ms // 4, self._ttl_ms, self._ttl_ms, 2 * self._ttl_ms))
        if choice < (0.4 if key in self._missing else 0.03):
            await self._write(process, key, 0 if process.rng.random() < 0.1 else ttl_ms)
        elif choice > 0.97:
            await self._touch(process, key, ttl_ms)
        elif choice > 0.95:
            await process.call("delete", key, None, lambda: _delete(process.port, key))
        else:
            await self.final(process, key)
        await process.pause(self._ttl_ms / 4000)

    async def final(self, process: Process, key: str) -> Ended:
        ended = await process.call("read", key, None, lambda: read_number(process.port, key), is_read=True)
        if ended.is_ok and ended.output is None:
            self._missing.add(key)
        return ended

    async def _write(self, process: Process, key: str, ttl_ms: int) -> Ended:
        value = process.unique()

        async def write() -> Answer:
            self._missing.discard(key)
            wrote = await process.port.set(key, b"%d" % value, ttl_ms=ttl_ms)
            return Answer(None, wrote.revision, None, wrote.node)

        return await process.call("write", key, (value, ttl_ms), write)

    async def _touch(self, process: Process, key: str, ttl_ms: int) -> Ended:
        async def touch() -> Answer:
            await process.port.touch(key, ttl_ms)
            return Answer(True)

        return await process.call("touch", key, ttl_ms, touch, refused={NotFound: False})


async def _delete(port: Port, key: str) -> Answer:
    return Answer(await port.delete(key))


WORKLOADS: Final[Mapping[str, type[Workload]]] = {
    kind.name: kind
    for kind in (
        RegisterWorkload,
        CounterWorkload,
        LockWorkload,
        AppendWorkload,
        TtlWorkload,
        OnceWorkload,
    )
}


def workload_named(name: str, options: Mapping[str, Value] | None = None) -> Workload:
    """A workload by its name; `options` are its constructor's arguments (e.g. ttl_ms).

    Raises:
        ValueError: there is no such workload, or it has no such option.
    """
    if name not in WORKLOADS:
        raise ValueError(f"no workload {name!r}; there are: {', '.join(WORKLOADS)}")
    try:
        return WORKLOADS[name](**(options or {}))
    except TypeError as err:
        raise ValueError(f"workload {name!r}: {err}") from err
