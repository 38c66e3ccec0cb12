"""The way of a group of commands to the log: from this node's proposals to the leader, wherever it is.

The leader collects the groups of all nodes and writes them as one log entry when its disk is free (group
commit): while one entry is being synced the next one fills, without any waiting time of its own. Cures
hazards H16, H17, H24 together with proposals.py.
"""

from collections import deque
from typing import TYPE_CHECKING

from replcache.raft.messages import ENTRY_COMMAND, Forward, ForwardRefused, WireEntry
from replcache.statemachine.codec import encode_entry

if TYPE_CHECKING:
    from replcache.raft.engine import Engine


class Forwarding:
    """Queues of groups. Invariant: a group in `_queue` is in no log entry of this leadership yet."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        # Each with the peer that sent it, "" for this node.
        self._queue: deque[tuple[str, Forward]] = deque()
        self._queue_bytes = 0
        self.entries_appended = 0
        self.groups_refused = 0

    @property
    def has_groups(self) -> bool:
        """Groups wait for a log entry."""
        return bool(self._queue)

    def flush(self) -> None:
        """Moves what is waiting as far as it can go now."""
        engine = self._engine
        if not engine.leader:
            return
        engine.proposals.form_groups()
        now = engine.clock.now()
        if engine.is_leader:
            for sequence, attempt, payload in engine.proposals.take_unsent(engine.term, now):
                self._enqueue("", Forward(sequence, payload, engine.boot, attempt, engine.term))
            self._append_queue()
            return
        for sequence, attempt, payload in engine.proposals.take_unsent(engine.term, now):
            message = Forward(sequence, payload, engine.boot, attempt, engine.term)
            if not engine.send(engine.leader, message):
                engine.proposals.refused(sequence, attempt)

    def _enqueue(self, peer: str, message: Forward) -> None:
        self._queue.append((peer, message))
        self._queue_bytes += len(message.group)

    def _append_queue(self) -> None:
        engine = self._engine
        if not self._queue or not engine.can_append_commands:
            return
        if engine.wal.is_sync_under_way and self._queue_bytes < engine.config.entry_bytes_max:
            return  # this entry goes on filling; on_durable() comes back here
        entries = []
        index = engine.wal.last_index
        while self._queue:
            index += 1
            groups: list[bytes] = []
            size = 0
            limit = engine.config.entry_bytes_max
            while self._queue and (not groups or size + len(self._queue[0][1].group) <= limit):
                peer, message = self._queue.popleft()
                size += len(message.group)
                groups.append(message.group)
                if peer:
                    engine.leadership.await_commit(peer, index)
            self._queue_bytes -= size
            entries.append(
                WireEntry(engine.term, ENTRY_COMMAND, encode_entry(engine.cluster_now_ms(), groups))
            )
        self.entries_appended += len(entries)
        engine.append_as_leader(entries)

    def append_clock_tick(self) -> None:
        """An entry without commands moves the cluster clock, so that what is due expires."""
        engine = self._engine
        payload = encode_entry(engine.cluster_now_ms(), [])
        engine.append_as_leader([WireEntry(engine.term, ENTRY_COMMAND, payload)])

    def on_forward(self, peer: str, message: Forward) -> None:
        """Refusing is for ever: the origin counts on it when it says "not applied".

        So a late second copy of what was refused must be refused as well, also when this node leads
        meanwhile: it is for the leader of another term.
        """
        engine = self._engine
        if not engine.is_leader or message.term != engine.term:
            self._refuse(peer, message, "not the leader")
        elif self._queue_bytes > engine.config.proposals_bytes_max:
            self._refuse(peer, message, "overloaded")
        else:
            self._enqueue(peer, message)

    def _refuse(self, peer: str, message: Forward, reason: str) -> None:
        """Tells the origin that this sending is in no log and never will be.

        That no copy of it was appended before, this node can't know: it may have led and been restarted.
        It follows from the connection, which hands over each frame once, and drops with itself what was not
        written; only the origin sends a group again, as another attempt.
        """
        self.groups_refused += 1
        refusal = ForwardRefused(message.sequence, message.boot, reason, message.attempt)
        self._engine.send(peer, refusal)

    def on_forward_refused(self, peer: str, message: ForwardRefused) -> None:
        if message.boot == self._engine.boot:
            self._engine.proposals.refused(message.sequence, message.attempt)

    def on_lost_leadership(self) -> None:
        """Groups that were not appended go back: to this node's table or, by refusal, to their origin."""
        queue, self._queue, self._queue_bytes = self._queue, deque(), 0
        for peer, message in queue:
            if peer:
                self._refuse(peer, message, "leadership was lost")
            else:
                self._engine.proposals.refused(message.sequence, message.attempt)
