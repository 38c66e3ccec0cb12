"""A log that is too simple to be wrong: what replcache/raft/wal.py must have after any crash.

The model keeps the state after every record (lsn). After a crash the real log must be in the state of some
lsn that is not below the last one that it has called durable: nothing promised is missing, nothing is
invented, nothing is out of order.
"""

from dataclasses import dataclass, field

from replcache.raft.wal import Entry, Wal


@dataclass(frozen=True, slots=True)
class LogState:
    base_index: int
    base_term: int
    entries: tuple[Entry, ...]
    term: int
    voted_for: str | None

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1][1] if self.entries else self.base_term

    def term_at(self, index: int) -> int | None:
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self.entries[index - self.base_index - 1][1]
        return None

    def behind(self, index: int, term: int) -> "LogState":
        """As a node sees it that has a durable snapshot of (index, term)."""
        if index < self.base_index:
            raise AssertionError(f"the model's own base {self.base_index} is above the snapshot {index}")
        if self.term_at(index) == term:
            entries = self.entries[index - self.base_index :]
            return LogState(index, term, entries, self.term, self.voted_for)
        if term > self.term:
            return LogState(index, term, (), term, None)
        return LogState(index, term, (), self.term, self.voted_for)


def state_of(wal: Wal) -> LogState:
    """What the real log says that it holds; checks its invariants."""
    wal.check_invariants()
    entries = tuple(wal.entries(wal.first_index, 1 << 40, 1 << 40))
    return LogState(wal.base_index, wal.base_term, entries, wal.term, wal.voted_for)


@dataclass(slots=True)
class LogModel:
    """History of states by lsn, and what is known to be durable.

    Attributes:
        durable_lsn: as the real log last said.
        snapshot: (index, term) of the newest durable snapshot.
    """

    history: list[LogState] = field(default_factory=lambda: [LogState(0, 0, (), 0, None)])
    durable_lsn: int = 0
    snapshot: tuple[int, int] = (0, 0)

    @property
    def now(self) -> LogState:
        return self.history[-1]

    def append(self, entries: list[Entry]) -> None:
        for entry in entries:
            now = self.now
            assert entry[0] == now.last_index + 1
            self._push(
                LogState(now.base_index, now.base_term, (*now.entries, entry), now.term, now.voted_for)
            )

    def truncate_from(self, index: int) -> None:
        now = self.now
        if index <= now.last_index:
            kept = now.entries[: index - now.base_index - 1]
            self._push(LogState(now.base_index, now.base_term, kept, now.term, now.voted_for))

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        now = self.now
        if (term, voted_for) != (now.term, now.voted_for):
            self._push(LogState(now.base_index, now.base_term, now.entries, term, voted_for))

    def reset(self, index: int, term: int) -> None:
        self.snapshot = max(self.snapshot, (index, term))
        self._push(LogState(index, term, (), self.now.term, self.now.voted_for))

    def snapshot_made(self, index: int) -> None:
        """A durable snapshot of the current log at index; the log may drop what it holds."""
        term = self.now.term_at(index)
        assert term is not None
        self.snapshot = max(self.snapshot, (index, term))

    def check_reopened(self, wal: Wal, label: object = "") -> None:
        """Asserts that a log that was opened again may be what it is; aligns it to the snapshot.

        The model goes on from there.
        """
        lsn = wal.next_lsn - 1
        assert self.durable_lsn <= lsn < len(self.history), (
            f"{label}: the log came back with lsn {lsn}, durable was {self.durable_lsn}, "
            f"written at most {len(self.history) - 1}"
        )
        expected = self.history[lsn].behind(*self.snapshot)
        wal.align_to_snapshot(*self.snapshot)
        assert state_of(wal).behind(*self.snapshot) == expected, f"{label}: wrong contents at lsn {lsn}"
        # The alignment may have added records of its own.
        del self.history[lsn + 1 :]
        while len(self.history) < wal.next_lsn:
            self.history.append(expected)
        self.durable_lsn = lsn

    def check_durable_index(self, wal: Wal) -> None:
        """durable_index never names an entry that is not in the durable log or snapshot."""
        durable = self.history[self.durable_lsn]
        for index in range(max(wal.first_index, self.snapshot[0] + 1), wal.durable_index + 1):
            assert durable.term_at(index) == wal.term_at(index), f"entry {index} is not durable"

    def copy(self) -> "LogModel":
        return LogModel(list(self.history), self.durable_lsn, self.snapshot)

    def _push(self, state: LogState) -> None:
        self.history.append(state)
