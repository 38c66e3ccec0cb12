"""Log replication: what the leader sends, what a follower accepts, and when an entry is committed.

Raft paper figure 2, 5.3 with the fast back-up of conflicts, 5.4.2; dissertation 10.2.1 (the leader writes its
disk while the followers write theirs). Replaces pysyncobj's append_entries and next_node_idx handlers whole:
hazards H1, H2, H3, H10, H20, H22.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from replcache.raft.log_search import first_index_of_term_at, last_index_with_term
from replcache.raft.membership import quorum
from replcache.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, WireEntry

if TYPE_CHECKING:
    from replcache.raft.engine import Engine

# A reply that takes longer than this many heartbeats is asked for again, each time twice as patiently.
RESEND_HEARTBEATS = 10
RESEND_DOUBLINGS_MAX = 4
# Small entries: bounds the work of one message.
APPEND_ENTRIES_MAX = 1024


@dataclass(slots=True)
class Progress:
    """What the leader of one term knows of one peer. Invariant: match < next."""

    next: int
    # The data directory that it is about: what another one held says nothing of this one.
    incarnation: int = 0
    match: int = 0
    # One Append at a time until one is confirmed (etcd's StateProbe): no flood at a divergent log.
    is_probing: bool = True
    # (sequence, index before its first entry) of each Append under way.
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    sequence: int = 0
    # Refusals of requests up to here are old news.
    ignore_refusals_to: int = 0
    # The commit index that was sent to it last.
    told_commit: int = 0
    # It waits for news of the commit of entries up to here: its own groups, or its reads.
    awaits_commit: int = 0
    last_heard: float = float("-inf")
    last_progress: float = float("-inf")
    doublings: int = 0


class Leadership:
    """The leader's side of replication, made anew for each term led."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.progress: dict[str, Progress] = {}
        self._heartbeat_at = float("-inf")

    def start(self, now: float) -> None:
        self.progress = {}
        self.sync_peers(now)

    def sync_peers(self, now: float) -> None:
        """Follows the configuration: a Progress for each other member, no more and no less."""
        members = self._engine.configurations.current
        others = {m.name: m.incarnation for m in members if m.name != self._engine.name}
        for name in [n for n, p in self.progress.items() if others.get(n) != p.incarnation]:
            # Gone, or back with an empty disk: then it holds nothing of what it had acknowledged.
            del self.progress[name]
            self._engine.snapshots_out.drop(name)
        for name, incarnation in others.items():
            if name not in self.progress:
                # last_heard: the full election timeout is granted before CheckQuorum counts a peer as gone.
                self.progress[name] = Progress(
                    next=self._engine.wal.last_index + 1, incarnation=incarnation, last_heard=now
                )

    # --- sending ---

    def tick(self, now: float) -> None:
        if now >= self._heartbeat_at:
            self.broadcast_heartbeat(now)
        for peer, progress in self.progress.items():
            patience = self._engine.config.heartbeat_s * RESEND_HEARTBEATS * (1 << progress.doublings)
            if progress.in_flight and now - progress.last_progress > patience:
                progress.doublings = min(progress.doublings + 1, RESEND_DOUBLINGS_MAX)
                self.probe(peer, progress)
            self.replicate_to(peer, progress)
        self.tell_commit(self._engine.commit_index)

    def broadcast_heartbeat(self, now: float) -> None:
        engine = self._engine
        self._heartbeat_at = now + engine.config.heartbeat_s
        for peer, progress in self.progress.items():
            self._send_heartbeat(peer, progress)

    def _send_heartbeat(self, peer: str, progress: Progress) -> None:
        engine = self._engine
        commit = min(progress.match, engine.commit_index)
        progress.told_commit = max(progress.told_commit, commit)
        engine.send(peer, Heartbeat(engine.term, engine.reads.round, commit), lsn=engine.term_lsn)

    def await_commit(self, peer: str, index: int) -> None:
        """Callers on the peer wait until it has applied the entry: it hears of the commit at once."""
        progress = self.progress.get(peer)
        if progress is not None:
            progress.awaits_commit = max(progress.awaits_commit, index)

    def tell_awaited_commit(self) -> None:
        for peer, progress in self.progress.items():
            if progress.told_commit < progress.awaits_commit and self._has_news(progress):
                self._send_heartbeat(peer, progress)

    @property
    def commit_news(self) -> int:
        """The commit index when some peer does not know of it, otherwise 0: tell_commit() it soon."""
        return self._engine.commit_index if any(map(self._has_news, self.progress.values())) else 0

    def tell_commit(self, news: int) -> None:
        """Tells who does not know that `news` is committed, unless an Append has carried it meanwhile.

        Not at once: under load the next Append comes anyway, and a message for itself costs both sides more
        than the entry did.
        """
        for peer, progress in self.progress.items():
            if progress.told_commit < news and self._has_news(progress):
                self._send_heartbeat(peer, progress)

    def _has_news(self, progress: Progress) -> bool:
        commit: int = self._engine.commit_index
        return min(progress.match, commit) > progress.told_commit

    def replicate(self) -> None:
        for peer, progress in self.progress.items():
            self.replicate_to(peer, progress)

    def probe(self, peer: str, progress: Progress) -> None:
        """Back to one request at a time, from what is known to match.

        While nothing is known yet the search goes on where it was: starting over would send the whole log, or
        a snapshot, to a follower that was away for a moment.
        """
        if not progress.is_probing:
            progress.next = progress.match + 1
        elif progress.in_flight:
            progress.next = max(progress.match, progress.in_flight[0][1]) + 1
        progress.is_probing = True
        progress.in_flight.clear()
        progress.ignore_refusals_to = progress.sequence
        self._engine.snapshots_out.forget(peer)

    def replicate_to(self, peer: str, progress: Progress) -> None:
        engine = self._engine
        if not engine.is_reachable_member(peer):
            return
        while True:
            if progress.next <= engine.wal.base_index:
                engine.snapshots_out.send_to(peer)
                return
            limit = 1 if progress.is_probing else engine.config.appends_in_flight_max
            if len(progress.in_flight) >= limit:
                return
            has_news = progress.next <= engine.wal.last_index
            if not has_news and not progress.is_probing:
                return
            if not self._send_append(peer, progress):
                return

    def _send_append(self, peer: str, progress: Progress) -> bool:
        engine = self._engine
        prev_index = progress.next - 1
        prev_term = engine.wal.term_at(prev_index)
        assert prev_term is not None, (peer, prev_index, engine.wal.base_index)
        entries = tuple(
            WireEntry(term, kind, payload)
            for _, term, kind, payload in engine.wal.entries(
                progress.next, engine.config.append_bytes_max, APPEND_ENTRIES_MAX
            )
        )
        progress.sequence += 1
        message = Append(engine.term, progress.sequence, prev_index, prev_term, engine.commit_index, entries)
        if not progress.in_flight:
            progress.last_progress = engine.clock.now()
        progress.in_flight.append((progress.sequence, prev_index))
        progress.told_commit = max(progress.told_commit, min(engine.commit_index, prev_index + len(entries)))
        # The entries' own durability here is not waited for (10.2.1): only the term's.
        if not engine.send(peer, message, lsn=engine.term_lsn):
            progress.in_flight.pop()
            return False
        progress.next += len(entries)
        return True

    # --- replies ---

    def on_append_reply(self, peer: str, message: AppendReply) -> None:
        """Only called with a reply of the current term: hence an answer to this leadership."""
        progress = self.progress.get(peer)
        if progress is None:
            return
        progress.last_heard = self._engine.clock.now()
        if message.success:
            self._accept(peer, progress, message)
        elif message.sequence > progress.ignore_refusals_to:
            self._back_up(peer, progress, message)

    def _accept(self, peer: str, progress: Progress, message: AppendReply) -> None:
        engine = self._engine
        assert message.match_index <= engine.wal.last_index, (peer, message, engine.wal.last_index)
        while progress.in_flight and progress.in_flight[0][0] <= message.sequence:
            progress.in_flight.popleft()
        progress.last_progress = progress.last_heard
        progress.doublings = 0
        if message.sequence > progress.ignore_refusals_to:
            progress.is_probing = False
        if message.match_index > progress.match:
            progress.match = message.match_index
            progress.next = max(progress.next, progress.match + 1)
            self.advance_commit()
        if engine.is_leader:
            self.replicate_to(peer, progress)
            engine.transfer.on_progress(peer)

    def _back_up(self, peer: str, progress: Progress, message: AppendReply) -> None:
        """Next try where the logs may agree; never behind what is known to match (H22)."""
        candidate = message.conflict_index
        if message.conflict_term:
            own = last_index_with_term(self._engine.wal, message.conflict_term)
            if own is not None:
                candidate = min(own + 1, progress.next)
        self.probe(peer, progress)
        progress.next = max(progress.match + 1, min(candidate, self._engine.wal.last_index + 1))
        self.replicate_to(peer, progress)

    def on_heartbeat_reply(self, peer: str, message: HeartbeatReply) -> None:
        progress = self.progress.get(peer)
        if progress is None:
            return
        progress.last_heard = self._engine.clock.now()
        if message.verified_index < progress.match and not progress.is_probing:
            # The peer was started anew or has lost an Append with its connection.
            self.probe(peer, progress)
            self.replicate_to(peer, progress)
        self._engine.reads.acknowledge(peer, message.round)

    # --- commit ---

    def advance_commit(self) -> None:
        """Commits what a majority of the voters holds durably, if it is of the own term (5.4.2).

        This node counts itself only up to its durable index (H10).
        """
        engine = self._engine
        if engine.commit_index == engine.wal.last_index:
            return
        held = sorted(
            (
                engine.wal.durable_index if name == engine.name else self._match(name)
                for name in engine.configurations.voters
            ),
            reverse=True,
        )
        if not held:
            return
        candidate = held[quorum(len(held)) - 1]
        if candidate > engine.commit_index and engine.wal.term_at(candidate) == engine.term:
            engine.set_commit_index(candidate)

    def _match(self, name: str) -> int:
        """0 for a voter that is back without the disk which held it: what it acknowledged is gone."""
        progress = self.progress.get(name)
        if progress is None:
            return 0
        heard = self._engine.peer_incarnations.get(name, progress.incarnation)
        return progress.match if heard == progress.incarnation else 0

    def last_quorum_contact(self, now: float) -> float:
        """The latest time at which a majority of the voters, this node included, had been heard since."""
        heard = sorted(
            (
                now if name == self._engine.name else self._last_heard(name)
                for name in self._engine.configurations.voters
            ),
            reverse=True,
        )
        return heard[quorum(len(heard)) - 1] if heard else now

    def _last_heard(self, name: str) -> float:
        progress = self.progress.get(name)
        return progress.last_heard if progress is not None else float("-inf")


