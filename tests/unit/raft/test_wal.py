"""The log in memory, its durability bookkeeping, recovery rules and segments, on a real file system."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from replcache.errors import CorruptLog, StorageError
from replcache.raft.disk import DiskFile, DiskFull, OpenMode, OsDisk, OsFile
from replcache.raft.wal import Entry, Wal
from replcache.raft.wal_format import (
    ENTRY,
    HARD_STATE,
    SECTOR_BYTES,
    SEGMENT_HEADER_BYTES,
    TRUNCATE,
    Record,
    crc32c,
    encode_record,
    position_seed,
    record_bytes,
)

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


def test_torn_tail_is_cut_and_reported(tmp_path: Path) -> None:
    wal = filled(tmp_path, 10)
    wal.close()
    (path,) = segment_files(tmp_path)
    size = record_bytes(20)
    end = SEGMENT_HEADER_BYTES + record_bytes(2) + 10 * size
    data = path.read_bytes()
    path.write_bytes(data[: end - 30])
    again = open_wal(tmp_path)
    assert again.last_index == 9
    assert again.report.torn_file == str(path)
    assert again.report.torn_offset == end - size
    assert again.report.torn_bytes == size - 30 - 9, "up to the last byte that is not zero: bytes of the term"
    again.append(entries(10, 1))
    again.sync()
    again.close()
    assert open_wal(tmp_path).report.torn_file == ""


def test_cut_records_do_not_come_back_behind_new_ones(tmp_path: Path) -> None:
    """Two records in one torn group, the first one lost: the second must not follow a new first."""
    wal = filled(tmp_path, 2)
    wal.append(entries(3, 2, size=1000))
    wal.sync()
    wal.close()
    (path,) = segment_files(tmp_path)
    start = SEGMENT_HEADER_BYTES + record_bytes(2) + 2 * record_bytes(20)
    data = bytearray(path.read_bytes())
    data[start + 100 : start + 100 + 2 * SECTOR_BYTES - (start + 100) % SECTOR_BYTES] = bytes(
        2 * SECTOR_BYTES - (start + 100) % SECTOR_BYTES
    )
    path.write_bytes(data)
    again = open_wal(tmp_path)
    assert again.last_index == 2
    again.append(entries(3, 1, size=1000))
    again.sync()
    again.close()
    assert open_wal(tmp_path).last_index == 3


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_flipped_bit_in_a_record_is_refused(tmp_path: Path, where: str) -> None:
    """Also in the last one, which may have been acknowledged: a torn write leaves sectors of zeros."""
    filled(tmp_path, 10).close()
    (path,) = segment_files(tmp_path)
    data = bytearray(path.read_bytes())
    number = {"first": 0, "middle": 5, "last": 9}[where]
    offset = SEGMENT_HEADER_BYTES + record_bytes(2) + number * record_bytes(20)
    data[offset + 45] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptLog) as caught:
        open_wal(tmp_path)
    assert str(path) in str(caught.value)
    assert str(offset) in str(caught.value)
    assert "learner" in str(caught.value)
    assert caught.value.metadata["offset"] == str(offset)


def test_zeroed_sector_before_a_later_write_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 100).close()
    (path,) = segment_files(tmp_path)
    data = bytearray(path.read_bytes())
    data[1024 : 1024 + SECTOR_BYTES] = bytes(SECTOR_BYTES)
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match="later write"):
        open_wal(tmp_path)


def test_missing_or_foreign_segments_are_refused(tmp_path: Path) -> None:
    filled(tmp_path, 400, segment_bytes=SMALL_SEGMENT).close()
    files = segment_files(tmp_path)
    saved = files[2].read_bytes()
    files[2].unlink()
    with pytest.raises(CorruptLog, match="missing"):
        open_wal(tmp_path)
    files[2].write_bytes(files[3].read_bytes())
    with pytest.raises(CorruptLog, match="renamed or copied"):
        open_wal(tmp_path)
    files[2].write_bytes(saved[:2000])
    with pytest.raises(CorruptLog, match="the log goes on"):
        open_wal(tmp_path)
    files[2].write_bytes(saved)
    with pytest.raises(CorruptLog, match="incarnation"):
        open_wal(tmp_path, owner=7)
    assert open_wal(tmp_path).last_index == 400


def test_segment_of_another_history_is_refused(tmp_path: Path) -> None:
    """Same directory, same number, same sizes: an older copy of the file was put back."""
    for name, vote in (("a", "n1"), ("b", "n2")):
        wal = open_wal(tmp_path / name, segment_bytes=SMALL_SEGMENT)
        wal.set_hard_state(1, vote)
        wal.append(entries(1, 200))
        wal.sync()
        wal.close()
    ours, theirs = segment_files(tmp_path / "a")[1], segment_files(tmp_path / "b")[1]
    ours.write_bytes(theirs.read_bytes())
    with pytest.raises(CorruptLog, match="does not continue"):
        open_wal(tmp_path / "a", segment_bytes=SMALL_SEGMENT)


@pytest.mark.parametrize(
    "record",
    [
        (ENTRY, 0, 5, 1, b"a gap"),
        (ENTRY, 0, 4, 9, b"newer than the current term"),
        (HARD_STATE, 0, 0, 0, b""),
        (TRUNCATE, 0, 9, 1, b""),
        (99, 0, 4, 1, b"unknown"),
    ],
)
def test_record_with_good_checksum_that_does_not_fit_is_refused(tmp_path: Path, record: Record) -> None:
    filled(tmp_path, 3).close()
    (path,) = segment_files(tmp_path)
    data = bytearray(path.read_bytes())
    end = SEGMENT_HEADER_BYTES + record_bytes(2) + 3 * record_bytes(20)
    encoded = b"".join(encode_record(position_seed(0, 1), end, 0, record))
    data[end : end + len(encoded)] = encoded
    path.write_bytes(data)
    with pytest.raises(CorruptLog, match="does not fit"):
        open_wal(tmp_path)


def test_interrupted_roll_leaves_nothing_behind(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    leftover = tmp_path / "wal" / "0000000000000002.wal.tmp"
    leftover.write_bytes(b"half a header")
    assert open_wal(tmp_path).last_index == 3
    assert not leftover.exists()


def test_log_of_a_newer_program_is_refused_without_advice_to_throw_it_away(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    (path,) = segment_files(tmp_path)
    data = bytearray(path.read_bytes())
    data[8] = 2
    data[SECTOR_BYTES - 4 : SECTOR_BYTES] = crc32c(bytes(data[: SECTOR_BYTES - 4])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(StorageError, match="version 2") as caught:
        open_wal(tmp_path)
    assert not isinstance(caught.value, CorruptLog)


def test_missing_log_is_refused_when_it_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CorruptLog, match="missing"):
        open_wal(tmp_path, must_exist=True)


class FailingFile(OsFile):
    """Fails fdatasync or allocation on demand."""

    def __init__(self, descriptor: int, failing: dict[str, int]) -> None:
        super().__init__(descriptor)
        self.failing = failing

    def fdatasync(self) -> None:
        if "sync" in self.failing:
            raise OSError(self.failing["sync"], "injected")
        super().fdatasync()

    def allocate(self, offset: int, length: int) -> None:
        if "allocate" in self.failing:
            raise OSError(self.failing["allocate"], "injected")
        super().allocate(offset, length)

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        if "write" in self.failing:
            super().write(offset, [b"".join(buffers)[:100]])
            raise OSError(self.failing["write"], "injected")
        super().write(offset, buffers)


class FailingDisk(OsDisk):
    def __init__(self) -> None:
        self.failing: dict[str, int] = {}

    def open(self, path: str, mode: OpenMode) -> DiskFile:
        flags = {"read": os.O_RDONLY, "append": os.O_RDWR, "create": os.O_RDWR | os.O_CREAT | os.O_TRUNC}
        return FailingFile(os.open(path, flags[mode], 0o600), self.failing)


@pytest.mark.parametrize("where", ["allocate", "write"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_keeps_the_group_and_goes_on_when_there_is_room(
    tmp_path: Path, where: str, error: int
) -> None:
    disk = FailingDisk()
    wal = Wal.open(disk, str(tmp_path / "wal"), segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.append(entries(1, 3))
    wal.sync()
    disk.failing[where] = error
    lsn = wal.append(entries(4, 200))
    for _ in range(3):
        with pytest.raises(DiskFull):
            wal.sync()
        assert wal.disk_full
        assert wal.durable_lsn < lsn
    middle = wal.durable_index
    assert middle < 203, "what does not fit the allocated room is not durable"
    disk.failing.clear()
    wal.append(entries(204, 2))
    wal.sync()
    assert not wal.disk_full
    assert wal.durable_index == 205
    expected = content(wal)
    wal.close()
    assert content(open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)) == expected


@pytest.mark.parametrize(
    ("where", "error"),
    [("sync", errno.EIO), ("sync", errno.ENOSPC), ("write", errno.EIO), ("allocate", errno.EROFS)],
)
def test_disk_failure_is_final(tmp_path: Path, where: str, error: int) -> None:
    """fsyncgate: a second fsync would report success for pages that are lost."""
    disk = FailingDisk()
    wal = Wal.open(disk, str(tmp_path / "wal"), segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.sync()
    durable = wal.durable_lsn
    disk.failing[where] = error
    wal.append(entries(1, 100))
    with pytest.raises(StorageError) as caught:
        wal.sync()
    assert not isinstance(caught.value, DiskFull)
    disk.failing.clear()
    wal.append(entries(101, 1))
    with pytest.raises(StorageError, match="must stop"):
        wal.sync()
    assert wal.durable_lsn == durable
    assert wal.durable_index == 0


def test_full_disk_is_relieved_by_compaction(tmp_path: Path) -> None:
    """Old segments go although newer records can't be written: otherwise a full disk would stay full."""
    disk = FailingDisk()
    wal = Wal.open(disk, str(tmp_path / "wal"), segment_bytes=SMALL_SEGMENT)
    wal.set_hard_state(1, None)
    wal.append(entries(1, 400))
    wal.sync()
    many = len(segment_files(tmp_path))
    disk.failing["allocate"] = errno.ENOSPC
    wal.append(entries(401, 100))
    with pytest.raises(DiskFull):
        wal.sync()
    wal.compact_to(300)
    with pytest.raises(DiskFull):
        wal.sync()
    assert len(segment_files(tmp_path)) < many
    disk.failing.clear()
    wal.sync()
    expected = content(wal)
    wal.close()
    again = open_wal(tmp_path, segment_bytes=SMALL_SEGMENT)
    again.align_to_snapshot(300, 1)
    again.compact_to(300)
    assert content(again) == expected
