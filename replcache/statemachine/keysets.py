"""A set of keys that can be walked in byte order without a long stop, however large.

Up to SORTED_AT_ONCE keys it is just a dict, sorted when asked; a larger one keeps a key index beside it.
"""

from collections.abc import Iterator
from typing import Final

from replcache.statemachine.keyindex import KeyIndex

# Sorting this many keys takes about 1 ms.
SORTED_AT_ONCE: Final = 4096


class KeySet:
    __slots__ = ("_index", "keys")

    def __init__(self) -> None:
        # A dict for its order; the values mean nothing.
        self.keys: dict[bytes, None] = {}
        self._index: KeyIndex | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: bytes) -> None:
        if key in self.keys:
            return
        self.keys[key] = None
        if self._index is not None:
            self._index.add(key)
        elif len(self.keys) > SORTED_AT_ONCE:
            self._index = KeyIndex.from_sorted(self.keys, sorted(self.keys))

    def discard(self, key: bytes) -> None:
        if key in self.keys:
            del self.keys[key]
            if self._index is not None:
                self._index.note_removals(1)

    def in_order(self, after: bytes | None = None) -> Iterator[bytes]:
        """The keys (those above `after`), ascending. Changes of the set while walking are not all seen."""
        if self._index is not None:
            start, beyond = (b"", False) if after is None else (after, True)
            blocks = self._index.iterate(start, beyond, 256)
            return (key for block in blocks for key in block if key in self.keys)
        if after is None:
            return iter(sorted(self.keys))
        return iter(sorted([key for key in self.keys if key > after]))
