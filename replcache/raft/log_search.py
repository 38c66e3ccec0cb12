"""Looking for terms in the log. Terms never decrease along a log, so both are binary searches."""

from replcache.raft.wal import Wal


def first_index_of_term_at(wal: Wal, index: int) -> int:
    """The first index whose entry has the same term as the one at `index` (not before the log's base)."""
    term = wal.term_at(index)
    assert term is not None, index
    low, high = wal.base_index, index
    while low < high:
        middle = (low + high) // 2
        if _term(wal, middle) < term:
            low = middle + 1
        else:
            high = middle
    return low


def last_index_with_term(wal: Wal, term: int) -> int | None:
    """The last index whose entry has exactly this term; None when there is none (at or behind the base)."""
    low, high = wal.base_index, wal.last_index
    while low < high:
        middle = (low + high + 1) // 2
        if _term(wal, middle) <= term:
            low = middle
        else:
            high = middle - 1
    return low if wal.term_at(low) == term else None


def _term(wal: Wal, index: int) -> int:
    term = wal.term_at(index)
    assert term is not None, index
    return term
