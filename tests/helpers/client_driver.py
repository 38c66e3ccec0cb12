"""One way to drive both clients, so that a test is written once and runs in both colours.

The fake cluster and, for the asyncio colour, the client live on event loops in threads of their own; tests
are plain functions.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from replcache import AsyncClient, Client
from tests.helpers.fake_server import FakeCluster

TIMEOUT_S = 30.0


class LoopThread:
    """An event loop in a thread."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT_S)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a plain function on the loop."""

        async def run() -> Any:
            return function(*args)

        return self.run(run())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT_S)
        self.loop.close()


class ClusterThread:
    """A fake cluster on its own loop."""

    def __init__(self, nodes: int = 3, seed: int = 0, credentials: Any = None) -> None:
        self.thread = LoopThread("fake cluster")
        self.cluster: FakeCluster = self.thread.call(FakeCluster, nodes, seed)
        self.thread.run(self.cluster.start(credentials))
        self.state = self.cluster.state
        self.faults = self.cluster.faults

    @property
    def url(self) -> str:
        return self.cluster.url

    def stop_node(self, name: str) -> None:
        self.thread.run(self.cluster[name].stop())

    def start_node(self, name: str) -> None:
        self.thread.run(self.cluster[name].start())

    def hang(self, name: str) -> None:
        """The node answers nothing any more, and breaks no connection."""
        self.thread.call(self.cluster[name].running.clear)

    def resume(self, name: str) -> None:
        self.thread.call(self.cluster[name].running.set)

    def close(self) -> None:
        self.thread.run(self.cluster.stop())
        self.thread.close()


class LockDriver(Protocol):
    def acquire(self) -> int: ...

    def release(self) -> bool: ...

    def check(self) -> None: ...

    @property
    def token(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def is_held(self) -> bool: ...

    @property
    def is_lost(self) -> bool: ...


class _BlockingLock:
    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)

    @property
    def is_lost(self) -> bool:
        return bool(self._lock.lost.is_set())


class _AsyncLock(_BlockingLock):
    def __init__(self, lock: Any, thread: LoopThread) -> None:
        super().__init__(lock)
        self._thread = thread

    def acquire(self) -> int:
        token: int = self._thread.run(self._lock.acquire())
        return token

    def release(self) -> bool:
        released: bool = self._thread.run(self._lock.release())
        return released


class BlockingDriver:
    """Client as it is."""

    colour = "blocking"

    def __init__(self, url: str, **settings: Any) -> None:
        self.client = Client(url, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def scan_all(self, *args: Any, **options: Any) -> list[Any]:
        return list(self.client.scan(*args, **options))

    def run_batch(self, fill: Callable[[Any], None], **options: Any) -> Any:
        """Fills a batch inside its context and returns it."""
        with self.client.batch(**options) as batch:
            fill(batch)
        return batch

    def lock(self, name: str, **options: Any) -> LockDriver:
        return _BlockingLock(self.client.lock(name, **options))

    def close(self) -> None:
        self.client.close()


class AsyncDriver:
    """AsyncClient on its own loop; calls wait for their result."""

    colour = "async"

    def __init__(self, url: str, **settings: Any) -> None:
        self.thread = LoopThread("async client")
        self.client = AsyncClient(url, **settings)
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        def call(*args: Any, **options: Any) -> Any:
            return self.thread.run(method(*args, **options))

        return call

    def scan_all(self, *args: Any, **options: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [entry async for entry in self.client.scan(*args, **options)]

        found: list[Any] = self.thread.run(collect())
        return found

    def run_batch(self, fill: Callable[[Any], None], **options: Any) -> Any:
        async def run() -> Any:
            async with self.client.batch(**options) as batch:
                fill(batch)
            return batch

        return self.thread.run(run())

    def lock(self, name: str, **options: Any) -> LockDriver:
        return _AsyncLock(self.client.lock(name, **options), self.thread)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.thread.run(self.client.close())
            self.thread.close()


Driver = BlockingDriver | AsyncDriver
DRIVERS: dict[str, type[BlockingDriver] | type[AsyncDriver]] = {
    "blocking": BlockingDriver,
    "async": AsyncDriver,
}
