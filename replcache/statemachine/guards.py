"""Guarded prefixes: keys that may be written only under a lock.

A guard says: below this prefix every write must carry a fence of that lock (or, when the name ends with "*",
of a lock whose name begins so). What the fence itself must fulfil is checked as for every fence. So the rule
can't be forgotten by one of many writers. Of several prefixes that fit the longest counts. What the cluster
itself does (expiry, eviction, invalidation of tags) needs no fence.
"""

from collections.abc import Sequence
from typing import Final

from replcache.statemachine.commands import Fence
from replcache.statemachine.plain import PlainReader, PlainWriter
from replcache.statemachine.results import Refusal, RefusalCode

GUARDS_MAX: Final = 1000


class GuardTable:
    """Attributes:
    prefixes: all guarded prefixes, longest first; empty: nothing is guarded.
    """

    __slots__ = ("locks", "prefixes")

    def __init__(self) -> None:
        # Prefix -> name of the lock, or beginning of names and "*".
        self.locks: dict[bytes, str] = {}
        self.prefixes: tuple[bytes, ...] = ()

    def set(self, prefix: bytes, lock: str) -> bool | Refusal:
        """Returns whether anything changed."""
        if not prefix or not lock:
            return Refusal(RefusalCode.INVALID, "a guard needs a prefix and the name of a lock")
        if prefix not in self.locks and len(self.locks) >= GUARDS_MAX:
            return Refusal(RefusalCode.QUOTA_EXCEEDED, f"there are {GUARDS_MAX} guards already")
        changed = self.locks.get(prefix) != lock
        self.locks[prefix] = lock
        self._sort()
        return changed

    def remove(self, prefix: bytes) -> bool:
        found = self.locks.pop(prefix, None) is not None
        self._sort()
        return found

    def _sort(self) -> None:
        self.prefixes = tuple(sorted(self.locks, key=lambda prefix: (-len(prefix), prefix)))

    def check(self, key: bytes, fence: Fence | None) -> Refusal | None:
        """None when `key` is not guarded, or by a lock that the fence is of."""
        if not key.startswith(self.prefixes):
            return None
        for prefix in self.prefixes:
            if key.startswith(prefix):
                return self._check_lock(self.locks[prefix], fence)
        return None

    def check_range(self, start: bytes, end: bytes, fence: Fence | None) -> Refusal | None:
        """The same for all that could be in start <= key < end (b"": no end)."""
        for prefix in self.prefixes:
            begins_before_end = not end or prefix < end
            ends_behind_start = prefix >= start or start.startswith(prefix)
            if begins_before_end and ends_behind_start:
                refusal = self._check_lock(self.locks[prefix], fence)
                if refusal is not None:
                    return refusal
        return None

    def check_columns(self, keys: Sequence[bytes]) -> Refusal | None:
        """Sets in columns carry no fence."""
        prefixes = self.prefixes
        for key in keys:
            if key.startswith(prefixes):
                return self.check(key, None)
        return None

    def _check_lock(self, lock: str, fence: Fence | None) -> Refusal | None:
        if fence is not None:
            if fence.name == lock or (lock.endswith("*") and fence.name.startswith(lock[:-1])):
                return None
            return Refusal(
                RefusalCode.FENCE_REJECTED, f"the prefix is guarded by lock {lock!a}, not this one"
            )
        return Refusal(
            RefusalCode.FENCE_REJECTED, f"the prefix is guarded: a fence of lock {lock!a} is needed"
        )

    # --- snapshot ---

    def freeze(self) -> list[tuple[bytes, str]]:
        return sorted(self.locks.items())

    def load(self, frozen: list[tuple[bytes, str]]) -> None:
        self.locks.update(frozen)
        self._sort()


def write_guard(writer: PlainWriter, guard: tuple[bytes, str]) -> None:
    writer.blob(guard[0])
    writer.text(guard[1])


def read_guard(reader: PlainReader) -> tuple[bytes, str]:
    return reader.blob(), reader.text()
