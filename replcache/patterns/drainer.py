"""The drainer of a write-behind queue: brings changes to the database, in batches, one process at a time.

Every process with the view runs one for each shard; a fenced lock decides who works, and when that process
dies the next one in the lock's queue goes on after the lock's ttl. A sweep is, for each batch: look (at the
records), write (one call of the writer), remove (the records that have not changed since the look, fenced).
A crash between write and remove, or a drainer that was paused for so long that another took over, makes the
writer see a change again: with the same revision, which is how the database knows (patterns/sql.py).
"""

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from replcache.client.aio import AsyncClient
from replcache.client.lock import AsyncLock
from replcache.client.types import Consistency, Entry
from replcache.errors import ClientClosed, LockLost, LockTimeout, ReplcacheError
from replcache.patterns.behind import Queue, Status
from replcache.patterns.source import Row, Writer, try_source

# A process that waits to be the drainer asks again after this long.
_LOCK_WAIT = "30s"
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0
_REMOVE_BATCH_MAX = 1000
_COUNT_INTERVAL_S = 1.0
_ERROR_CHARACTERS_MAX = 500
_LOGGER = logging.getLogger("replcache.patterns")


class Outcome(Enum):
    """Of a sweep. IDLE: nothing waited. FAILED: the database refused."""

    IDLE = "idle"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DrainOptions:
    """flush_every_s: a change waits so long for others to come with it. max_batch: rows in a call of the
    writer. lock_ttl_s: after a drainer's death another takes over this much later. count_max: more waiting
    rows than this are not counted."""

    flush_every_s: float
    max_batch: int
    lock_ttl_s: float
    count_max: int


