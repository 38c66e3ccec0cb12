"""The thread that makes the log durable, beside the loop: one job at a time, handed over cheaply.

A write with one caller waits for this hand-over on two nodes, there and back. A C queue towards the thread
and one call_soon_threadsafe() back cost half of what an executor's futures do.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from replcache.clock import Clock
from replcache.raft.disk import DiskFull
from replcache.raft.wal import SyncJob

# Called on the loop when a job has ended: the job, and the error that it ended with. A full disk is none.
SyncDone = Callable[[SyncJob, BaseException | None], None]


class LogSync:
    """Nothing runs before start(); close() may be called twice.

    Args:
        on_done: see SyncDone.

    Attributes:
        seconds: in jobs so far, without the hand-over.
    """

    def __init__(self, clock: Clock, on_done: SyncDone) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._on_done = on_done
        self._jobs: SimpleQueue[SyncJob | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="wal-sync", daemon=True)
        self._thread.start()

    def put(self, job: SyncJob) -> None:
        """Runs the job in the thread."""
        self._jobs.put(job)

    async def close(self) -> None:
        """Waits for the job that is under way, if any."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            error: BaseException | None = None
            started = self._clock.now()
            try:
                # Not fatal: complete() keeps what is not durable, and the engine refuses new commands.
                with suppress(DiskFull):
                    job.run()
            except BaseException as err:  # noqa: BLE001  # handed to the loop, which stops the node
                error = err
            self.seconds += self._clock.now() - started
            self._loop.call_soon_threadsafe(self._on_done, job, error)
