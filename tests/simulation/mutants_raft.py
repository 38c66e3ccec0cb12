"""Planted bugs: elections, log, commit, membership, outcomes (H1-H22 of docs/hazards.md, SandTable)."""

from tests.simulation.planting import Edit, Mutant, method

APPEND = "replication:Follower.on_append"
TAKE_OVER = "replication:Follower._take_over"


def raft(name: str, about: str, *edits: Edit, directed: str = "") -> Mutant:
    return Mutant(name, "raft", about, edits, directed)


MUTANTS = (
    raft(
        "truncate on every append",
        "H1: matching entries behind the message are deleted",
        method(
            TAKE_OVER,
            "    index = prev_index\n",
            "    index = prev_index\n"
            "    if entries and wal.last_index > max(prev_index, wal.base_index):\n"
            "        wal.truncate_from(prev_index + 1)\n",
        ),
    ),
    raft(
        "count a reply of an earlier term",
        "H2: a stale reply moves matchIndex",
        method(
            "engine:Engine.receive",
            "if message.term < self.term or not self.is_leader:",
            "if not self.is_leader:",
        ),
        directed="stale reply",
    ),
    raft(
        "commit what the leader says",
        "H3: commit moves to the end of the own log (seen when the leader starts over after a lost probe)",
        method(
            "replication:Leadership.probe",
            "    if not progress.is_probing:\n"
            "        progress.next = progress.match + 1\n"
            "    elif progress.in_flight:",
            "    progress.next = progress.match + 1\n    if False:",
        ),
        method(APPEND, "min(message.commit_index, verified)", "min(message.commit_index, wal.last_index)"),
        directed="divergent tail",
    ),
    raft(
        "heartbeat commits unverified entries",
        "H3: a message that verifies nothing moves the commit index",
        method(
            "replication:Follower.on_heartbeat",
            "min(message.commit_index, self.verified_index)",
            "min(message.commit_index, engine.wal.last_index)",
        ),
        method(
            "replication:Leadership._send_heartbeat",
            "min(progress.match, engine.commit_index)",
            "engine.commit_index",
        ),
        directed="divergent tail",
    ),
    raft(
        "install an older snapshot",
        "H4: a snapshot that is older than the state replaces it",
        method(
            "snapshot_transfer:SnapshotReceiver.on_chunk",
            "if message.last_index <= engine.commit_index:",
            "if message.last_index <= 0:",
        ),
        method(
            "snapshot_transfer:SnapshotReceiver.on_verified",
            "if index <= engine.commit_index:",
            "if index <= 0:",
        ),
        method(
            "snapshot_transfer:SnapshotReceiver.on_loaded",
            "if engine.halted or index <= engine.commit_index:",
            "if engine.halted:",
        ),
        directed="old snapshot",
    ),
    raft(
        "acknowledge a snapshot before it is there",
        "H5: success for what was not verified, loaded and made durable",
        method(
            "snapshot_transfer:SnapshotReceiver.on_chunk",
            "self._reply(peer, message, offset=offset)\n    if",
            "self._reply(peer, message, installed=True, match=message.last_index)\n    if",
        ),
    ),
    raft(
        "count votes by number",
        "H7: the same voter counts twice",
        method(
            "election:Election.on_vote_reply", "self._votes.add(peer)", "self._votes.add((peer, id(message)))"
        ),
        method(
            "election:Election._has_majority",
            "sum(1 for name in voters if name in names)",
            "len(names)",
        ),
        directed="duplicate vote",
    ),
    raft(
        "forget the vote at a restart",
        "H8: votedFor is not read back",
        method("engine:Engine.__init__", "self.voted_for = wal.voted_for", "self.voted_for = None"),
        method(
            "wal:Wal.set_hard_state",
            'assert self.voted_for is None, f"second vote in term {term}: {self.voted_for}, {voted_for}"',
            "pass",
        ),
        directed="vote forgotten",
    ),
    raft(
        "vote before it is durable",
        "H8: the vote leaves before the disk has it",
        method(
            "election:Election.on_request_vote",
            "engine.send(peer, VoteReply(engine.term, granted), lsn=engine.term_lsn)",
            "engine.send(peer, VoteReply(engine.term, granted))",
        ),
        directed="vote lost at a power cut",
    ),
    raft(
        "vote from an empty disk",
        "H8: a node that lost its disk takes part at once",
        method("engine:Engine.may_vote", "return self.is_recognised", "return True"),
        method(
            "engine:Engine._is_acceptable",
            "return member is not None and member.incarnation in (0, self.peer_incarnations.get(peer))",
            "return True",
        ),
        directed="vote from an empty disk",
    ),
    raft(
        "vote twice in a term",
        "the vote is given to whoever asks",
        method("election:Election.on_request_vote", "engine.voted_for in (None, peer)", "True"),
    ),
    raft(
        "count votes of an earlier term",
        "SandTable: a candidate keeps votes of an older term",
        method(
            "election:Election.on_vote_reply",
            "if not engine.is_candidate or message.term != engine.term or not message.granted:",
            "if not engine.is_candidate or not message.granted:",
        ),
        method("election:Election.campaign", "    self._votes = set()\n", ""),
        directed="late vote",
    ),
    raft(
        "restrict elections by index only",
        "SandTable: 5.4.1 without the term",
        method(
            "election:Election._is_up_to_date",
            "return (last_term, last_index) >= (wal.last_term, wal.last_index)",
            "return last_index >= wal.last_index",
        ),
        directed="longer but older log",
    ),
    raft(
        "restrict elections not at all",
        "5.4.1 missing",
        method(
            "election:Election._is_up_to_date",
            "return (last_term, last_index) >= (wal.last_term, wal.last_index)",
            "return True",
        ),
        directed="longer but older log",
    ),
    raft(
        "commit entries of older terms",
        "5.4.2, Figure 8 of the Raft paper",
        method(
            "replication:Leadership.advance_commit",
            "if candidate > engine.commit_index and engine.wal.term_at(candidate) == engine.term:",
            "if candidate > engine.commit_index:",
        ),
        directed="figure 8",
    ),
    raft(
        "count the own log before it is durable",
        "H10: the leader's memory counts for the majority",
        method(
            "replication:Leadership.advance_commit",
            "engine.wal.durable_index if name",
            "engine.wal.last_index if name",
        ),
    ),
    raft(
        "acknowledge before durable",
        "H27: a follower answers while its disk still writes",
        method(
            "replication:Follower._acknowledge",
            "lsn=engine.term_lsn if is_durable else engine.log_lsn",
            "lsn=engine.term_lsn",
        ),
    ),
    raft(
        "commit with half of the voters",
        "quorum is one too small",
        method(
            "replication:Leadership.advance_commit",
            "candidate = held[quorum(len(held)) - 1]",
            "candidate = held[max(0, quorum(len(held)) - 2)]",
        ),
    ),
    raft(
        "commit index goes back",
        "SandTable: not monotonic",
        method(
            "engine:Engine.set_commit_index",
            "if index > self.commit_index:",
            "if index != self.commit_index:",
        ),
    ),
    raft(
        "match index goes back",
        "SandTable: not monotonic; an old reply takes it back",
        method(
            "replication:Leadership._accept",
            "if message.match_index > progress.match:",
            "if message.match_index != progress.match:",
        ),
        method(
            "replication:Leadership._accept",
            "progress.next = max(progress.next, progress.match + 1)",
            "progress.next = progress.match + 1",
        ),
        directed="resends",
    ),
    raft(
        "keep match of an earlier leadership",
        "SandTable: matchIndex is not reset for a new term",
        method("replication:Leadership.start", "    self.progress = {}\n", ""),
        method("engine:Engine._on_lost_leadership", "    self.leadership.progress = {}\n", ""),
        directed="stale match",
    ),
    raft(
        "keep match of a lost disk",
        "the follower came back empty and still counts for what it had",
        method(
            "replication:Leadership.sync_peers",
            "if others.get(n) != p.incarnation]",
            "if n not in others]",
        ),
        directed="lost disk",
    ),
    raft(
        "count what a lost disk held",
        "the voter is back without its disk, and still counts until the configuration says so",
        method(
            "replication:Leadership._match",
            "return progress.match if heard == progress.incarnation else 0",
            "return progress.match",
        ),
        directed="counted after its disk",
    ),
    raft(
        "vote for known candidates only",
        "the voter's configuration is old, and the only node that can win is not in it",
        method(
            "engine:Engine._is_acceptable",
            "if isinstance(message, OPEN_MESSAGES):",
            "if isinstance(message, LEADER_MESSAGES):",
        ),
        directed="voter that missed the candidate",
    ),
    raft(
        "append without looking at what is before",
        "SandTable: entries at the wrong place; the consistency check is missing",
        method(APPEND, "if own != message.prev_term:", "if own is None:"),
        directed="longer but older log",
    ),
    raft(
        "apply before commit",
        "State Machine Safety",
        method(
            "engine:Engine.apply_some",
            "while self.applied_index < self.commit_index and",
            "while self.applied_index < self.wal.last_index and",
        ),
    ),
    raft(
        "two membership changes at once",
        "H15: two disjoint majorities",
        method(
            "admin:Admin._may_change",
            "and engine.configurations.current_index <= engine.commit_index",
            "",
        ),
        method("admin:Admin._is_caught_up", "return (", "return True or ("),
        method("admin:Admin._require_quorum", "if len(present)", "if False and len(present)"),
        directed="two changes",
    ),
    raft(
        "a promotion that must wait is fatal",
        "the leader's own step raises what is meant for callers",
        method("admin:Admin.tick", "except Refused:", "except ZeroDivisionError:"),
        directed="promotion while voters are away",
    ),
    raft(
        "configuration of cut entries stays in force",
        "H15: truncation does not take the configuration back",
        method(
            "membership:Configurations.truncate_from",
            "while len(self._history) > 1 and self._history[-1][0] >= index:",
            "while False:",
        ),
        directed="cut configuration",
    ),
    raft(
        "configuration of cut entries is still looked up",
        "H15: truncation takes it back in the history, and not in what is asked",
        method("membership:Configurations.truncate_from", "    self._look_up()", "    pass"),
        directed="cut configuration",
    ),
    raft(
        "configuration is forgotten at a restart",
        "H15: the last one in the log is not read back",
        method("membership:Configurations.read_log", "if kind == ENTRY_MEMBERSHIP:", "if False:"),
    ),
    raft(
        "snapshot stores the newest configuration",
        "H15: not that of its index",
        method(
            "membership:Configurations.at",
            "for at, members in reversed(self._history):",
            "return self.current\n    for at, members in reversed(self._history):",
        ),
        directed="configuration in a snapshot",
    ),
    raft(
        "configuration behind a snapshot stays in force",
        "H15: the snapshot replaces the log, a configuration of the lost log survives it",
        method("membership:Configurations.reset", "if index < at <= last_index", "if index < at"),
        directed="configuration behind a snapshot",
    ),
    raft(
        "voter that removed itself never campaigns",
        "H15: nobody else can win while only it has the entry",
        method(
            "membership:Configurations.may_lead",
            "for members in (self.current, self.at(commit_index))",
            "for members in (self.current,)",
        ),
        directed="removal of the leader is cut short",
    ),
    raft(
        "learners vote",
        "a member that has not caught up counts for the quorum",
        method(
            "membership:Configurations._look_up",
            "tuple(m.name for m in self.current if m.voter)",
            "tuple(m.name for m in self.current)",
        ),
        directed="learner counts",
    ),
    raft(
        "promote whoever asks",
        "a learner without the log becomes a voter",
        method("admin:Admin._is_caught_up", "return (", "return True or ("),
        directed="early promotion",
    ),
    raft(
        "remove the last good voter",
        "the change leaves no quorum that is there",
        method("admin:Admin._require_quorum", "if len(present)", "if False and len(present)"),
        directed="removal without quorum",
    ),
    raft(
        "no PreVote",
        "H19: a node that comes back takes the leader down",
        method("election:Election.tick", "self._start_pre_vote()", "self.campaign(transfer=False)"),
        method(
            "election:Election.has_live_leader",
            "return engine.clock.now() -",
            "return False and engine.clock.now() -",
        ),
        directed="returning node",
    ),
    raft(
        "no CheckQuorum",
        "H18: a cut-off leader goes on for ever",
        method("engine:Engine.tick", "if now - quiet_since > self.config.election_max_s:", "if False:"),
        directed="cut-off leader",
    ),
    raft(
        "do not tell a stale leader",
        "H20: it learns of the new term by luck only",
        method("replication:Follower.answer_stale_leader", "engine.send(", "return\n    engine.send("),
        directed="stale leader",
    ),
    raft(
        "campaign at once after stepping down",
        "H21: the old election deadline stays",
        method(
            "engine:Engine.become_follower",
            "        self.set_role(FOLLOWER)\n        self.set_election_deadline()\n",
            "        self.set_role(FOLLOWER)\n        self.election_deadline = 0.0\n",
        ),
        directed="stepping down",
    ),
    raft(
        "walk back one entry at a time",
        "H22: a divergent follower takes a round trip for each entry",
        method(
            "replication:Follower._refuse",
            "conflict_term, conflict_index = 0, wal.last_index + 1",
            "conflict_term, conflict_index = 0, message.prev_index",
        ),
        method(
            "replication:Follower._refuse",
            "conflict_term, conflict_index = own, first_index_of_term_at(wal, message.prev_index)",
            "conflict_term, conflict_index = 0, message.prev_index",
        ),
        directed="long divergent tail",
    ),
    raft(
        "never probe again",
        "SandTable: a lost Append is never sent again",
        method(
            "replication:Leadership.tick",
            "if progress.in_flight and now - progress.last_progress > patience:",
            "if False:",
        ),
        method(
            "replication:Leadership.on_heartbeat_reply",
            "if message.verified_index < progress.match and not progress.is_probing:",
            "if False:",
        ),
        method("engine:Engine.on_peer_up", "self.leadership.probe(peer, progress)", "pass"),
    ),
    raft(
        "say not applied too early",
        "H17: a command that is under way is called certainly not applied",
        method(
            "proposals:Proposals.abandon",
            "        self._drop(group)\n        if group.is_certainly_not_appended:\n",
            "        self._drop(group)\n        if True:\n",
        ),
    ),
    raft(
        "say not applied while others wait",
        "H17: the group is sent later because of its other commands",
        method(
            "proposals:Proposals.abandon",
            "    self.unknown += 1\n",
            "    if group.is_certainly_not_appended:\n        return NoLeader('')\n    self.unknown += 1\n",
        ),
        directed="given up in company",
    ),
    raft(
        "keep a group that was refused",
        "H17: its receiver appends it when it leads later",
        method(
            "forwarding:Forwarding.on_forward",
            'self._refuse(peer, message, "not the leader")',
            'self._refuse(peer, message, "not the leader")\n        self._enqueue(peer, message)',
        ),
        directed="refused and late",
    ),
    raft(
        "append what was for another leader",
        "H17: a late second copy of what this node refused is appended when it leads",
        method("forwarding:Forwarding.on_forward", " or message.term != engine.term", ""),
        directed="refused and late",
    ),
    raft(
        "take the answer of an earlier life",
        "H16: request numbers start at 1 after a restart",
        method(
            "engine:Engine._resolve",
            "if origin == self._origin and boot == self.boot:",
            "if origin == self._origin:",
        ),
    ),
    raft(
        "lose a forwarded group",
        "H24: nothing is sent again, callers wait",
        method("proposals:Proposals.resend", "again = [", "return\n    again = ["),
        directed="forwarded and lost",
    ),
)