class Drainer:
    """One shard's drainer in one process.

    Attributes:
        status: of the last pass that this process made.
        is_active: whether this process is the drainer now.
        rows_written, batches, failures: of this process, since the view was made.
    """

    def __init__(
        self, client: AsyncClient, queue: Queue, shard: int, writer: Writer, options: DrainOptions
    ) -> None:
        self.status = Status()
        self.is_active = False
        self.rows_written = self.batches = self.failures = 0
        self._client = client
        self._clock = client._clock
        self._rng: random.Random = client._rng
        self._queue = queue
        self._shard = shard
        self._writer = writer
        self._options = options
        self._hurry = asyncio.Event()
        self._clean_at = 0.0
        self._counted = 0
        self._counted_at = float("-inf")

    def hurry(self) -> None:
        """Somebody waits for a flush."""
        self._hurry.set()

    async def run(self) -> None:
        """Until cancelled, or until the client is closed."""
        failures = 0
        while True:
            lock = self._client.lock(
                self._queue.lock_name(self._shard), ttl=self._options.lock_ttl_s, wait=_LOCK_WAIT
            )
            try:
                async with lock:
                    self.is_active = True
                    failures = 0
                    await self._work(lock)
            except ClientClosed:
                return
            except (LockTimeout, LockLost):
                continue
            except ReplcacheError:
                # The cluster is not reachable, or the lock is lost: another try, at last for the lock.
                failures += 1
                await asyncio.sleep(self._retry_s(failures))
            finally:
                self.is_active = False

    def _retry_s(self, failures: int) -> float:
        longest_s = min(_RETRY_MAX_S, _RETRY_MIN_S * 2.0 ** min(failures, 10))
        return longest_s * (0.5 + self._rng.random() / 2)

    async def _work(self, lock: AsyncLock) -> None:
        """One sweep after another, as long as the lock is held."""
        before = await self._queue.status(self._shard)
        self._clean_at = self._clock.now() - (before.behind_s + before.age_s if before.rows else 0.0)
        self.status = replace(before, written=0, batches=0, failures=0, age_s=0.0)
        failures = 0
        while True:
            outcome = await self._sweep(lock)
            if outcome is Outcome.FAILED:
                failures += 1
                await self._pause(max(self._retry_s(failures), self._options.flush_every_s))
                continue
            failures = 0
            await self._pause(self._options.flush_every_s)
            if outcome is Outcome.IDLE:
                await self._wait_for_rows(lock)

    async def _wait_for_rows(self, lock: AsyncLock) -> None:
        """What comes first is young: others come with it, so that a key that changes all the time is written
        once in flush_every."""
        while not self._hurry.is_set() and not await self._look():
            lock.check()
            await self._pause(self._options.flush_every_s)
        await self._pause(self._options.flush_every_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _look(self) -> bool:
        """Whether anything waits."""
        prefix = self._queue.records_prefix(self._shard)
        scan = self._client.scan(prefix, limit=1, keys_only=True, read=Consistency.LINEARIZABLE)
        return bool([record async for record in scan])

    async def _sweep(self, lock: AsyncLock) -> "Outcome":
        """Through the whole queue once, in the order of keys, so that no key waits for ever behind busy ones.

        What changes during the sweep comes again in the next one.
        """
        self._hurry.clear()
        began = self._clock.now()
        revision = await self._queue.revision()
        most = self._options.max_batch
        batch: list[Entry] = []
        is_idle = True
        async for record in self._client.scan(
            self._queue.records_prefix(self._shard), page_size=min(most, 1000), read=Consistency.LINEARIZABLE
        ):
            is_idle = False
            batch.append(record)
            if len(batch) == most:
                if not await self._write(lock, batch):
                    return Outcome.FAILED
                await self._publish(lock, batch, rows=await self._count(), error="")
                batch = []
        if batch and not await self._write(lock, batch):
            return Outcome.FAILED
        self._clean_at = began
        if not is_idle or self.status.rows or self.status.error:
            await self._publish(lock, batch, rows=0, error="", flushed_revision=revision)
        return Outcome.IDLE if is_idle else Outcome.DONE

    async def _write(self, lock: AsyncLock, records: list[Entry]) -> bool:
        rows = sorted((self._queue.row(record, self._shard) for record in records), key=_revision)
        # Between here and the commit this process may be paused for any time; what another drainer has
        # written by then has a higher revision, or is the same.
        lock.check()
        outcome = await try_source(self._writer, rows)
        if outcome.error is None:
            self.rows_written += len(rows)
            self.batches += 1
            return True
        self.failures += 1
        _LOGGER.warning("the writer of view %s failed: %s", self._queue.name, outcome.error)
        error = f"{type(outcome.error).__name__}: {outcome.error}"[:_ERROR_CHARACTERS_MAX]
        await self._publish(lock, [], rows=await self._count(), error=error)
        return False

    async def _count(self) -> int:
        """What waits in this shard; counted once a second, because counting is a scan."""
        now = self._clock.now()
        if now - self._counted_at >= _COUNT_INTERVAL_S:
            self._counted_at = now
            self._counted = await self._queue.count(self._shard, self._options.count_max)
        return self._counted

    async def _publish(
        self, lock: AsyncLock, written: list[Entry], *, rows: int, error: str, flushed_revision: int = 0
    ) -> None:
        """Removes what is written and says how far it is, in one log entry if it is not too much for one.

        Raises:
            FenceRejected: another drainer has taken over; it finds these records again.
        """
        fence = (lock.name, lock.token)
        old = self.status
        self.status = replace(
            old,
            flushed_revision=max(old.flushed_revision, flushed_revision),
            rows=rows,
            behind_s=round(self._clock.now() - self._clean_at, 3),
            written=old.written + len(written),
            batches=old.batches + bool(written),
            failures=old.failures + bool(error),
            error=error,
        )
        operations: list[Any] = [self._queue.remove(record, fence) for record in written]
        operations.append(self._queue.write_status(self._shard, self.status, fence))
        client = self._client
        outcomes: list[Any] = []
        for start in range(0, len(operations), _REMOVE_BATCH_MAX):
            part = operations[start : start + _REMOVE_BATCH_MAX]
            outcomes = await client._send_batch(part, False, client.settings.timeout_s)
        # A record that has changed since the look stays (ConditionFailed); the status has no condition.
        if isinstance(outcomes[-1], ReplcacheError):
            raise outcomes[-1]


def _revision(row: Row) -> int:
    return row.revision


__all__ = ["DrainOptions", "Drainer"]
