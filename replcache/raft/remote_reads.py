"""Linearizable reads on a follower: the leader confirms, the follower reads its own state (dissertation 6.4).

One request is under way at a time; reads that arrive meanwhile go with the next. A request id is never used
twice, also not for a second try (etcd#20418), and names this process by its boot counter.
"""

from typing import TYPE_CHECKING

from replcache.raft.messages import ReadIndexReply, ReadIndexRequest
from replcache.raft.read_index import ReadDone

if TYPE_CHECKING:
    from replcache.raft.engine import Engine

RETRY_HEARTBEATS = 3


class RemoteReads:
    """Invariant: a reply answers only the reads that were waiting when its request was sent."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._waiting: list[ReadDone] = []
        self._asked: list[ReadDone] = []
        self._id = 0
        self._asked_at = 0.0
        # Since when nothing has come of asking.
        self._stuck_since = 0.0
        # The leader is changing: asking again at once would only make a storm of refusals.
        self._is_refused = False

    def add(self, done: ReadDone) -> None:
        if not self._waiting and not self._asked:
            self._stuck_since = self._engine.clock.now()
        self._waiting.append(done)

    def flush(self) -> None:
        """Asks the leader when reads wait and no request is under way."""
        engine = self._engine
        if self._asked or not self._waiting or not engine.leader or engine.is_leader or self._is_refused:
            return
        self._id += 1
        if engine.send(engine.leader, ReadIndexRequest(self._id, engine.boot)):
            self._asked, self._waiting = self._waiting, []
            self._asked_at = engine.clock.now()

    def tick(self, now: float) -> None:
        """A request that stays without an answer is given up; its reads go with the next one."""
        engine = self._engine
        self._is_refused = False
        if self._asked and now - self._asked_at > engine.config.heartbeat_s * RETRY_HEARTBEATS:
            self._give_up()
        if engine.is_leader and self._waiting:
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                engine.reads.add(done)
        elif self._waiting and now - self._stuck_since > engine.config.election_max_s:
            # Most callers have given up by now, and nothing here tells which: the others come again. Without
            # it a node that is cut off would keep every read that it was ever asked for.
            self._stuck_since = now
            self.fail_all()
        else:
            self.flush()

    def fail_all(self) -> None:
        """Nothing that waits is confirmed by what was asked so far."""
        pending, self._asked, self._waiting = self._asked + self._waiting, [], []
        for done in pending:
            done(None)

    def _give_up(self) -> None:
        self._waiting = self._asked + self._waiting
        self._asked = []

    def on_reply(self, peer: str, message: ReadIndexReply) -> None:
        if message.boot != self._engine.boot or message.id != self._id or not self._asked:
            return
        if message.refused:
            self._is_refused = True
            self._give_up()
            return
        self._stuck_since = self._engine.clock.now()
        asked, self._asked = self._asked, []
        for done in asked:
            done(message.index)

    def on_request(self, peer: str, message: ReadIndexRequest) -> None:
        """The leader's side: the requester's read joins the next round."""
        engine = self._engine

        def done(index: int | None) -> None:
            engine.leadership.await_commit(peer, index or 0)
            engine.send(
                peer, ReadIndexReply(message.id, message.boot, refused=index is None, index=index or 0)
            )

        if engine.is_leader:
            engine.reads.add(done)
        else:
            done(None)
