"""The hazards of log, commit and terms on our engine: the counterparts of test_plain_log.py, all held.

Each test plays the message or schedule that makes the plain library break a rule (docs/hazards.md).
"""

import pytest

from replcache.errors import NodeHalted, NotApplied
from replcache.raft.membership import changed
from replcache.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    SnapshotChunk,
    SnapshotReply,
    VoteReply,
    WireEntry,
)
from replcache.raft.port import Member
from replcache.statemachine.results import SetResult
from tests.helpers.engine_net import EngineNet, ReceivedSnapshots


@pytest.fixture
def net(tmp_path):
    return EngineNet(str(tmp_path))


@pytest.fixture
def five(tmp_path):
    return EngineNet(str(tmp_path), "abcde")


def entry(term: int) -> WireEntry:
    return WireEntry(term, 1, b"")


def test_h1_a_resend_of_old_entries_deletes_nothing_and_loses_nothing(net):
    leader = net.elect("a")
    outcomes = [net.propose("a", b"k%d" % i, b"v") for i in range(6)]
    net.deliver_all()
    assert all(isinstance(outcome[0][0], SetResult) for outcome in outcomes)
    follower = net.nodes["b"]
    last = follower.wal.last_index
    for first in range(1, last):
        sent = tuple(WireEntry(t, k, p) for _, t, k, p in follower.wal.entries(first, 1 << 20, 2))
        prev_term = follower.wal.term_at(first - 1)
        follower.engine.receive("a", Append(leader.term, 100 + first, first - 1, prev_term, 0, sent))
        assert follower.wal.last_index == last
    assert follower.engine.follower.matching_deleted == 0
    # The leader dies in the middle of the resend; one of the others leads on with all six.
    del net.nodes["a"]
    net.advance(4.0)
    assert all(net.leader.machine.peek(b"k%d" % i) is not None for i in range(6))


def test_h2_a_reply_of_an_earlier_term_moves_nothing(five):
    leader = five.elect("a")
    five.isolate("a")
    five.nodes["a"].engine.append_as_leader([entry(leader.term)])
    index = leader.wal.last_index
    before = leader.commit_index
    for peer in "bcde":
        leader.receive(peer, AppendReply(leader.term - 1, 1, True, index))
    assert leader.commit_index == before
    assert all(progress.match < index for progress in leader.leadership.progress.values())


def test_h2_a_reply_of_a_newer_term_ends_the_leadership_at_once(net):
    leader = net.elect("a")
    leader.receive("b", AppendReply(leader.term + 1, 1, False))
    assert not leader.is_leader


def test_h3_a_snapshot_chunk_moves_no_commit_index(net):
    net.elect("a")
    net.advance(0.2)
    follower = net.nodes["b"].engine
    follower.snapshots_in = type(follower.snapshots_in)(follower, ReceivedSnapshots())
    follower.append_entries([entry(follower.term)] * 3)
    before = follower.commit_index
    follower.receive("a", SnapshotChunk(follower.term, 1, 50, 1, 0, 100, b"x"))
    assert follower.commit_index == before


def test_h4_an_older_snapshot_is_ignored_and_answered_with_what_is_committed(net):
    net.elect("a")
    for number in range(5):
        net.propose("a", b"k%d" % number, b"v")
    net.deliver_all()
    net.advance(0.2)
    b = net.nodes["b"]
    digest, commit = b.engine.machine.digest(), b.engine.commit_index
    b.outbox.clear()
    b.engine.receive("a", SnapshotChunk(b.engine.term, 7, 2, 1, 0, 10, b"older"))
    assert b.engine.machine.digest() == digest
    replies = [message for _, message in b.outbox if isinstance(message, SnapshotReply)]
    assert [(reply.installed, reply.match_index) for reply in replies] == [(True, commit)]


def test_h5_a_snapshot_that_does_not_verify_is_refused_and_acknowledges_nothing(net):
    net.elect("a")
    b = net.nodes["b"]
    received = ReceivedSnapshots()
    b.engine.snapshots_in = type(b.engine.snapshots_in)(b.engine, received)
    b.engine.receive("a", SnapshotChunk(b.engine.term, 1, 500, 1, 0, 4, b"good"))
    assert b.installs == [(500, 1)]
    b.outbox.clear()
    assert b.engine.snapshots_in.on_verified(500, 1, is_good=False) is False
    replies = [message for _, message in b.outbox]
    assert [(reply.refused, reply.installed, reply.match_index) for reply in replies] == [(True, False, 0)]
    assert b.engine.commit_index < 500


def test_h6_a_chunk_behind_a_gap_is_not_taken(net):
    net.elect("a")
    b = net.nodes["b"]
    received = ReceivedSnapshots()
    b.engine.snapshots_in = type(b.engine.snapshots_in)(b.engine, received)
    term = b.engine.term
    b.outbox.clear()
    b.engine.receive("a", SnapshotChunk(term, 1, 500, 1, 4, 8, b"tail"))
    b.engine.receive("a", SnapshotChunk(term, 2, 500, 1, 0, 8, b"head"))
    b.engine.receive("a", SnapshotChunk(term, 3, 501, 1, 4, 8, b"else"))
    assert [message.offset for _, message in b.outbox] == [0, 4, 0]
    assert b.installs == []


