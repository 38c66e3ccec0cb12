"""A snapshot that is taken rests after each chunk, for as long as the chunk's work makes others wait."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from replcache.constants import SNAPSHOT_REST, SNAPSHOT_REST_S_MAX
from replcache.raft.snapshot_jobs import SnapshotJobs


class Jobs:
    """What the pacing uses of SnapshotJobs, with a clock that only the chunks and the rests move."""

    def __init__(self) -> None:
        self.time = 100.0
        self.rests: list[float] = []
        self._node = SimpleNamespace(clock=SimpleNamespace(now=lambda: self.time))
        self._is_closing = SimpleNamespace(wait=self.rest)

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.time += seconds

    def chunks(self, *took: float) -> Iterator[bytes]:
        for number, seconds in enumerate(took):
            self.time += seconds
            yield b"%d" % number

    def paced(self, *took: float) -> list[bytes]:
        found = []
        for chunk in SnapshotJobs._paced(cast(Any, self), self.chunks(*took)):
            self.time += 1.0  # the disk: nobody waits for the processor meanwhile
            found.append(chunk)
        return found


def test_a_rest_is_a_multiple_of_what_the_chunk_took() -> None:
    jobs = Jobs()
    assert jobs.paced(0.01, 0.02) == [b"0", b"1"]
    assert jobs.rests == pytest.approx([0.01 * SNAPSHOT_REST, 0.02 * SNAPSHOT_REST])


def test_no_rest_is_longer_than_the_limit() -> None:
    jobs = Jobs()
    jobs.paced(3600.0)
    assert jobs.rests == [SNAPSHOT_REST_S_MAX]


def test_nobody_rests_where_time_stands_still() -> None:
    jobs = Jobs()
    assert jobs.paced(0.0, 0.0) == [b"0", b"1"]
    assert jobs.rests == []
