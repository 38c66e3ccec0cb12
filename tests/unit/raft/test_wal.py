"""The log in memory, its durability bookkeeping, recovery rules and segments, on a real file system."""

from pathlib import Path

import pytest

from replcache.errors import CorruptLog
from replcache.raft.disk import OsDisk
from replcache.raft.wal import Entry, Wal
from tests.helpers.sim_disk import SimDisk

SMALL_SEGMENT = 4096


def entries(first: int, count: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [(i, term, 0, f"{i}/{term}:".encode().ljust(size, b"x")) for i in range(first, first + count)]


def open_wal(path: Path, **options: int | bool) -> Wal:
    return Wal.open(OsDisk(), str(path / "wal"), **options)  # type: ignore[arg-type]


def filled(path: Path, count: int = 10, **options: int | bool) -> Wal:
    wal = open_wal(path, **options)
    wal.set_hard_state(1, "n1")
    for entry in entries(1, count):
        wal.append([entry])
        wal.sync()
    return wal


def content(wal: Wal) -> tuple[object, ...]:
    wal.check_invariants()
    log = wal.entries(wal.first_index, 1 << 40, 1 << 40)
    return wal.base_index, wal.base_term, log, wal.term, wal.voted_for


def segment_files(path: Path) -> list[Path]:
    return sorted((path / "wal").glob("*.wal"))


def test_new_log_is_empty_after_base_zero(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    assert content(wal) == (0, 0, [], 0, None)
    assert (wal.first_index, wal.last_index, wal.last_term) == (1, 0, 0)
    assert wal.term_at(0) == 0
    assert wal.term_at(1) is None
    assert wal.take_sync_job() is None


def test_reopened_log_has_what_was_synced(tmp_path: Path) -> None:
    wal = filled(tmp_path)
    wal.set_hard_state(3, "n2")
    wal.append(entries(11, 5, term=3, size=3000))
    wal.sync()
    expected = content(wal)
    wal.close()
    again = open_wal(tmp_path)
    assert content(again) == expected
    assert again.durable_index == 15
    assert again.next_lsn == wal.next_lsn
    assert again.report.torn_file == ""
    assert again.report.entries == 15


def test_mutations_before_a_job_are_not_durable(tmp_path: Path) -> None:
    wal = filled(tmp_path, 3)
    lsn = wal.append(entries(4, 2))
    assert (wal.last_index, wal.durable_index) == (5, 3)
    assert wal.durable_lsn < lsn
    job = wal.take_sync_job()
    assert job is not None
    later = wal.append(entries(6, 1))
    assert wal.take_sync_job() is None, "one job at a time"
    job.run()
    wal.complete(job)
    assert (wal.durable_lsn, wal.durable_index) == (lsn, 5)
    wal.sync()
    assert (wal.durable_lsn, wal.durable_index) == (later, 6)


def test_durable_index_does_not_count_entries_truncated_while_the_job_ran(tmp_path: Path) -> None:
    """A leader that counted a truncated and replaced entry would commit without a quorum."""
    wal = filled(tmp_path, 3)
    wal.append(entries(4, 5))
    job = wal.take_sync_job()
    assert job is not None
    wal.set_hard_state(2, None)
    wal.truncate_from(6)
    wal.append(entries(6, 3, term=2))
    job.run()
    wal.complete(job)
    assert wal.durable_index == 5
    wal.sync()
    assert wal.durable_index == 8
    wal.check_invariants()


def test_truncate_from_takes_back_durable_index_at_once(tmp_path: Path) -> None:
    wal = filled(tmp_path, 8)
    wal.truncate_from(5)
    assert (wal.last_index, wal.durable_index) == (4, 4)
    assert wal.truncate_from(5) == wal.next_lsn - 1, "nothing to cut, nothing logged"


def test_truncated_entries_do_not_come_back(tmp_path: Path) -> None:
    wal = filled(tmp_path, 8)
    wal.set_hard_state(2, None)
    wal.truncate_from(5)
    wal.append(entries(5, 1, term=2))
    wal.sync()
    expected = content(wal)
    wal.close()
    again = open_wal(tmp_path)
    assert content(again) == expected
    assert again.term_at(5) == 2
    assert again.last_index == 5


def test_entries_respects_limits(tmp_path: Path) -> None:
    wal = filled(tmp_path, 10)
    assert [e[0] for e in wal.entries(3, 1 << 20, 4)] == [3, 4, 5, 6]
    assert [e[0] for e in wal.entries(3, 45, 100)] == [3, 4]
    assert [e[0] for e in wal.entries(3, 1, 100)] == [3], "at least one, or a big entry would never be sent"
    assert wal.entries(11, 100, 100) == []
    assert wal.entry(10)[0] == 10
    with pytest.raises(IndexError):
        wal.entry(11)
    wal.compact_to(4)
    with pytest.raises(IndexError):
        wal.entries(4, 100, 100)


def test_wrong_mutations_are_programmer_errors(tmp_path: Path) -> None:
    wal = filled(tmp_path, 4)
    wal.compact_to(2)
    for wrong in (
        lambda: wal.append(entries(6, 1)),
        lambda: wal.append(entries(5, 1, term=0)),
        lambda: wal.append(entries(5, 1, term=9)),
        lambda: wal.truncate_from(2),
        lambda: wal.compact_to(5),
        lambda: wal.reset(1, 1),
        lambda: wal.set_hard_state(0, None),
        lambda: wal.set_hard_state(1, "n2"),
        lambda: wal.set_hard_state(1, None),
    ):
        before = content(wal)
        with pytest.raises(AssertionError):
            wrong()
        assert content(wal) == before


def test_compaction_deletes_whole_segments_only(tmp_path: Path) -> None:
    wal = filled(tmp_path, 400, segment_bytes=SMALL_SEGMENT)
    many = len(segment_files(tmp_path))
    assert many > 5
    wal.compact_to(200)
    wal.sync()
    left = len(segment_files(tmp_path))
    assert 2 < left < many
    expected = content(wal)
    wal.close()
    again = open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)
    assert again.base_index <= 200
    assert (again.term, again.voted_for) == (1, "n1"), "the hard state was in a deleted segment"
    again.align_to_snapshot(200, 1)
    again.compact_to(200)
    assert content(again) == expected


def test_compaction_to_every_index_keeps_every_entry_behind_it() -> None:
    """A segment goes when its last live entry is compacted, not one index too early and not one too late."""
    counts = []
    for floor in range(1, 61):
        disk = SimDisk()
        wal = Wal.open(disk, "/wal", segment_bytes=1024, allocate_bytes=1024)
        wal.set_hard_state(1, None)
        wal.append(entries(1, 60))
        wal.sync()
        wal.compact_to(floor)
        wal.sync()
        counts.append(len(disk.files()))
        disk.power_cut_with([False] * disk.unsynced())
        again = Wal.open(disk, "/wal", segment_bytes=1024, allocate_bytes=1024)
        again.align_to_snapshot(floor, 1)
        assert again.entries(floor + 1, 1 << 40, 1 << 40) == entries(floor + 1, 60 - floor)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] == 7