def test_h7_the_same_voter_counts_once(five):
    five.isolate("a")
    candidate = five.nodes["a"].engine
    candidate.election.campaign(transfer=False)
    five.nodes["a"].settle()
    for _ in range(4):
        candidate.receive("b", VoteReply(candidate.term, True))
    assert not candidate.is_leader
    candidate.receive("c", VoteReply(candidate.term, True))
    assert candidate.is_leader


def test_h8_a_node_without_its_disk_gives_no_vote(net):
    net.isolate("b")
    b = net.nodes["b"].engine
    b.incarnation += 1000
    b.receive("a", RequestVote(9, 100, 8))
    net.nodes["b"].settle()
    assert not net.nodes["b"].outbox
    assert b.voted_for is None


def test_h8_the_vote_of_a_disk_that_is_gone_is_not_counted(net):
    net.isolate("a")
    candidate = net.nodes["a"].engine
    candidate.election.campaign(transfer=False)
    net.nodes["a"].settle()
    candidate.on_hello("b", 999)
    candidate.receive("b", VoteReply(candidate.term, True))
    assert not candidate.is_leader


def test_h10_entries_of_an_earlier_term_are_not_committed_by_counting(net):
    """Raft paper 5.4.2, figure 8: only an entry of the own term commits what is before it."""
    leader = net.elect("a")
    net.isolate("a")
    leader.append_as_leader([entry(leader.term)])
    old = leader.wal.last_index
    net.nodes["a"].settle()
    leader.become_follower(leader.term + 1, leader=None)
    leader.election.campaign(transfer=False)
    net.nodes["a"].settle()
    leader.receive("b", VoteReply(leader.term, True))
    assert leader.is_leader
    before = leader.commit_index
    leader.receive("b", AppendReply(leader.term, 1, True, old))
    assert leader.commit_index == before
    leader.receive("b", AppendReply(leader.term, 2, True, leader.term_start_index))
    net.nodes["a"].settle()
    assert leader.commit_index >= leader.term_start_index


def test_h13_a_compaction_point_behind_the_log_is_a_programmers_error_and_changes_nothing(net):
    net.elect("a")
    net.advance(0.2)
    wal = net.nodes["a"].wal
    last = wal.last_index
    with pytest.raises(AssertionError, match="behind the log's end"):
        wal.compact_to(last + 5)
    assert wal.last_index == last


def test_h15_two_membership_changes_never_run_at_once(net):
    leader = net.elect("a")
    net.advance(0.2)
    for name in "bc":
        net.nodes[name].is_disk_held = True
    net.nodes["a"].is_disk_held = True
    done: list[object] = []
    leader.admin.request("add", Member("d", "d:1", "d:2"), done.append)
    leader.admin.request("add", Member("e", "e:1", "e:2"), done.append)
    assert len(done) == 1
    assert isinstance(done[0], NotApplied)
    assert [m.name for m in leader.configurations.current] == ["a", "b", "c", "d"]


def test_h15_no_change_before_an_entry_of_the_own_term_is_committed(net):
    leader = net.elect("a")
    leader.term_start_index = leader.commit_index + 1
    done: list[object] = []
    leader.admin.request("add", Member("d", "d:1", "d:2"), done.append)
    assert isinstance(done[0], NotApplied)


def test_h15_a_truncated_configuration_is_taken_back(net):
    follower = net.nodes["b"].engine
    net.elect("a")
    net.advance(0.2)
    from replcache.raft.membership import encode_configuration

    members = changed(follower.configurations.current, "add", Member("d", "d:1", "d:2"))
    index = follower.wal.last_index + 1
    follower.append_entries([WireEntry(follower.term, 2, encode_configuration(members))])
    assert follower.configurations.member("d") is not None
    follower.truncate_from(index)
    assert follower.configurations.member("d") is None


def test_h15_the_configuration_in_the_log_is_in_force_again_after_a_restart(net):
    leader = net.elect("a")
    net.advance(0.2)
    leader.admin.request("add", Member("d", "d:1", "d:2", incarnation=4), lambda _: None)
    net.advance(0.5)
    net.nodes["a"].wal.close()
    again = net.start("a", boot=2)
    assert [m.name for m in again.engine.configurations.current] == ["a", "b", "c", "d"]


def test_h20_a_stale_leader_learns_of_the_newer_term(net):
    net.elect("a")
    b = net.nodes["b"]
    b.engine.become_follower(9, leader=None)
    b.settle()
    b.outbox.clear()
    b.engine.receive("a", Heartbeat(1, 0, 0))
    b.settle()
    replies = [message for _, message in b.outbox if isinstance(message, HeartbeatReply)]
    assert [reply.term for reply in replies] == [9]
    net.nodes["a"].engine.receive("b", replies[0])
    assert not net.nodes["a"].engine.is_leader


def test_two_leaders_in_one_term_are_never_taken_for_granted(net):
    leader = net.elect("a")
    with pytest.raises(NodeHalted, match="leads in term"):
        leader.receive("b", Heartbeat(leader.term, 0, 0))
