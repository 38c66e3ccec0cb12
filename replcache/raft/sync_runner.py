"""Runs the syncs of the log: in a thread, or on the loop itself while the disk is quick.

Handing a sync to a thread and its result back costs two wake-ups and, in CPython, a wait for the interpreter
lock: more than the sync of a small group on a good disk, and that is on the way of every write twice (a
follower, and back). So while the last syncs were quick, small groups are synced on the loop. One slow sync
sends them back to the thread until the disk has proven itself again: a slow disk holds the loop once, for
that sync, and not again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from replcache.clock import Clock
from replcache.errors import ReplcacheError
from replcache.raft.disk import DiskFull
from replcache.raft.wal import SyncJob

# Quicker than this is quick: below the cost of the hand-over and the thread's wait for the interpreter lock.
QUICK_S = 0.0005
# So many quick ones in a row bring syncs to the loop.
TRUST_AFTER = 64
# A larger group amortises the hand-over, and its write takes long enough to leave the loop free meanwhile.
INLINE_RECORDS_MAX = 64
INLINE_BYTES_MAX = 16 * 1024


class SyncRunner:
    """One sync at a time.

    Attributes:
        seconds: spent in syncs so far.
        inline_count, thread_count: syncs that ran here and there.
    """

    def __init__(self, clock: Clock, on_done: Callable[[SyncJob, BaseException | None], None]) -> None:
        """`on_done` is called on the loop after each job, with what it raised; DiskFull is no failure."""
        self._clock = clock
        self._on_done = on_done
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wal-sync")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quick_in_a_row = 0
        self.seconds = 0.0
        self.inline_count = 0
        self.thread_count = 0

    def start(self, job: SyncJob) -> None:
        """On the loop's thread, when no other job runs."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._quick_in_a_row >= TRUST_AFTER and _is_small(job):
            self.inline_count += 1
            # Behind what this turn has to send: the other nodes sync meanwhile.
            self._loop.call_soon(self._run_inline, job)
            return
        self.thread_count += 1
        loop = self._loop

        def report(done: Future[float]) -> None:
            loop.call_soon_threadsafe(self._finish, job, done)

        self._thread.submit(self._timed, job).add_done_callback(report)

    def close(self) -> None:
        """Blocks until a job that is under way has ended."""
        self._thread.shutdown(wait=True)

    def _timed(self, job: SyncJob) -> float:
        started = self._clock.now()
        try:
            job.run()
        except DiskFull:
            return QUICK_S  # complete() keeps what is not durable, and the engine refuses new commands
        return self._clock.now() - started

    def _run_inline(self, job: SyncJob) -> None:
        done: Future[float] = Future()
        try:
            done.set_result(self._timed(job))
        except (ReplcacheError, OSError, AssertionError) as error:
            done.set_exception(error)
        self._finish(job, done)

    def _finish(self, job: SyncJob, done: Future[float]) -> None:
        error = done.exception()
        if error is None:
            took = done.result()
            self.seconds += took
            self._quick_in_a_row = self._quick_in_a_row + 1 if took < QUICK_S else 0
        self._on_done(job, error)


def _is_small(job: SyncJob) -> bool:
    return len(job.records) <= INLINE_RECORDS_MAX and (
        sum(len(record[4]) for record in job.records) <= INLINE_BYTES_MAX
    )
