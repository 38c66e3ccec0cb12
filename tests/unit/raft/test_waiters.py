"""Waiting for a number: those who gave up are forgotten, also when the number never comes."""

from replcache.raft.waiters import Waiters


async def test_who_gave_up_takes_no_room() -> None:
    waiters = Waiters()
    patient = waiters.add(5)
    for _ in range(10_000):
        waiters.add(2**62).cancel()
    assert len(waiters._heap) < 1000
    waiters.reached(5)
    assert patient.done()
    waiters.fail_all(RuntimeError())
