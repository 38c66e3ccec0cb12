"""The write-ahead log: entries, term and vote, in memory for reading and in segments on the disk.

How durability works. A mutation changes the memory at once, gets a sequence number (lsn) and waits in a
buffer. take_sync_job() hands the buffer over; job.run() writes and syncs it in a worker thread and touches
nothing that the loop thread uses; complete(job) moves durable_lsn. While a job is under way the next buffer
fills: that is group commit. What a message promises may leave the node only when durable_lsn has reached the
lsn of the mutation that it relies on.

Which disk errors are survived:
    * No room (ENOSPC, EDQUOT, EFBIG) while space is being reserved or written: run() raises DiskFull, nothing
      of the group counts, complete() puts it back in front of the buffer, and the next job tries again, at
      the same place, so that whatever was half written is overwritten. The caller refuses proposals
      meanwhile.
    * Any other error (also EMFILE: a leader that can't begin a segment has to make way for one that can), and
      every error of a sync (also ENOSPC): the log has failed for good, every further job raises. The pages
      may be marked clean without being on the disk; trying again would report success (fsyncgate). Only a
      restart, which reads from the device what is really there, may go on.

Entries are dropped in front by compact_to() when a durable snapshot holds them, and behind by
truncate_from(), which appends a record and overwrites nothing. Formats: wal_format.py; what is done with
damage: wal_recovery.py.

Invariants:
    entries are contiguous: _entries[i][0] == base_index + 1 + i, last_index == base_index + len(_entries)
    base_index <= durable_index <= last_index
    durable_lsn < next_lsn
    terms never decrease along the log; last_term <= term
"""

from collections import deque
from collections.abc import Sequence

from replcache.constants import WAL_SEGMENT_BYTES
from replcache.errors import CorruptLog, StorageError
from replcache.raft.disk import Disk, DiskFull
from replcache.raft.wal_format import (
    ENTRY,
    HARD_STATE,
    PAYLOAD_BYTES_MAX,
    RESET,
    SEGMENT_HEADER_BYTES,
    TRUNCATE,
    Record,
    encode_vote,
)
from replcache.raft.wal_recovery import WHAT_TO_DO, Entry, RecoveryReport, list_segments, recover
from replcache.raft.wal_writer import SegmentWriter, WriterOptions

__all__ = ["DiskFull", "Entry", "RecoveryReport", "SyncJob", "Wal"]

# Room that is reserved ahead of the records; see WriterOptions.
ALLOCATE_BYTES = 1024 * 1024


class SyncJob:
    """A group of records on its way to the disk. run() may be called in any thread, once."""

    __slots__ = ("_floor", "_writer", "done", "error", "last_lsn", "records")

    def __init__(self, writer: SegmentWriter, records: list[Record], floor: int, last_lsn: int) -> None:
        self._writer = writer
        self._floor = floor
        self.records = records
        self.last_lsn = last_lsn
        self.done = False
        self.error: StorageError | None = None

    def run(self) -> None:
        """Writes and syncs.

        Raises:
            DiskFull: no room; complete() keeps what is not durable for the next job.
            StorageError: the log has failed, the node must stop.
        """
        assert not self.done, "a job runs once"
        try:
            self._writer.run(self.records, self._floor)
        except StorageError as error:
            self.error = error
            raise
        finally:
            self.done = True


