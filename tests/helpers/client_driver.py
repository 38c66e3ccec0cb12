"""One way to drive both clients, so that a test is written once and runs in both colours.

The fake cluster and, for the asyncio colour, the client live on event loops in threads of their own; tests
are plain functions.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from replcache import AsyncClient, Client
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.fake_server import FakeCluster
from tests.helpers.serving import Serving, serving

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


class ServerThread:
    """A real server on a loop of its own, over the real state machine but without a cluster or a disk."""

    def __init__(self, **settings: Any) -> None:
        self.thread = LoopThread("server")
        self._stack = contextlib.AsyncExitStack()
        self.raft: FakeRaft = self.thread.call(FakeRaft)
        self.one: Serving = self.thread.run(self._stack.enter_async_context(serving(self.raft, **settings)))

    @property
    def url(self) -> str:
        return self.one.server.grpc_address

    def advance(self, seconds: float) -> None:
        """Moves the cluster's clock."""
        self.thread.call(self.raft.advance_ms, int(seconds * 1000))

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """What the state machine holds, parts of large values included."""
        rows, _ = self.thread.call(self.raft.machine.scan, prefix, b"", 100_000)
        return [key for key, _ in rows]

    def close(self) -> None:
        self.thread.run(self._stack.aclose())
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
    """A lock, a term or a lease of the blocking client."""

    def __init__(self, lock: Any) -> None:
        self.under = lock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.under, name)

    @property
    def is_lost(self) -> bool:
        return bool(self.under.lost.is_set())


class _AsyncLock(_BlockingLock):
    def __init__(self, lock: Any, thread: LoopThread) -> None:
        super().__init__(lock)
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.under, name)
        if not asyncio.iscoroutinefunction(method):
            return method
        return lambda *args, **options: self._thread.run(method(*args, **options))


class BlockingDriver:
    """Client as it is."""

    colour = "blocking"

    def __init__(self, url: str, **settings: Any) -> None:
        self.client = Client(url, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def scan_all(self, *args: Any, **options: Any) -> list[Any]:
        return list(self.client.scan(*args, **options))

    def find_all(self, *args: Any, **options: Any) -> list[Any]:
        return list(self.client.find(*args, **options))

    def run_txn(self, fill: Callable[[Any], None], **options: Any) -> Any:
        """Fills a transaction inside its context and returns it."""
        with self.client.txn(**options) as txn:
            fill(txn)
        return txn

    def run_batch(self, fill: Callable[[Any], None], **options: Any) -> Any:
        """Fills a batch inside its context and returns it."""
        with self.client.batch(**options) as batch:
            fill(batch)
        return batch

    def lock(self, name: str, **options: Any) -> LockDriver:
        driven: LockDriver = self.driven(self.client.lock(name, **options))
        return driven

    def driven(self, held: Any) -> Any:
        """A lock, a term, a lease or an election, with blocking methods."""
        return _BlockingLock(held)

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

    def find_all(self, *args: Any, **options: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [entry async for entry in self.client.find(*args, **options)]

        found: list[Any] = self.thread.run(collect())
        return found

    def run_txn(self, fill: Callable[[Any], None], **options: Any) -> Any:
        async def run() -> Any:
            async with self.client.txn(**options) as txn:
                fill(txn)
            return txn

        return self.thread.run(run())

    def run_batch(self, fill: Callable[[Any], None], **options: Any) -> Any:
        async def run() -> Any:
            async with self.client.batch(**options) as batch:
                fill(batch)
            return batch

        return self.thread.run(run())

    def lock(self, name: str, **options: Any) -> LockDriver:
        driven: LockDriver = self.driven(self.client.lock(name, **options))
        return driven

    def driven(self, held: Any) -> Any:
        return _AsyncLock(held, self.thread)

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
