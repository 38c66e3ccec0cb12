"""What follows when a number in the state only grows: versions, lengths, sums of positive additions.

An operation that was told the number is bound to it: it needs the state at `low` and leaves it at `high`
(reads: the same). So all such operations have one order in every linearization, and no state may go beyond
what the next of them needs. That leaves almost nothing to search.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, groupby

Bounds = tuple[int, int]


def order_by_growth(bounds: Sequence[Bounds | None]) -> tuple[list[int], Callable[[int, int], bool]]:
    """Args: bounds[i]: (low, high) of operation i; None: it was not told the number, or may never happen.

    Returns:
        after[i]: the operations (as bits) that come before operation i.
        viable(done, number): whether a state with this number can still serve all operations not in `done`.
    """
    # Of equal `high` the one that grows comes first, then those that read.
    order = sorted(
        (high, low == high, low, index)
        for index, both in enumerate(bounds)
        if both is not None
        for low, high in (both,)
    )
    after = [0] * len(bounds)
    before = 0
    for _, group in groupby(order, key=lambda item: item[:2]):
        members = [index for _, _, _, index in group]
        for index in members:
            after[index] = before
        for index in members:
            before |= 1 << index
    told = before
    # needs[k]: the lowest `low` of all but the first k, which are those that are left when k are done.
    needs = list(accumulate((low for _, _, low, _ in reversed(order)), min))[::-1]
    count = len(needs)

    def viable(done: int, number: int) -> bool:
        placed = (done & told).bit_count()
        return placed == count or number <= needs[placed]

    return after, viable
