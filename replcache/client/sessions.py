"""The client's side of exactly-once: session id, sequence numbers, what has been answered.

Invariant: acked_below <= every sequence that may still be sent; the cluster keeps the replies from there
on, and refuses to execute an older one (Raft dissertation 6.3).
"""

from replcache.constants import CLIENT_UNSETTLED_WRITES_MAX


class Session:
    """One session of the cluster. Pure bookkeeping."""

    __slots__ = ("_next_sequence", "_unsettled", "id", "ttl_s", "used_at")

    def __init__(self, session_id: int, ttl_s: float, now: float) -> None:
        assert session_id > 0
        self.id = session_id
        self.ttl_s = ttl_s
        # When the cluster was last known to have heard of it: keep-alives go out ttl/3 later.
        self.used_at = now
        self._next_sequence = 1
        # In the order of taking, which is the order of numbers: the first is the lowest.
        self._unsettled: dict[int, None] = {}

    @property
    def acked_below(self) -> int:
        """All sequences below this are answered or given up for good."""
        return next(iter(self._unsettled), self._next_sequence)

    @property
    def is_full(self) -> bool:
        """The cluster stores a bounded number of replies: wait until the oldest write is settled."""
        return self._next_sequence - self.acked_below >= CLIENT_UNSETTLED_WRITES_MAX

    def take(self) -> int:
        """The sequence of a new write."""
        sequence = self._next_sequence
        self._next_sequence += 1
        self._unsettled[sequence] = None
        return sequence

    def settle(self, sequence: int) -> None:
        """The write is answered, or will never be sent again."""
        self._unsettled.pop(sequence, None)

    @property
    def unsettled(self) -> int:
        return len(self._unsettled)
