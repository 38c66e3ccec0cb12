"""The write-ahead log behind pysyncobj's Journal interface (pysyncobj 0.3.17, journal.py).

pysyncobj addresses its log by position and relies on it never being empty (log[0], log[-1]); position 0 is
here the base: a virtual no-op entry (index, term) of the last entry that was compacted away, or (0, 0) at
the very beginning. Positions 1.. are the entries of the Wal. An entry reads as (command, index, term), where
the first byte of the command is the entry's kind and the rest its payload.

Nothing here waits for the disk: mutations are durable when the Wal says so (Wal.durable_lsn), and whoever
sends messages has to look at that. The commit index is not stored (a stored one may lead the log): at start
it is the base, which is committed by definition, because a snapshot holds it.
"""

from collections.abc import Callable
from typing import overload

from pysyncobj.journal import Journal

from replcache.raft.wal import Entry, Wal

JournalEntry = tuple[bytes, int, int]

# Kinds of log entries: 0 command, 1 no-op, 2 membership.
NO_OP_KIND = 1


def pack_command(kind: int, payload: bytes) -> bytes:
    """The bytes that pysyncobj sees as the command."""
    return bytes((kind,)) + payload


def unpack_command(command: bytes) -> tuple[int, bytes]:
    """(kind, payload) of pack_command."""
    return command[0], command[1:]


def _read(entry: Entry) -> JournalEntry:
    index, term, kind, payload = entry
    return pack_command(kind, payload), index, term


class LogAdapter(Journal):  # type: ignore[misc]  # pysyncobj has no types
    """A Journal whose entries live in a Wal.

    Args:
        wal: the log; this adapter does not close it.
        vote_name: turns what pysyncobj gives as a vote (a node object or its id) into a name.
    """

    def __init__(self, wal: Wal, vote_name: Callable[[object], str] = str) -> None:
        self._wal = wal
        self._vote_name = vote_name
        self._commit_index = wal.base_index

    def __len__(self) -> int:
        return self._wal.last_index - self._wal.base_index + 1

    @overload
    def __getitem__(self, item: int) -> JournalEntry: ...

    @overload
    def __getitem__(self, item: slice) -> list[JournalEntry]: ...

    def __getitem__(self, item: int | slice) -> JournalEntry | list[JournalEntry]:
        if isinstance(item, slice):
            return [self._at(position) for position in range(*item.indices(len(self)))]
        position = item + len(self) if item < 0 else item
        if not 0 <= position < len(self):
            raise IndexError(f"log position {item} of {len(self)}")
        return self._at(position)

    def _at(self, position: int) -> JournalEntry:
        if position == 0:
            return pack_command(NO_OP_KIND, b""), self._wal.base_index, self._wal.base_term
        return _read(self._wal.entry(self._wal.base_index + position))

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Appends an entry. pysyncobj's first act on an empty log, adding its own no-op at index 1, is an
        ordinary append here, because the base is at index 0."""
        kind, payload = unpack_command(command)
        self._wal.append([(idx, term, kind, payload)])

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Removes the entries at positions >= entryFrom; the base can't be removed."""
        self._wal.truncate_from(self._wal.base_index + max(entryFrom, 1))

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Removes the entries at positions < entryTo; the entry at entryTo becomes the base.

        A position behind the log empties it up to its last entry, which becomes the base (a plain Journal
        would lose its last entry, and with it index and term).
        """
        last = self._wal.last_index
        self._wal.compact_to(min(self._wal.base_index + max(entryTo, 0), last))

    def clear(self) -> None:
        """Removes everything behind the base. The place in the log is not forgotten."""
        self._wal.truncate_from(self._wal.first_index)

    def setCurrentTerm(self, term: int, votedForNodeId: object) -> None:
        self._wal.set_hard_state(term, None if votedForNodeId is None else self._vote_name(votedForNodeId))

    def getCurrentTerm(self) -> int:
        return self._wal.term

    def getVotedForNodeId(self) -> str | None:
        return self._wal.voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        self._commit_index = raftCommitIndex

    def getRaftCommitIndex(self) -> int:
        return max(self._commit_index, self._wal.base_index)

    def onOneSecondTimer(self) -> None:
        """There is nothing to save later: the log is written when it changes."""

    def _destroy(self) -> None:
        """The Wal belongs to whoever opened it."""
