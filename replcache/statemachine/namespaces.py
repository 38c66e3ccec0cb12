"""Namespaces: a prefix with a name, a quota of bytes and what happens when it is used up.

The state machine counts, and refuses writes that would go beyond the limit. For namespaces that evict it
lets them go a fifth beyond, while the leader proposes evictions (Evict) until the quota holds again.
Prefixes of namespaces don't overlap; the one with the empty prefix is the quota of everything.

A namespace made over existing keys counts them bit by bit, a bounded number per log entry, in key order:
keys up to `cursor` are counted, those behind it not yet. The cursor is state, the counts follow from it and
the rows.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from replcache.statemachine.entries import Row
from replcache.statemachine.invariants import require
from replcache.statemachine.keyindex import KeyIndex
from replcache.statemachine.plain import PlainReader, PlainWriter
from replcache.statemachine.results import Refusal, RefusalCode

NAMESPACES_MAX: Final = 1000
# Memory that an entry takes besides key and value (row, table and index slots, numbers), so that a quota is
# near to what the process needs.
ENTRY_OVERHEAD_BYTES: Final = 256
# Keys counted per applied entry while a namespace is new.
BACKFILL_KEYS_PER_ENTRY: Final = 2000


class Policy(IntEnum):
    """Numbers are stored: never reuse one. NONE refuses at the quota; the others evict."""

    NONE = 0
    LRU = 1
    LFU = 2


class Namespace:
    """Attributes:
    used_bytes, keys: of the rows that are counted, dead ones included until they are removed.
    cursor: the last key that is counted; None: all are.
    """

    __slots__ = ("cursor", "keys", "max_bytes", "name", "policy", "prefix", "used_bytes")

    def __init__(self, name: str, prefix: bytes, max_bytes: int, policy: Policy) -> None:
        self.name = name
        self.prefix = prefix
        self.max_bytes = max_bytes
        self.policy = policy
        self.used_bytes = 0
        self.keys = 0
        self.cursor: bytes | None = None

    @property
    def limit_bytes(self) -> int:
        """Where writes are refused; 0: nowhere."""
        return self.max_bytes if self.policy is Policy.NONE else self.max_bytes + self.max_bytes // 5


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """complete=False: existing keys are still being counted."""

    name: str
    prefix: bytes
    max_bytes: int
    policy: Policy
    used_bytes: int
    keys: int
    complete: bool


class NamespaceTable:
    """Attributes:
    active: whether there is any; when not, nobody has to ask.
    """

    __slots__ = ("_everything", "_prefixes", "active", "by_name", "by_prefix")

    def __init__(self) -> None:
        self.by_name: dict[str, Namespace] = {}
        self.by_prefix: dict[bytes, Namespace] = {}
        # Sorted, without the empty one. They don't overlap, so the last one <= key is the only candidate.
        self._prefixes: list[bytes] = []
        self._everything: Namespace | None = None
        self.active = False

    def set(self, name: str, prefix: bytes, max_bytes: int, policy: int, has_rows: bool) -> Refusal | None:
        if not name or policy not in Policy.__members__.values():
            return Refusal(RefusalCode.INVALID, f"a namespace needs a name and a known policy, not {policy}")
        known = self.by_name.get(name)
        if known is not None:
            if known.prefix != prefix:
                return Refusal(RefusalCode.INVALID, "the prefix of a namespace can't be changed")
            known.max_bytes, known.policy = max_bytes, Policy(policy)
            return None
        if len(self.by_name) >= NAMESPACES_MAX:
            return Refusal(RefusalCode.QUOTA_EXCEEDED, f"there are {NAMESPACES_MAX} namespaces already")
        for other in self.by_name.values():
            both = (other.prefix, prefix)
            if other.prefix == prefix or (
                all(both) and (both[0].startswith(both[1]) or both[1].startswith(both[0]))
            ):
                return Refusal(
                    RefusalCode.INVALID, f"the prefix overlaps with that of namespace {other.name!a}"
                )
        namespace = Namespace(name, prefix, max_bytes, Policy(policy))
        namespace.cursor = b"" if has_rows and prefix else None
        self._add(namespace)
        return None

    def _add(self, namespace: Namespace) -> None:
        self.by_name[namespace.name] = namespace
        self.by_prefix[namespace.prefix] = namespace
        if namespace.prefix:
            insort(self._prefixes, namespace.prefix)
        else:
            self._everything = namespace
        self.active = True

    def remove(self, name: str) -> bool:
        namespace = self.by_name.pop(name, None)
        if namespace is None:
            return False
        del self.by_prefix[namespace.prefix]
        if namespace.prefix:
            self._prefixes.remove(namespace.prefix)
        else:
            self._everything = None
        self.active = bool(self.by_name)
        return True

    def find(self, key: bytes) -> Namespace | None:
        """The namespace with the non-empty prefix that `key` has."""
        place = bisect_right(self._prefixes, key)
        if place and key.startswith(self._prefixes[place - 1]):
            return self.by_prefix[self._prefixes[place - 1]]
        return None

    def is_free(self, first: bytes, last: bytes) -> bool:
        """Whether no key from `first` to `last` is in a namespace with a prefix; `first` is in none."""
        return bisect_right(self._prefixes, first) == bisect_right(self._prefixes, last)

    def evicting(self) -> list[Namespace]:
        """Those whose policy is to evict."""
        return [one for one in self.by_name.values() if one.policy is not Policy.NONE and one.max_bytes]

    # --- counting ---

    def charge(self, key: bytes, byte_change: int, key_change: int) -> None:
        """A row came (1), went (-1) or changed its size (0). byte_change: of key and value."""
        namespace = self.find(key)
        if namespace is not None and (namespace.cursor is None or key <= namespace.cursor):
            namespace.used_bytes += byte_change + key_change * ENTRY_OVERHEAD_BYTES
            namespace.keys += key_change

    def is_counting(self) -> bool:
        return any(namespace.cursor is not None for namespace in self.by_name.values())

    def backfill(self, rows: dict[bytes, Row], index: KeyIndex) -> None:
        """Counts a bounded number of existing keys, namespace by namespace."""
        left = BACKFILL_KEYS_PER_ENTRY
        for name in sorted(self.by_name):
            namespace = self.by_name[name]
            if namespace.cursor is None:
                continue
            left = self._count_on(namespace, rows, index, left)
            if left == 0:
                return

    def _count_on(self, namespace: Namespace, rows: dict[bytes, Row], index: KeyIndex, left: int) -> int:
        """Returns what is left of the budget; above 0: the namespace is complete."""
        cursor = namespace.cursor
        assert cursor is not None
        start = max(cursor, namespace.prefix)
        for block in index.iterate(start, cursor >= namespace.prefix, 256):
            for key in block:
                if not key.startswith(namespace.prefix):
                    namespace.cursor = None
                    return left
                row = rows.get(key)
                if row is None:
                    # A key that the index has not forgotten yet: other nodes may not have it, so it must not
                    # count for the budget.
                    continue
                if left == 0:
                    return 0
                namespace.used_bytes += len(key) + len(row[0]) + ENTRY_OVERHEAD_BYTES
                namespace.keys += 1
                namespace.cursor = key
                left -= 1
        namespace.cursor = None
        return left

    # --- quotas ---

    def check_own(self, key: bytes, growth_bytes: int) -> Refusal | None:
        """Whether the namespace that the key is in, if it is in one, may grow by so much."""
        namespace = self.find(key)
        if namespace is None or growth_bytes <= 0:
            return None
        return _check_quota(namespace, namespace.used_bytes, growth_bytes)

    def check_everything(self, growth_bytes: int, store_bytes: int) -> Refusal | None:
        """The same for the quota of everything. store_bytes: with overheads."""
        if self._everything is None or growth_bytes <= 0:
            return None
        return _check_quota(self._everything, store_bytes, growth_bytes)

    def describe(self, store_bytes: int, store_keys: int) -> list[NamespaceView]:
        views = []
        for name in sorted(self.by_name):
            n = self.by_name[name]
            used, keys = (n.used_bytes, n.keys) if n.prefix else (store_bytes, store_keys)
            views.append(NamespaceView(name, n.prefix, n.max_bytes, n.policy, used, keys, n.cursor is None))
        return views

    # --- snapshot ---

    def freeze(self) -> list["FrozenNamespace"]:
        return [
            (name, n.prefix, n.max_bytes, int(n.policy), n.cursor) for name, n in sorted(self.by_name.items())
        ]

    def load(self, frozen: list["FrozenNamespace"]) -> None:
        """Before the rows, which are then charged one by one."""
        for name, prefix, max_bytes, policy, cursor in frozen:
            namespace = Namespace(name, prefix, max_bytes, Policy(policy))
            namespace.cursor = cursor
            self._add(namespace)

    def check_invariants(self, rows: dict[bytes, Row]) -> None:
        used = dict.fromkeys(self.by_name, 0)
        keys = dict.fromkeys(self.by_name, 0)
        for key, row in rows.items():
            namespace = self.find(key)
            if namespace is not None and (namespace.cursor is None or key <= namespace.cursor):
                used[namespace.name] += len(key) + len(row[0]) + ENTRY_OVERHEAD_BYTES
                keys[namespace.name] += 1
        for name, namespace in self.by_name.items():
            counted = (namespace.used_bytes, namespace.keys)
            require(
                counted == (used[name], keys[name]), f"namespace {name!r} counts {counted}, has {used[name]}"
            )


def _check_quota(namespace: Namespace, used_bytes: int, growth_bytes: int) -> Refusal | None:
    limit = namespace.limit_bytes
    if not limit or used_bytes + growth_bytes <= limit:
        return None
    message = f"namespace {namespace.name!a} uses {used_bytes} of {namespace.max_bytes} bytes"
    return Refusal(RefusalCode.QUOTA_EXCEEDED, message)


# name, prefix, max_bytes, policy, cursor
FrozenNamespace = tuple[str, bytes, int, int, bytes | None]


def write_namespace(writer: PlainWriter, namespace: FrozenNamespace) -> None:
    name, prefix, max_bytes, policy, cursor = namespace
    writer.text(name)
    writer.blob(prefix)
    writer.unsigned_column([max_bytes, policy])
    writer.flag(cursor is not None)
    if cursor is not None:
        writer.blob(cursor)


def read_namespace(reader: PlainReader) -> FrozenNamespace:
    name, prefix = reader.text(), reader.blob()
    max_bytes, policy = reader.unsigned_column(2)
    return name, prefix, max_bytes, policy, reader.blob() if reader.flag() else None
