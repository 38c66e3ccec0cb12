"""Tags: many entries invalidated at once, in O(1), by a generation number.

Each invalidation takes the next number of a counter, the epoch; each entry notes the epoch at which its tags
were put on. An entry is dead when one of its tags was invalidated later than that. The rows themselves go
later, a bounded number per log entry (graves.py), and nobody can see them meanwhile.

The key sets also answer which entries have a tag. They are derived from the rows.

Invariant: `invalidated` has a tag only as long as rows that it killed may be in the table.
"""

from collections.abc import Iterable

from replcache.statemachine.keysets import KeySet


class TagTable:
    __slots__ = ("epoch", "invalidated", "sets")

    def __init__(self) -> None:
        self.epoch = 0
        # Tag -> epoch of its last invalidation.
        self.invalidated: dict[str, int] = {}
        # Tag -> keys of the rows that have it and that no invalidation of it has killed.
        self.sets: dict[str, KeySet] = {}

    def is_invalidated(self, tags: Iterable[str], put_on_epoch: int) -> bool:
        invalidated = self.invalidated
        return any(invalidated.get(tag, 0) > put_on_epoch for tag in tags)

    def link(self, key: bytes, tags: tuple[str, ...], put_on_epoch: int) -> None:
        for tag in tags:
            if self.invalidated.get(tag, 0) <= put_on_epoch:
                keys = self.sets.get(tag)
                if keys is None:
                    keys = self.sets[tag] = KeySet()
                keys.add(key)

    def unlink(self, key: bytes, tags: tuple[str, ...]) -> None:
        """A key that an invalidation has taken out of a set already is not missed."""
        for tag in tags:
            keys = self.sets.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self.sets[tag]

    def invalidate(self, tag: str) -> KeySet | None:
        """Kills all that have the tag; returns their keys, None when there are none (and nothing changed)."""
        keys = self.sets.pop(tag, None)
        if keys is not None:
            self.epoch += 1
            self.invalidated[tag] = self.epoch
        return keys

    def buried(self, tag: str, epoch: int) -> None:
        """All rows that the invalidation of `epoch` killed are gone."""
        if self.invalidated.get(tag) == epoch:
            del self.invalidated[tag]
