"""Power cut before every single disk operation of the log, with every legal outcome of what was not synced.

A script of mutations covers groups, segment rolls, truncation, hard state, compaction (segment deletion) and
reset. It is stopped before its 1st, 2nd, ... disk operation; then every subset of the unsynced sectors and
names survives (sampled when there are more than 2**9 subsets), the log is opened again and compared with a
model; then it goes on and is opened once more. The same for a power cut while the log is being opened, and
for kill -9.
"""

import random

import pytest

from replcache.errors import StorageError
from replcache.raft.wal import Entry, Wal
from tests.helpers.crash_outcomes import outcomes
from tests.helpers.log_model import LogModel
from tests.helpers.sim_disk import PowerCut, SimDisk


def open_wal(disk: SimDisk) -> Wal:
    return Wal.open(disk, "/wal", segment_bytes=4096, allocate_bytes=2048)


class Run:
    """The log and its model through one script, in step with each other."""

    def __init__(self, disk: SimDisk, model: LogModel | None = None) -> None:
        self.disk = disk
        self.model = model or LogModel()
        self.wal = open_wal(disk)

    def append(self, count: int, size: int) -> None:
        first = self.wal.last_index + 1
        entries: list[Entry] = [
            (index, self.wal.term, index % 3, f"{index}/{self.wal.term};".encode().ljust(size, b"\0")[:size])
            for index in range(first, first + count)
        ]
        self.wal.append(entries)
        self.model.append(entries)

    def term(self, term: int, vote: str | None) -> None:
        self.wal.set_hard_state(term, vote)
        self.model.set_hard_state(term, vote)

    def truncate(self, index: int) -> None:
        self.wal.truncate_from(index)
        self.model.truncate_from(index)

    def compact(self, index: int) -> None:
        # A snapshot is durable before its log is compacted.
        self.model.snapshot_made(index)
        self.wal.compact_to(index)

    def reset(self, index: int, term: int) -> None:
        self.model.reset(index, term)
        self.wal.reset(index, term)

    def sync(self) -> None:
        self.wal.sync()
        self.model.durable_lsn = self.wal.durable_lsn
        self.model.check_durable_index(self.wal)


def script(run: Run) -> None:
    """About 60 disk operations; small, because each is followed by up to 512 outcomes."""
    run.term(1, "n1")
    run.sync()
    run.append(3, 30)
    run.append(2, 600)
    run.sync()
    run.append(1, 700)
    run.term(2, None)
    run.sync()
    run.truncate(5)
    run.append(2, 100)
    run.sync()
    # Rolls in the middle of a group, twice.
    run.append(6, 1500)
    run.sync()
    run.compact(6)
    run.sync()
    run.term(3, "n2")
    run.truncate(9)
    run.append(3, 1100)
    run.sync()
    run.compact(10)
    run.append(1, 10)
    run.sync()
    run.reset(40, 2)
    run.term(4, None)
    run.append(2, 500)
    run.sync()
    run.append(5, 1300)
    run.compact(43)
    run.sync()


def operations_of_script() -> int:
    disk = SimDisk()
    script(Run(disk))
    return disk.operations


def stopped_at(operation: int) -> tuple[SimDisk, LogModel]:
    """The disk and the model when the power goes before this operation of the script."""
    disk = SimDisk()
    disk.stop_before = operation
    model = LogModel()
    with pytest.raises(PowerCut):
        script(Run(disk, model))
    return disk, model


def go_on(disk: SimDisk, model: LogModel, label: str) -> None:
    """The log works after the crash, and what it does then is durable, too."""
    run = Run(disk, model.copy())
    run.model.check_reopened(run.wal, label)
    run.term(run.wal.term + 1, "n3")
    if run.wal.last_index > run.wal.base_index:
        run.truncate(run.wal.last_index)
    run.append(2, 200)
    run.append(1, 900)
    run.sync()
    disk.power_cut_with([False] * disk.unsynced())
    again = open_wal(disk)
    assert again.report.torn_file == "", label
    run.model.check_reopened(again, f"{label}, second start")


