"""Client: the blocking client. The same methods as AsyncClient (aio.py), whose docstrings say what they do.

One background thread with an event loop serves all threads that use the object, so their calls share
messages and one connection. An interrupted call (Ctrl-C) only stops the waiting: a write may still be
executed. A client does not survive os.fork(): its calls raise ClientClosed in the child process.
"""

import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from replcache.client.aio import AsyncClient
from replcache.client.base import BaseClient, Prepared
from replcache.client.batch import Batch
from replcache.client.bridge import Bridge
from replcache.client.cached_calls import CachedCalls
from replcache.client.durations import Duration, parse_ttl_ms
from replcache.client.lock import AsyncLock, LockOptions
from replcache.client.requests import UNSET, Fence, Key, Unset, key_bytes
from replcache.client.scan import ScanQuery, scan_pages
from replcache.client.through_calls import ThroughCalls
from replcache.client.types import (
    ClientStatistics,
    Consistency,
    DeleteResult,
    Entry,
    LockView,
    Member,
    NodeStatus,
    SetResult,
    StateHash,
)
from replcache.client.watch_calls import WatchCalls
from replcache.constants import CLIENT_CLOSE_TIMEOUT_S
from replcache.errors import ClientClosed, ConditionFailed, DeadlineExceeded, InvalidRequest, NotFound

K = TypeVar("K", str, bytes)


