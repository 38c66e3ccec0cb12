"""What the log makes of torn tails, damaged records and wrong segments, case by case.

Every bit and every crash point: tests/property/test_wal_damage.py and test_wal_crashes.py.
"""

from pathlib import Path

import pytest

from replcache.errors import CorruptLog, StorageError
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
from tests.unit.raft.test_wal import SMALL_SEGMENT, entries, filled, open_wal, segment_files


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


def test_a_write_that_was_killed_after_any_byte_is_a_torn_tail(tmp_path: Path) -> None:
    """SIGKILL inside write(2) leaves any prefix of the group, and zeros of the reserved room behind it."""
    wal = filled(tmp_path, 5)
    start = SEGMENT_HEADER_BYTES + record_bytes(2) + 5 * record_bytes(20)
    wal.append(entries(6, 3, size=40))
    wal.sync()
    wal.close()
    (path,) = segment_files(tmp_path)
    whole = path.read_bytes()
    group_end = start + 3 * record_bytes(40)
    for written in range(start + 1, group_end):
        path.write_bytes(whole[:written] + bytes(len(whole) - written))
        again = open_wal(tmp_path)
        complete = (written - start) // record_bytes(40)
        assert again.last_index in (5 + complete, 6 + complete), written
        assert [entry[3] for entry in again.entries(1, 1 << 20, 100)] == [
            entry[3] for entry in wal.entries(1, 1 << 20, again.last_index)
        ]
        again.close()


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
