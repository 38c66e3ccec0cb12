"""The Journal interface of pysyncobj over the Wal, position by position."""

import random

import pytest
from pysyncobj.journal import Journal, MemoryJournal

from replcache.raft.log_adapter import LogAdapter, pack_command, unpack_command
from replcache.raft.wal import Wal
from tests.helpers.sim_disk import SimDisk


def adapter() -> tuple[LogAdapter, Wal, SimDisk]:
    disk = SimDisk()
    wal = Wal.open(disk, "/wal", allocate_bytes=4096)
    return LogAdapter(wal), wal, disk


def command(text: str) -> bytes:
    return pack_command(0, text.encode())


def test_it_implements_the_whole_interface() -> None:
    own = {name for name in vars(LogAdapter) if callable(getattr(LogAdapter, name))}
    assert {name for name in vars(Journal) if callable(getattr(Journal, name))} <= own


def test_empty_log_is_the_virtual_base() -> None:
    log, _, _ = adapter()
    assert len(log) == 1
    assert log[0] == log[-1] == (pack_command(1, b""), 0, 0)
    assert log.getRaftCommitIndex() == 0
    with pytest.raises(IndexError):
        log[1]
    with pytest.raises(IndexError):
        log[-2]


def test_entries_and_slices() -> None:
    log, wal, _ = adapter()
    log.setCurrentTerm(3, "n2")
    for index in range(1, 6):
        log.add(command(f"c{index}"), index, 3)
    assert len(log) == 6
    assert log[2] == (command("c2"), 2, 3)
    assert log[-1] == (command("c5"), 5, 3)
    assert [index for _, index, _ in log[2:]] == [2, 3, 4, 5]
    assert [index for _, index, _ in log[1:3]] == [1, 2]
    assert log[4:99][-1] == log[5]
    assert unpack_command(log[2][0]) == (0, b"c2")
    assert wal.entry(2) == (2, 3, 0, b"c2")
    assert (log.getCurrentTerm(), log.getVotedForNodeId()) == (3, "n2")


def test_deleting_from_both_ends() -> None:
    log, wal, _ = adapter()
    log.setCurrentTerm(1, None)
    for index in range(1, 11):
        log.add(command(str(index)), index, 1)
    log.deleteEntriesFrom(8)
    assert log[-1][1] == 7
    log.deleteEntriesTo(4)
    assert log[0] == (pack_command(1, b""), 4, 1)
    assert log[1] == (command("5"), 5, 1)
    assert len(log) == 4
    log.deleteEntriesTo(99)
    assert len(log) == 1
    assert log[0][1:] == log[-1][1:] == (7, 1), "H13: the place in the log is never forgotten"
    log.add(command("8"), 8, 1)
    assert log[-1][1] == 8
    log.clear()
    assert wal.last_index == 7
    assert log.getRaftCommitIndex() == 7


def test_reopened_log_reads_the_same() -> None:
    log, wal, disk = adapter()
    log.setCurrentTerm(2, "n3")
    for index in range(1, 6):
        log.add(command(str(index)), index, 2)
    log.setRaftCommitIndex(4)
    wal.sync()
    disk.power_cut(random.Random(1))
    again = LogAdapter(Wal.open(disk, "/wal", allocate_bytes=4096))
    assert again[:] == log[:]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (2, "n3")
    assert again.getRaftCommitIndex() == 0, "H31: a stored commit index may lead the log"


def test_same_answers_as_the_librarys_own_journal() -> None:
    """Random operations on both; the library's list begins with the base as an entry."""
    for seed in range(50):
        rng = random.Random(seed)
        log, _, _ = adapter()
        model = MemoryJournal()
        model.add(pack_command(1, b""), 0, 0)
        log.setCurrentTerm(1, None)
        term = 1
        for _ in range(60):
            action = rng.random()
            if action < 0.7:
                if rng.random() < 0.2:
                    term += 1
                    log.setCurrentTerm(term, None)
                entry = (command(str(rng.random())), log[-1][1] + 1, term)
                log.add(*entry)
                model.add(*entry)
            elif action < 0.85 and len(log) > 1:
                position = rng.randrange(1, len(log))
                log.deleteEntriesFrom(position)
                model.deleteEntriesFrom(position)
            else:
                position = rng.randrange(len(log))
                log.deleteEntriesTo(position)
                model.deleteEntriesTo(position)
            assert len(log) == len(model), f"seed {seed}"
            assert log[1:] == model[1:], f"seed {seed}"
            assert log[0][1:] == model[0][1:], f"seed {seed}"
