"""Every truncation, every flipped bit and every zeroed sector of an 8 KB log: the right answer or a refusal.

The documented rule (replcache/raft/wal_recovery.py): a flip is always refused, unless it is in a place that
means nothing; a cut file comes back as the exact prefix of whole records; zeroed sectors cost at most the
last group.
"""

import os
from collections.abc import Iterator

import pytest

from replcache.errors import CorruptLog
from replcache.raft.wal import Wal
from replcache.raft.wal_format import SECTOR_BYTES, SEGMENT_HEADER_BYTES, record_bytes
from tests.helpers.log_model import LogModel, LogState, state_of
from tests.helpers.sim_disk import SimDisk

# Time grows with the square of the size: 64 KB takes minutes (`make damage KB=64`).
SCALE = max(1, int(os.environ.get("REPLCACHE_TEST_WAL_KB", "8")) // 8)
FILE_BYTES = 8192 * SCALE
GROUPS = ((20,), (0, 1, 7, 600), (300, 8), (1500,), (40,) * 9, (900, 30, 16))
PATH = "/wal/0000000000000001.wal"


def open_wal(disk: SimDisk) -> Wal:
    return Wal.open(disk, "/wal", segment_bytes=FILE_BYTES, allocate_bytes=FILE_BYTES)


class Log:
    """An 8 KB segment with groups of several sizes, and where each record of it ends.

    The payloads have zero bytes at their ends and whole sectors of zeros, which a naive rule takes for holes.
    """

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.model = LogModel()
        self.ends = [SEGMENT_HEADER_BYTES]
        self.group_ends: list[int] = []
        wal = open_wal(self.disk)
        for number, sizes in enumerate(GROUPS * SCALE):
            term = number + 1
            vote = f"node-{number}" if number % 2 else None
            wal.set_hard_state(term, vote)
            self.model.set_hard_state(term, vote)
            self.record(len(vote or ""))
            for size in sizes:
                index = wal.last_index + 1
                payload = bytes([index % 256]).ljust(size, b"\0")[:size]
                wal.append([(index, term, index % 3, payload)])
                self.model.append([(index, term, index % 3, payload)])
                self.record(size)
            if number == 2:
                wal.truncate_from(wal.last_index)
                self.model.truncate_from(self.model.now.last_index)
                self.record(0)
            wal.sync()
            self.group_ends.append(self.ends[-1])
        wal.close()
        self.data = self.disk.contents(PATH)
        assert len(self.data) == FILE_BYTES
        assert FILE_BYTES / 2 < self.ends[-1] < FILE_BYTES - 2 * SECTOR_BYTES

    def record(self, payload_bytes: int) -> None:
        self.ends.append(self.ends[-1] + record_bytes(payload_bytes))

    def reopen(self, data: bytes) -> tuple[LogState, int] | None:
        """(state, number of records) of the log with this file; None: refused."""
        self.disk.kill()
        self.disk.put(PATH, data)
        try:
            wal = open_wal(self.disk)
        except CorruptLog as error:
            if PATH not in str(error) or "learner" not in str(error):
                raise AssertionError("the refusal must name the file and what to do") from error
            return None
        return state_of(wal), wal.next_lsn - 1


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


def test_undamaged_log_reads_back(log: Log) -> None:
    assert log.reopen(log.data) == (log.model.now, len(log.ends) - 1)


def test_every_truncation_gives_the_exact_prefix(log: Log) -> None:
    for size in range(FILE_BYTES):
        result = log.reopen(log.data[:size])
        if size < SEGMENT_HEADER_BYTES:
            assert result is None, f"cut at {size}: a segment gets its name with a whole header"
            continue
        # A record needs its header and payload; up to 8 bytes of trailer say nothing.
        records = sum(
            1 for start, end in zip(log.ends, log.ends[1:], strict=False) if _whole(log, start, end, size)
        )
        assert result == (log.model.history[records], records), f"cut at {size}"


def _whole(log: Log, start: int, end: int, size: int) -> bool:
    payload_bytes = int.from_bytes(log.data[start + 4 : start + 8], "little")
    return start + record_bytes(payload_bytes) == end and start + 40 + payload_bytes <= size


def test_every_flipped_bit_is_refused_or_harmless(log: Log) -> None:
    """No flip ever costs an entry in silence, not even in the very last record."""
    whole = (log.model.now, len(log.ends) - 1)
    refused = 0
    harmless = set()
    data = bytearray(log.data)
    for bit in range(8 * FILE_BYTES):
        data[bit // 8] ^= 1 << bit % 8
        result = log.reopen(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
        if result is None:
            refused += 1
        else:
            assert result == whole, f"bit {bit} (offset {bit // 8}): a silent wrong answer"
            harmless.add(bit // 8)
    trailers = {offset for offset in harmless if offset < log.ends[-1]}
    assert all(log.data[offset] == 0xA5 for offset in trailers), "only trailers say nothing"
    assert refused >= 8 * (log.ends[-1] - len(trailers))


def test_every_zeroed_range_of_sectors_costs_at_most_the_last_group(log: Log) -> None:
    """Zeroed sectors look torn, and are taken for it only where no later group proves otherwise."""
    sectors = FILE_BYTES // SECTOR_BYTES
    outcomes = {"refused": 0, "prefix": 0}
    last_group = log.group_ends[-2]
    for first, last in _ranges(sectors):
        data = bytearray(log.data)
        start, end = first * SECTOR_BYTES, last * SECTOR_BYTES
        data[start:end] = bytes(end - start)
        result = log.reopen(bytes(data))
        if result is None:
            outcomes["refused"] += 1
            assert start < last_group, f"sectors {first}..{last}: a hole in the last group is a torn write"
        else:
            outcomes["prefix"] += 1
            state, records = result
            assert state == log.model.history[records], f"sectors {first}..{last}"
            assert log.ends[records] >= min(last_group, *_group_starts(log, start)), (
                f"sectors {first}..{last}"
            )
    assert min(outcomes.values()) > 5, outcomes


def _group_starts(log: Log, hole: int) -> list[int]:
    """When the hole reaches to the end of the log, the group in which it begins is the last one left."""
    return [end for end in (SEGMENT_HEADER_BYTES, *log.group_ends) if end <= hole][-1:]


def _ranges(sectors: int) -> Iterator[tuple[int, int]]:
    for first in range(sectors):
        for last in range(first + 1, sectors + 1):
            yield first, last


def test_two_flips_are_refused_too(log: Log) -> None:
    """A pair in one record and in two records; a checksum of 32 bits finds both."""
    data = bytearray(log.data)
    for first in range(8 * SEGMENT_HEADER_BYTES, 8 * log.ends[-1], 701):
        for second in (first + 1, first + 64, 8 * log.ends[-1] - 1 - first % 5000):
            for bit in (first, second):
                data[bit // 8] ^= 1 << bit % 8
            result = log.reopen(bytes(data))
            for bit in (first, second):
                data[bit // 8] ^= 1 << bit % 8
            assert result is None or result == (log.model.now, len(log.ends) - 1)


def test_misdirected_sectors_are_refused_or_harmless(log: Log) -> None:
    """A good sector written over another one never passes for a record, and is no torn write either.

    But for one case: over the end of the newest group, with zeros at its own end, it looks as a killed write
    does. Then records of the newest group may be cut, and nothing else.
    """
    whole = (log.model.now, len(log.ends) - 1)
    newest = log.ends.index(log.group_ends[-2])
    sectors = FILE_BYTES // SECTOR_BYTES
    refused = 0
    for source in range(sectors):
        for target in range(1, sectors):
            data = bytearray(log.data)
            piece = data[source * SECTOR_BYTES : (source + 1) * SECTOR_BYTES]
            data[target * SECTOR_BYTES : (target + 1) * SECTOR_BYTES] = piece
            if data == log.data or not any(piece):
                continue
            result = log.reopen(bytes(data))
            refused += result is None
            if result not in (None, whole):
                assert len(data.rstrip(b"\0")) < log.ends[-1], f"sector {source} over {target}"
                assert result[1] >= newest, f"sector {source} over {target}"
                assert result == (log.model.history[result[1]], result[1])
    assert refused > 50