class Wal:
    """See the module. All methods belong to the loop thread; only SyncJob.run() may be elsewhere.

    Attributes (read only for others):
        base_index, base_term: the entry before the first one; (0, 0) at the very beginning.
        last_index, last_term: the last entry, or the base.
        term, voted_for: hard state; voted_for is None when no vote was given in this term.
        next_lsn: what the next mutation gets. durable_lsn: everything up to it is on the disk.
        durable_index: the log up to here is durable, in the log or in a snapshot.
        entry_bytes: payload bytes of the entries in memory.
        disk_full: the last job found no room.
        report: what was found at open.
    """

    def __init__(self, writer: SegmentWriter, directory: str, report: RecoveryReport) -> None:
        self._writer = writer
        self._directory = directory
        self._entries: list[Entry] = []
        self._pending: list[Record] = []
        self._floor = 0
        self._floor_pending = False
        self._job: SyncJob | None = None
        # (lsn, last index) of appends that are not durable yet; truncation lowers the index.
        self._marks: deque[tuple[int, int]] = deque()
        self.base_index = self.base_term = 0
        self.last_index = self.last_term = 0
        self.term = 0
        self.voted_for: str | None = None
        self.next_lsn = 1
        self.durable_lsn = 0
        self.durable_index = 0
        self.entry_bytes = 0
        self.disk_full = False
        self.report = report

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        *,
        owner: int = 0,
        must_exist: bool = False,
        segment_bytes: int = WAL_SEGMENT_BYTES,
        allocate_bytes: int = ALLOCATE_BYTES,
        sync: bool = True,
    ) -> "Wal":
        """Opens the log in the directory, or begins an empty one.

        Args:
            owner: the incarnation of the data directory; a segment of another one is refused.
            must_exist: refuse to begin an empty log, because this node has voted or acknowledged before.
            segment_bytes: a new segment is begun when this would be passed.
            sync: False: leave syncing to the operating system (survives kill -9, not power loss).

        Raises:
            CorruptLog: the log can't be trusted; names file, offset and what to do.
            StorageError: the disk refuses, or the log is missing and must_exist.
        """
        assert segment_bytes > SEGMENT_HEADER_BYTES and allocate_bytes >= SEGMENT_HEADER_BYTES
        options = WriterOptions(owner, segment_bytes, min(allocate_bytes, segment_bytes), sync)
        writer = SegmentWriter(disk, directory, options)
        try:
            disk.mkdir(directory)
            segments = list_segments(disk, directory)
            if not segments:
                if must_exist:
                    raise CorruptLog(f"{directory}: the log is missing; {WHAT_TO_DO}")
                writer.start_empty()
                return cls(writer, directory, RecoveryReport(1, 0, 0))
            log = recover(disk, segments, owner)
            disk.fsync_dir(directory)
            writer.start_from(log)
        except OSError as error:
            raise StorageError(f"{directory}: the log can't be opened: {error}") from error
        wal = cls(writer, directory, log.report)
        wal._entries = log.entries
        wal.base_index, wal.base_term = log.base_index, log.base_term
        wal.term, wal.voted_for = log.term, log.voted_for
        wal.next_lsn, wal.durable_lsn = log.next_lsn, log.next_lsn - 1
        wal._set_last()
        wal.durable_index = wal.last_index
        wal.entry_bytes = sum(len(entry[3]) for entry in log.entries)
        return wal

    def close(self) -> None:
        """Closes the files. What no completed job has covered is lost, as in a crash. May be called twice."""
        assert self._job is None or self._job.done, "close() while a job is running"
        self._writer.close()

    # --- reading ---

    @property
    def first_index(self) -> int:
        """Index of the first entry in memory; last_index + 1 when there is none."""
        return self.base_index + 1

    @property
    def segments(self) -> int:
        """Number of segment files (of the last completed job; for metrics)."""
        return self._writer.segments

    @property
    def syncs(self) -> int:
        """Number of fdatasync calls since open, for metrics."""
        return self._writer.syncs

    @property
    def bytes_written(self) -> int:
        """Bytes of records written since open, for metrics."""
        return self._writer.bytes_written

    def entry(self, index: int) -> Entry:
        """(index, term, kind, payload). Raises IndexError when the entry is not in memory."""
        if not self.base_index < index <= self.last_index:
            raise IndexError(f"entry {index} is not in the log ({self.first_index}..{self.last_index})")
        return self._entries[index - self.base_index - 1]

    def entries(self, first: int, max_bytes: int, max_count: int) -> list[Entry]:
        """The entries from first on, up to max_count of them and max_bytes of payload, but at least one.

        Empty when first is behind the log. Raises IndexError when first is compacted away.
        """
        if first <= self.base_index:
            raise IndexError(f"entry {first} is not in the log ({self.first_index}..{self.last_index})")
        start = first - self.base_index - 1
        part = self._entries[start : start + max_count]
        size = 0
        for number, entry in enumerate(part):
            size += len(entry[3])
            if size > max_bytes:
                return part[: max(number, 1)]
        return part

    def term_at(self, index: int) -> int | None:
        """The term of an entry, also of the base; None when it is not known here."""
        if self.base_index < index <= self.last_index:
            return self._entries[index - self.base_index - 1][1]
        return self.base_term if index == self.base_index else None

    # --- mutations ---

    def append(self, entries: Sequence[Entry]) -> int:
        """Appends entries (index, term, kind, payload), which must continue the log; returns the lsn."""
        index, term, pending = self.last_index, self.last_term, self._pending
        for entry in entries:
            entry_index, entry_term, kind, payload = entry
            assert entry_index == index + 1, f"entry {entry_index} does not follow {index}"
            assert term <= entry_term <= self.term, f"term {entry_term} after {term}, current {self.term}"
            assert len(payload) <= PAYLOAD_BYTES_MAX, f"entry {entry_index} has {len(payload)} bytes"
            index, term = entry_index, entry_term
            pending.append((ENTRY, kind, entry_index, entry_term, payload))
            self.entry_bytes += len(payload)
        self._entries.extend(entries)
        self.next_lsn += len(entries)
        self.last_index, self.last_term = index, term
        if entries:
            self._marks.append((self.next_lsn - 1, index))
        return self.next_lsn - 1

    def truncate_from(self, index: int) -> int:
        """Removes the entries from index on (a conflict with the leader's log); returns the lsn."""
        assert index > self.base_index, f"truncate_from({index}) would cut below {self.base_index}"
        if index > self.last_index:
            return self.next_lsn - 1
        keep = index - self.base_index - 1
        self.entry_bytes -= sum(len(entry[3]) for entry in self._entries[keep:])
        del self._entries[keep:]
        self._set_last()
        self.durable_index = min(self.durable_index, self.last_index)
        self._marks = deque((lsn, min(last, self.last_index)) for lsn, last in self._marks)
        return self._add((TRUNCATE, 0, index, self.last_term, b""))

    def set_hard_state(self, term: int, voted_for: str | None) -> int:
        """Remembers term and vote; returns the lsn. A vote within a term is never changed."""
        assert term >= self.term, f"the term goes back from {self.term} to {term}"
        if term == self.term:
            if voted_for == self.voted_for:
                return self.next_lsn - 1
            assert self.voted_for is None, f"second vote in term {term}: {self.voted_for}, {voted_for}"
        vote = encode_vote(voted_for)
        self.term, self.voted_for = term, voted_for
        return self._add((HARD_STATE, 0 if voted_for is None else 1, 0, term, vote))

    def compact_to(self, index: int) -> None:
        """Drops the entries up to index, which a durable snapshot (of index or later) holds.

        Segments that hold nothing else are deleted by the next job. An index at or below the base does
        nothing.
        """
        assert index <= self.last_index, f"compact_to({index}) behind the log's end {self.last_index}"
        if index <= self.base_index:
            return
        term = self.term_at(index)
        assert term is not None, "an index between base and end has a term"
        dropped = index - self.base_index
        self.entry_bytes -= sum(len(entry[3]) for entry in self._entries[:dropped])
        del self._entries[:dropped]
        self.base_index, self.base_term = index, term
        self.durable_index = max(self.durable_index, index)
        self._raise_floor(index)

    def reset(self, index: int, term: int) -> int:
        """Empties the log, which goes on after the (index, term) of a durable snapshot; returns the lsn."""
        assert index >= self.base_index, f"reset to {index} would go back behind {self.base_index}"
        assert term <= self.term, f"reset to term {term}, current {self.term}"
        self._entries.clear()
        self._marks.clear()
        self.entry_bytes = 0
        self.base_index, self.base_term = index, term
        self._set_last()
        self.durable_index = index
        self._raise_floor(index)
        return self._add((RESET, 0, index, term, b""))

    def align_to_snapshot(self, index: int, term: int) -> None:
        """At start: makes the log fit the newest snapshot, (0, 0) when there is none.

        When the log holds the snapshot's last entry, it stays as it is: entries behind it are needed, and
        those before it serve followers that were away briefly. Otherwise it begins anew behind the snapshot:
        it ended before it (its tail was not durable when the process died) or has another entry there (the
        snapshot came from a leader, and the process died before the reset was durable).

        Raises:
            CorruptLog: entries between the snapshot and the log are missing.
        """
        if index < self.base_index:
            what = f"the log begins after entry {self.base_index}, the newest snapshot ends at {index}"
            raise CorruptLog(f"{self._directory}: {what}; {WHAT_TO_DO}")
        if self.term_at(index) == term:
            return
        if term > self.term:
            self.set_hard_state(term, None)
        self.reset(index, term)

    # --- durability ---

    @property
    def is_sync_under_way(self) -> bool:
        """A job was taken and is not completed yet."""
        return self._job is not None

    def take_sync_job(self) -> SyncJob | None:
        """The job that makes all mutations so far durable; None: nothing to do, or one is under way."""
        if self._job is not None or not (self._pending or self._floor_pending):
            return None
        self._job = SyncJob(self._writer, self._pending, self._floor, self.next_lsn - 1)
        self._pending = []
        self._floor_pending = False
        return self._job

    def complete(self, job: SyncJob) -> None:
        """Takes over the end of a job that ran, on the loop thread; also after DiskFull.

        Raises:
            StorageError: the job ended with another error; the log has failed.
        """
        assert job is self._job, "complete() of a job that is not under way"
        assert job.done, "complete() before run()"
        self._job = None
        self.disk_full = isinstance(job.error, DiskFull)
        if job.error is not None and not self.disk_full:
            raise job.error
        if self.disk_full:
            missing = job.last_lsn - self._writer.synced_lsn
            self._pending[:0] = job.records[len(job.records) - missing :] if missing else []
            self._floor_pending = True
        self.durable_lsn = self._writer.synced_lsn
        marks = self._marks
        while marks and marks[0][0] <= self.durable_lsn:
            self.durable_index = max(self.durable_index, marks.popleft()[1])

    def sync(self) -> None:
        """Makes everything durable before returning; for start, stop and tests. Raises as SyncJob.run."""
        while (job := self.take_sync_job()) is not None:
            try:
                job.run()
            finally:
                self.complete(job)

    # --- internal ---

    def _add(self, record: Record) -> int:
        self._pending.append(record)
        self.next_lsn += 1
        return self.next_lsn - 1

    def _raise_floor(self, index: int) -> None:
        self._floor = max(self._floor, index)
        self._floor_pending = True

    def _set_last(self) -> None:
        if self._entries:
            self.last_index, self.last_term = self._entries[-1][0], self._entries[-1][1]
        else:
            self.last_index, self.last_term = self.base_index, self.base_term

    def check_invariants(self) -> None:
        """Asserts the module's invariants; for tests and the simulator."""
        assert self.last_index == self.base_index + len(self._entries)
        assert self.base_index <= self.durable_index <= self.last_index
        assert self.durable_lsn < self.next_lsn
        assert self.last_term <= self.term
        assert all(entry[0] == self.first_index + at for at, entry in enumerate(self._entries))
        assert self.entry_bytes == sum(len(entry[3]) for entry in self._entries)
