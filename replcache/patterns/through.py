"""Views: a part of the cache that stands in front of a database.

    users = client.through(loader=load, writer=save, mode="write_behind", prefix="user:", ttl="10m")
    users.get("7"); users.set("7", {...}); users.flush()

What the modes promise, with a picture, is in docs/database.md; the order of steps is in through_steps.py.
"""

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from replcache.client.aio import AsyncClient
from replcache.client.blocking import Client
from replcache.client.durations import Duration, parse_seconds
from replcache.errors import ClientClosed, DeadlineExceeded
from replcache.patterns.behind import Lag
from replcache.patterns.drainer import Drainer
from replcache.patterns.source import DELETED, Steps, run_async, run_blocking
from replcache.patterns.through_options import Mode, ThroughOptions, ThroughStatistics
from replcache.patterns.through_steps import ThroughSteps

FLUSH_TIMEOUT_DEFAULT = "30s"
_LOOK_AGAIN_MIN_S = 0.005
_LOOK_AGAIN_MAX_S = 0.1


class AsyncThrough:
    """A view of an AsyncClient. The first call, start() or `async with` starts write-behind's drainers."""

    def __init__(self, client: AsyncClient, options: ThroughOptions) -> None:
        self.options = options
        self.steps = ThroughSteps(client, options)
        self._client = client
        self._drainers: list[Drainer] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Takes part in writing the database from now on; only write-behind needs it."""
        if self._is_closed:
            raise ClientClosed("the view is closed")
        options = self.options
        if options.mode is not Mode.WRITE_BEHIND or not options.drain or self._tasks:
            return
        client = self._client
        client._waiter()
        assert options.writer is not None
        for shard in range(options.shards):
            drainer = Drainer(client, self.steps.queue, shard, options.writer, options.draining)
            self._drainers.append(drainer)
            name = f"replcache write-behind {options.name}/{shard}"
            self._tasks.append(client._core.tasks.start(drainer.run(), name))

    async def close(self) -> None:
        """Stops taking part; another process goes on. What waits stays in the queue. May be called twice."""
        self._is_closed = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, steps: Steps) -> Any:
        if self._is_closed or not self._tasks:
            await self.start()
        return await run_async(steps)

    async def get(self, key: str, default: Any = None) -> Any:
        """The value of the row, from the cache if it is there; `default` when there is no such row.

        Raises:
            what the loader raises; ReplcacheError of get() and set().
        """
        return await self._run(self.steps.get(key, default))

    async def set(self, key: str, value: Any) -> int:
        """Writes as the mode says; returns the revision that the row carries.

        Raises:
            what the writer raises: nothing is cached that the database does not have.
            Overloaded: write-behind, and the database is too far behind; nothing was written.
            OutcomeUnknown: metadata source_written: the database has it, the cache may be behind for `lease`.
        """
        return int(await self._run(self.steps.write(key, value)))

    async def delete(self, key: str) -> int:
        """As set(), with DELETED as the row's value."""
        return int(await self._run(self.steps.write(key, DELETED)))

    async def invalidate(self, key: str) -> bool:
        """The next get() loads. Call it after others changed the database. True: something was there."""
        return bool(await self._run(self.steps.invalidate(key)))

    async def flush(self, *, timeout: Duration = FLUSH_TIMEOUT_DEFAULT) -> None:
        """Returns when the database has everything that was written before the call, or something newer.

        Raises:
            DeadlineExceeded: not within `timeout`; the message says what the database said.
        """
        if self.options.mode is not Mode.WRITE_BEHIND:
            return
        if self._is_closed or not self._tasks:
            await self.start()
        clock, queue = self._client._clock, self.steps.queue
        end = clock.now() + parse_seconds(timeout, "timeout")
        revision = await queue.revision()
        for drainer in self._drainers:
            drainer.hurry()
        for shard in range(self.options.shards):
            delay_s = _LOOK_AGAIN_MIN_S
            while await queue.count(shard, 1):
                status = await queue.status(shard)
                if status.flushed_revision >= revision:
                    break
                if clock.now() >= end:
                    said = f"; the writer's last error: {status.error}" if status.error else ""
                    raise DeadlineExceeded(
                        f"view {self.options.name!r} was not written out within {timeout}{said}"
                    )
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _LOOK_AGAIN_MAX_S)

    async def lag(self) -> Lag:
        """How far the database is behind; (0, 0.0) in all modes but write-behind. Counts: costs a scan."""
        if self.options.mode is not Mode.WRITE_BEHIND:
            return Lag(0, 0.0)
        lag = await self.steps.queue.lag()
        self.steps.statistics.lag_rows, self.steps.statistics.lag_s = lag.rows, lag.seconds
        return lag

    def stats(self) -> ThroughStatistics:
        """What this object has done so far."""
        return replace(
            self.steps.statistics,
            rows_written=sum(drainer.rows_written for drainer in self._drainers),
            batches=sum(drainer.batches for drainer in self._drainers),
            drain_failures=sum(drainer.failures for drainer in self._drainers),
            is_drainer=any(drainer.is_active for drainer in self._drainers),
        )


class Through:
    """AsyncThrough for threads. Loaders and writers run in the calling thread; the drainer's writer in one of
    its own."""

    def __init__(self, client: Client, options: ThroughOptions) -> None:
        self.options = options
        self._client = client
        self._through = AsyncThrough(client._aio, options)
        self._is_started = options.mode is not Mode.WRITE_BEHIND or not options.drain

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """As AsyncThrough.start."""
        self._client._run(self._through.start, None)
        self._is_started = True

    def close(self) -> None:
        """As AsyncThrough.close."""
        self._is_started = False
        if not self._client._bridge.is_closed:
            self._client._run(self._through.close, None)

    def _run(self, steps: Steps) -> Any:
        if not self._is_started:
            self.start()
        return run_blocking(self._client, steps)

    def get(self, key: str, default: Any = None) -> Any:
        """As AsyncThrough.get."""
        return self._run(self._through.steps.get(key, default))

    def set(self, key: str, value: Any) -> int:
        """As AsyncThrough.set."""
        return int(self._run(self._through.steps.write(key, value)))

    def delete(self, key: str) -> int:
        """As AsyncThrough.delete."""
        return int(self._run(self._through.steps.write(key, DELETED)))

    def invalidate(self, key: str) -> bool:
        """As AsyncThrough.invalidate."""
        return bool(self._run(self._through.steps.invalidate(key)))

    def flush(self, *, timeout: Duration = FLUSH_TIMEOUT_DEFAULT) -> None:
        """As AsyncThrough.flush."""
        extra_s = parse_seconds(timeout, "timeout") + self._client.settings.timeout_s
        self._client._run(lambda: self._through.flush(timeout=timeout), None, extra_s)

    def lag(self) -> Lag:
        """As AsyncThrough.lag."""
        self._client._ready()
        # Without a bound: a scan takes as long as the queue is long, each of its pages has its timeout.
        lag: Lag = self._client._bridge.run(self._through.lag, None)
        return lag

    def stats(self) -> ThroughStatistics:
        """As AsyncThrough.stats."""
        return self._through.stats()
