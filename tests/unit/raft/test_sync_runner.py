"""Where syncs run: on the loop while the disk is quick, in a thread otherwise."""

import asyncio
import threading
from typing import Any

from replcache.raft.disk import DiskFull
from replcache.raft.sync_runner import INLINE_BYTES_MAX, QUICK_S, TRUST_AFTER, SyncRunner
from tests.helpers.wait import async_wait_until


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


class Job:
    """Stands in for a SyncJob: takes `seconds` of the clock, and remembers where it ran."""

    def __init__(
        self, clock: Clock, seconds: float, bytes_: int = 10, error: Exception | None = None
    ) -> None:
        self.records = [(0, 0, 0, 0, b"x" * bytes_)]
        self.thread: threading.Thread | None = None
        self._clock = clock
        self._seconds = seconds
        self._error = error

    def run(self) -> None:
        self.thread = threading.current_thread()
        self._clock.at += self._seconds
        if self._error is not None:
            raise self._error


class Runner:
    """A SyncRunner and what it reported."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.done: list[tuple[Any, BaseException | None]] = []
        self.runner = SyncRunner(self.clock, lambda job, error: self.done.append((job, error)))

    async def run(self, seconds: float, **options: Any) -> bool:
        """Runs one job; True: on the loop's thread."""
        job = Job(self.clock, seconds, **options)
        before = len(self.done)
        self.runner.start(job)  # type: ignore[arg-type]
        await async_wait_until(lambda: len(self.done) > before, 5, "the job is done")
        assert self.done[-1][0] is job
        return job.thread is threading.current_thread()


async def trusted() -> Runner:
    made = Runner()
    for _ in range(TRUST_AFTER):
        assert not await made.run(QUICK_S / 2), "not trusted yet"
    return made


async def test_a_quick_disk_is_synced_on_the_loop() -> None:
    made = await trusted()
    assert await made.run(QUICK_S / 2)
    assert (made.runner.thread_count, made.runner.inline_count) == (TRUST_AFTER, 1)
    assert made.runner.seconds > 0
    made.runner.close()


async def test_one_slow_sync_sends_them_back_to_the_thread() -> None:
    made = await trusted()
    assert await made.run(QUICK_S * 2), "nobody can know before"
    for _ in range(TRUST_AFTER):
        assert not await made.run(QUICK_S / 2)
    assert await made.run(QUICK_S / 2), "it has proven itself again"
    made.runner.close()


async def test_a_large_group_stays_in_the_thread() -> None:
    made = await trusted()
    assert not await made.run(QUICK_S / 2, bytes_=INLINE_BYTES_MAX + 1)
    made.runner.close()


async def test_a_failure_is_told_wherever_it_happens() -> None:
    made = await trusted()
    error = OSError("gone")
    await made.run(QUICK_S / 2, error=error)
    assert made.done[-1][1] is error
    made.runner.close()
    made = Runner()
    await made.run(QUICK_S / 2, error=error)
    assert made.done[-1][1] is error
    made.runner.close()


async def test_a_full_disk_is_no_failure() -> None:
    made = Runner()
    await made.run(QUICK_S / 2, error=DiskFull("full"))
    assert made.done[-1][1] is None
    made.runner.close()


async def test_the_loop_serves_what_was_scheduled_before() -> None:
    """Messages to the other nodes leave before this node's sync holds the loop."""
    made = await trusted()
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "sent")
    job = Job(made.clock, QUICK_S / 2)
    before = len(made.done)
    made.runner.start(job)  # type: ignore[arg-type]
    assert job.thread is None, "not at once"
    await async_wait_until(lambda: len(made.done) > before, 5, "the job is done")
    assert order == ["sent"]
    made.runner.close()
