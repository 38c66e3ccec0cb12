"""Reading the write-ahead log back at start, and telling a torn tail from damage.

What a crash can leave behind: the last group of records was being written and is not on the disk as a whole.
Sectors of it may be missing anywhere (a disk writes in its own order), and a missing sector is absent or
zero, because segments are allocated ahead as zeros and are never reused. And a process that is killed inside
write(2) leaves any prefix of the group, cut at any byte, with zeros behind it: the kernel copies page by page
and gives up between two copies. Nobody was told that this group is durable, so it is cut back to its first
record that is not whole. Everything else is damage:

    1. Behind the bad place there is a good record of a LATER group. Groups are synced one after the other, so
       the bad place was durable once. Cutting there would take back promises: refuse.
    2. The bad record is all there: its last byte, which is never zero, is written, and none of its sectors is
       zero (beyond those that are so by nature, which its header counts). No crash makes such a record, a
       flipped bit does, and the record may have been acknowledged: refuse. Therefore a flip in the very last
       record is found, too.
    3. A segment that is not the last one ends early, is missing, or its header does not continue the segment
       before it: refuse. A segment gets its name only after its header is durable.

What can't be told apart and is taken for a torn tail: whole sectors of the last group, or all from some byte
of it on, zeroed or cut off after they had been synced. Only the newest group can be lost that way.

The rule not to cut at the first bad checksum is that of "Protocol-Aware Recovery for Consensus-Based Storage"
(FAST 2018).
"""

from dataclasses import dataclass
from itertools import pairwise

from replcache.errors import CorruptLog
from replcache.raft.disk import Disk
from replcache.raft.wal_format import (
    ENTRY,
    HARD_STATE,
    RECORD_HEADER_BYTES,
    RESET,
    SECTOR_BYTES,
    SEGMENT_HEADER_BYTES,
    TEMPORARY_SUFFIX,
    TRUNCATE,
    Record,
    RecordHeader,
    SegmentHeader,
    aligned_end,
    decode_header,
    decode_segment_header,
    find_headers,
    parse_segment_name,
    position_seed,
    scan_records,
)

Entry = tuple[int, int, int, bytes]

WHAT_TO_DO = (
    "this node must not vote or serve from it. Move its data directory away and start the node again: "
    "it rejoins the cluster as a learner and copies the state from the others"
)


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What opening the log found; the node logs it.

    Attributes:
        segments, records, entries: how many were read (entries: those in the log afterwards).
        torn_file: the segment whose tail was cut back; "" when nothing was torn.
        torn_offset: where it was cut.
        torn_bytes: how many bytes were dropped, up to the last that was not zero.
    """

    segments: int
    records: int
    entries: int
    torn_file: str = ""
    torn_offset: int = 0
    torn_bytes: int = 0


@dataclass(slots=True)
class SegmentInfo:
    """A segment on the disk.

    Attributes:
        last_live: no entry of the log above this index has its record here; it may be lower in truth.
    """

    segment: int
    path: str
    last_live: int


@dataclass(slots=True)
class RecoveredLog:
    """The log as it is on the disk. Invariant: entries[i][0] == base_index + 1 + i."""

    base_index: int
    base_term: int
    entries: list[Entry]
    term: int
    voted_for: str | None
    next_lsn: int
    segments: list[SegmentInfo]
    end: int
    report: RecoveryReport


def corrupt(path: str, offset: int, what: str) -> CorruptLog:
    return CorruptLog(
        f"{path}: offset {offset}: {what}; {WHAT_TO_DO}",
        metadata={"file": path, "offset": str(offset)},
    )


class _Replay:
    """Applies records in order. Takes nothing on trust: also a record with a good checksum must fit."""

    def __init__(self, first: SegmentHeader) -> None:
        self.base_index = first.previous_index
        self.base_term = first.previous_term
        self.entries: list[Entry] = []
        self.last_index = first.previous_index
        self.last_term = first.previous_term
        self.term = first.term
        self.voted_for = first.voted_for
        self.lsn = first.first_lsn
        self.previous_end = 0
        self.infos: list[SegmentInfo] = []

    def matches(self, header: SegmentHeader) -> bool:
        return (
            header.previous_index == self.last_index
            and header.previous_term == self.last_term
            and header.term == self.term
            and header.voted_for == self.voted_for
            and header.first_lsn == self.lsn
        )

    def records(self, records: list[Record]) -> int | None:
        """Applies all; returns the number of the first one that doesn't fit, else None."""
        append = self.entries.append
        last_index, last_term, term = self.last_index, self.last_term, self.term
        for number, (kind_of_record, kind, index, record_term, payload) in enumerate(records):
            if kind_of_record == ENTRY:
                if index != last_index + 1 or not last_term <= record_term <= term:
                    return number
                append((index, record_term, kind, payload))
                last_index, last_term = index, record_term
            elif kind_of_record == HARD_STATE:
                if record_term < term:
                    return number
                self.term = term = record_term
                self.voted_for = payload.decode() if kind else None
            elif kind_of_record == TRUNCATE:
                if not 1 <= index <= last_index:
                    return number
                self._truncate(index, record_term)
                last_index, last_term = index - 1, record_term
            elif kind_of_record == RESET:
                self._reset(index, record_term)
                last_index, last_term = index, record_term
            else:
                return number
        self.last_index, self.last_term = last_index, last_term
        self.lsn += len(records)
        return None

    def _truncate(self, index: int, previous_term: int) -> None:
        if index <= self.base_index:
            # The entries before `index` were in segments that are deleted, because a snapshot holds them.
            self.base_index, self.base_term = index - 1, previous_term
            self.entries.clear()
        else:
            del self.entries[index - self.base_index - 1 :]
        for info in self.infos:
            info.last_live = min(info.last_live, index - 1)

    def _reset(self, index: int, term: int) -> None:
        self.base_index, self.base_term = index, term
        self.entries.clear()
        for info in self.infos:
            info.last_live = 0