def test_power_cut_before_every_operation() -> None:
    rng = random.Random(1)
    total = operations_of_script()
    assert total > 50
    cases = 0
    for operation in range(1, total + 1):
        disk, model = stopped_at(operation)
        for kept in outcomes(disk.unsynced(), rng):
            after = disk.clone()
            after.power_cut_with(kept)
            go_on(after, model, f"stopped before operation {operation}, kept {kept}")
            cases += 1
    assert cases > 1500, cases


def test_kill_before_every_operation() -> None:
    """kill -9 leaves the page cache; what is read there must be made durable before it counts."""
    for operation in range(1, operations_of_script() + 1):
        disk, model = stopped_at(operation)
        disk.kill()
        going_on = disk.clone()
        wal = open_wal(disk)
        model_then = model.copy()
        model_then.check_reopened(wal, f"killed before operation {operation}")
        wal.close()
        disk.power_cut_with([False] * disk.unsynced())
        # The alignment was not synced, so only what was recovered has to be there.
        model_then.check_reopened(open_wal(disk), f"killed before operation {operation}, then power cut")
        go_on(going_on, model, f"killed before operation {operation}")


def test_second_power_cut_soon_after_the_first() -> None:
    """What the first one tore is cut off for good before anything is written in its place."""
    rng = random.Random(3)
    for operation in range(1, operations_of_script() + 1):
        disk, model = stopped_at(operation)
        for kept in list(outcomes(disk.unsynced(), rng))[-8:]:
            for steps in range(1, 5):
                after = disk.clone()
                after.power_cut_with(kept)
                run = Run(after, model.copy())
                label = f"stopped before operation {operation}, kept {kept}, {steps} steps more"
                run.model.check_reopened(run.wal, label)
                after.stop_before = after.operations + 1 + steps
                try:
                    run.term(run.wal.term + 1, None)
                    run.append(1, 1500 - 40 * steps)
                    run.append(1, 100)
                    run.sync()
                except PowerCut:
                    pass
                for second in list(outcomes(after.unsynced(), rng))[:16]:
                    last = after.clone()
                    last.power_cut_with(second)
                    run.model.copy().check_reopened(open_wal(last), f"{label}, kept {second}")


def test_failed_sync_is_not_believed_after_a_restart() -> None:
    """fsyncgate: the page cache shows what the medium never got, and the next sync says OK."""
    disk = SimDisk()
    run = Run(disk)
    run.term(1, None)
    run.append(2, 100)
    run.sync()
    run.append(2, 100)

    def fail(operation: str, path: str) -> None:
        if operation == "fdatasync":
            disk.fault = None
            raise OSError(5, f"injected into {operation} of {path}")

    disk.fault = fail
    with pytest.raises(StorageError):
        run.wal.sync()
    disk.kill()
    wal = open_wal(disk)
    run.model.check_reopened(wal)
    assert wal.last_index == 2
    disk.power_cut_with([False] * disk.unsynced())
    run.model.check_reopened(open_wal(disk))


def test_power_cut_while_the_log_is_opened() -> None:
    """Recovery itself writes (cuts the tail, removes temporary files): it may be interrupted anywhere."""
    rng = random.Random(2)
    interrupted = 0
    for operation in range(1, operations_of_script() + 1):
        disk, model = stopped_at(operation)
        for kept in list(outcomes(disk.unsynced(), rng))[:6]:
            after = disk.clone()
            after.power_cut_with(kept)
            for step in range(1, 9):
                opening = after.clone()
                opening.stop_before = step
                try:
                    open_wal(opening)
                except PowerCut:
                    interrupted += 1
                    opening.power_cut(rng)
                    label = (
                        f"stopped before operation {operation}, kept {kept}, then before {step} of opening"
                    )
                    go_on(opening, model, label)
    assert interrupted > 500, interrupted


def test_the_method_finds_a_lost_promise() -> None:
    """Control: a log that called something durable before it was is caught."""
    disk = SimDisk()
    run = Run(disk)
    run.term(1, None)
    run.append(3, 30)
    run.sync()
    run.append(3, 30)
    run.model.durable_lsn = run.wal.next_lsn - 1
    disk.power_cut_with([False] * disk.unsynced())
    with pytest.raises(AssertionError, match="durable was 7"):
        run.model.check_reopened(open_wal(disk))
