"""Rows that died together (by an invalidated tag, by an ended lease) and are removed bit by bit.

First grave first, in each the keys in byte order, a bounded number of rows per log entry. What is removed
when must be the same on every node, also on one that was restored in between and never saw the original key
set: therefore the order is that of the keys, only real removals count, and a grave that ran empty is closed
only when the next row is looked for.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from replcache.statemachine.entries import LEASE, TAG_EPOCH, TAGS, Meta
from replcache.statemachine.plain import PlainReader, PlainWriter


class GraveKind(IntEnum):
    TAG = 1
    LEASE = 2


@dataclass(frozen=True, slots=True)
class Grave:
    """TAG: `tag` was invalidated at `number` (an epoch). LEASE: lease `number` ended."""

    kind: GraveKind
    tag: str
    number: int

    def holds(self, meta: Meta) -> bool:
        """Whether this is what killed the row (or would have, had nothing else)."""
        if self.kind is GraveKind.TAG:
            return meta[TAG_EPOCH] < self.number and self.tag in meta[TAGS]
        return meta[LEASE] == self.number


class Graveyard:
    """Invariant: every row that is dead by tag or lease is in a grave."""

    __slots__ = ("_keys", "graves")

    def __init__(self) -> None:
        self.graves: deque[Grave] = deque()
        # Keys of each grave, those gone or living again included.
        self._keys: deque[Iterator[bytes]] = deque()

    def dig(self, grave: Grave, keys_in_order: Iterable[bytes]) -> None:
        self.graves.append(grave)
        self._keys.append(iter(keys_in_order))

    def next_key(self) -> tuple[Grave, bytes | None]:
        """A key of the first grave; None: it is empty, close it. There must be a grave."""
        return self.graves[0], next(self._keys[0], None)

    def close(self) -> None:
        self.graves.popleft()
        self._keys.popleft()


def write_grave(writer: PlainWriter, grave: Grave) -> None:
    writer.unsigned(grave.kind)
    writer.text(grave.tag)
    writer.unsigned(grave.number)


def read_grave(reader: PlainReader) -> Grave:
    return Grave(GraveKind(reader.unsigned()), reader.text(), reader.unsigned())
