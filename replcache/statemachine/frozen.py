"""A table of changing objects as it was at one moment, read later, also in another thread.

Copy on write, as the rows of a snapshot: the owner calls `save` before it first changes an item; the reader
freezes what it finds and then looks whether an older form was saved. When it was, whatever the reader saw
half changed does not matter.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")
FrozenT = TypeVar("FrozenT")


class FrozenTable(Generic[KeyT, ItemT, FrozenT]):
    """Args:
    table: the living one; its items change, its keys come and go.
    freeze: makes the immutable form of an item.
    """

    __slots__ = ("_freeze", "_keys", "_saved", "_table", "finished")

    def __init__(self, table: Mapping[KeyT, ItemT], freeze: Callable[[KeyT, ItemT], FrozenT]) -> None:
        self._table = table
        self._freeze = freeze
        self._keys = list(table)
        self._saved: dict[KeyT, FrozenT] = {}
        self.finished = False

    def save(self, key: KeyT, item: ItemT) -> None:
        if key not in self._saved:
            self._saved[key] = self._freeze(key, item)

    def __iter__(self) -> Iterator[FrozenT]:
        """The frozen items in order of their keys, once; then nothing is saved any more."""
        keys: list[Any] = self._keys
        keys.sort()
        for key in keys:
            frozen = self._frozen_now(key)
            # In this order: see the module's docstring.
            if key in self._saved:
                frozen = self._saved[key]
            if frozen is not None:
                yield frozen
        self.finished = True

    def _frozen_now(self, key: KeyT) -> FrozenT | None:
        item = self._table.get(key)
        if item is None:
            return None
        try:
            return self._freeze(key, item)
        except RuntimeError:
            # A dict of the item changed its size meanwhile: so the item was changed, and saved before.
            return None
