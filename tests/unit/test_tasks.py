"""The supervisor: no task ends unnoticed, none outlives its owner."""

import asyncio

from replcache.tasks import Supervisor, UnexpectedEnd
from tests.helpers.wait import async_wait_until


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


async def broken() -> None:
    raise ValueError("broken on purpose")


async def test_background_task_that_ends_is_reported() -> None:
    failures: list[tuple[str, BaseException]] = []
    supervisor = Supervisor(lambda name, error: failures.append((name, error)))
    supervisor.background("loop", at_once())
    supervisor.background("other", broken())
    await async_wait_until(lambda: len(failures) == 2, what="both reported")
    assert {name: type(error) for name, error in failures} == {"loop": UnexpectedEnd, "other": ValueError}
    await supervisor.close()


async def test_background_task_that_somebody_cancels_is_reported() -> None:
    failures: list[str] = []
    supervisor = Supervisor(lambda name, _: failures.append(name))
    task = supervisor.background("loop", forever())
    task.cancel()
    await async_wait_until(lambda: failures, what="reported")
    await supervisor.close()


async def test_short_task_may_end_but_not_fail() -> None:
    failures: list[str] = []
    supervisor = Supervisor(lambda name, _: failures.append(name))
    await supervisor.short("fine", at_once())
    supervisor.short("bad", broken())
    await async_wait_until(lambda: failures, what="reported")
    assert failures == ["bad"]
    await supervisor.close()


async def test_close_ends_everything_and_may_be_called_twice() -> None:
    failures: list[str] = []
    supervisor = Supervisor(lambda name, _: failures.append(name))
    tasks = [supervisor.background("loop", forever()), supervisor.short("short", forever())]
    await supervisor.close(short_timeout_s=0.01)
    await supervisor.close()
    assert all(task.done() for task in tasks)
    assert failures == []


async def test_task_ended_by_its_owner_is_no_failure() -> None:
    failures: list[str] = []
    supervisor = Supervisor(lambda name, _: failures.append(name))
    task = supervisor.background("loop", forever())
    supervisor.cancel(task)
    await async_wait_until(task.done, what="cancelled")
    supervisor.cancel(task)
    await supervisor.close()
    assert failures == []


async def test_guarded_callback_that_raises_is_a_failure() -> None:
    failures: list[tuple[str, BaseException]] = []
    supervisor = Supervisor(lambda name, error: failures.append((name, error)))
    seen: list[int] = []
    assert supervisor.guard("fine", seen.append, 7)
    assert seen == [7]
    assert not supervisor.guard("bad", seen.remove, 8)
    assert [(name, type(error)) for name, error in failures] == [("bad", ValueError)]
    await supervisor.close()