def list_segments(disk: Disk, directory: str) -> list[tuple[int, str]]:
    """(number, path) of the segments in order; removes what an interrupted roll left behind.

    Raises:
        CorruptLog: a number is missing in between.
    """
    found: list[tuple[int, str]] = []
    for name in disk.listdir(directory):
        path = f"{directory}/{name}"
        number = parse_segment_name(name)
        if number is not None:
            found.append((number, path))
        elif name.endswith(TEMPORARY_SUFFIX):
            disk.unlink(path)
    found.sort()
    for (before, path), (after, _) in pairwise(found):
        if after != before + 1:
            raise corrupt(path, 0, f"segment {before + 1:016x} is missing: the next one is {after:016x}")
    return found


def recover(disk: Disk, segments: list[tuple[int, str]], owner: int) -> RecoveredLog:
    """Reads the segments (at least one), and cuts a torn tail off durably.

    Raises:
        CorruptLog: the log can't be trusted; the message names file, offset and what to do.
    """
    replay: _Replay | None = None
    records_read = 0
    report = RecoveryReport(0, 0, 0)
    end = 0
    for position, (number, path) in enumerate(segments):
        is_last = position == len(segments) - 1
        data = _read(disk, path, is_last)
        header = _header(data, path, number, owner)
        if replay is None:
            replay = _Replay(header)
        elif header.previous_end != replay.previous_end or not replay.matches(header):
            raise corrupt(path, 0, "the segment does not continue the one before it")
        # Held back until the records have fitted: what is cut off must not be half applied.
        records: list[Record] = []
        seed = position_seed(owner, number)
        end = scan_records(data, seed, records)
        tail_end = len(data.rstrip(b"\0"))
        if is_last:
            if tail_end > end:
                judge_tail(data, seed, end, path)
                report = RecoveryReport(0, 0, 0, path, end, tail_end - end)
            _settle(disk, path, end, torn=tail_end > end)
        else:
            _check_whole(disk, segments[position + 1][1], path, end)
        replay.infos.append(SegmentInfo(number, path, 0))
        misfit = replay.records(records)
        if misfit is not None:
            kind_of_record, _, index, term, _ = records[misfit]
            what = f"record {misfit} (type {kind_of_record}, index {index}, term {term}) does not fit the log"
            raise corrupt(path, 0, what)
        replay.infos[-1].last_live = replay.last_index
        replay.previous_end = end
        records_read += len(records)
    assert replay is not None, "recover() needs at least one segment"
    return RecoveredLog(
        replay.base_index,
        replay.base_term,
        replay.entries,
        replay.term,
        replay.voted_for,
        replay.lsn,
        replay.infos,
        end,
        RecoveryReport(
            len(segments),
            records_read,
            len(replay.entries),
            report.torn_file,
            report.torn_offset,
            report.torn_bytes,
        ),
    )


