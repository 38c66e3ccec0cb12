"""AsyncClient: the client for asyncio. `Client` (blocking.py) has the same methods without await."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

from replcache.client.base import BaseClient, Prepared
from replcache.client.batch import AsyncBatch
from replcache.client.batches import ExplicitBatch, GetManyBatch, convert_results
from replcache.client.cached_calls import AsyncCachedCalls
from replcache.client.durations import Duration, parse_ttl_ms
from replcache.client.hold_calls import AsyncHoldCalls
from replcache.client.keyspace_calls import AsyncKeyspaceCalls
from replcache.client.large import LargeValues, check_versions
from replcache.client.range_calls import AsyncRangeCalls, Pages
from replcache.client.requests import UNSET, Fence, Key, LeaseId, Unset, key_bytes, prefix_bytes
from replcache.client.scan import PageQuery
from replcache.client.through_calls import AsyncThroughCalls
from replcache.client.txn import AsyncTxn
from replcache.client.types import ClientStatistics, Consistency, DeleteResult, Entry, SetResult
from replcache.client.watch_calls import AsyncWatchCalls
from replcache.constants import MANIFEST_TYPE
from replcache.errors import ConditionFailed, DeadlineExceeded, InvalidRequest, NotFound, TooLarge
from replcache.pb.v1 import cache_pb2

NOT_GIVEN = (None,) * 5
K = TypeVar("K", str, bytes)


Branches = tuple[list[Prepared], list[Prepared]]


class AsyncClient(
    AsyncWatchCalls, AsyncRangeCalls, AsyncHoldCalls, AsyncKeyspaceCalls, AsyncThroughCalls, AsyncCachedCalls
):
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

    @cached_property
    def _large(self) -> LargeValues:
        return LargeValues(self)

    def _whole_pages(self, pages: Pages, query: PageQuery) -> Pages:
        return self._large.whole_pages(pages, query)

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
        if entry is not None and entry.content_type == MANIFEST_TYPE:
            return await self._large.whole(entry, level, bound_ms, timeout_s)
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
        lease: LeaseId | None = None,
        if_version: int | None = None,
        if_mod_revision: int | None = None,
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
            max_reads: reads after which it goes; 0: not counted.
            tags: names under which the entry can be found and invalidated.
            lease: the entry goes when this lease ends.
            if_version: only if the entry has this version; 0: only if it is missing.
            if_mod_revision: only if its last change is the one of this revision.
            if_value: only if the value is this.
            nx, xx: only if the key is missing, only if it exists. keep_ttl: keep the expiry that it has.
            fence: a held lock, or (name, token): refused unless the lock is held under this token.
            want_previous: fill `previous` of the result.

        Raises:
            ConditionFailed, FenceRejected, TooLarge, InvalidRequest: refused, nothing changed.
            OutcomeUnknown: no answer in time; the write may or may not take effect.
        """
        timeout_s = self.settings.timeout_s if timeout is None else self._timeout_s(timeout)
        data, kind = self._encoded(value)
        special = max_reads or tags or nx or xx or keep_ttl or want_previous or len(data) > self._whole_max
        rest = (idle, if_version, if_mod_revision, lease, fence)
        if not special and rest == NOT_GIVEN and if_value is UNSET:
            ttl_ms = 0 if ttl is None else parse_ttl_ms(ttl, "ttl")
            waiter = self._waiter()
            self._core.set_plain(key_bytes(key), data, kind, ttl_ms, timeout_s, waiter)
            result: SetResult = await waiter
            return result
        return await self._set_special(
            key,
            data,
            kind,
            timeout_s,
            nx=nx,
            xx=xx,
            if_value=if_value,
            ttl=ttl,
            idle=idle,
            max_reads=max_reads,
            tags=tags,
            lease=lease,
            if_version=if_version,
            if_mod_revision=if_mod_revision,
            keep_ttl=keep_ttl,
            fence=fence,
            want_previous=want_previous,
        )

    async def _set_special(
        self, key: Key, data: bytes, kind: str, timeout_s: float, **options: Any
    ) -> SetResult:
        if len(data) > self._whole_max:
            return await self._large.set(key_bytes(key), data, kind, timeout_s, **options)
        changed: SetResult = await self._operate(self._set_encoded(key, data, kind, **options), timeout_s)
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
        if_mod_revision: int | None = None,
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
                key,
                value,
                append,
                add,
                merge,
                if_value,
                ttl=ttl,
                if_version=if_version,
                if_mod_revision=if_mod_revision,
                fence=fence,
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
            check_versions(old, if_version, if_mod_revision)
            prepared = self._update(
                key,
                fn(old.value),
                None,
                None,
                None,
                if_value,
                ttl=ttl,
                if_mod_revision=old.mod_revision,
                fence=fence,
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
        if_mod_revision: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
        want_previous: bool = False,
        timeout: Duration | None = None,
    ) -> DeleteResult:
        """Removes the entry; the result is true in a condition when there was one."""
        prepared = self._delete(
            key,
            if_value,
            if_version=if_version,
            if_mod_revision=if_mod_revision,
            fence=fence,
            want_previous=want_previous,
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
        if_mod_revision: int | None = None,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> SetResult:
        """Replaces the expiry, not the value; without ttl and idle the entry stays for ever.

        Raises:
            NotFound: there is no entry.
        """
        prepared = self._touch(
            key, ttl=ttl, idle=idle, if_version=if_version, if_mod_revision=if_mod_revision, fence=fence
        )
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
            for key, entry in zip(given, await self._send_get_many(batch, level), strict=True):
                found[key] = entry
                if entry is not None and entry.content_type == MANIFEST_TYPE:
                    found[key] = await self._large.whole(entry, level, bound_ms, batch.timeout_s)
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
        """Sets all, in one log entry when they fit into one message and share a content type; large values
        one by one. Not atomic: use batch() for that."""
        timeout_s = self._timeout_s(timeout)
        parts, large = self._set_many(items, ttl, timeout_s)
        waiters = []
        for _, batch in parts:
            waiter = self._waiter()
            batch.waiters.append(waiter)
            waiters.append(waiter)
            self._core.submit_write(batch)
        results: dict[K, SetResult] = {}
        for (given, _), answer in zip(parts, await asyncio.gather(*waiters), strict=True):
            results.update(zip(given, answer, strict=True))
        for key, (data, kind) in large.items():
            results[key] = await self._large.set(key_bytes(key), data, kind, timeout_s, ttl=ttl)
        # In the order of the request, not of the messages.
        return {key: results[key] for key in items}

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

    def txn(self, *, timeout: Duration | None = None) -> AsyncTxn:
        """Requirements and operations for one atomic step. See client/txn.py."""
        return AsyncTxn(self, timeout)

    async def _send_txn(
        self, request: cache_pb2.TxnRequest, branches: Branches, timeout_s: float
    ) -> tuple[bool, list[Any]]:
        response = await self._write("cache", "Txn", request, timeout_s)
        taken = branches[0] if response.succeeded else branches[1]
        converters = [converter for _, converter in taken]
        context = self._core.context
        return response.succeeded, convert_results(response.results, converters, response.header, context)

    async def sweep(self, prefix: Key = "", *, timeout: Duration | None = None) -> int:
        """Deletes parts of large values below `prefix` that belong to nothing any more, and returns how many
        that were. They are left by a small set, a delete, a tag or an eviction that another client did."""
        return await self._large.sweep(prefix_bytes(prefix), self._timeout_s(timeout))

    # --- the client itself ---

    def stats(self) -> ClientStatistics:
        """Hits, misses and what the client has been doing, since it was made."""
        return self._core.statistics()
