"""Client: the blocking client. The same methods as AsyncClient (aio.py), whose docstrings say what they do.

One background thread with an event loop serves all threads that use the object, so their calls share
messages and one connection. An interrupted call (Ctrl-C) only stops the waiting: a write may still be
executed. A client does not survive os.fork(): its calls raise ClientClosed in the child process.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from replcache.client.aio import NOT_GIVEN, AsyncClient
from replcache.client.base import BaseClient, Prepared
from replcache.client.batch import Batch
from replcache.client.bridge import Bridge
from replcache.client.cached_calls import CachedCalls
from replcache.client.cluster_calls import ClusterCalls
from replcache.client.durations import Duration, parse_ttl_ms
from replcache.client.hold_calls import HoldCalls
from replcache.client.keyspace_calls import KeyspaceCalls
from replcache.client.large import check_versions
from replcache.client.range_calls import RangeCalls
from replcache.client.requests import UNSET, Fence, Key, LeaseId, Unset, key_bytes
from replcache.client.through_calls import ThroughCalls
from replcache.client.txn import Txn
from replcache.client.types import ClientStatistics, Consistency, DeleteResult, Entry, SetResult
from replcache.client.watch_calls import WatchCalls
from replcache.constants import MANIFEST_TYPE
from replcache.errors import ClientClosed, ConditionFailed, DeadlineExceeded, InvalidRequest, NotFound

# Several steps, each of which ends by itself within the timeout.
_STEPS_S = float("inf")
K = TypeVar("K", str, bytes)


class Client(WatchCalls, RangeCalls, HoldCalls, KeyspaceCalls, ClusterCalls, ThroughCalls, CachedCalls):
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
        if self._core.tracing is not None:
            function = self._core.tracing.carried(function)
        return self._bridge.call(function, args, timeout_s)

    def _run(
        self,
        coroutine: Callable[[], Coroutine[Any, Any, Any]],
        timeout: Duration | None,
        extra_s: float = 0.0,
    ) -> Any:
        if not self._bridge.is_running:
            self._ready()
        if self._core.tracing is not None:
            coroutine = self._core.tracing.carrying(coroutine)
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
        if entry is not None and entry.content_type == MANIFEST_TYPE:
            part, large = entry, self._aio._large
            entry = self._run(lambda: large.whole(part, level, bound_ms, timeout_s), None, _STEPS_S)
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
        timeout_s = self.settings.timeout_s if timeout is None else self._timeout_s(timeout)
        data, kind = self._encoded(value)
        special = max_reads or tags or nx or xx or keep_ttl or want_previous or len(data) > self._whole_max
        rest = (idle, if_version, if_mod_revision, lease, fence)
        if not special and rest == NOT_GIVEN and if_value is UNSET:
            ttl_ms = 0 if ttl is None else parse_ttl_ms(ttl, "ttl")
            result: SetResult = self._call(
                self._core.set_plain, (key_bytes(key), data, kind, ttl_ms, timeout_s), timeout_s
            )
            return result
        return self._set_special(
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

    def _set_special(self, key: Key, data: bytes, kind: str, timeout_s: float, **options: Any) -> SetResult:
        if len(data) > self._whole_max:
            name, large = key_bytes(key), self._aio._large
            changed = self._run(lambda: large.set(name, data, kind, timeout_s, **options), None, _STEPS_S)
        else:
            changed = self._operate(self._set_encoded(key, data, kind, **options), timeout_s)
        result: SetResult = changed
        return result

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
        if_mod_revision: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> Entry:
        entry: Entry
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
            entry = self._operate(prepared, timeout)
            return entry
        # Not handed to the loop: `fn` is the caller's code and runs in the caller's thread.
        if append is not None or add is not None or merge is not None or not isinstance(value, Unset):
            raise InvalidRequest("fn excludes value, append, add and merge", field="fn")
        attempts = self._update_attempts(key, if_version, if_mod_revision, timeout)
        for old, left_s in attempts:
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
                entry = self._operate(prepared, left_s)
            except ConditionFailed:
                if not isinstance(if_value, Unset) and old.raw != self._encode(if_value)[0]:
                    raise
                continue
            return entry
        raise DeadlineExceeded("the entry was changed by others all the time")

    def _update_attempts(
        self, key: Key, if_version: int | None, if_mod_revision: int | None, timeout: Duration | None
    ) -> Iterator[tuple[Entry, float]]:
        """(entry as it is, seconds left) until the time is up."""
        deadline = self._clock.now() + self._timeout_s(timeout)
        while (left_s := deadline - self._clock.now()) > 0:
            old = self.get(key, read=Consistency.LINEARIZABLE, timeout=left_s)
            if old is None:
                raise NotFound(f"there is no key {key!r}")
            check_versions(old, if_version, if_mod_revision)
            yield old, max(0.001, deadline - self._clock.now())

    def delete(
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
        prepared = self._delete(
            key,
            if_value,
            if_version=if_version,
            if_mod_revision=if_mod_revision,
            fence=fence,
            want_previous=want_previous,
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
        if_mod_revision: int | None = None,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> SetResult:
        prepared = self._touch(
            key, ttl=ttl, idle=idle, if_version=if_version, if_mod_revision=if_mod_revision, fence=fence
        )
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
            None,
            _STEPS_S,
        )
        return found

    def set_many(
        self, items: Mapping[K, object], *, ttl: Duration | None = None, timeout: Duration | None = None
    ) -> dict[K, SetResult]:
        results: dict[K, SetResult] = self._run(
            lambda: self._aio.set_many(items, ttl=ttl, timeout=timeout), None, _STEPS_S
        )
        return results

    def batch(self, *, atomic: bool = True, timeout: Duration | None = None) -> Batch:
        return Batch(self, atomic, timeout)

    def _send_batch(self, operations: list[Prepared], atomic: bool, timeout_s: float) -> list[Any]:
        outcomes: list[Any] = self._run(
            lambda: self._aio._send_batch(operations, atomic, timeout_s), timeout_s
        )
        return outcomes

    def txn(self, *, timeout: Duration | None = None) -> Txn:
        return Txn(self, timeout)

    def sweep(self, prefix: Key = "", *, timeout: Duration | None = None) -> int:
        swept: int = self._run(lambda: self._aio.sweep(prefix, timeout=timeout), None, _STEPS_S)
        return swept

    # --- the client itself ---

    def stats(self) -> ClientStatistics:
        return self._core.statistics()
