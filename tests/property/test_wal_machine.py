"""Random histories of the log on a bad disk, against the model: kills, power cuts, full disks, failed syncs.

Hypothesis draws the steps and shrinks what fails; it prints the steps of the smallest failure.
"""

import errno
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replcache.errors import StorageError
from replcache.raft.disk import DiskFull
from replcache.raft.wal import Entry, SyncJob, Wal
from tests.helpers.log_model import LogModel, state_of
from tests.helpers.sim_disk import SimDisk


class WalMachine(RuleBasedStateMachine):
    """One log in the hands of a node: mutations, sync jobs that take their time, faults, restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk()
        self.model = LogModel()
        self.job: SyncJob | None = None
        self.failed = False
        self.segment_bytes = 4096

    @initialize(segment_bytes=st.sampled_from([1024, 2048, 8192]))
    def begin(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.wal = self.open()

    def open(self) -> Wal:
        return Wal.open(self.disk, "/wal", segment_bytes=self.segment_bytes, allocate_bytes=1024)

    # --- mutations ---

    @rule(sizes=st.lists(st.integers(0, 1500), max_size=5), zeros=st.booleans(), newer=st.booleans())
    def append(self, sizes: list[int], zeros: bool, newer: bool) -> None:
        if newer or self.wal.term == 0:
            self.hard_state(1, None)
        first = self.wal.last_index + 1
        fill = b"\0" if zeros else b"\xa5"
        entries: list[Entry] = [
            (first + at, self.wal.term, at % 3, f"{first + at}:".encode().ljust(size, fill)[:size])
            for at, size in enumerate(sizes)
        ]
        self.wal.append(entries)
        self.model.append(entries)

    @rule(step=st.integers(1, 3), vote=st.sampled_from([None, "n1", "n2"]))
    def hard_state(self, step: int, vote: str | None) -> None:
        term = self.wal.term + step
        self.wal.set_hard_state(term, vote)
        self.model.set_hard_state(term, vote)

    @rule()
    def vote_later(self) -> None:
        if self.wal.voted_for is None and self.wal.term:
            self.wal.set_hard_state(self.wal.term, "n3")
            self.model.set_hard_state(self.wal.term, "n3")

    @property
    def floor(self) -> int:
        """What is in the log up to here is in a snapshot: committed, and never truncated."""
        return max(self.wal.base_index, self.model.snapshot[0])

    @precondition(lambda self: self.wal.last_index > self.floor)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.floor + 1, self.wal.last_index + 1))
        self.wal.truncate_from(index)
        self.model.truncate_from(index)

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.floor, self.wal.last_index))
        # A snapshot is taken of what is applied, and nobody applies what may still be replaced: a truncation
        # below a snapshot never happens in Raft, and the log refuses it.
        self.model.snapshot_made(index)
        self.wal.compact_to(index)

    @rule(step=st.integers(0, 20))
    def reset(self, step: int) -> None:
        index = self.wal.last_index + step
        term = max(self.wal.last_term, self.model.snapshot[1])
        self.model.reset(index, term)
        self.wal.reset(index, term)

    # --- durability ---

    @precondition(lambda self: self.job is None)
    @rule()
    def take_job(self) -> None:
        self.job = self.wal.take_sync_job()

    @precondition(lambda self: self.job is not None)
    @rule()
    def finish_job(self) -> None:
        job, self.job = self.job, None
        assert job is not None
        try:
            job.run()
        except DiskFull:
            assert self.disk.capacity_bytes is not None
        except StorageError:
            self.failed = True
        try:
            self.wal.complete(job)
        except StorageError:
            assert self.failed
            return
        self.model.durable_lsn = self.wal.durable_lsn

    @rule(room=st.one_of(st.none(), st.integers(0, 3000)))
    def change_capacity(self, room: int | None) -> None:
        used = sum(len(self.disk.contents(path)) for path in self.disk.files())
        self.disk.capacity_bytes = None if room is None else used + room

    @rule(operation=st.sampled_from(["fdatasync", "write", "rename", "fsync_dir", "unlink", "allocate"]))
    def fail_next(self, operation: str) -> None:
        def fail(happening: str, path: str) -> None:
            if happening == operation:
                self.disk.fault = None
                raise OSError(errno.EIO, f"injected into {operation} of {path}")

        self.disk.fault = fail

    # --- restarts ---

    @rule(seed=st.integers(0, 1 << 30))
    def power_cut(self, seed: int) -> None:
        self.disk.power_cut(random.Random(seed))
        self.restart()

    @rule()
    def kill(self) -> None:
        self.disk.kill()
        self.restart()

    def restart(self) -> None:
        self.disk.fault = None
        self.disk.capacity_bytes = None
        self.job = None
        self.failed = False
        self.wal = self.open()
        self.model.check_reopened(self.wal)

    @invariant()
    def memory_is_the_model(self) -> None:
        if not hasattr(self, "wal"):
            return
        # The real log may still have entries before the snapshot; behind it both are the same.
        assert state_of(self.wal).behind(*self.model.snapshot) == self.model.now.behind(*self.model.snapshot)
        if not self.failed:
            self.model.check_durable_index(self.wal)


WalMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestWalMachine = WalMachine.TestCase
