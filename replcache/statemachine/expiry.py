"""Timers on the cluster clock: what becomes due, in the order (due, key).

Two stages. Far timers lie in slots of 64 ms, one dict a slot, so that adding, moving and cancelling one
costs a dict operation and leaves nothing behind: a key overwritten for ever has one timer, not a heap full
of junk, and a batch with one ttl is added in one go. When the clock reaches a slot its timers move to the
near stage, a heap with a dict beside it; what is cancelled there stays in the heap as junk for at most the
rest of the slot. A plain heap with lazy deletion was measured first: 2-3 µs for each overwritten key with a
ttl, most of it for getting rid of junk; this costs 0.2 µs.

Which timers there are is a function of the owner's state; where they lie may differ between nodes (one that
was restored has no junk) and shows nowhere.
"""

from collections.abc import Hashable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, TypeVar

SLOT_SHIFT: Final = 6
# Slot numbers of emptied slots that are tolerated in the order.
STALE_SLOTS_MAX: Final = 1024
# From here on heapify is cheaper than single pushes.
HEAPIFY_ITEMS_MIN: Final = 64

# Keys of one Timers must be comparable with each other.
KeyT = TypeVar("KeyT", bound=Hashable)


class Timers(Generic[KeyT]):
    """Timers of one kind; each key has at most one.

    Invariant: far timers have a slot above _near_slot, near ones at most that.
    """

    __slots__ = ("_far_count", "_first_due", "_heap", "_near", "_near_slot", "_order", "_slots")

    def __init__(self) -> None:
        self._near_slot = 0
        self._near: dict[KeyT, int] = {}
        self._heap: list[tuple[int, Any]] = []
        self._slots: dict[int, dict[KeyT, int]] = {}
        # Heap of slot numbers; some may be of slots that are gone.
        self._order: list[int] = []
        self._far_count = 0
        # (slot, a lower bound of its due times) of the slot that next_due_ms last looked at.
        self._first_due = (0, 0)

    def __len__(self) -> int:
        return len(self._near) + self._far_count

    def add(self, due_ms: int, key: KeyT) -> None:
        """`key` must have no timer."""
        slot = due_ms >> SLOT_SHIFT
        if slot <= self._near_slot:
            self._near[key] = due_ms
            heappush(self._heap, (due_ms, key))
            return
        timers = self._slots.get(slot)
        if timers is None:
            timers = self._open_slot(slot)
        timers[key] = due_ms
        self._far_count += 1
        if slot == self._first_due[0] and due_ms < self._first_due[1]:
            self._first_due = (slot, due_ms)

    def add_many(self, due_ms: int, keys: Iterable[KeyT]) -> None:
        """Those keys that have a timer must have one at `due_ms` already."""
        slot = due_ms >> SLOT_SHIFT
        if slot <= self._near_slot:
            for key in keys:
                self.add(due_ms, key)
            return
        timers = self._slots.get(slot)
        if timers is None:
            timers = self._open_slot(slot)
        before = len(timers)
        timers.update(dict.fromkeys(keys, due_ms))
        self._far_count += len(timers) - before
        if slot == self._first_due[0] and due_ms < self._first_due[1]:
            self._first_due = (slot, due_ms)

    def cancel(self, due_ms: int, key: KeyT) -> None:
        """Takes away the timer that `key` has at `due_ms`."""
        slot = due_ms >> SLOT_SHIFT
        if slot <= self._near_slot:
            del self._near[key]
            return
        timers = self._slots[slot]
        del timers[key]
        self._far_count -= 1
        if not timers:
            del self._slots[slot]

    def next_due_ms(self) -> int | None:
        """A time at or before the earliest due time (before it only after cancellations)."""
        heap, near = self._heap, self._near
        while heap and near.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        if heap:
            return heap[0][0]
        while self._order and self._order[0] not in self._slots:
            heappop(self._order)
        if not self._order:
            return None
        slot = self._order[0]
        if self._first_due[0] != slot:
            self._first_due = (slot, min(self._slots[slot].values()))
        return self._first_due[1]

    def due(self, clock_ms: int) -> Iterator[tuple[int, KeyT]]:
        """What is due, in order. The caller cancels each timer that it is given before asking for the
        next."""
        self._come_near(clock_ms >> SLOT_SHIFT)
        heap, near = self._heap, self._near
        while heap and heap[0][0] <= clock_ms:
            due_ms, key = heap[0]
            if near.get(key) == due_ms:
                yield due_ms, key
            else:
                heappop(heap)

    def _open_slot(self, slot: int) -> dict[KeyT, int]:
        timers = self._slots[slot] = {}
        if len(self._order) > 2 * len(self._slots) + STALE_SLOTS_MAX:
            self._order = sorted(self._slots)
        else:
            heappush(self._order, slot)
        return timers

    def _come_near(self, slot: int) -> None:
        """Moves the timers of all slots up to `slot` to the near stage."""
        while self._order and self._order[0] <= slot:
            timers = self._slots.pop(heappop(self._order), None)
            if timers is None:
                continue
            self._far_count -= len(timers)
            self._near.update(timers)
            items = [(due_ms, key) for key, due_ms in timers.items()]
            if len(items) < HEAPIFY_ITEMS_MIN:
                for item in items:
                    heappush(self._heap, item)
            else:
                self._heap += items
                heapify(self._heap)
        self._near_slot = max(self._near_slot, slot)
