"""What waits to be written to one peer: bounded, heartbeats and votes ahead of bulk data.

Two queues, each FIFO. Control messages are small, and late ones cause elections; bulk messages are entries,
snapshot chunks, forwarded groups and hints. All Append messages are bulk, also empty ones: an Append that
overtakes another would be refused by the follower and make the leader send everything again.
"""

from collections import deque

from replcache.constants import PEER_CONTROL_BYTES_MAX, PEER_OUTBOX_BYTES_MAX
from replcache.raft import messages as m
from replcache.raft.peer_framing import HEADER_BYTES, PING_FRAME, frame_header

BULK_KINDS = frozenset({m.Append, m.SnapshotChunk, m.Forward, m.Hint})
# Below this, header and body are copied into one piece: cheaper than two writes.
_JOIN_BYTES_MAX = 32 * 1024


class Outbox:
    """Frames in the order in which they are to be written."""

    __slots__ = ("_bulk", "_control", "_control_bytes", "_control_bytes_max", "bulk_bytes", "bulk_bytes_max")

    def __init__(
        self, bulk_bytes_max: int = PEER_OUTBOX_BYTES_MAX, control_bytes_max: int = PEER_CONTROL_BYTES_MAX
    ) -> None:
        self.bulk_bytes_max = bulk_bytes_max
        self._control_bytes_max = control_bytes_max
        self._control: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        # Invariant: the sums of the queues' frame sizes, headers included, and never above the limits.
        self._control_bytes = 0
        self.bulk_bytes = 0

    def __len__(self) -> int:
        return len(self._control) + len(self._bulk)

    @property
    def queued_bytes(self) -> int:
        return self._control_bytes + self.bulk_bytes

    def put(self, body: bytes, *, bulk: bool) -> bool:
        """Queues a message body; False when its queue is full (the newest is dropped: Raft sends again)."""
        size = HEADER_BYTES + len(body)
        if bulk:
            if self.bulk_bytes + size > self.bulk_bytes_max:
                return False
            self.bulk_bytes += size
            self._bulk.append(body)
        else:
            if self._control_bytes + size > self._control_bytes_max:
                return False
            self._control_bytes += size
            self._control.append(body)
        return True

    def take(self, bytes_wanted: int) -> tuple[list[bytes], int, int]:
        """Frames to write now: all control messages, then bulk ones until about `bytes_wanted`.

        Returns:
            Pieces for writelines(), their size in bytes, and the number of messages in them (pings apart).
        """
        pieces: list[bytes] = []
        count = 0
        size = self._control_bytes
        for body in self._control:
            if body:
                pieces.append(frame_header(body) + body)
                count += 1
            else:
                pieces.append(PING_FRAME)
        self._control.clear()
        self._control_bytes = 0
        bulk = self._bulk
        while bulk and size < bytes_wanted:
            body = bulk.popleft()
            header = frame_header(body)
            if len(body) <= _JOIN_BYTES_MAX:
                pieces.append(header + body)
            else:
                pieces.append(header)
                pieces.append(body)
            frame_bytes = HEADER_BYTES + len(body)
            self.bulk_bytes -= frame_bytes
            size += frame_bytes
            count += 1
        return pieces, size, count

    def clear(self) -> int:
        """Drops everything; answers how many messages that were."""
        count = len(self)
        self._control.clear()
        self._bulk.clear()
        self._control_bytes = 0
        self.bulk_bytes = 0
        return count
