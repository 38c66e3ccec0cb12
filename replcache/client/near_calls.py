"""`near` of both clients, and the near cache for threads."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from replcache.client.cluster import AsyncClusterCalls
from replcache.client.durations import Duration
from replcache.client.near import AsyncNear, NearOptions, NearStatistics
from replcache.client.requests import Key
from replcache.client.types import DeleteResult, Entry, SetResult


class AsyncNearCalls(AsyncClusterCalls):
    """Part of AsyncClient."""

    def near(
        self, prefix: Key = "", *, max_entries: int | None = None, max_staleness: Duration = "100ms"
    ) -> AsyncNear:
        """A cache in this process of the keys that begin with `prefix`; see client/near.py.

        Args:
            max_entries: the least recently used one goes first; default 10,000.
            max_staleness: no entry is served that may be older than this; 20 ms at least.
        """
        return AsyncNear(self, NearOptions.checked(prefix, max_entries, max_staleness))


class NearCalls:
    """Part of Client."""

    # The AsyncClient underneath; its module imports this one.
    _aio: Any
    _ready: Callable[[], None]
    _run: Callable[..., Any]

    def near(
        self, prefix: Key = "", *, max_entries: int | None = None, max_staleness: Duration = "100ms"
    ) -> "Near":
        """As AsyncClient.near."""
        return Near(self, self._aio.near(prefix, max_entries=max_entries, max_staleness=max_staleness))


class Near:
    """AsyncNear for threads: hits are served in the calling thread, without the event loop."""

    def __init__(self, client: NearCalls, near: AsyncNear) -> None:
        self._client = client
        self._near = near

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forgets everything. May be called twice; the client stays open."""
        if not self._near.is_closed:
            self._client._run(self._near.close, None)

    def get(self, key: Key, *, timeout: Duration | None = None) -> Entry | None:
        """As AsyncNear.get."""
        near = self._near
        row = near.hit(key)
        if row is not None:
            return row.entry
        name = near.name_of(key)
        entry: Entry | None = self._client._run(lambda: near.fetch(name, timeout), timeout)
        return entry

    def get_value(self, key: Key, default: Any = None, *, timeout: Duration | None = None) -> Any:
        """As AsyncNear.get_value."""
        entry = self.get(key, timeout=timeout)
        return default if entry is None else entry.value

    def set(self, key: Key, value: object, **options: Any) -> SetResult:
        """As AsyncNear.set."""
        result: SetResult = self._client._run(
            lambda: self._near.set(key, value, **options), options.get("timeout")
        )
        return result

    def delete(self, key: Key, **options: Any) -> DeleteResult:
        """As AsyncNear.delete."""
        result: DeleteResult = self._client._run(
            lambda: self._near.delete(key, **options), options.get("timeout")
        )
        return result

    def invalidate(self, key: Key) -> None:
        """As AsyncNear.invalidate."""
        self._near.invalidate(key)

    def stats(self) -> NearStatistics:
        return self._near.stats()
