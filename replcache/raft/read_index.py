"""Linearizable reads without a log entry: ReadIndex (Raft dissertation 6.4).

A read may be served from the state at the leader's commit index once a majority has confirmed, after the
read arrived, that the leader still leads. Reads that arrive during a round wait for the next one; one round
confirms them all. A round number is never used twice in a term, and a reply counts only in its own term, so
an answer to an earlier round confirms nothing (etcd#20418 came from re-using ids).
"""

from collections.abc import Callable

# Called with the index to wait for, or None when this node can't confirm any more.
ReadDone = Callable[[int | None], None]


class ReadRounds:
    """The leader's confirmation rounds. Decides only; the engine sends the heartbeats.

    Invariants: at most one round is under way; a read is confirmed by a round that began after it arrived.
    """

    def __init__(self) -> None:
        self.round = 0
        self._acknowledged: dict[str, int] = {}
        self._index = 0
        self._under_way: list[ReadDone] = []
        self._waiting: list[ReadDone] = []
        self.rounds_started = 0

    def add(self, done: ReadDone) -> None:
        self._waiting.append(done)

    @property
    def is_under_way(self) -> bool:
        return bool(self._under_way)

    @property
    def has_reads(self) -> bool:
        """Reads wait, for a round or in one."""
        return bool(self._under_way or self._waiting)

    def try_start(self, commit_index: int) -> bool:
        """Begins a round at `commit_index` when reads wait and none is under way; True: send heartbeats."""
        if self._under_way or not self._waiting:
            return False
        self.round += 1
        self.rounds_started += 1
        self._index = commit_index
        self._under_way, self._waiting = self._waiting, []
        return True

    def acknowledge(self, peer: str, round_number: int) -> None:
        # A round that was never begun here (nonsense from a peer) confirms nothing.
        if self._acknowledged.get(peer, 0) < round_number <= self.round:
            self._acknowledged[peer] = round_number

    def try_finish(self, voters: tuple[str, ...], me: str, majority: int) -> bool:
        """Ends the round when a majority of the voters, this node included, has confirmed it."""
        if not self._under_way:
            return False
        confirmed = sum(1 for name in voters if name == me or self._acknowledged.get(name, 0) >= self.round)
        if confirmed < majority:
            return False
        finished, self._under_way = self._under_way, []
        for done in finished:
            done(self._index)
        return True

    def fail_all(self) -> None:
        """Leadership is gone: nothing that waits can be confirmed here any more."""
        pending = self._under_way + self._waiting
        self._under_way, self._waiting = [], []
        self._acknowledged.clear()
        for done in pending:
            done(None)
