"""The judges of the soak and of the failover measurement: they must see what they are there for."""

import argparse
from dataclasses import replace

from benchmarks.failover import Load
from replcache.client.watch import WatchKind
from tests.fault.resources import MB, Sample, growth, lives, problems
from tests.fault.soak import Watched

FLAT = Sample(0.0, "n1", 7, 0.0, 90 * MB, 40, 15, 1 * MB, 1, MB, 2, 1000)


def run(seconds: int, **slopes: float) -> list[Sample]:
    """One sample a second, fields growing by so much each second."""
    return [
        replace(
            FLAT,
            time_s=float(second),
            age_s=float(second),
            **{name: int(getattr(FLAT, name) + slope * second) for name, slope in slopes.items()},
        )
        for second in range(seconds)
    ]


def test_a_flat_run_has_no_problems() -> None:
    assert problems(run(1200)) == []
    assert len(growth(run(1200))) == 7


def test_growth_is_seen() -> None:
    assert "rss_bytes" in problems(run(1200, rss_bytes=0.1 * MB))[0]
    assert "fds" in problems(run(1200, fds=0.05))[0]
    assert "snapshots" in problems(run(1200, snapshots=0.01))[0]
    assert "its log grows" in problems(run(1200, log_bytes=0.1 * MB))[0]


def test_a_slow_leak_is_seen_in_a_long_life_only() -> None:
    """6 MB an hour are far below the limit for medians in 20 minutes."""
    leaking = run(1200, rss_bytes=6 * MB / 3600)
    (life,) = lives(leaking)
    assert abs(life.rss_slope - 6 * MB) < 0.1 * MB
    assert ["memory of process 7" in one for one in problems(leaking)] == [True]
    assert problems(leaking[:600]) == []


def test_young_processes_are_not_judged() -> None:
    assert growth([replace(one, age_s=1.0) for one in run(600, fds=1)]) == []


def test_a_missed_and_a_repeated_event_are_seen() -> None:
    watched = Watched("", acknowledged=[5, 6, 7, 8])
    watched._note(WatchKind.SYNCED, 5)
    for revision in (6, 8):
        watched._note(WatchKind.PUT, revision)
    assert watched.missed() == [7]
    assert watched.problems == []
    watched._note(WatchKind.PUT, 8)
    assert watched.problems == ["event 8 came after 8"]


async def test_the_longest_gap_after_a_kill() -> None:
    load = Load(argparse.Namespace(deadline=0.5, pause=0.01))
    # An early hole, then writes in flight that are acknowledged just after the kill at 10.0, then the gap.
    load.times = [
        1.0,
        5.0,
        *(9.0 + 0.1 * n for n in range(10)),
        10.02,
        11.5,
        *(11.6 + 0.1 * n for n in range(9)),
    ]
    assert abs(load.longest_gap(10.0) - 1.48) < 1e-9
    assert not await load.served_since(10.0)
    load.times += [12.5, 12.6]
    assert await load.served_since(10.0)
