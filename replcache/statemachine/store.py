"""The table of entries with what hangs on it: key index, expiry timers, byte count, running snapshots.

All changes go through `put`, `remove` and `put_columns`, so that the parts can't drift apart. An entry past
its time is dead: invisible to everybody at once, though it may stay in the table for a while, because
removals per applied log entry are bounded.

Invariant: index, timers and counts are functions of the table and the clock alone; only the table is state.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from replcache.statemachine.entries import DUE, LEASE, NO_META, TAG_EPOCH, TAGS, Meta, Row, make_meta
from replcache.statemachine.events import Event, EventKind, PutBatch, TagEvent
from replcache.statemachine.expiry import Timers
from replcache.statemachine.graves import Grave, GraveKind, Graveyard
from replcache.statemachine.invariants import require
from replcache.statemachine.keyindex import KeyIndex
from replcache.statemachine.keysets import KeySet
from replcache.statemachine.leases import LeaseTable
from replcache.statemachine.namespaces import ENTRY_OVERHEAD_BYTES, NamespaceTable
from replcache.statemachine.results import Refusal
from replcache.statemachine.tags import TagTable
from replcache.statemachine.turn import Turn

# Physical removals in one applied entry: 1,000 cost 2 to 4 ms. The leader proposes ticks until all are gone.
REMOVALS_PER_ENTRY_MAX: Final = 1000
# Keys that a scan looks at before it returns what it has, when most of them are dead.
SCAN_EXAMINED_MAX: Final = 20_000


class SavedRows(Protocol):
    """A snapshot that is being read: it needs each row as it was when the snapshot began."""

    saved: dict[bytes, Row | None]

    @property
    def finished(self) -> bool: ...


class Growth(Protocol):
    """What changes that have not taken effect yet will add: see writers.Writer."""

    @property
    def grown_bytes(self) -> int: ...

    def grown_bytes_beside(self, key: bytes) -> int: ...


class Store:
    """The table. `turn` gives clock and revisions, and takes the events of what dies here."""

    __slots__ = (
        "_leases",
        "_turn",
        "backlog",
        "evicted_totals",
        "expired_total",
        "graveyard",
        "index",
        "namespaces",
        "rows",
        "size_bytes",
        "tags",
        "timers",
        "views",
    )

    def __init__(self, turn: Turn, leases: LeaseTable) -> None:
        self._turn = turn
        self._leases = leases
        self.rows: dict[bytes, Row] = {}
        self.index = KeyIndex(self.rows)
        self.timers: Timers[bytes] = Timers()
        # Whether there may be rows past their time: removals were cut short. Derived, like the timers.
        self.backlog = False
        self.tags = TagTable()
        self.graveyard = Graveyard()
        # Bytes of all keys and values in the table, dead ones included.
        self.size_bytes = 0
        # Since the process started; not part of the state.
        self.expired_total = 0
        # Reason -> entries, likewise.
        self.evicted_totals: dict[str, int] = {}
        self.namespaces = NamespaceTable()
        self.views: list[SavedRows] = []

    # --- reading ---

    def is_dead(self, meta: Meta) -> bool:
        if 0 < meta[1] <= self._turn.clock_ms:
            return True
        if self.tags.invalidated and self.tags.is_invalidated(meta[TAGS], meta[TAG_EPOCH]):
            return True
        return meta[LEASE] != 0 and meta[LEASE] not in self._leases.leases

    def peek(self, key: bytes) -> Row | None:
        """The row of a living entry."""
        row = self.rows.get(key)
        if row is None or row[4] is None or not self.is_dead(row[4]):
            return row
        return None

    def scan_page(
        self, prefix: bytes, after: bytes, limit: int, examine: int = SCAN_EXAMINED_MAX
    ) -> tuple[list[tuple[bytes, Row]], bytes | None]:
        """Living rows with `prefix` and key > `after` (b"": from the start), in byte order.

        Returns:
            Up to `limit` rows, and where to go on: pass it as `after`; None when there is no more. The page
            may be short, even empty, and still not the last one, after `examine` keys were looked at.
        """
        found: list[tuple[bytes, Row]] = []
        if limit <= 0:
            return found, None
        examined = 0
        start = max(prefix, after)
        peek = self.peek
        for block in self.index.iterate(start, bool(after) and after >= prefix, min(limit, 256) + 1):
            for key in block:
                if not key.startswith(prefix):
                    return found, None
                if len(found) >= limit:
                    return found, found[-1][0]
                row = peek(key)
                if row is not None:
                    found.append((key, row))
            examined += len(block)
            if examined >= examine and len(found) < limit:
                return found, block[-1]
        return found, None

    def find_page(
        self, tags: Sequence[str], after: bytes, limit: int, examine: int = SCAN_EXAMINED_MAX
    ) -> tuple[list[tuple[bytes, Row]], bytes | None]:
        """Living rows that have all the tags (at least one), in byte order; pages as those of scan_page."""
        found: list[tuple[bytes, Row]] = []
        sets = [self.tags.sets.get(tag) for tag in tags]
        given = [keys for keys in sets if keys is not None]
        if limit <= 0 or not given or len(given) < len(sets):
            return found, None
        wanted = set(tags)
        last = after
        for examined, key in enumerate(min(given, key=len).in_order(after or None)):
            if len(found) >= limit:
                return found, found[-1][0]
            if examined >= examine:
                return found, last
            last = key
            row = self.peek(key)
            if row is not None and row[4] is not None and wanted.issubset(row[4][TAGS]):
                found.append((key, row))
        return found, None

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        """Keys >= start of all rows, also of dead ones, in byte order: the same on every node. (The index
        also has keys that are gone, other ones on other nodes.)"""
        rows = self.rows
        return (key for block in self.index.iterate(start, False, 256) for key in block if key in rows)

    # --- changing ---

    def save(self, key: bytes) -> None:
        """Keeps the row for snapshots under way; before every change of `key`."""
        row = self.rows.get(key)
        for view in self.views:
            view.saved.setdefault(key, row)

    def put(self, key: bytes, row: Row) -> Row | None:
        """Returns the row that was there, dead or alive."""
        if self.views:
            self.save(key)
        rows = self.rows
        old = rows.get(key)
        rows[key] = row
        meta = row[4]
        if self.namespaces.active:
            self._charge(key, row, old)
        if old is None:
            self.size_bytes += len(key) + len(row[0])
            self.index.add(key)
        else:
            self.size_bytes += len(row[0]) - len(old[0])
            if old[4] is not None:
                self._unlink(key, old[4])
        if meta is not None:
            self._link(key, meta)
        return old

    def remove(self, key: bytes) -> Row:
        """Takes the row out and returns it; the key must be there."""
        if self.views:
            self.save(key)
        old = self.rows.pop(key)
        self.size_bytes -= len(key) + len(old[0])
        if self.namespaces.active:
            self.namespaces.charge(key, -len(key) - len(old[0]), -1)
        self.index.note_removals(1)
        if old[4] is not None:
            self._unlink(key, old[4])
        return old

    def _charge(self, key: bytes, row: Row, old: Row | None) -> None:
        if old is None:
            self.namespaces.charge(key, len(key) + len(row[0]), 1)
        else:
            self.namespaces.charge(key, len(row[0]) - len(old[0]), 0)

    @property
    def quota_bytes(self) -> int:
        """What counts against the quota of everything."""
        return self.size_bytes + len(self.rows) * ENTRY_OVERHEAD_BYTES

    def check_quota(self, key: bytes, size: int, old: Row | None, behind: Growth) -> Refusal | None:
        """Whether a value of `size` bytes may replace `old`, behind changes that add so much."""
        growth = size - len(old[0]) if old is not None else len(key) + size + ENTRY_OVERHEAD_BYTES
        if growth <= 0:
            return None
        refusal = self.namespaces.check_own(key, growth + behind.grown_bytes_beside(key))
        if refusal is not None:
            return refusal
        return self.namespaces.check_everything(growth + behind.grown_bytes, self.quota_bytes)

    def check_quota_columns(self, keys: list[bytes], values: list[bytes]) -> Refusal | None:
        """The same for sets in columns, of which all or none take effect."""
        growth: dict[str, tuple[bytes, int]] = {}
        total = 0
        for key, value in zip(keys, values, strict=True):
            old = self.rows.get(key)
            more = (
                len(value) - len(old[0]) if old is not None else len(key) + len(value) + ENTRY_OVERHEAD_BYTES
            )
            total += more
            namespace = self.namespaces.find(key)
            if namespace is not None:
                growth[namespace.name] = (key, growth.get(namespace.name, (key, 0))[1] + more)
        for key, more in growth.values():
            refusal = self.namespaces.check_own(key, more)
            if refusal is not None:
                return refusal
        return self.namespaces.check_everything(total, self.quota_bytes)

    def _link(self, key: bytes, meta: Meta) -> None:
        if meta[1]:
            self.timers.add(meta[1], key)
        if meta[5]:
            self.tags.link(key, meta[5], meta[7])
        if meta[6]:
            self._leases.link_key(meta[6], key)

    def _unlink(self, key: bytes, meta: Meta) -> None:
        if meta[1]:
            self.timers.cancel(meta[1], key)
        if meta[5]:
            self.tags.unlink(key, meta[5])
        if meta[6]:
            self._leases.unlink_key(meta[6], key)

    def bury(self, key: bytes) -> None:
        """Removes a dead row, with its event."""
        turn = self._turn
        row = self.rows[key]
        kind = EventKind.EXPIRE
        if row[4] is not None and not 0 < row[4][1] <= turn.clock_ms:
            by_tag = self.tags.is_invalidated(row[4][TAGS], row[4][TAG_EPOCH])
            kind = EventKind.INVALIDATE if by_tag else EventKind.EXPIRE
        self.remove(key)
        self.expired_total += 1
        turn.events.append(Event(turn.next_revision(), kind, key, None, row))

    def bury_if_dead(self, key: bytes) -> None:
        row = self.rows.get(key)
        if row is not None and row[4] is not None and self.is_dead(row[4]):
            self.bury(key)

    def expire(self) -> None:
        """Removes what is due, at most REMOVALS_PER_ENTRY_MAX rows."""
        self.backlog = False
        for removed, (_, key) in enumerate(self.timers.due(self._turn.clock_ms)):
            if removed >= REMOVALS_PER_ENTRY_MAX:
                self.backlog = True
                break
            self.bury(key)

    def invalidate_tag(self, tag: str, revision: int) -> int:
        """Kills all that have the tag, under `revision`; returns how many that were, the dead included."""
        keys = self.tags.invalidate(tag)
        if keys is None:
            return 0
        self.graveyard.dig(Grave(GraveKind.TAG, tag, self.tags.epoch), keys.in_order())
        self._turn.events.append(TagEvent(revision, tag, len(keys)))
        return len(keys)

    def end_lease(self, lease_id: int, keys: KeySet) -> None:
        """Kills the keys of a lease that is no longer in the table of leases."""
        if keys:
            self.graveyard.dig(Grave(GraveKind.LEASE, "", lease_id), keys.in_order())

    def clear_graves(self) -> None:
        """Removes rows that died together, at most REMOVALS_PER_ENTRY_MAX; at the end of an entry, so that
        what a command killed is gone with it unless it was very much."""
        graveyard = self.graveyard
        removed = 0
        while graveyard.graves and removed < REMOVALS_PER_ENTRY_MAX:
            grave, key = graveyard.next_key()
            if key is None:
                graveyard.close()
                if grave.kind is GraveKind.TAG:
                    self.tags.buried(grave.tag, grave.number)
                continue
            row = self.rows.get(key)
            if row is not None and row[4] is not None and grave.holds(row[4]):
                self.bury(key)
                removed += 1

    def put_columns(
        self, keys: list[bytes], values: list[bytes], content_type: str, ttl_ms: int, atomic: bool
    ) -> tuple[list[int], int]:
        """Plain sets; keys[i] gets values[i]. The hot path: see benchmarks/statemachine.

        Returns versions and the revision of keys[0] (atomic: of all).
        """
        turn, rows = self._turn, self.rows
        if self.views:
            for key in keys:
                self.save(key)
        meta = make_meta(content_type, turn.clock_ms, ttl_ms, 0)
        if self.backlog or self.graveyard.graves:
            # Dead ones first: their events come before this batch's, and their versions end here.
            for key in keys:
                self.bury_if_dead(key)
        first = revision = turn.revision + 1
        step = 0 if atomic else 1
        get, cancel = rows.get, self.timers.cancel
        versions: list[int] = []
        put_rows: list[Row] = []
        new_keys: list[bytes] = []
        replaced_bytes = 0
        tags_before: dict[int, tuple[str, ...]] = {}
        charged = self.namespaces.active
        for key, value in zip(keys, values, strict=True):
            old = get(key)
            if old is None:
                row = (value, revision, revision, 1, meta)
                versions.append(1)
                new_keys.append(key)
            else:
                old_value, create, _, version, old_meta = old
                version += 1
                row = (value, create, revision, version, meta)
                versions.append(version)
                replaced_bytes += len(old_value)
                if old_meta is not None and old_meta is not meta:
                    # (The same object: a plain one, or a key twice in this batch. Nothing is linked then.)
                    if old_meta[5] or old_meta[6]:
                        self._unlink(key, old_meta)
                        tags_before[len(put_rows)] = old_meta[5]
                    elif old_meta[1]:
                        cancel(old_meta[1], key)
            rows[key] = row
            if charged:
                self._charge(key, row, old)
            put_rows.append(row)
            revision += step
        if not keys:
            return versions, turn.revision
        self.size_bytes += sum(map(len, values)) - replaced_bytes
        if new_keys:
            self.size_bytes += sum(map(len, new_keys))
            self.index.add_many(new_keys)
        if meta is not None and meta[1]:
            self.timers.add_many(meta[1], keys)
        last = first if atomic else revision - 1
        turn.revision = last
        turn.events.append(PutBatch(first, last, keys, put_rows, tags_before))
        return versions, first

    # --- the whole table ---

    def load(self, index: KeyIndex, tag_epoch: int, graves: list[Grave]) -> None:
        """Derives everything from a table that was filled from a snapshot, in key order."""
        self.tags.epoch = tag_epoch
        for grave in graves:
            if grave.kind is GraveKind.TAG:
                # Later graves of the same tag come later.
                self.tags.invalidated[grave.tag] = grave.number
        dead: list[list[bytes]] = [[] for _ in graves]
        self.index = index
        timed: list[tuple[int, bytes]] = []
        size = 0
        for key, row in self.rows.items():
            size += len(key) + len(row[0])
            if self.namespaces.active:
                self._charge(key, row, None)
            meta = row[4]
            if meta is None:
                continue
            if meta[DUE]:
                timed.append((meta[DUE], key))
            if meta[TAGS]:
                self.tags.link(key, meta[TAGS], meta[TAG_EPOCH])
            if meta[LEASE]:
                self._leases.link_key(meta[LEASE], key)
            if graves and self.is_dead(meta):
                for grave, keys in zip(graves, dead, strict=True):
                    if grave.holds(meta):
                        keys.append(key)
        for grave, keys in zip(graves, dead, strict=True):
            self.graveyard.dig(grave, keys)
        self.size_bytes = size
        for due_ms, key in timed:
            self.timers.add(due_ms, key)

    def check_invariants(self) -> None:
        size = timed = tagged = 0
        for key, row in self.rows.items():
            size += len(key) + len(row[0])
            require(0 < row[1] <= row[2] <= self._turn.revision, f"revisions of {key!r}: {row[1:3]}")
            require(row[3] >= 1, f"version of {key!r}: {row[3]}")
            if row[4] is not None:
                timed += 1 if row[4][DUE] else 0
                require(row[4] != NO_META, f"{key!r} has a meta that says nothing")
                tagged += self._check_tags(key, row[4])
        self.namespaces.check_invariants(self.rows)
        require(size == self.size_bytes, f"{size} bytes in the table, {self.size_bytes} counted")
        require(timed == len(self.timers), f"{timed} entries expire, {len(self.timers)} timers")
        linked = sum(len(keys) for keys in self.tags.sets.values())
        require(tagged == linked, f"{tagged} tags on living entries, {linked} in the sets")
        indexed = [key for block in self.index.iterate(b"", False, 1000) for key in block if key in self.rows]
        require(indexed == sorted(self.rows), f"{len(indexed)} keys indexed, {len(self.rows)} there")

    def _check_tags(self, key: bytes, meta: Meta) -> int:
        """Returns how many key sets the row must be in."""
        lease = self._leases.leases.get(meta[LEASE])
        require(lease is None or key in lease.keys.keys, f"{key!r} is not among the keys of its lease")
        by_time = 0 < meta[DUE] <= self._turn.clock_ms
        buried = any(grave.holds(meta) for grave in self.graveyard.graves)
        require(
            by_time or self.is_dead(meta) == buried, f"{key!r} is dead or living, but not so in the graves"
        )
        count = 0
        for tag in meta[TAGS]:
            if self.tags.invalidated.get(tag, 0) <= meta[TAG_EPOCH]:
                keys = self.tags.sets.get(tag)
                require(keys is not None and key in keys.keys, f"{key!r} is not in the set of tag {tag!r}")
                count += 1
        return count
