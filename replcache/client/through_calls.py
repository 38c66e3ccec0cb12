"""`through` of both clients: views between the cache and a database (replcache/patterns/through.py)."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from replcache.client.durations import Duration
from replcache.client.near_calls import AsyncNearCalls, NearCalls
from replcache.client.types import Consistency

if TYPE_CHECKING:
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


class ThroughCalls(NearCalls):
    """Part of Client."""

    def through(self, **options: Any) -> "Through":
        """As AsyncClient.through."""
        from replcache.patterns.through import Through

        view = self._aio.through(**options)
        checked: ThroughOptions = view.options
        return Through(self, checked)  # type: ignore[arg-type]  # it is a Client
