"""Elections: PreVote, votes counted by name, refusal while a leader is heard, CheckQuorum, transfer.

Raft paper 5.2 and 5.4.1; dissertation 4.2.3 (disruptive servers), 6.2 (CheckQuorum), 9.6 (PreVote), 3.10
(leadership transfer). Replaces the election code of pysyncobj: hazards H7, H8, H18, H19, H20, H21.
"""

from typing import TYPE_CHECKING

from replcache.raft.membership import quorum
from replcache.raft.messages import PreVote, PreVoteReply, RequestVote, TimeoutNow, VoteReply

if TYPE_CHECKING:
    from replcache.raft.engine import Engine


class Election:
    """The candidate's and the voter's side. State here is volatile; term and vote live in the log.

    Invariant: a vote is counted once for each voter of this node's own configuration.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._round = 0
        self._pre_votes: set[str] | None = None
        self._votes: set[str] = set()
        self._own_vote_lsn = 0
        self.last_leader_contact = float("-inf")
        self.campaigns = 0
        self.pre_votes_started = 0

    def tick(self, now: float) -> None:
        engine = self._engine
        if engine.is_leader or now < engine.election_deadline:
            return
        engine.set_election_deadline()
        # Also who only waits for another's election (learners, full disks) must not name a leader that is
        # gone: it sends clients there, and asks it for reads and writes.
        engine.lose_leader()
        if engine.may_campaign():
            self._start_pre_vote()

    def reset(self) -> None:
        """A new term or a known leader: whatever was being collected is void."""
        self._pre_votes = None
        self._votes = set()

    def heard_leader(self, now: float) -> None:
        self.last_leader_contact = now
        self._pre_votes = None

    def has_live_leader(self) -> bool:
        """Within the minimum election timeout of a leader's message no vote is given (4.2.3)."""
        engine = self._engine
        if engine.is_leader:
            return True
        return engine.clock.now() - self.last_leader_contact < engine.config.election_min_s

    def _start_pre_vote(self) -> None:
        engine = self._engine
        self._round += 1
        self.pre_votes_started += 1
        self._pre_votes = {engine.name}
        request = PreVote(engine.term + 1, engine.wal.last_index, engine.wal.last_term, self._round)
        for peer in engine.other_voters:
            engine.send(peer, request)
        self._count_pre_votes()

    def on_pre_vote(self, peer: str, message: PreVote) -> None:
        engine = self._engine
        granted = (
            engine.may_vote
            and message.term > engine.term
            and not self.has_live_leader()
            and self._is_up_to_date(message.last_term, message.last_index)
        )
        # The own term must be durable before it is told, like every message that follows from it.
        engine.send(peer, PreVoteReply(engine.term, message.round, granted), lsn=engine.term_lsn)

    def on_pre_vote_reply(self, peer: str, message: PreVoteReply) -> None:
        engine = self._engine
        if message.term > engine.term:
            engine.become_follower(message.term, leader=None)
            return
        if self._pre_votes is None or message.round != self._round or not message.granted:
            return
        self._pre_votes.add(peer)
        self._count_pre_votes()

    def _count_pre_votes(self) -> None:
        assert self._pre_votes is not None
        if self._has_majority(self._pre_votes):
            self._pre_votes = None
            # The disk may have filled up, or a snapshot removed this node, since it asked.
            if self._engine.may_campaign():
                self.campaign(transfer=False)

    def campaign(self, *, transfer: bool) -> None:
        """Starts an election in the next term. The requests leave when the own vote is durable."""
        engine = self._engine
        self.campaigns += 1
        self._pre_votes = None
        engine.become_candidate()
        self._votes = set()
        self._own_vote_lsn = engine.term_lsn
        engine.set_election_deadline()
        request = RequestVote(engine.term, engine.wal.last_index, engine.wal.last_term, transfer)
        for peer in engine.other_voters:
            engine.send(peer, request, lsn=self._own_vote_lsn)
        self.on_durable()

    def on_durable(self) -> None:
        """The own vote counts once it would survive a crash."""
        engine = self._engine
        if (
            engine.is_candidate
            and engine.name not in self._votes
            and engine.wal.durable_lsn >= self._own_vote_lsn
        ):
            self._votes.add(engine.name)
            self._count_votes()

    def on_request_vote(self, peer: str, message: RequestVote) -> None:
        engine = self._engine
        if not engine.may_vote:
            return
        if message.term > engine.term:
            if self.has_live_leader() and not message.transfer:
                # Refused without taking over the term: a node that comes back must not disturb (4.2.3).
                return
            engine.become_follower(message.term, leader=None)
        granted = (
            message.term == engine.term
            and engine.voted_for in (None, peer)
            and not engine.is_leader
            and self._is_up_to_date(message.last_term, message.last_index)
        )
        if granted:
            if engine.voted_for is None:
                engine.set_term(engine.term, peer)
            engine.set_election_deadline()
        engine.send(peer, VoteReply(engine.term, granted), lsn=engine.term_lsn)

    def on_vote_reply(self, peer: str, message: VoteReply) -> None:
        engine = self._engine
        if message.term > engine.term:
            engine.become_follower(message.term, leader=None)
            return
        if not engine.is_candidate or message.term != engine.term or not message.granted:
            return
        self._votes.add(peer)
        self._count_votes()

    def _count_votes(self) -> None:
        if self._has_majority(self._votes):
            self._engine.become_leader()

    def _has_majority(self, names: set[str]) -> bool:
        voters = self._engine.configurations.voters
        return sum(1 for name in voters if name in names) >= quorum(len(voters))

    def _is_up_to_date(self, last_term: int, last_index: int) -> bool:
        """Raft paper 5.4.1: later term wins, then the longer log."""
        wal = self._engine.wal
        return (last_term, last_index) >= (wal.last_term, wal.last_index)

    def on_timeout_now(self, peer: str, message: TimeoutNow) -> None:
        engine = self._engine
        if message.term == engine.term and peer == engine.leader and engine.may_campaign():
            self.campaign(transfer=True)