def _read(disk: Disk, path: str, is_last: bool) -> bytes:
    file = disk.open(path, "append" if is_last else "read")
    try:
        if is_last:
            # Older segments were synced before the next one got its name.
            file.forget_cache()
        return file.read(0, file.size())
    finally:
        file.close()


def _header(data: bytes, path: str, number: int, owner: int) -> SegmentHeader:
    header = decode_segment_header(data)
    if isinstance(header, str):
        raise corrupt(path, 0, header)
    if header.segment != number:
        raise corrupt(path, 0, f"the file holds segment {header.segment:016x}: it was renamed or copied")
    if header.owner != owner:
        what = f"the log belongs to the data directory with incarnation {header.owner}, this one has {owner}"
        raise corrupt(path, 0, what)
    return header


def _check_whole(disk: Disk, next_path: str, path: str, end: int) -> None:
    """A segment that has a successor must reach as far as its successor's header says."""
    file = disk.open(next_path, "read")
    try:
        following = decode_segment_header(file.read(0, SEGMENT_HEADER_BYTES))
    finally:
        file.close()
    if isinstance(following, str):
        raise corrupt(next_path, 0, following)
    if following.previous_end != end:
        what = f"a bad record, but the log goes on: the segment's records reach to {following.previous_end}"
        raise corrupt(path, end, what)


def _settle(disk: Disk, path: str, end: int, torn: bool) -> None:
    """Cuts the torn tail off and syncs what is left, because from now on it counts as durable.

    The cut must be durable before anything is appended: whole records of a torn group, left behind a new
    record that happens to end where they start, would come back to life.
    """
    file = disk.open(path, "append")
    try:
        if torn:
            file.truncate(min(end, file.size()))
        file.fdatasync()
    finally:
        file.close()


def judge_tail(data: bytes, seed: int, offset: int, path: str) -> None:
    """Decides whether the bytes from offset on, where no good record is, can come from a torn write.

    Raises:
        CorruptLog: they can't (the cases 1 and 2 of the module's docstring).
    """
    for header in find_headers(data, seed, offset):
        if header.group_start > offset:
            what = f"a bad record, and a good one of a later write at offset {header.offset}"
            raise corrupt(path, offset, what)
    header_end = offset + RECORD_HEADER_BYTES
    written_end = len(data.rstrip(b"\0"))
    if _missing_sectors(data, offset, header_end) > 0 or written_end < header_end:
        return
    bad = decode_header(data, seed, offset)
    if bad is None:
        raise corrupt(path, offset, "a damaged record header")
    if written_end < aligned_end(bad.payload_end):
        return
    # From the header to the trailer: both are never zero, so every sector that holds a part of them counts.
    if _missing_sectors(data, offset, aligned_end(bad.payload_end)) <= bad.zero_sectors:
        raise corrupt(path, offset, _complete_but_bad(bad))


def _complete_but_bad(header: RecordHeader) -> str:
    return (
        f"a damaged record: all {header.payload_end - header.offset} bytes of it are there, "
        "so it is no torn write, but its checksum does not match"
    )


def _missing_sectors(data: bytes, start: int, end: int) -> int:
    """How many of the sectors that [start, end) touches were never written: absent, or zero to their end.

    To the sector's end, not only to that of the range: a sector is lost as a whole. Not from its begin: older
    records may stand there.
    """
    missing = 0
    at = start
    while at < end:
        sector_end = at - at % SECTOR_BYTES + SECTOR_BYTES
        if min(end, sector_end) > len(data) or not any(data[at:sector_end]):
            missing += 1
        at = sector_end
    return missing