class Client(WatchCalls, ThroughCalls, CachedCalls, BaseClient):
    """A blocking client of a replcache cluster, for any number of threads. See AsyncClient."""

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._bridge = Bridge()
        self._aio = AsyncClient._over(self)

    __init__.__doc__ = BaseClient.__init__.__doc__

    def __enter__(self) -> Self:
        self._ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bridge.close(self._core.close)

    def _ready(self) -> None:
        if not self._bridge.is_running:
            if self._bridge.is_forked or self._bridge.is_closed:
                raise ClientClosed("the client is closed, or was made before os.fork()")
            self._bridge.start(self._start)

    def _start(self) -> None:
        self._core.start()
        self._bridge.on_gathering = self._core.pipeline.gather

    def _call(self, function: Callable[..., None], args: tuple[Any, ...], timeout_s: float) -> Any:
        if not self._bridge.is_running:
            self._ready()
        return self._bridge.call(function, args, timeout_s)

    def _run(
        self,
        coroutine: Callable[[], Coroutine[Any, Any, Any]],
        timeout: Duration | None,
        extra_s: float = 0.0,
    ) -> Any:
        if not self._bridge.is_running:
            self._ready()
        return self._bridge.run(coroutine, self._timeout_s(timeout) + extra_s)

    def _operate(self, prepared: Prepared, timeout: Duration | None) -> Any:
        timeout_s = self._timeout_s(timeout)
        return self._call(self._core.operate, (*prepared, timeout_s), timeout_s)

    # --- data ---

    def get(
        self,
        key: Key,
        *,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        full: bool = False,
        timeout: Duration | None = None,
    ) -> Entry | None:
        if read is None and max_staleness is None:
            level, bound_ms = self.settings.read, self.settings.max_staleness_ms
        else:
            level, bound_ms = self._level(read, max_staleness)
        timeout_s = self.settings.timeout_s if timeout is None else self._timeout_s(timeout)
        read_one = self._core.get_full if full else self._core.get_plain
        entry: Entry | None = self._call(read_one, (key_bytes(key), level, bound_ms, timeout_s), timeout_s)
        return entry

    def get_value(
        self,
        key: Key,
        default: Any = None,
        *,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Any:
        entry = self.get(key, read=read, max_staleness=max_staleness, timeout=timeout)
        return default if entry is None else entry.value

    def set(
        self,
        key: Key,
        value: object,
        *,
        ttl: Duration | None = None,
        idle: Duration | None = None,
        max_reads: int = 0,
        tags: Iterable[str] = (),
        if_version: int | None = None,
        if_value: object = UNSET,
        nx: bool = False,
        xx: bool = False,
        keep_ttl: bool = False,
        fence: Fence | None = None,
        want_previous: bool = False,
        timeout: Duration | None = None,
    ) -> SetResult:
        plain = not (max_reads or tags or nx or xx or keep_ttl or want_previous)
        if plain and idle is None and if_version is None and fence is None and if_value is UNSET:
            data, content_type = self._encode(value)
            ttl_ms = 0 if ttl is None else parse_ttl_ms(ttl, "ttl")
            timeout_s = self.settings.timeout_s if timeout is None else self._timeout_s(timeout)
            result: SetResult = self._call(
                self._core.set_plain, (key_bytes(key), data, content_type, ttl_ms, timeout_s), timeout_s
            )
            return result
        prepared = self._set(
            key,
            value,
            nx=nx,
            xx=xx,
            if_value=if_value,
            ttl=ttl,
            idle=idle,
            max_reads=max_reads,
            tags=tags,
            if_version=if_version,
            keep_ttl=keep_ttl,
            fence=fence,
            want_previous=want_previous,
        )
        changed: SetResult = self._operate(prepared, timeout)
        return changed

    def update(
        self,
        key: Key,
        value: object = UNSET,
        *,
        append: str | bytes | None = None,
        add: int | float | None = None,
        merge: Mapping[str, object] | None = None,
        fn: Callable[[Any], object] | None = None,
        ttl: Duration | None = None,
        if_version: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> Entry:
        entry: Entry
        if fn is None:
            prepared = self._update(
                key, value, append, add, merge, if_value, ttl=ttl, if_version=if_version, fence=fence
            )
            entry = self._operate(prepared, timeout)
            return entry
        # Not handed to the loop: `fn` is the caller's code and runs in the caller's thread.
        attempts = self._update_attempts(key, value, append, add, merge, if_version, if_value, timeout)
        for old, left_s in attempts:
            prepared = self._update(
                key, fn(old.value), None, None, None, if_value, ttl=ttl, if_version=old.version, fence=fence
            )
            try:
                entry = self._operate(prepared, left_s)
            except ConditionFailed:
                if not isinstance(if_value, Unset) and old.raw != self._encode(if_value)[0]:
                    raise
                continue
            return entry
        raise DeadlineExceeded("the entry was changed by others all the time")

    def _update_attempts(
        self,
        key: Key,
        value: object,
        append: object,
        add: object,
        merge: object,
        if_version: int | None,
        if_value: object,
        timeout: Duration | None,
    ) -> Iterator[tuple[Entry, float]]:
        """(entry as it is, seconds left) until the time is up."""
        if append is not None or add is not None or merge is not None or not isinstance(value, Unset):
            raise InvalidRequest("fn excludes value, append, add and merge", field="fn")
        deadline = self._clock.now() + self._timeout_s(timeout)
        while (left_s := deadline - self._clock.now()) > 0:
            old = self.get(key, read=Consistency.LINEARIZABLE, timeout=left_s)
            if old is None:
                raise NotFound(f"there is no key {key!r}")
            if if_version is not None and old.version != if_version:
                raise ConditionFailed(f"the version is {old.version}, not {if_version}")
            yield old, max(0.001, deadline - self._clock.now())

    def delete(
        self,
        key: Key,
        *,
        if_version: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
        want_previous: bool = False,
        timeout: Duration | None = None,
    ) -> DeleteResult:
        prepared = self._delete(
            key, if_value, if_version=if_version, fence=fence, want_previous=want_previous
        )
        result: DeleteResult = self._operate(prepared, timeout)
        return result

    def touch(
        self,
        key: Key,
        *,
        ttl: Duration | None = None,
        idle: Duration | None = None,
        if_version: int | None = None,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> SetResult:
        prepared = self._touch(key, ttl=ttl, idle=idle, if_version=if_version, fence=fence)
        result: SetResult = self._operate(prepared, timeout)
        return result

    def expire(self, key: Key, ttl: Duration, *, timeout: Duration | None = None) -> bool:
        try:
            self.touch(key, ttl=ttl, timeout=timeout)
        except NotFound:
            return False
        return True

    def incr(
        self,
        key: Key,
        delta: int = 1,
        *,
        initial: int = 0,
        ttl: Duration | None = None,
        minimum: int | None = None,
        maximum: int | None = None,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> int:
        prepared = self._incr(
            key, delta, initial=initial, ttl=ttl, minimum=minimum, maximum=maximum, fence=fence
        )
        value: int = self._operate(prepared, timeout)
        return value

    # --- many keys ---

    def get_many(
        self,
        keys: Iterable[K],
        *,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> dict[K, Entry | None]:
        wanted = list(keys)
        found: dict[K, Entry | None] = self._run(
            lambda: self._aio.get_many(wanted, read=read, max_staleness=max_staleness, timeout=timeout),
            timeout,
        )
        return found

    def set_many(
        self, items: Mapping[K, object], *, ttl: Duration | None = None, timeout: Duration | None = None
    ) -> dict[K, SetResult]:
        results: dict[K, SetResult] = self._run(
            lambda: self._aio.set_many(items, ttl=ttl, timeout=timeout), timeout
        )
        return results

    def scan(
        self,
        prefix: Key = "",
        *,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Iterator[Entry]:
        query = ScanQuery.checked(
            prefix, limit, page_size, keys_only, self._level(read, max_staleness), self._timeout_s(timeout)
        )
        pages = scan_pages(self._core, query)

        async def next_page() -> list[Entry]:
            return await anext(pages, [])

        while page := self._run(next_page, query.timeout_s):
            yield from page

    def batch(self, *, atomic: bool = True, timeout: Duration | None = None) -> Batch:
        return Batch(self, atomic, timeout)

    def _send_batch(self, operations: list[Prepared], atomic: bool, timeout_s: float) -> list[Any]:
        outcomes: list[Any] = self._run(
            lambda: self._aio._send_batch(operations, atomic, timeout_s), timeout_s
        )
        return outcomes

    # --- locks ---

    def lock(
        self,
        name: str,
        *,
        ttl: Duration = "10s",
        wait: Duration | None = "5s",
        shared: bool = False,
        permits: int = 1,
        note: str = "",
    ) -> "Lock":
        return Lock(self, LockOptions.checked(name, ttl, wait, shared, permits, note))

    def locks(self, name: str = "", *, timeout: Duration | None = None) -> tuple[LockView, ...]:
        views: tuple[LockView, ...] = self._run(lambda: self._aio.locks(name, timeout=timeout), timeout)
        return views

    # --- cluster ---

    def status(self, node: str = "", *, timeout: Duration | None = None) -> NodeStatus:
        status: NodeStatus = self._run(lambda: self._aio.status(node, timeout=timeout), timeout)
        return status

    def members(self, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(lambda: self._aio.members(timeout=timeout), timeout)
        return members

    def transfer_leadership(self, to: str = "", *, timeout: Duration | None = None) -> str:
        leader: str = self._run(lambda: self._aio.transfer_leadership(to, timeout=timeout), timeout)
        return leader

    def add_member(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        *,
        promote: bool = False,
        timeout: Duration | None = None,
    ) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(
            lambda: self._aio.add_member(
                name, peer_address, client_address, promote=promote, timeout=timeout
            ),
            timeout,
        )
        return members

    def promote_member(self, name: str, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(
            lambda: self._aio.promote_member(name, timeout=timeout), timeout
        )
        return members

    def remove_member(self, name: str, *, timeout: Duration | None = None) -> tuple[Member, ...]:
        members: tuple[Member, ...] = self._run(
            lambda: self._aio.remove_member(name, timeout=timeout), timeout
        )
        return members

    def hash(self, node: str = "", *, timeout: Duration | None = None) -> StateHash:
        digest: StateHash = self._run(lambda: self._aio.hash(node, timeout=timeout), timeout)
        return digest

    # --- the client itself ---

    def stats(self) -> ClientStatistics:
        return self._core.statistics()


class Lock:
    """AsyncLock for threads; `lost` is a threading.Event. See client/lock.py."""

    def __init__(self, client: Client, options: LockOptions) -> None:
        self.lost = threading.Event()
        self._client = client
        self._lock = AsyncLock(client._aio, options, client._rng)

    @property
    def name(self) -> str:
        return self._lock.name

    @property
    def token(self) -> int:
        return self._lock.token

    @property
    def is_held(self) -> bool:
        return self._lock.is_held

    def check(self) -> None:
        self._lock.check()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> int:
        """As AsyncLock.acquire. Interrupting gives the place in the queue, or the lock, back."""
        lost = threading.Event()

        async def acquire() -> int:
            token = await self._lock.acquire()
            self.lost = lost
            self._lock.on_lost = lost.set
            return token

        options = self._lock.options
        token: int = self._client._run(acquire, None, options.wait_s + options.ttl_s)
        return token

    def release(self) -> bool:
        if self._client._bridge.is_closed:
            return False
        released: bool = self._client._run(self._lock.release, None, CLIENT_CLOSE_TIMEOUT_S)
        return released