def test_a_segment_with_live_entries_is_kept_although_the_next_one_starts_lower(tmp_path: Path) -> None:
    """Entries 1..n in segment 1, cut to a few and continued in later segments: 1 still holds the few."""
    wal = open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.append(entries(1, 100))
    wal.sync()
    wal.set_hard_state(2, None)
    wal.truncate_from(40)
    wal.append(entries(40, 100, term=2))
    wal.sync()
    for floor in (10, 39, 45, 139):
        wal.compact_to(floor)
        wal.sync()
        expected = content(wal)
        wal.close()
        wal = open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)
        wal.align_to_snapshot(floor, 1 if floor < 40 else 2)
        wal.compact_to(floor)
        assert content(wal) == expected


def test_segments_of_truncated_entries_are_deleted_although_their_indexes_are_high(tmp_path: Path) -> None:
    wal = filled(tmp_path, 400, segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(2, None)
    wal.truncate_from(40)
    wal.append(entries(40, 10, term=2))
    wal.sync()
    wal.compact_to(45)
    wal.sync()
    assert len(segment_files(tmp_path)) == 1


def test_reset_below_the_end_of_a_pending_append_counts_no_entry_durable(tmp_path: Path) -> None:
    wal = filled(tmp_path, 4)
    wal.append(entries(5, 6))
    wal.set_hard_state(2, None)
    wal.reset(8, 2)
    wal.sync()
    assert (wal.last_index, wal.durable_index) == (8, 8)
    wal.check_invariants()


def test_reset_drops_everything_and_survives_reopening(tmp_path: Path) -> None:
    wal = filled(tmp_path, 300, segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(5, None)
    wal.reset(1000, 4)
    assert (wal.last_index, wal.last_term, wal.durable_index) == (1000, 4, 1000)
    wal.append(entries(1001, 3, term=5))
    wal.sync()
    assert len(segment_files(tmp_path)) == 1
    expected = content(wal)
    wal.close()
    assert content(open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)) == expected


@pytest.mark.parametrize(
    ("index", "term", "base", "last"),
    [(0, 0, 0, 10), (5, 1, 0, 10), (10, 1, 0, 10), (12, 1, 12, 12), (8, 2, 8, 8), (12, 9, 12, 12)],
)
def test_align_to_snapshot_keeps_entries_that_connect(
    tmp_path: Path, index: int, term: int, base: int, last: int
) -> None:
    """H11: a crash between the snapshot's rename and the log's trim, and their other disagreements."""
    wal = filled(tmp_path, 10)
    if term == 2:
        wal.set_hard_state(2, None)
    wal.align_to_snapshot(index, term)
    assert (wal.base_index, wal.last_index) == (base, last)
    assert wal.base_term == (term if base else 0)
    assert wal.term >= term
    wal.sync()
    expected = content(wal)
    wal.close()
    again = open_wal(tmp_path)
    again.align_to_snapshot(index, term)
    assert content(again) == expected


def test_align_to_snapshot_refuses_a_gap(tmp_path: Path) -> None:
    wal = filled(tmp_path, 400, segment_bytes=SMALL_SEGMENT)
    wal.compact_to(300)
    wal.sync()
    wal.close()
    again = open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)
    with pytest.raises(CorruptLog, match="the newest snapshot ends at 3"):
        again.align_to_snapshot(3, 1)
