"""A snapshot that is taken rests after each chunk, for as long as the chunk's work makes others wait."""

import errno
import pathlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from replcache.constants import SNAPSHOT_REST, SNAPSHOT_REST_S_MAX
from replcache.raft.disk import DiskFile, OpenMode, OsDisk
from replcache.raft.membership import encode_configuration
from replcache.raft.snapshot_jobs import SnapshotJobs
from replcache.raft.snapshots import SnapshotInfo as StoredSnapshot
from replcache.raft.snapshots import SnapshotStore
from replcache.statemachine.machine import StateMachine


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


async def test_a_snapshot_that_came_too_late_to_be_loaded_is_served_and_not_the_one_before(
    tmp_path: pathlib.Path,
) -> None:
    """The store keeps two: with the next one it deletes what this node would still read from."""
    disk = OsDisk()
    SnapshotStore.open(disk, f"{tmp_path}/leader", b"test").writer(9, 1, b"", [b"newer"]).run()
    (sent,) = (tmp_path / "leader").iterdir()
    store = SnapshotStore.open(disk, f"{tmp_path}/own", b"test")
    store.writer(5, 1, b"", [b"old"]).run()
    node = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: 100.0),
        storage=SimpleNamespace(applied_index=5, wal=SimpleNamespace(bytes_written=0)),
        engine=SimpleNamespace(
            snapshots_in=SimpleNamespace(on_verified=lambda index, term, is_good: False),
            snapshots_out=SimpleNamespace(is_sending=False),
        ),
        kick=lambda: None,
    )
    jobs = SnapshotJobs(cast(Any, node), store)
    data = sent.read_bytes()
    assert jobs.receive(9, 1, len(data), 0, data) == len(data)
    await jobs._install(9, 1)
    # The next one, by the thread: the loop has not heard of it yet.
    store.writer(12, 1, b"", [b"newest"]).run()
    info = jobs.latest()
    assert info is not None
    assert jobs.read(info, 0, len(data)) == data
    await jobs.close()


class FewFiles(OsDisk):
    """Opens nothing and lists nothing while it is out of descriptors."""

    def __init__(self) -> None:
        self.is_out = False

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        self.refuse()
        return super().open(path, mode)

    def listdir(self, path: str) -> list[str]:
        self.refuse()
        return super().listdir(path)

    def refuse(self) -> None:
        if self.is_out:
            raise OSError(errno.EMFILE, "injected")


async def test_out_of_files_nothing_is_served_taken_or_received_and_later_all_is(
    tmp_path: pathlib.Path,
) -> None:
    """Each of these raised before, which stops the node, for want of a descriptor of another part of it."""
    disk = FewFiles()
    store = SnapshotStore.open(disk, f"{tmp_path}/own", b"test")
    machine = StateMachine()
    store.writer(5, 1, encode_configuration(()), machine.begin_snapshot().chunks()).run()
    time, verified, loaded = [100.0], [], []
    node = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: time[0]),
        storage=SimpleNamespace(applied_index=5, wal=SimpleNamespace(bytes_written=0)),
        engine=SimpleNamespace(
            snapshots_in=SimpleNamespace(
                on_verified=lambda index, term, is_good: verified.append(is_good) or is_good,
                on_loaded=lambda index, *_: loaded.append(index),
            ),
            snapshots_out=SimpleNamespace(is_sending=False),
        ),
        kick=lambda: None,
        wake_waiters=lambda: None,
    )
    jobs = SnapshotJobs(cast(Any, node), store)
    info = jobs.latest()
    assert info is not None
    disk.is_out = True
    assert jobs.read(info, 0, 10) is None
    assert jobs.receive(9, 1, 100, 0, b"part") == 0
    await jobs._take(7, 1, b"", machine.begin_snapshot())
    assert (jobs.last_index, jobs.is_busy) == (5, False)
    await jobs._install(5, 1)
    assert (verified, loaded) == ([False], [])

    def load_without_files(found: StoredSnapshot) -> StateMachine:
        disk.is_out = True
        return SnapshotJobs._load(jobs, found)

    disk.is_out = False
    jobs._load = load_without_files  # type: ignore[method-assign]
    await jobs._install(5, 1)
    assert (verified, loaded) == ([False, True], [])
    del jobs._load
    disk.is_out = False
    await jobs._install(5, 1)
    assert loaded == [5]
    time[0] += 1
    assert jobs.read(info, 0, 10) == store.open_raw(store.latest() or pytest.fail("gone")).read(0, 10)
    await jobs.close()
