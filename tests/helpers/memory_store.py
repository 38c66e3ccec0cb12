"""An in-memory store behind the Port of the workloads: correct as it is, wrong in one way in each subclass.

Calls take a random time before and after their effect, and some end without a reply, before or after it.
"""

import asyncio
import random
from dataclasses import dataclass, field

from replcache.clock import Clock
from replcache.errors import (
    ConditionFailed,
    FenceRejected,
    LockLost,
    LockTimeout,
    NoLeader,
    NotFound,
    OutcomeUnknown,
)
from replcache.verify.port import Condition, Fence, Found, OpenPort, Port, ReadLevel, Wrote


@dataclass
class Item:
    value: bytes
    version: int
    expires_s: float = float("inf")


@dataclass
class Lease:
    owner: str
    token: int
    expires_s: float


@dataclass
class MemoryStore:
    """The state, and the only place where calls take effect. Hooks for bugs are the methods."""

    clock: Clock
    rng: random.Random
    items: dict[str, Item] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    replies: dict[str, int] = field(default_factory=dict)
    revision: int = 0

    def port(self) -> Port:
        return MemoryPort(self)

    def opener(self) -> OpenPort:
        async def open_port(index: int) -> Port:
            return self.port()

        return open_port

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    # --- data ---

    def item(self, key: str) -> Item | None:
        item = self.items.get(key)
        if item is not None and self.clock.now() >= item.expires_s:
            del self.items[key]
            item = None
        return item

    def get(self, key: str, level: ReadLevel) -> Found | None:
        item = self.item(key)
        staleness_s = 0.0 if level == "one" else None
        return None if item is None else Found(item.value, item.version, self.revision, staleness_s)

    def put(self, key: str, value: bytes, ttl_ms: int = 0) -> Wrote:
        before = self.item(key)
        self.revision += 1
        version = 1 if before is None else before.version + 1
        self.items[key] = Item(value, version, self.deadline(ttl_ms))
        return Wrote(version, self.revision)

    def deadline(self, ttl_ms: int) -> float:
        return self.clock.now() + ttl_ms / 1000 if ttl_ms else float("inf")

    def set(self, key: str, value: bytes, ttl_ms: int, condition: Condition | None) -> Wrote:
        if condition is not None and not self.holds(key, condition):
            raise ConditionFailed("no")
        return self.put(key, value, ttl_ms)

    def holds(self, key: str, condition: Condition) -> bool:
        item = self.item(key)
        version = 0 if item is None else item.version
        return (
            not (condition.absent and version)
            and not (condition.present and not version)
            and condition.version in (None, version)
            and (condition.value is None or (item is not None and item.value == condition.value))
        )

    def append(self, key: str, value: bytes, fence: Fence | None) -> Found:
        item = self.item(key)
        if item is None:
            raise NotFound("no such key")
        if fence is not None and not self.is_held(fence):
            raise FenceRejected("not held")
        wrote = self.put(key, item.value + value)
        return Found(item.value + value, wrote.version, wrote.revision)

    def add(self, key: str, delta: int) -> int:
        item = self.item(key)
        value = (0 if item is None else int(item.value)) + delta
        self.put(key, b"%d" % value)
        return value

    def add_once(self, key: str, delta: int, request_id: str) -> int:
        if request_id not in self.replies:
            self.replies[request_id] = self.add(key, delta)
        return self.replies[request_id]

    def delete(self, key: str) -> bool:
        found = self.item(key) is not None
        self.items.pop(key, None)
        self.revision += 1
        return found

    def touch(self, key: str, ttl_ms: int) -> None:
        item = self.item(key)
        if item is None:
            raise NotFound("no such key")
        self.put(key, item.value, ttl_ms)

    # --- locks ---

    def lease(self, name: str) -> Lease | None:
        lease = self.leases.get(name)
        if lease is not None and self.clock.now() >= lease.expires_s:
            del self.leases[name]
            lease = None
        return lease

    def is_held(self, fence: Fence) -> bool:
        lease = self.lease(fence.name)
        return lease is not None and lease.token == fence.token

    def acquire(self, name: str, owner: str, ttl_ms: int) -> int:
        if self.lease(name) is not None:
            raise LockTimeout("held")
        self.revision += 1
        self.leases[name] = Lease(owner, self.revision, self.deadline(ttl_ms))
        return self.revision

    def renew(self, name: str, owner: str, token: int, ttl_ms: int) -> None:
        lease = self.lease(name)
        if lease is None or lease.owner != owner or lease.token != token:
            raise LockLost("not held")
        lease.expires_s = self.deadline(ttl_ms)

    def release(self, name: str, owner: str, token: int) -> bool:
        lease = self.lease(name)
        if lease is None or lease.owner != owner or token not in (0, lease.token):
            return False
        del self.leases[name]
        return True


