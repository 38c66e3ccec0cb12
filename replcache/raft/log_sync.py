"""The thread that makes the log durable, beside the loop: one job at a time, handed over cheaply.

A write with one caller waits for this hand-over on two nodes, there and back. A C queue towards the thread
and one call_soon_threadsafe() back cost half of what an executor's futures do.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from replcache.raft.disk import DiskFull
from replcache.raft.wal import SyncJob

# Called on the loop when a job has ended: the job, and the error that it ended with. A full disk is none.
SyncDone = Callable[[SyncJob, BaseException | None], None]


class LogSync:
    """Nothing runs before start(); close() may be called twice.

    Args:
        on_done: see SyncDone; not called after close().
    """

    def __init__(self, on_done: SyncDone) -> None:
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
            try:
                # Not fatal: complete() keeps what is not durable, and the engine refuses new commands.
                with suppress(DiskFull):
                    job.run()
            except BaseException as err:  # noqa: BLE001  # handed to the loop, which stops the node
                error = err
            self._loop.call_soon_threadsafe(self._on_done, job, error)
