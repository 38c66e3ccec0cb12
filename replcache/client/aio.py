"""AsyncClient: the client for asyncio. `Client` (blocking.py) has the same methods without await."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from replcache.client import convert
from replcache.client.base import BaseClient, Prepared
from replcache.client.batch import AsyncBatch
from replcache.client.batches import ExplicitBatch, GetManyBatch
from replcache.client.cached_calls import AsyncCachedCalls
from replcache.client.durations import Duration, parse_ttl_ms
from replcache.client.lock import AsyncLock, LockOptions
from replcache.client.requests import UNSET, Fence, Key, Unset, key_bytes
from replcache.client.scan import ScanQuery, scan_pages
from replcache.client.through_calls import AsyncThroughCalls
from replcache.client.types import (
    ClientStatistics,
    Consistency,
    DeleteResult,
    Entry,
    LockView,
    SetResult,
)
from replcache.client.watch_calls import AsyncWatchCalls
from replcache.errors import (
    ConditionFailed,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    TooLarge,
)
from replcache.pb.v1 import lock_pb2

K = TypeVar("K", str, bytes)


class AsyncClient(AsyncWatchCalls, AsyncThroughCalls, AsyncCachedCalls):
    """A client of a replcache cluster for asyncio.

    Made without any I/O; the first call connects and binds the object to the running event loop. One object
    serves any number of tasks, and batches what they ask for at the same time into few messages.

    Every call ends within its timeout, with a result or with one of the errors of replcache.errors, whose
    `may_have_executed` says whether a write may have taken effect. Writes are executed exactly once however
    often they have to be sent. Cancelling a call only stops the waiting: its write may still be executed.

    Keys are str (UTF-8) or bytes. Values: see client/codec.py. Durations: "10m", seconds, or timedelta.
    """

    @classmethod
    def _over(cls, other: BaseClient) -> "AsyncClient":
        """The asyncio face of another client object."""
        client = cls.__new__(cls)
        client._share(other)
        return client

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends open calls (ClientClosed, OutcomeUnknown) and closes the connections. May be called twice."""
        await self._core.close()

    async def _operate(self, prepared: Prepared, timeout: Duration | None) -> Any:
        waiter = self._waiter()
        self._core.operate(*prepared, self._timeout_s(timeout), waiter)
        return await waiter

    # --- data ---

    async def get(
        self,
        key: Key,
        *,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        full: bool = False,
        timeout: Duration | None = None,
    ) -> Entry | None:
        """The entry, or None when there is none. A stored None, 0, "" or b"" is an entry.

        Args:
            read: how fresh it must be; default: the client's (linearizable).
            max_staleness: for Consistency.ONE: honoured or refused. Given alone it asks for ONE.
            full: also tags, idle ttl, reads left and create revision, in a less compact form.

        Raises:
            StalenessUnavailable: the bound can't be honoured now.
            Unavailable, DeadlineExceeded: no node answered within the timeout.
        """
        if read is None and max_staleness is None:
            level, bound_ms = self.settings.read, self.settings.max_staleness_ms
        else:
            level, bound_ms = self._level(read, max_staleness)
        timeout_s = self.settings.timeout_s if timeout is None else self._timeout_s(timeout)
        name = key_bytes(key)
        waiter = self._waiter()
        read_one = self._core.get_full if full else self._core.get_plain
        read_one(name, level, bound_ms, timeout_s, waiter)
        entry: Entry | None = await waiter
        return entry

    async def get_value(
        self,
        key: Key,
        default: Any = None,
        *,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Any:
        """The decoded value, or `default` when there is no entry."""
        entry = await self.get(key, read=read, max_staleness=max_staleness, timeout=timeout)
        return default if entry is None else entry.value

    async def set(
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
        """Creates or replaces.

        Args:
            ttl: time to live, on the cluster's clock; None: does not expire by time.
            idle: time to live that starts anew with each read and write.
            max_reads: reads after which the entry goes; 0: not counted.
            tags: names under which the entry can be invalidated.
            if_version: only if the entry has this version; 0: only if it is missing.
            if_value: only if the value is this.
            nx, xx: only if the key is missing, only if it exists.
            keep_ttl: keep the expiry that the entry has.
            fence: a held lock, or (name, token): refused unless the lock is held under this token.
            want_previous: fill `previous` of the result.

        Raises:
            ConditionFailed, FenceRejected: refused, nothing changed.
            TooLarge, InvalidRequest: not acceptable.
            OutcomeUnknown: no answer in time; the write may or may not take effect.
        """
        plain = not (max_reads or tags or nx or xx or keep_ttl or want_previous)
        if plain and idle is None and if_version is None and fence is None and if_value is UNSET:
            data, content_type = self._encode(value)
            ttl_ms = 0 if ttl is None else parse_ttl_ms(ttl, "ttl")
            timeout_s = self.settings.timeout_s if timeout is None else self._timeout_s(timeout)
            waiter = self._waiter()
            self._core.set_plain(key_bytes(key), data, content_type, ttl_ms, timeout_s, waiter)
            result: SetResult = await waiter
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
        changed: SetResult = await self._operate(prepared, timeout)
        return changed

    async def update(
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
        """Changes an existing entry atomically; its expiry stays unless `ttl` is given.

        Exactly one of: `value` (replace), `append` (bytes or text put behind), `add` (to a number), `merge`
        (RFC 7396 patch of a JSON object), and `fn`, which gets the value and returns the new one. `fn` may
        be called several times, when others change the entry meanwhile; it must not have side effects.

        Returns:
            The entry after the change.
        Raises:
            NotFound: there is no entry. WrongType, OutOfRange, ConditionFailed, FenceRejected: refused.
            OutcomeUnknown: as for set.
        """
        if fn is None:
            prepared = self._update(
                key, value, append, add, merge, if_value, ttl=ttl, if_version=if_version, fence=fence
            )
            entry: Entry = await self._operate(prepared, timeout)
            return entry
        if append is not None or add is not None or merge is not None or not isinstance(value, Unset):
            raise InvalidRequest("fn excludes value, append, add and merge", field="fn")
        deadline = self._clock.now() + self._timeout_s(timeout)
        while True:
            old = await self.get(key, read=Consistency.LINEARIZABLE, timeout=self._left_s(deadline))
            if old is None:
                raise NotFound(f"there is no key {key!r}")
            if if_version is not None and old.version != if_version:
                raise ConditionFailed(f"the version is {old.version}, not {if_version}")
            prepared = self._update(
                key, fn(old.value), None, None, None, if_value, ttl=ttl, if_version=old.version, fence=fence
            )
            try:
                changed: Entry = await self._operate(prepared, self._left_s(deadline))
            except ConditionFailed:
                # Somebody else was faster. (With if_value it may be that: then the next turn says so.)
                if not isinstance(if_value, Unset) and old.raw != self._encode(if_value)[0]:
                    raise
                continue
            return changed

    def _left_s(self, deadline: float) -> float:
        left = deadline - self._clock.now()
        if left <= 0:
            raise DeadlineExceeded("the entry was changed by others all the time")
        return left

    async def delete(
        self,
        key: Key,
        *,
        if_version: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
        want_previous: bool = False,
        timeout: Duration | None = None,
    ) -> DeleteResult:
        """Removes the entry; the result is true in a condition when there was one."""
        prepared = self._delete(
            key, if_value, if_version=if_version, fence=fence, want_previous=want_previous
        )
        result: DeleteResult = await self._operate(prepared, timeout)
        return result

    async def touch(
        self,
        key: Key,
        *,
        ttl: Duration | None = None,
        idle: Duration | None = None,
        if_version: int | None = None,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> SetResult:
        """Replaces the expiry, not the value; without ttl and idle the entry stays for ever.

        Raises:
            NotFound: there is no entry.
        """
        prepared = self._touch(key, ttl=ttl, idle=idle, if_version=if_version, fence=fence)
        result: SetResult = await self._operate(prepared, timeout)
        return result

    async def expire(self, key: Key, ttl: Duration, *, timeout: Duration | None = None) -> bool:
        """Lets the entry expire after `ttl`; False: there is no entry."""
        try:
            await self.touch(key, ttl=ttl, timeout=timeout)
        except NotFound:
            return False
        return True

    async def incr(
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
        """Adds to an integer and returns the new one, exactly once.

        Args:
            initial: what a missing key counts from.
            ttl: for an entry that this call creates.
            minimum, maximum: the result must stay within.

        Raises:
            OutOfRange: it would leave the bounds (or 64 bits); nothing changed.
            WrongType: the value is no integer.
        """
        prepared = self._incr(
            key, delta, initial=initial, ttl=ttl, minimum=minimum, maximum=maximum, fence=fence
        )
        value: int = await self._operate(prepared, timeout)
        return value

    # --- many keys ---

    async def get_many(
        self,
        keys: Iterable[K],
        *,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> dict[K, Entry | None]:
        """All keys, with None where there is no entry. Up to 4,096 keys are read from one state, unless
        their values are too large for one message."""
        level, bound_ms = self._level(read, max_staleness)
        found: dict[K, Entry | None] = {}
        pending = self._get_many(keys, level, bound_ms, self._timeout_s(timeout))
        for given, batch in pending:
            found.update(zip(given, await self._send_get_many(batch, level), strict=True))
        return found

    async def _send_get_many(self, batch: GetManyBatch, level: Consistency) -> list[Entry | None]:
        waiter = self._waiter()
        batch.waiters.append(waiter)
        self._core.submit_read(batch, level)
        try:
            entries: list[Entry | None] = await waiter
            return entries
        except TooLarge:
            if len(batch) == 1:
                raise
        middle = len(batch) // 2
        found: list[Entry | None] = []
        for keys in (batch.keys[:middle], batch.keys[middle:]):
            half = GetManyBatch(batch.level, batch.max_staleness_ms, batch.timeout_s, self._clock.now())
            half.keys = keys
            found += await self._send_get_many(half, level)
        return found

    async def set_many(
        self, items: Mapping[K, object], *, ttl: Duration | None = None, timeout: Duration | None = None
    ) -> dict[K, SetResult]:
        """Sets all, in one log entry when they fit into one message and share a content type. Not atomic:
        use batch() for that."""
        parts = self._set_many(items, ttl, self._timeout_s(timeout))
        waiters = []
        for _, batch in parts:
            waiter = self._waiter()
            batch.waiters.append(waiter)
            waiters.append(waiter)
            self._core.submit_write(batch)
        results: dict[K, SetResult] = {}
        for (given, _), answer in zip(parts, await asyncio.gather(*waiters), strict=True):
            results.update(zip(given, answer, strict=True))
        # In the order of the request, not of the messages.
        return {key: results[key] for key in items}

    async def scan(
        self,
        prefix: Key = "",
        *,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> AsyncIterator[Entry]:
        """Entries whose keys begin with `prefix`, in byte order. Each page is from one state.

        Args:
            limit: at most this many entries; None: all.
            page_size: entries asked for at once; 0: the server's choice.
            keys_only: leave the values out.
            timeout: for each page.
        """
        self._waiter()
        query = ScanQuery.checked(
            prefix, limit, page_size, keys_only, self._level(read, max_staleness), self._timeout_s(timeout)
        )
        async for page in scan_pages(self._core, query):
            for entry in page:
                yield entry

    def batch(self, *, atomic: bool = True, timeout: Duration | None = None) -> AsyncBatch:
        """Collects operations and applies them in one log entry.

        Args:
            atomic: all or nothing. False: each operation stands for itself.
        """
        return AsyncBatch(self, atomic, timeout)

    async def _send_batch(self, operations: list[Prepared], atomic: bool, timeout_s: float) -> list[Any]:
        batch = ExplicitBatch(atomic, timeout_s, self._clock.now())
        batch.operations = [operation for operation, _ in operations]
        batch.converters = [converter for _, converter in operations]
        waiter = self._waiter()
        batch.waiters.append(waiter)
        self._core.submit_write(batch)
        outcomes: list[Any] = await waiter
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
    ) -> AsyncLock:
        """A lock for `async with`, or for acquire() and release(). See client/lock.py.

        Args:
            ttl: the lock is freed this long after the last renewal; it is renewed every ttl/3.
            wait: how long to queue (first come first served); None or 0: not at all.
            shared: beside other shared holders.
            permits: holders at once: a semaphore. All callers must say the same.
            note: shown by locks().
        """
        return AsyncLock(self, LockOptions.checked(name, ttl, wait, shared, permits, note), self._rng)

    async def locks(self, name: str = "", *, timeout: Duration | None = None) -> tuple[LockView, ...]:
        """Holders and waiters of one lock, or of all (up to 1,000)."""
        self._waiter()
        response = await self._core.unary(
            "lock", "Describe", lock_pb2.DescribeRequest(name=name), self._timeout_s(timeout), is_write=False
        )
        return tuple(convert.lock_view(info) for info in response.locks)

    # --- the client itself ---

    def stats(self) -> ClientStatistics:
        """Hits, misses and what the client has been doing, since it was made."""
        return self._core.statistics()
