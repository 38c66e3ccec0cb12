"""`through` of both clients: views between the cache and a database (replcache/patterns/through.py)."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from replcache.client.durations import Duration
from replcache.client.near_calls import AsyncNearCalls, NearCalls
from replcache.client.requests import Key
from replcache.client.types import Consistency

if TYPE_CHECKING:
    import os

    from replcache.patterns.origin import OriginVersion
    from replcache.patterns.prewarm import PrewarmProgress
    from replcache.patterns.through import AsyncThrough, Through
    from replcache.patterns.through_options import ThroughOptions

_Ttl = Duration | None


class AsyncThroughCalls(AsyncNearCalls):
    """Part of AsyncClient."""

    def through(
        self,
        *,
        loader: Callable[[str], Any] | None = None,
        writer: Callable[..., Any] | None = None,
        mode: str = "cache_aside",
        prefix: str = "",
        name: str = "",
        ttl: _Ttl | Callable[[str, Any], _Ttl] = None,
        negative_ttl: _Ttl = None,
        tags: Iterable[str] | Callable[[str, Any], Iterable[str]] = (),
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        lease: Duration = "10s",
        wait: Duration = "5s",
        flush_every: Duration = "200ms",
        max_batch: int = 500,
        shards: int = 1,
        drain: bool = True,
        drain_ttl: Duration = "5s",
        max_rows: int = 100_000,
        max_lag: Duration = "5m",
    ) -> "AsyncThrough":
        """A view of the keys with a prefix that stands in front of a database; see docs/database.md.

        Args:
            loader: key -> value, or None when there is no such row. A plain or a coroutine function.
            writer: rows -> None; a list of Row (key, value, revision); value DELETED: delete the row.
            mode: cache_aside, read_through, write_through, write_behind or write_around.
            prefix: put before each key in the cache; loader and writer get keys without it.
            name: of the view, for its queue and its locks; default: the prefix. All processes must say the
                same name, and the same shards.
            ttl, tags: of cached values; also functions of (key, value).
            negative_ttl: how long it is remembered that there is no such row; None: not at all.
            read, max_staleness: of the look into the cache; default: the client's.
            lease: how long a loader, or the writer of write_through and write_around, may take.
            wait: for another caller that loads the same key, or for the lock of write_through.
            flush_every, max_batch, shards: of write-behind.
            drain: False: this process only puts changes into the queue.
            drain_ttl: how soon another process goes on after the death of the one that drains.
            max_rows, max_lag: write-behind refuses changes (Overloaded) when the database is further behind.

        Raises:
            InvalidRequest: an argument is not acceptable.
        """
        arguments = dict(locals())
        del arguments["self"]
        from replcache.patterns.through import AsyncThrough
        from replcache.patterns.through_options import ThroughOptions

        return AsyncThrough(self, ThroughOptions.checked(**arguments))  # type: ignore[arg-type]  # it is one

    async def prewarm(
        self,
        source: Callable[[str], Any] | Iterable[tuple[str, Any]],
        keys: Iterable[str] | None = None,
        *,
        rate: str | float | None = None,
        concurrency: int = 8,
        progress: "bool | Callable[[PrewarmProgress], object]" = False,
        state: "str | os.PathLike[str] | None" = None,
        prefix: str = "",
        ttl: _Ttl = None,
        tags: Iterable[str] = (),
        lease: Duration = "30s",
    ) -> "PrewarmProgress":
        """Fills what is missing, without touching what is there; see replcache/patterns/prewarm.py.

        Args:
            source: a loader, which is called for each of `keys`; or pairs of key and value.
            rate: keys a second, such as "2k/s"; None: as fast as it goes.
            concurrency: loads at once.
            progress: True: to the log replcache.patterns; a function: called after each chunk.
            state: a file; a run that was killed goes on where the file says. Give the same keys.
            prefix, ttl, tags: of the entries.
            lease: how long loading a chunk may take.

        Raises:
            InvalidRequest: an argument is not acceptable, or the state is of other keys.
            ReplcacheError: the cluster could not be reached; call it again with the same state.
        """
        from replcache.patterns.prewarm import PrewarmOptions, prewarm

        options = PrewarmOptions.checked(
            source,
            keys,
            rate=rate,
            concurrency=concurrency,
            progress=progress,
            state=state,
            prefix=prefix,
            ttl=ttl,
            tags=tags,
            lease=lease,
        )
        return await prewarm(self, options)  # type: ignore[arg-type]  # it is an AsyncClient

    async def set_if_newer(
        self,
        key: Key,
        value: object,
        origin_version: "OriginVersion",
        *,
        ttl: _Ttl = None,
        tags: Iterable[str] = (),
        remember: Duration = "1d",
        timeout: Duration | None = None,
    ) -> bool:
        """Sets, unless the entry was made from this version of its row or a newer one.

        Args:
            origin_version: a counter of the row, or a datetime with a time zone; it must grow.
            remember: how long the version outlives the entry, so that late messages are refused.

        Returns:
            Whether it was set. See replcache/patterns/origin.py.
        """
        from replcache.patterns.origin import set_if_newer

        return await set_if_newer(
            self,  # type: ignore[arg-type]  # it is an AsyncClient
            key,
            value,
            origin_version,
            ttl=ttl,
            tags=tags,
            remember=remember,
            timeout=timeout,
        )

    async def invalidate_if_older(
        self,
        key: Key,
        origin_version: "OriginVersion",
        *,
        remember: Duration = "1d",
        timeout: Duration | None = None,
    ) -> bool:
        """Removes the entry if it was made from an older version of its row, and refuses older ones from now
        on. False: it was made from this version or a newer one."""
        from replcache.patterns.origin import invalidate_if_older

        return await invalidate_if_older(
            self,  # type: ignore[arg-type]  # it is an AsyncClient
            key,
            origin_version,
            remember=remember,
            timeout=timeout,
        )


class ThroughCalls(NearCalls):
    """Part of Client."""

    def through(self, **options: Any) -> "Through":
        """As AsyncClient.through."""
        from replcache.patterns.through import Through

        view = self._aio.through(**options)
        checked: ThroughOptions = view.options
        return Through(self, checked)  # type: ignore[arg-type]  # it is a Client

    def prewarm(
        self, source: Callable[[str], Any] | Iterable[tuple[str, Any]], *keys: Any, **options: Any
    ) -> "PrewarmProgress":
        """As AsyncClient.prewarm; the loader runs in worker threads."""
        client: Any = self
        client._ready()
        progress: PrewarmProgress = client._bridge.run(
            lambda: self._aio.prewarm(source, *keys, **options), None
        )
        return progress

    def set_if_newer(self, key: Key, value: object, origin_version: "OriginVersion", **options: Any) -> bool:
        """As AsyncClient.set_if_newer."""
        timeout = options.get("timeout")
        return bool(self._run(lambda: self._aio.set_if_newer(key, value, origin_version, **options), timeout))

    def invalidate_if_older(self, key: Key, origin_version: "OriginVersion", **options: Any) -> bool:
        """As AsyncClient.invalidate_if_older."""
        timeout = options.get("timeout")
        return bool(self._run(lambda: self._aio.invalidate_if_older(key, origin_version, **options), timeout))
