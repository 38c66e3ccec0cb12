"""Estimates about many keys in little memory: the most frequent ones, how often, and when last.

Nothing here is exact and nothing is replicated; what is decided by it (which entries to evict) goes through
the log as a plain list of keys.
"""

from array import array
from collections.abc import Mapping
from heapq import nlargest
from operator import itemgetter

# Hashes of keys are taken apart into parts of so many bits, one for each row of a table.
_PART_BITS = 20
WIDTH_MIN = 1 << 12
WIDTH_MAX = 1 << _PART_BITS
# Keys that are kept before they are sorted, as a multiple of those that are to be kept: sorting is rare then.
_SLACK = 8
_HALVED = bytes(value >> 1 for value in range(256))
_COUNT_MAX = 255
# Increments per slot of the width after which all counts are halved.
_AGING = 10


class SpaceSaving:
    """The most frequent keys of a stream: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent
    and top-k elements in data streams" (2005), fed by windows of exact counts, as in Agarwal et al.,
    "Mergeable summaries" (2012).

    Invariant: a key that is not kept was counted at most `floor` times; one that is kept, at most as often as
    its count says and at least count - error times.
    """

    __slots__ = ("_capacity", "_counts", "_errors", "floor")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: dict[bytes, int] = {}
        # Only where it is above 0.
        self._errors: dict[bytes, int] = {}
        self.floor = 0

    def merge(self, window: Mapping[bytes, int], scale: int = 1) -> None:
        """Adds `scale` times what was counted in a window."""
        counts, errors, floor = self._counts, self._errors, self.floor
        for key, number in window.items():
            known = counts.get(key)
            if known is not None:
                counts[key] = known + number * scale
            else:
                counts[key] = number * scale + floor
                if floor:
                    errors[key] = floor
        if len(counts) > _SLACK * self._capacity:
            self._trim()

    def _trim(self) -> None:
        ranked = sorted(self._counts.items(), key=itemgetter(1), reverse=True)
        self.floor = max(self.floor, ranked[self._capacity][1])
        self._counts = dict(ranked[: self._capacity])
        self._errors = {key: error for key, error in self._errors.items() if key in self._counts}

    def top(self, number: int) -> list[tuple[bytes, int, int]]:
        """(key, count, error) of the most frequent ones, most frequent first."""
        best = nlargest(number, [(count, key) for key, count in self._counts.items()])
        return [(key, count, self._errors.get(key, 0)) for count, key in best]


class FrequencySketch:
    """How often keys were used lately, never too low but for aging: a count-min sketch (Cormode and
    Muthukrishnan, 2005) with conservative update, all of whose counts are halved now and then, as in
    Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission policy" (2017).
    """

    __slots__ = ("_added", "_rows", "_width")

    def __init__(self, width: int = WIDTH_MIN) -> None:
        self._width = width
        self._rows = [bytearray(width) for _ in range(3)]
        self._added = 0

    @property
    def width(self) -> int:
        return self._width

    def add(self, hashed: int, count: int) -> None:
        places = self._places(hashed)
        rows = self._rows
        seen = min(row[place] for row, place in zip(rows, places, strict=True))
        reached = min(seen + count, _COUNT_MAX)
        for row, place in zip(rows, places, strict=True):
            if row[place] < reached:
                row[place] = reached
        self._added += count
        if self._added >= _AGING * self._width:
            self._rows = [row.translate(_HALVED) for row in rows]
            self._added //= 2

    def estimate(self, hashed: int) -> int:
        return min(row[place] for row, place in zip(self._rows, self._places(hashed), strict=True))

    def grow(self) -> None:
        """Doubles the width; the estimates stay: a slot's keys find its copy in both halves."""
        self._rows = [row + row for row in self._rows]
        self._width *= 2

    def _places(self, hashed: int) -> tuple[int, int, int]:
        mask = self._width - 1
        return hashed & mask, (hashed >> _PART_BITS) & mask, (hashed >> 2 * _PART_BITS) & mask


class RecencySketch:
    """When keys were used last, never too early: of each key two slots, of which the older one counts."""

    __slots__ = ("_first", "_second", "_width")

    def __init__(self, width: int = WIDTH_MIN) -> None:
        self._width = width
        self._first = array("Q", bytes(8 * width))
        self._second = array("Q", bytes(8 * width))

    @property
    def width(self) -> int:
        return self._width

    def note(self, hashed: int, now: int) -> None:
        """`now` never goes back."""
        mask = self._width - 1
        self._first[hashed & mask] = now
        self._second[(hashed >> _PART_BITS) & mask] = now

    def last(self, hashed: int) -> int:
        """0: not since the sketch is."""
        mask = self._width - 1
        return min(self._first[hashed & mask], self._second[(hashed >> _PART_BITS) & mask])

    def grow(self) -> None:
        """Doubles the width; the estimates stay."""
        self._first += self._first
        self._second += self._second
        self._width *= 2
