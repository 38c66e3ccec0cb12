"""Handing leadership over (Raft dissertation 3.10).

The leader stops appending commands, lets the target catch up, and tells it to campaign at once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from replcache.errors import NotApplied, Refused, ReplcacheError
from replcache.raft.messages import TimeoutNow

if TYPE_CHECKING:
    from replcache.raft.engine import Engine

TransferDone = Callable[[ReplcacheError | None], None]


class Transfer:
    """At most one transfer at a time; given up after one maximum election timeout."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._target = ""
        self._deadline = 0.0
        self._is_sent = False
        self._done: TransferDone | None = None

    @property
    def is_under_way(self) -> bool:
        """While true the leader appends no new commands, so that the target can catch up."""
        return self._done is not None

    def start(self, target: str, done: TransferDone) -> None:
        """`done(None)` when this node has lost leadership, `done(error)` when the transfer failed.

        Raises:
            Refused: not the leader, unknown target or a learner, or a transfer is under way.
        """
        engine = self._engine
        if not engine.is_leader:
            raise NotApplied(f"{engine.name} is not the leader")
        if self._done is not None:
            raise Refused(f"a transfer to {self._target} is under way")
        target = target or self._most_caught_up()
        if target == engine.name:
            done(None)
            return
        if target not in engine.other_voters:
            raise Refused(f"{target!r} is not another voter of this cluster: {sorted(engine.other_voters)}")
        self._target, self._done, self._is_sent = target, done, False
        self._deadline = engine.clock.now() + engine.config.election_max_s
        self.on_progress(target)

    def _most_caught_up(self) -> str:
        engine = self._engine
        candidates = [
            (engine.leadership.progress[name].match, name)
            for name in engine.other_voters
            if name in engine.leadership.progress and engine.is_reachable_member(name)
        ]
        if not candidates:
            raise Refused("no other voter is connected")
        return max(candidates)[1]

    def on_progress(self, peer: str) -> None:
        engine = self._engine
        if self._done is None or self._is_sent or peer != self._target:
            return
        progress = engine.leadership.progress.get(peer)
        if progress is not None and progress.match == engine.wal.last_index:
            self._is_sent = True
            engine.send(peer, TimeoutNow(engine.term), lsn=engine.term_lsn)

    def tick(self, now: float) -> None:
        if self._done is not None and now >= self._deadline:
            self._finish(NotApplied(f"{self._target} did not take over within the election timeout"))
        if self._engine.wal.disk_full and self._done is None and self._others_can_lead:
            # A leader that can't write is no use; its followers' disks may have room (faults: disk full).
            self.start("", lambda _: None)

    @property
    def _others_can_lead(self) -> bool:
        engine = self._engine
        return any(engine.is_reachable_member(name) for name in engine.other_voters)

    def on_lost_leadership(self) -> None:
        self._finish(None)

    def _finish(self, error: ReplcacheError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(error)
