"""`watch` of both clients, and the plain iterator that the blocking one returns."""

from collections.abc import Callable
from typing import Any

from replcache.client.core import ClientCore
from replcache.client.durations import Duration
from replcache.client.requests import Key
from replcache.client.watch import AsyncWatch, WatchEvent, watch_options

# How often a waiting iteration looks whether the watch was closed by another thread.
WATCH_TURN_S = 1.0


class AsyncWatchCalls:
    """Part of AsyncClient."""

    _core: ClientCore
    _waiter: Callable[[], Any]

    def watch(
        self,
        *,
        key: Key | None = None,
        prefix: Key = "",
        tag: str | None = None,
        start: str | int = "now",
        keys_only: bool = False,
        progress: Duration = "1s",
        stall_timeout: Duration = "30s",
    ) -> AsyncWatch:
        """Changes of one key, or of all keys with a prefix, as an asynchronous iterator of WatchEvent.

        Args:
            tag: instead: of the entries that carry this tag; one that loses it comes as a DELETE.
            start: "now", "snapshot" (first every entry, then the changes), or the first revision to deliver.
            progress: how often the server says that it is still there, 10 ms to 1 min.
            stall_timeout: Unavailable is raised when no node serves the watch for so long.
        """
        options = watch_options(key, prefix, start, keys_only, progress, stall_timeout, tag)
        self._waiter()  # starts the client when this is its first call
        return AsyncWatch(self._core, options)


class WatchCalls:
    """Part of Client."""

    _core: ClientCore
    _ready: Callable[[], None]
    _run: Callable[..., Any]
    _timeout_s: Callable[[Duration | None], float]

    def watch(
        self,
        *,
        key: Key | None = None,
        prefix: Key = "",
        tag: str | None = None,
        start: str | int = "now",
        keys_only: bool = False,
        progress: Duration = "1s",
        stall_timeout: Duration = "30s",
    ) -> "Watch":
        """As AsyncClient.watch, as a plain iterator."""
        options = watch_options(key, prefix, start, keys_only, progress, stall_timeout, tag)
        self._ready()
        return Watch(self, AsyncWatch(self._core, options))


class Watch:
    """An iterator of WatchEvent for threads; see AsyncWatch. Closing it ends a waiting iteration soon."""

    def __init__(self, client: WatchCalls, watch: AsyncWatch) -> None:
        self._client = client
        self._watch = watch

    @property
    def revision(self) -> int:
        """Everything of the range up to here has been handed out."""
        return self._watch.revision

    def __iter__(self) -> "Watch":
        return self

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> WatchEvent:
        while not self._watch.is_closed:
            event = self.next(WATCH_TURN_S)
            if event is not None:
                return event
        raise StopIteration

    def ready(self, timeout: Duration | None = None) -> int:
        """Waits until a node serves the watch; returns the revision after which everything is delivered.

        With a snapshot: until the first of it is here.

        Raises: as the iteration. Unavailable: no node served it within the timeout (the client's by default).
        """
        timeout_s = self._client._timeout_s(timeout)
        revision: int = self._client._run(lambda: self._watch.ready(timeout_s), timeout_s, 1.0)
        return revision

    def next(self, timeout: Duration | None = None) -> WatchEvent | None:
        """The next event; None when none came within the timeout (the client's by default)."""
        timeout_s = self._client._timeout_s(timeout)
        event: WatchEvent | None = self._client._run(lambda: self._watch.next(timeout_s), timeout_s, 1.0)
        return event

    def close(self) -> None:
        if self._client._core.is_closed:
            self._watch.is_closed = True
        elif not self._watch.is_closed:
            self._client._run(self._watch.close, None)