class Follower:
    """The receiving side of replication."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        # Highest index that a message of the current term's leader has verified to be its own.
        self.verified_index = 0
        self.entries_deleted = 0
        # Stays 0: an entry that the leader has too must never be deleted (H1).
        self.matching_deleted = 0
        self.duplicates_skipped = 0

    def reset(self) -> None:
        """A new term: nothing is verified against its leader yet."""
        self.verified_index = 0

    def on_append(self, peer: str, message: Append) -> None:
        """The caller has settled the term. Deletes only from a real conflict on (H1)."""
        engine, wal = self._engine, self._engine.wal
        prev_index, entries = message.prev_index, message.entries
        if prev_index < wal.base_index:
            # What lies below the base is committed, hence equal (Leader Completeness): skip it.
            skip = min(wal.base_index - prev_index, len(entries))
            prev_index += skip
            entries = entries[skip:]
            if prev_index < wal.base_index:
                self._acknowledge(peer, message, prev_index)
                return
        else:
            own = wal.term_at(prev_index)
            if own != message.prev_term:
                self._refuse(peer, message, own)
                return
        verified = prev_index + len(entries)
        self._take_over(prev_index, entries)
        self.verified_index = max(self.verified_index, verified)
        engine.set_commit_index(min(message.commit_index, verified))
        self._acknowledge(peer, message, verified)

    def _take_over(self, prev_index: int, entries: tuple[WireEntry, ...]) -> None:
        """Raft paper figure 2, AppendEntries 3 and 4."""
        engine, wal = self._engine, self._engine.wal
        index = prev_index
        for position, entry in enumerate(entries):
            index += 1
            own = wal.term_at(index)
            if own == entry.term:
                self.duplicates_skipped += 1
                continue
            if own is not None:
                if index <= engine.commit_index:
                    engine.halt(
                        f"the leader's log contradicts committed entry {index}: term {own} here, "
                        f"{entry.term} there"
                    )
                self.entries_deleted += wal.last_index - index + 1
                self.matching_deleted += sum(
                    wal.term_at(at) == sent.term for at, sent in enumerate(entries[position:], index)
                )
                engine.truncate_from(index)
            engine.append_entries(entries[position:])
            return

    def _refuse(self, peer: str, message: Append, own: int | None) -> None:
        engine, wal = self._engine, self._engine.wal
        if message.prev_index <= engine.commit_index:
            engine.halt(
                f"the leader's log contradicts committed entry {message.prev_index}: term {own} here, "
                f"{message.prev_term} there"
            )
        if own is None:
            conflict_term, conflict_index = 0, wal.last_index + 1
        else:
            conflict_term, conflict_index = own, first_index_of_term_at(wal, message.prev_index)
        reply = AppendReply(
            term=engine.term,
            sequence=message.sequence,
            success=False,
            conflict_term=conflict_term,
            conflict_index=max(conflict_index, engine.commit_index + 1),
        )
        engine.send(peer, reply, lsn=engine.term_lsn)

    def _acknowledge(self, peer: str, message: Append, verified: int) -> None:
        """The answer leaves when everything that it vouches for is durable."""
        engine = self._engine
        reply = AppendReply(term=engine.term, sequence=message.sequence, success=True, match_index=verified)
        is_durable = engine.wal.durable_index >= verified
        engine.send(peer, reply, lsn=engine.term_lsn if is_durable else engine.log_lsn)

    def answer_stale_leader(self, peer: str) -> None:
        """It learns of the newer term and steps down at once (H20)."""
        engine = self._engine
        engine.send(peer, HeartbeatReply(engine.term, 0, 0), lsn=engine.term_lsn)

    def on_heartbeat(self, peer: str, message: Heartbeat) -> None:
        """Commit moves only over the prefix that this leader has verified here (H3)."""
        engine = self._engine
        engine.set_commit_index(min(message.commit_index, self.verified_index))
        reply = HeartbeatReply(engine.term, message.round, self.verified_index)
        engine.send(peer, reply, lsn=engine.term_lsn)
