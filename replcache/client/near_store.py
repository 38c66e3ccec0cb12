"""The pure part of the near cache: what is held, what may be served, how fresh it is. No I/O, no clock.

Freshness. A linearizable read sent at t0 (own clock) that saw revision R proves: every write acknowledged
before t0 is at or below R. When the watch has delivered everything up to R, every such write has taken its
entry out of here. So a hit at t is at most t - t0 behind, and it is served only while that is within the
bound. No clocks of two hosts are compared, and how long messages travelled does not matter. A progress mark
alone would prove nothing: it may have been under way for any time, and its node may be cut off.

Invariants:
- A row read at revision r is here only if no event of its key in (r, delivered] exists.
- Rows are taken in only at revisions that the watch is responsible for (>= base).
"""

import threading
from collections import OrderedDict, deque
from typing import NamedTuple

from replcache.client.types import Entry

_PENDING_PROOFS_MAX = 64


class Row(NamedTuple):
    """entry None: the key is known to be missing. good_until: own clock; the entry's ttl ends then."""

    entry: Entry | None
    revision: int
    good_until: float


class Freshness:
    """Up to which moment of the own clock the store is known to be complete. Safe to use from threads."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self.proven_at = float("-inf")
        # Proofs whose revision the watch has not reached yet, in the order of their time.
        self._pending: deque[tuple[float, int]] = deque()
        self._newest = float("-inf")
        # Between the look at a proof and its removal another thread could remove it: the next one, of which
        # the watch knows nothing, would be taken for proven.
        self._guard = threading.Lock()

    def note_proof(self, sent_at: float, revision: int) -> None:
        if sent_at <= self._newest:
            return
        with self._guard:
            if sent_at <= self._newest:
                return
            self._newest = sent_at
            if len(self._pending) < _PENDING_PROOFS_MAX:
                self._pending.append((sent_at, revision))
            else:
                # The watch is far behind. One proof less is no harm: the earlier ones come first anyway.
                self._pending[-1] = (sent_at, revision)

    def note_delivered(self, revision: int) -> None:
        """The watch has delivered everything up to `revision`, and it has been taken in."""
        with self._guard:
            pending = self._pending
            while pending and pending[0][1] <= revision:
                self.proven_at = pending.popleft()[0]

    def is_fresh(self, now: float) -> bool:
        return now - self.proven_at <= self.bound_s

    def reset(self) -> None:
        """The watch lost events: what was proven says nothing about the new start."""
        with self._guard:
            self.proven_at = float("-inf")
            self._pending.clear()


class NearStore:
    """Rows in the order of their use; the least recently used one goes first. Safe to use from threads."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        # Reads from this revision on may be taken in; None: no watch is responsible yet.
        self.base: int | None = None
        self.invalidations = 0
        self.evictions = 0
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        # Keys that are being read: the newest change that was seen meanwhile.
        self._reading: dict[bytes, list[int]] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def lookup(self, key: bytes, now: float) -> Row | None:
        # Without the guard: each step is one of the dict's own, and whether a change that comes at the same
        # moment is before or after the look is not to be told. In between the row may go.
        rows = self._rows
        row = rows.get(key)
        if row is None:
            return None
        if now >= row[2]:
            with self._guard:
                if rows.get(key) is row:
                    del rows[key]
            return None
        try:
            rows.move_to_end(key)
        except KeyError:
            pass
        return row

    def begin_read(self, key: bytes) -> None:
        """Before a read is sent: from here on changes of the key are remembered for its answer."""
        with self._guard:
            known = self._reading.get(key)
            if known is None:
                self._reading[key] = [1, 0]
            else:
                known[0] += 1

    def end_read(self, key: bytes, row: Row | None) -> bool:
        """Takes the answer in (None: there was none) unless something newer is known; tells whether."""
        with self._guard:
            readers, changed_at = self._reading[key]
            if readers == 1:
                del self._reading[key]
            else:
                self._reading[key][0] = readers - 1
            if row is None or self.base is None or row.revision < max(self.base, changed_at):
                return False
            held = self._rows.get(key)
            if held is not None and held.revision > row.revision:
                return False
            self._rows[key] = row
            self._rows.move_to_end(key)
            if len(self._rows) > self.max_entries:
                self._rows.popitem(last=False)
                self.evictions += 1
            return True

    def changed(self, key: bytes, revision: int) -> None:
        """The key was changed at `revision`: what was read before is not served any more."""
        with self._guard:
            reading = self._reading.get(key)
            if reading is not None and reading[1] < revision:
                reading[1] = revision
            row = self._rows.get(key)
            if row is not None and row.revision < revision:
                del self._rows[key]
                self.invalidations += 1

    def restart(self, base: int | None) -> None:
        """Events were lost, or a watch begins: only reads from `base` on count. Nothing held is kept."""
        with self._guard:
            self._rows.clear()
            self.base = base

    def drop(self, key: bytes) -> None:
        with self._guard:
            self._rows.pop(key, None)