class MemoryPort:
    """A Port over a MemoryStore, with delays and lost messages. No method may be called from two tasks."""

    LOST_SHARE = 0.03

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def _before(self) -> None:
        store = self._store
        await asyncio.sleep(store.rng.uniform(0, 0.004))
        if store.chance(self.LOST_SHARE):
            raise OutcomeUnknown("the request was lost") if store.chance(0.5) else NoLeader("no leader")

    async def _after(self) -> None:
        store = self._store
        await asyncio.sleep(store.rng.uniform(0, 0.004))
        if store.chance(self.LOST_SHARE):
            raise OutcomeUnknown("the reply was lost")

    async def get(self, key: str, level: ReadLevel) -> Found | None:
        await self._before()
        found = self._store.get(key, level)
        await self._after()
        return found

    async def set(
        self, key: str, value: bytes, *, ttl_ms: int = 0, condition: Condition | None = None
    ) -> Wrote:
        await self._before()
        wrote = self._store.set(key, value, ttl_ms, condition)
        await self._after()
        return wrote

    async def append(self, key: str, value: bytes, fence: Fence | None = None) -> Found:
        await self._before()
        found = self._store.append(key, value, fence)
        await self._after()
        return found

    async def add(self, key: str, delta: int) -> int:
        await self._before()
        value = self._store.add(key, delta)
        await self._after()
        return value

    async def add_once(self, key: str, delta: int, request_id: str) -> int:
        await self._before()
        value = self._store.add_once(key, delta, request_id)
        await self._after()
        return value

    async def delete(self, key: str) -> bool:
        await self._before()
        found = self._store.delete(key)
        await self._after()
        return found

    async def touch(self, key: str, ttl_ms: int) -> None:
        await self._before()
        self._store.touch(key, ttl_ms)
        await self._after()

    async def acquire(self, name: str, owner: str, ttl_ms: int, wait_ms: int) -> int:
        await self._before()
        end_s = self._store.clock.now() + wait_ms / 1000
        while True:
            try:
                token = self._store.acquire(name, owner, ttl_ms)
                break
            except LockTimeout:
                if self._store.clock.now() >= end_s:
                    raise
            await asyncio.sleep(0.01)
        await self._after()
        return token

    async def renew(self, name: str, owner: str, token: int, ttl_ms: int) -> None:
        await self._before()
        self._store.renew(name, owner, token, ttl_ms)
        await self._after()

    async def release(self, name: str, owner: str, token: int) -> bool:
        await self._before()
        released = self._store.release(name, owner, token)
        await self._after()
        return released

    async def close(self) -> None:
        return


# --- wrong ones --------------------------------------------------------------------------------------------


@dataclass
class StaleReads(MemoryStore):
    """Some reads come from a copy that lags behind."""

    copies: dict[str, Found | None] = field(default_factory=dict)

    def get(self, key: str, level: ReadLevel) -> Found | None:
        found = super().get(key, level)
        if self.chance(0.05):
            return self.copies.get(key)
        if self.chance(0.3):
            self.copies[key] = found
        return found


class LostWrites(MemoryStore):
    """A few acknowledged writes never happen."""

    def put(self, key: str, value: bytes, ttl_ms: int = 0) -> Wrote:
        before = dict(self.items)
        wrote = super().put(key, value, ttl_ms)
        if self.chance(0.02):
            self.items = before
        return wrote


class AbortedWrites(MemoryStore):
    """Some writes happen although the caller is told that they certainly did not."""

    def put(self, key: str, value: bytes, ttl_ms: int = 0) -> Wrote:
        wrote = super().put(key, value, ttl_ms)
        if self.chance(0.02):
            raise NoLeader("certainly not executed")
        return wrote


class UncheckedConditions(MemoryStore):
    """Two writers with the same expected version both succeed now and then."""

    def holds(self, key: str, condition: Condition) -> bool:
        return super().holds(key, condition) or self.chance(0.1)


class DoubleEffects(MemoryStore):
    """A retry inside the store executes an addition or an append twice; the reply is the first one's."""

    def add(self, key: str, delta: int) -> int:
        value = super().add(key, delta)
        if self.chance(0.02):
            super().add(key, delta)
        return value

    def append(self, key: str, value: bytes, fence: Fence | None) -> Found:
        found = super().append(key, value, fence)
        if self.chance(0.02):
            super().append(key, value, fence)
        return found


class ForgottenRequests(MemoryStore):
    """Replies of requests are forgotten, so that a retry executes again."""

    def add_once(self, key: str, delta: int, request_id: str) -> int:
        if self.chance(0.1):
            self.replies.pop(request_id, None)
        return super().add_once(key, delta, request_id)


class LockTwice(MemoryStore):
    """A held lock is now and then granted to somebody else."""

    def acquire(self, name: str, owner: str, ttl_ms: int) -> int:
        if self.chance(0.05):
            self.leases.pop(name, None)
        return super().acquire(name, owner, ttl_ms)


class RepeatedTokens(MemoryStore):
    """Tokens do not grow with every grant."""

    def acquire(self, name: str, owner: str, ttl_ms: int) -> int:
        token = super().acquire(name, owner, ttl_ms)
        if self.chance(0.1):
            token -= 20
            self.leases[name].token = token
        return token


class IgnoredFence(MemoryStore):
    """Writes under an old token are taken."""

    def is_held(self, fence: Fence) -> bool:
        return super().is_held(fence) or self.chance(0.2)


class EarlyExpiry(MemoryStore):
    """Some values live half as long as they should."""

    def deadline(self, ttl_ms: int) -> float:
        return super().deadline(ttl_ms // 2 if self.chance(0.1) else ttl_ms)


@dataclass
class Resurrection(MemoryStore):
    """Some values can be read again after they were gone."""

    gone: dict[str, Found] = field(default_factory=dict)

    def get(self, key: str, level: ReadLevel) -> Found | None:
        before = self.items.get(key)
        found = super().get(key, level)
        if found is None and before is not None:
            self.gone[key] = Found(before.value, before.version)
        return self.gone.get(key) if found is None and self.chance(0.05) else found


class NeverExpires(MemoryStore):
    """Some values stay."""

    def deadline(self, ttl_ms: int) -> float:
        return float("inf") if self.chance(0.1) else super().deadline(ttl_ms)
