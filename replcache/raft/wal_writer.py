"""The write side of the log: owns the open segment. Used by one thread at a time, never by two.

SegmentWriter belongs to whoever runs the current SyncJob (wal.py); the loop thread touches it only while no
job exists. Its state is that of the disk: it moves when a group of records is synced, not before.
"""

import errno
from dataclasses import dataclass

from replcache.errors import StorageError
from replcache.raft.disk import DISK_FULL_ERRORS, Disk, DiskFile, DiskFull
from replcache.raft.failpoints import fail_point
from replcache.raft.wal_format import (
    ENTRY,
    HARD_STATE,
    RESET,
    SEGMENT_HEADER_BYTES,
    TEMPORARY_SUFFIX,
    TRUNCATE,
    Record,
    SegmentHeader,
    encode_record,
    encode_segment_header,
    position_seed,
    record_bytes,
    segment_name,
)
from replcache.raft.wal_recovery import RecoveredLog, SegmentInfo


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How the log is written.

    Attributes:
        owner: incarnation of the data directory.
        segment_bytes: size at which a new segment is begun.
        allocate_bytes: room that is reserved ahead, because a sync that doesn't move the end of the file is
            cheaper (110 -> 75 us for 200 bytes on ext4).
        sync: False leaves durability to the system's write-back; then a power loss may even leave a log that
            is refused, because later groups reached the disk before earlier ones.
    """

    owner: int
    segment_bytes: int
    allocate_bytes: int
    sync: bool


@dataclass(slots=True)
class _State:
    """The log after the last encoded record."""

    lsn: int
    term: int
    voted_for: str | None
    last_index: int
    last_term: int


class SegmentWriter:
    """Appends groups of records to the newest segment, begins new ones, deletes old ones.

    Invariants:
        _end is where the synced records of the open segment end; the next group is written there.
        _segments is ordered; its last one is open.
    """

    def __init__(self, disk: Disk, directory: str, options: WriterOptions) -> None:
        self._disk = disk
        self._directory = directory
        self._options = options
        self._file: DiskFile | None = None
        self._segments: list[SegmentInfo] = []
        self._seed = 0
        self._end = 0
        self._allocated = 0
        self._state = _State(1, 0, None, 0, 0)
        self._failed = ""
        self.syncs = 0
        self.bytes_written = 0

    @property
    def segments(self) -> int:
        return len(self._segments)

    @property
    def synced_lsn(self) -> int:
        """Sequence number of the last record that is on the disk."""
        return self._state.lsn - 1

    def start_empty(self) -> None:
        """Makes the first segment of a new log. Raises OSError."""
        self._begin_segment(1, 0)

    def start_from(self, log: RecoveredLog) -> None:
        """Goes on at the end of the newest segment."""
        last = log.entries[-1] if log.entries else (log.base_index, log.base_term)
        self._state = _State(log.next_lsn, log.term, log.voted_for, last[0], last[1])
        self._segments = log.segments
        newest = self._segments[-1]
        self._file = self._disk.open(newest.path, "append")
        self._seed = position_seed(self._options.owner, newest.segment)
        self._end = log.end
        self._allocated = self._file.size()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def run(self, records: list[Record], floor: int) -> None:
        """Makes the records durable, in order, and deletes segments that only hold entries <= floor.

        Raises:
            DiskFull: synced_lsn tells what is durable; the rest may be given again when there is room.
            StorageError: the disk failed. Nothing more is ever written: after a failed fsync the system
                forgets what was not written, and says OK to the next one.
        """
        if self._failed:
            raise StorageError(self._failed)
        try:
            # First, because it may make the room that the records need. It is safe here: it is decided on
            # what is durable, not on what is about to be.
            self._delete_old(floor)
            self._write(records)
            self._delete_old(floor)
        except OSError as error:
            if isinstance(error, _NoRoom):
                raise DiskFull(f"{self._directory}: no room for the log: {error}") from error
            self._failed = f"{self._directory}: the log can't be written: {error}; this node must stop"
            raise StorageError(self._failed) from error

    # --- writing ---

    def _write(self, records: list[Record]) -> None:
        done = 0
        while done < len(records):
            count = self._write_group(records, done)
            if count == 0:
                self._roll()
            done += count

    def _write_group(self, records: list[Record], first: int) -> int:
        """Writes and syncs as many records as fit into the open segment; returns their number.

        0 means that the segment is full. An empty segment takes any one record.
        """
        assert self._file is not None, "the log is closed"
        start = offset = self._end
        limit = self._options.segment_bytes
        state = _State(*_fields(self._state))
        truncated = state.last_index + 1
        buffers: list[bytes] = []
        number = first
        for number in range(first, len(records)):
            record = records[number]
            size = record_bytes(len(record[4]))
            if offset + size > limit and offset > SEGMENT_HEADER_BYTES:
                break
            buffers.extend(encode_record(self._seed, offset, offset - start, record))
            offset += size
            if record[0] == ENTRY:
                state.last_index, state.last_term = record[2], record[3]
            else:
                truncated = min(truncated, _advance(state, record))
        else:
            number = len(records)
        if number == first:
            return 0
        self._flush(start, offset, buffers)
        state.lsn += number - first
        self._state = state
        self._end = offset
        for info in self._segments:
            info.last_live = min(info.last_live, truncated - 1)
        self._segments[-1].last_live = state.last_index
        return number - first

    def _flush(self, start: int, end: int, buffers: list[bytes]) -> None:
        assert self._file is not None, "the log is closed"
        fail_point("wal.before_write")
        try:
            if end > self._allocated:
                step = self._options.allocate_bytes
                target = end + step - end % step
                self._file.allocate(self._allocated, target - self._allocated)
                self._allocated = target
            # A write that ran out of room may have left a part of the group behind. The next try starts at
            # the same offset with the same records in front, so it overwrites all of that part; a crash in
            # between leaves a torn group, which recovery cuts off.
            self._file.write(start, buffers)
        except OSError as error:
            raise _no_room(error) from error
        self._sync()
        self.bytes_written += end - start

    def _sync(self) -> None:
        assert self._file is not None, "the log is closed"
        fail_point("wal.before_fsync")
        if self._options.sync:
            # Also ENOSPC is fatal here: delayed allocation failed, and the pages may be marked clean already.
            self._file.fdatasync()
            self.syncs += 1
        fail_point("wal.after_fsync")

    # --- segments ---

    def _roll(self) -> None:
        """Goes on in a new segment. Everything in the open one is synced already."""
        fail_point("wal.roll_begin")
        old = self._file
        self._begin_segment(self._segments[-1].segment + 1, self._end)
        if old is not None:
            old.close()
        fail_point("wal.roll_end")

    def _begin_segment(self, number: int, previous_end: int) -> None:
        """The name appears only when the header is durable, so a segment without a good header is damaged."""
        state = self._state
        header = SegmentHeader(
            segment=number,
            owner=self._options.owner,
            first_lsn=state.lsn,
            term=state.term,
            voted_for=state.voted_for,
            previous_index=state.last_index,
            previous_term=state.last_term,
            previous_end=previous_end,
        )
        path = f"{self._directory}/{segment_name(number)}"
        temporary = path + TEMPORARY_SUFFIX
        allocated = self._options.allocate_bytes
        file: DiskFile | None = None
        try:
            file = self._disk.open(temporary, "create")
            file.allocate(0, allocated)
            file.write(0, [encode_segment_header(header)])
        except OSError as error:
            if file is not None:
                file.close()
            raise _no_room(error) from error
        file.fdatasync()
        fail_point("wal.roll_before_rename")
        self._disk.rename(temporary, path)
        fail_point("wal.roll_before_dir_fsync")
        self._disk.fsync_dir(self._directory)
        self._file = file
        self._segments.append(SegmentInfo(number, path, state.last_index))
        self._seed = position_seed(self._options.owner, number)
        self._end = SEGMENT_HEADER_BYTES
        self._allocated = allocated

    def _delete_old(self, floor: int) -> None:
        """Deletes the oldest segments as long as they hold no live entry above floor.

        Hard state and base of what they held are in the header of the segment after them. The order matters:
        a segment missing in the middle would be damage. The directory is synced after each one, because
        unsynced unlinks may reach the disk in any order.
        """
        while len(self._segments) > 1 and self._segments[0].last_live <= floor:
            fail_point("wal.before_delete")
            self._disk.unlink(self._segments[0].path)
            self._disk.fsync_dir(self._directory)
            del self._segments[0]
            fail_point("wal.after_delete")


class _NoRoom(OSError):
    """A write or an allocation found the disk full; before anything was synced."""


def _no_room(error: OSError) -> OSError:
    if error.errno in DISK_FULL_ERRORS:
        return _NoRoom(error.errno, error.strerror or errno.errorcode.get(error.errno or 0, ""))
    return error


def _fields(state: _State) -> tuple[int, int, str | None, int, int]:
    return state.lsn, state.term, state.voted_for, state.last_index, state.last_term


def _advance(state: _State, record: Record) -> int:
    """Moves state over a record that is no entry; returns the first index that it takes away."""
    kind_of_record, kind, index, term, payload = record
    if kind_of_record == HARD_STATE:
        fail_point("wal.hard_state")
        state.term = term
        state.voted_for = payload.decode() if kind else None
        return state.last_index + 1
    if kind_of_record == TRUNCATE:
        fail_point("wal.truncate_record")
        state.last_index, state.last_term = index - 1, term
        return index
    assert kind_of_record == RESET, f"unknown record type {kind_of_record}"
    state.last_index, state.last_term = index, term
    return 1
