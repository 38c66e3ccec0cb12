"""The drainer of a write-behind queue: brings changes to the database, in batches, one process at a time.

Every process with the view runs one for each shard; a fenced lock decides who works, and when that process
dies the next one in the lock's queue goes on after the lock's ttl. A sweep is, for each batch: look (at the
records), write (one call of the writer), remove (the records that have not changed since the look, fenced).
A crash between write and remove, or a drainer that was paused for so long that another took over, makes the
writer see a change again: with the same revision, which is how the database knows (patterns/sql.py).

A record that can't be decoded here (bytes that are not what their content type says, or a codec that this
process lacks) is left where it is, said in the log and in the status, and tried again now and then; the
others go on. A newer change of the key replaces it.
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
from replcache.errors import ClientClosed, FenceRejected, LockLost, LockTimeout, ReplcacheError
from replcache.patterns.behind import Queue, Status
from replcache.patterns.source import Row, Writer, attempt, try_source

# A process that waits to be the drainer asks again after this long.
_LOCK_WAIT = "30s"
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0
_REMOVE_BATCH_MAX = 1000
_COUNT_INTERVAL_S = 1.0
_ERROR_CHARACTERS_MAX = 500
# A record that could not be decoded is tried again after this long: by then somebody may have installed what
# was missing.
_DECODE_AGAIN_S = 60.0
# With more of them than this the queue is looked through less often.
_LEFT_MANY = 1000
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


@dataclass(frozen=True, slots=True)
class _Left:
    """A record that can't be decoded: which change it is, and when to try again."""

    revision: int
    again_at: float


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
        # By the record's key; why: of the last one.
        self._left: dict[bytes, _Left] = {}
        self._left_why = ""
        # Tries for the lock since the last sweep that went through.
        self._retries = 0
        self._unpublished_failures = 0

    def hurry(self) -> None:
        """Somebody waits for a flush."""
        self._hurry.set()

    async def run(self) -> None:
        """Until cancelled, or until the client is closed."""
        while True:
            error = (await try_source(self._hold)).error
            if isinstance(error, ClientClosed):
                return
            if isinstance(error, LockTimeout | LockLost):
                continue
            # The cluster is not reachable, or the lock is lost, or something that nobody thought of: another
            # try, at last for the lock.
            self._retries += 1
            if not isinstance(error, ReplcacheError):
                self._count_failure()
                _LOGGER.error("the drainer of view %s failed and goes on", self._queue.name, exc_info=error)
            elif self._retries == 1 and not isinstance(error, FenceRejected):
                _LOGGER.warning("the drainer of view %s starts over: %s", self._queue.name, error)
            await asyncio.sleep(self._retry_s(self._retries))

    async def _hold(self) -> None:
        """Works as long as it has the lock."""
        lock = self._client.lock(
            self._queue.lock_name(self._shard), ttl=self._options.lock_ttl_s, wait=_LOCK_WAIT
        )
        try:
            async with lock:
                self.is_active = True
                await self._work(lock)
        finally:
            self.is_active = False

    def _count_failure(self, times: int = 1) -> None:
        self.failures += times
        self._unpublished_failures += times

    def _retry_s(self, failures: int) -> float:
        longest_s = min(_RETRY_MAX_S, _RETRY_MIN_S * 2.0 ** min(failures, 10))
        return longest_s * (0.5 + self._rng.random() / 2)

    async def _work(self, lock: AsyncLock) -> None:
        """One sweep after another, as long as the lock is held."""
        before = await self._queue.status(self._shard)
        self._clean_at = self._clock.now() - (
            before.behind_s + before.age_s if before.rows > before.left else 0.0
        )
        self.status = replace(before, written=0, batches=0, failures=0, age_s=0.0)
        failures = 0
        while True:
            outcome = await self._sweep(lock)
            if outcome is Outcome.FAILED:
                failures += 1
                await self._pause(max(self._retry_s(failures), self._options.flush_every_s))
                continue
            failures = self._retries = 0
            await self._pause(self._options.flush_every_s)
            if outcome is Outcome.IDLE:
                await self._wait_for_rows(lock)

    async def _wait_for_rows(self, lock: AsyncLock) -> None:
        """What comes first is young: others come with it, so that a key that changes all the time is written
        once in flush_every."""
        while not self._hurry.is_set() and not await self._look():
            lock.check()
            longest_s = _COUNT_INTERVAL_S if len(self._left) > _LEFT_MANY else 0.0
            await self._pause(max(self._options.flush_every_s, longest_s))
        await self._pause(self._options.flush_every_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _look(self) -> bool:
        """Whether anything waits that is worth a try."""
        most = min(len(self._left) + 1, 1000)
        async for record in self._client.scan(
            self._queue.records_prefix(self._shard),
            page_size=most,
            keys_only=True,
            read=Consistency.LINEARIZABLE,
        ):
            if not self._is_left(record):
                return True
        return False

    def _is_left(self, record: Entry) -> bool:
        left = self._left.get(record.key)
        return left is not None and left.revision == record.mod_revision and self._clock.now() < left.again_at

    async def _sweep(self, lock: AsyncLock) -> "Outcome":
        """Through the whole queue once, in the order of keys, so that no key waits for ever behind busy ones.

        What changes during the sweep comes again in the next one.
        """
        self._hurry.clear()
        began = self._clock.now()
        revision = await self._queue.revision()
        most = self._options.max_batch
        batch: list[Entry] = []
        gone = set(self._left)
        is_idle = True
        async for record in self._client.scan(
            self._queue.records_prefix(self._shard), page_size=min(most, 1000), read=Consistency.LINEARIZABLE
        ):
            gone.discard(record.key)
            if self._is_left(record):
                continue
            is_idle = False
            batch.append(record)
            if len(batch) == most:
                written = await self._write(lock, batch)
                if written is None:
                    return Outcome.FAILED
                await self._publish(lock, written, rows=await self._count(), error=self._left_error())
                batch = []
        written = await self._write(lock, batch)
        if written is None:
            return Outcome.FAILED
        # What is there no more was replaced, or somebody took it away.
        for key in gone:
            self._left.pop(key, None)
        self._clean_at = began
        rows, error = len(self._left), self._left_error()
        if not is_idle or (self.status.rows, self.status.error) != (rows, error):
            await self._publish(lock, written, rows=rows, error=error, swept_revision=revision)
        return Outcome.IDLE if is_idle else Outcome.DONE

    async def _write(self, lock: AsyncLock, records: list[Entry]) -> list[Entry] | None:
        """What was written; None: the writer failed."""
        rows, written = self._decode(records)
        if not rows:
            return written
        rows.sort(key=_revision)
        # Between here and the commit this process may be paused for any time; what another drainer has
        # written by then has a higher revision, or is the same.
        lock.check()
        outcome = await try_source(self._writer, rows)
        if outcome.error is None:
            self.rows_written += len(rows)
            self.batches += 1
            return written
        self._count_failure()
        _LOGGER.warning("the writer of view %s failed: %s", self._queue.name, outcome.error)
        waiting = max(await self._count(), len(rows) + len(self._left))
        await self._publish(lock, [], rows=waiting, error=_said(outcome.error))
        return None

    def _decode(self, records: list[Entry]) -> tuple[list[Row], list[Entry]]:
        """The rows that can be written, and their records; the others are left."""
        rows: list[Row] = []
        written: list[Entry] = []
        failed = 0
        for record in records:
            decoded = attempt(self._queue.row, record, self._shard)
            if decoded.error is None:
                self._left.pop(record.key, None)
                rows.append(decoded.value)
                written.append(record)
                continue
            failed += 1
            self._left[record.key] = _Left(record.mod_revision, self._clock.now() + _DECODE_AGAIN_S)
            key = record.key[len(self._queue.records_prefix(self._shard)) :]
            self._left_why = f"{key.decode('utf-8', 'replace')}: {_said(decoded.error)}"
        if failed:
            self._count_failure(failed)
            _LOGGER.error(
                "%d rows of view %s can't be decoded here and stay in its queue, like %s",
                failed,
                self._queue.name,
                self._left_why,
            )
        return rows, written

    def _left_error(self) -> str:
        """What the status says of rows that are left; "": there are none."""
        if not self._left:
            return ""
        return f"{len(self._left)} rows can't be decoded, like {self._left_why}"[:_ERROR_CHARACTERS_MAX]

    async def _count(self) -> int:
        """What waits in this shard; counted once a second, because counting is a scan."""
        now = self._clock.now()
        if now - self._counted_at >= _COUNT_INTERVAL_S:
            self._counted_at = now
            self._counted = await self._queue.count(self._shard, self._options.count_max)
        return self._counted

    async def _publish(
        self, lock: AsyncLock, written: list[Entry], *, rows: int, error: str, swept_revision: int = 0
    ) -> None:
        """Removes what is written and says how far it is, in one log entry if it is not too much for one.

        Raises:
            FenceRejected: another drainer has taken over; it finds these records again.
        """
        fence = (lock.name, lock.token)
        old = self.status
        flushed = min([swept_revision, *(left.revision - 1 for left in self._left.values())])
        failures, self._unpublished_failures = self._unpublished_failures, 0
        self.status = replace(
            old,
            flushed_revision=max(old.flushed_revision, flushed),
            swept_revision=max(old.swept_revision, swept_revision),
            left=len(self._left),
            rows=rows,
            behind_s=round(self._clock.now() - self._clean_at, 3),
            written=old.written + len(written),
            batches=old.batches + bool(written),
            failures=old.failures + failures,
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


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS_MAX]


def _revision(row: Row) -> int:
    return row.revision


__all__ = ["DrainOptions", "Drainer"]
