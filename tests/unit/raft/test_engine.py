"""The engine's rules, one test a rule, on engines that are moved step by step."""

from dataclasses import replace

import pytest

from replcache.errors import NodeHalted
from replcache.raft.admin import ASKED_MAX
from replcache.raft.messages import Append, AppendReply, Heartbeat, PreVoteReply, RequestVote, WireEntry
from replcache.raft.port import Member
from replcache.statemachine.results import SetResult
from tests.helpers.engine_net import EngineNet


@pytest.fixture
def net(tmp_path):
    return EngineNet(str(tmp_path))


def test_three_fresh_nodes_elect_one_leader(net):
    net.advance(3.0)
    assert sum(node.engine.is_leader for node in net.nodes.values()) == 1
    assert {node.engine.leader for node in net.nodes.values()} == {net.leader.name}


def test_a_command_proposed_on_any_node_is_applied_on_all(net):
    net.elect("a")
    outcomes = [net.propose(name, b"k-" + name.encode(), b"v") for name in "abc"]
    net.deliver_all()
    net.advance(0.2)
    assert all(isinstance(outcome[0][0], SetResult) for outcome in outcomes), outcomes
    for node in net.nodes.values():
        assert [node.engine.machine.peek(b"k-" + name).value for name in (b"a", b"b", b"c")] == [b"v"] * 3
    assert len({node.engine.machine.digest() for node in net.nodes.values()}) == 1


def test_nothing_is_committed_while_only_the_leader_holds_it_durably(net):
    """Raft paper 5.3: a majority must hold an entry; H10: this node counts only from its durable index."""
    net.elect("a")
    for name in "bc":
        net.nodes[name].is_disk_held = True
    outcome = net.propose("a", b"k", b"v")
    net.deliver_all()
    assert outcome == []
    net.nodes["b"].is_disk_held = False
    net.deliver_all()
    assert isinstance(outcome[0][0], SetResult)


def test_followers_alone_commit_what_the_leader_has_not_synced(net):
    """Dissertation 10.2.1: the leader's disk is not waited for when the others hold the entry."""
    net.elect("a")
    net.nodes["a"].is_disk_held = True
    outcome = net.propose("a", b"k", b"v")
    net.deliver_all()
    assert isinstance(outcome[0][0], SetResult)


def test_a_cut_off_leader_steps_down_within_the_election_timeout_and_confirms_no_read(net):
    """CheckQuorum and ReadIndex (H18)."""
    old = net.elect("a")
    net.isolate("a")
    reads: list[int | None] = []
    old.read_index(reads.append)
    net.advance(1.1)
    assert not old.is_leader
    assert reads in ([], [None])
    net.advance(2.0)
    assert net.leader.name != "a"


def test_a_returning_node_disturbs_nobody(net):
    """PreVote and vote refusal (H19): the term stays."""
    net.elect("a")
    net.isolate("c")
    net.advance(10.0)
    term = net.leader.term
    net.heal()
    net.advance(5.0)
    assert net.leader.name == "a"
    assert {node.engine.term for node in net.nodes.values()} == {term}


def test_an_append_that_matches_deletes_nothing(net):
    """Raft paper figure 2, AppendEntries 3: only a conflict deletes (H1)."""
    leader = net.elect("a")
    outcomes = [net.propose("a", b"k%d" % i, b"v") for i in range(6)]
    net.deliver_all()
    assert all(outcomes)
    follower = net.nodes["b"].engine
    last = follower.wal.last_index
    entries = tuple(
        WireEntry(t, kind, payload) for _, t, kind, payload in follower.wal.entries(1, 1 << 20, 1)
    )
    follower.receive("a", Append(leader.term, 1, 0, 0, leader.commit_index, entries))
    assert follower.wal.last_index == last
    assert follower.follower.entries_deleted == 0


def test_a_conflict_below_the_commit_index_halts_the_node(net):
    leader = net.elect("a")
    net.propose("a", b"k", b"v")
    net.deliver_all()
    net.advance(0.2)
    follower = net.nodes["b"].engine
    assert follower.commit_index >= 2
    forged = Append(leader.term, 99, 0, 0, 0, (WireEntry(leader.term + 1, 0, b"x"),))
    with pytest.raises(NodeHalted, match="contradicts committed entry 1"):
        follower.receive("a", forged)


def test_a_heartbeat_commits_only_what_this_leader_has_verified(net):
    """H3: entries of an old term behind the verified prefix stay uncommitted."""
    net.elect("a")
    net.advance(0.2)
    follower = net.nodes["b"].engine
    before = follower.commit_index
    assert before == follower.wal.last_index
    follower.append_entries([WireEntry(follower.term, 1, b"")])
    follower.receive("a", Heartbeat(follower.term, 0, follower.wal.last_index))
    assert follower.commit_index == before


def test_one_vote_a_term_survives_a_restart(net):
    """Raft paper 5.2; H8: term and vote are durable before the answer leaves."""
    net.isolate("b")
    b = net.nodes["b"]
    b.engine.receive("a", RequestVote(5, 100, 4))
    assert b.engine.voted_for == "a"
    b.settle()
    b.wal.close()
    again = net.start("b", boot=2)
    again.engine.on_peer_up("c", 3)
    again.engine.receive("c", RequestVote(5, 100, 4))
    assert (again.engine.term, again.engine.voted_for) == (5, "a")


def test_a_vote_leaves_only_when_it_is_durable(net):
    b = net.nodes["b"]
    b.is_disk_held = True
    b.engine.receive("a", RequestVote(5, 100, 4))
    b.settle()
    assert not b.outbox
    b.is_disk_held = False
    b.settle()
    assert [message.granted for _, message in b.outbox] == [True]


def test_an_answer_of_an_old_term_that_was_not_durable_never_leaves(net):
    """The entries that it vouches for may be cut off by the new term's leader."""
    leader = net.elect("a")
    b = net.nodes["b"]
    b.is_disk_held = True
    prev = b.wal.last_index
    b.engine.receive(
        "a", Append(leader.term, 50, prev, b.wal.last_term, 0, (WireEntry(leader.term, 1, b""),))
    )
    b.engine.election.last_leader_contact = float("-inf")
    b.engine.receive("c", RequestVote(leader.term + 1, prev + 5, leader.term))
    b.is_disk_held = False
    b.settle()
    assert [type(message).__name__ for _, message in b.outbox] == ["VoteReply"]


def test_leadership_moves_by_transfer_without_losing_a_command(net):
    leader = net.elect("a")
    done: list[object] = []
    leader.transfer.start("b", done.append)
    outcome = net.propose("a", b"k", b"v")
    net.advance(0.5)
    assert done == [None]
    assert net.leader.name == "b"
    assert isinstance(outcome[0][0], SetResult)


def test_a_group_that_was_under_way_at_a_leader_change_is_applied_once(net):
    net.elect("a")
    net.isolate("a")
    outcome = net.propose("a", b"k", b"v")
    net.deliver_all()
    net.advance(4.0)
    assert outcome == []
    net.heal()
    net.advance(3.0)
    assert isinstance(outcome[0][0], SetResult)
    assert outcome[0][0].version == 1
    assert len({node.engine.machine.digest() for node in net.nodes.values()}) == 1


def test_a_read_on_a_follower_waits_for_the_leaders_index(net):
    net.elect("a")
    net.propose("a", b"k", b"v")
    reads: list[int | None] = []
    net.nodes["c"].engine.read_index(reads.append)
    net.advance(0.1)
    assert reads
    assert reads[0] is not None
    assert reads[0] >= net.leader.term_start_index


def test_a_leader_whose_disk_is_full_hands_leadership_over(net):
    net.elect("a")
    net.advance(0.2)
    net.nodes["a"].wal.disk_full = True
    net.nodes["a"].is_disk_held = True
    outcome = net.propose("b", b"k", b"v")
    net.advance(1.0)
    assert net.leader.name != "a"
    assert isinstance(outcome[0][0], SetResult)


def test_a_disk_that_fills_up_while_pre_votes_are_counted_ends_the_campaign_not_the_node(net):
    net.elect("a")
    net.advance(0.2)
    net.isolate("a")
    candidate = net.nodes["b"].engine
    net.clock.at += 2.0
    candidate.tick()
    net.nodes["b"].wal.disk_full = True
    candidate.receive("c", PreVoteReply(candidate.term, candidate.election._round, True))
    assert not candidate.is_candidate
    assert not candidate.halted


@pytest.mark.parametrize("kind", ["learner", "full disk"])
def test_who_may_not_campaign_names_no_leader_that_is_gone(net, kind):
    net.elect("a")
    net.advance(0.2)
    node = net.nodes["c"]
    if kind == "learner":
        members = tuple(
            replace(member, voter=member.name != "c") for member in node.engine.configurations.current
        )
        node.engine.configurations.reset(0, members, 0)
    node.wal.disk_full = kind == "full disk"
    net.isolate("c")
    net.advance(3.0)
    assert node.engine.leader == ""
    assert node.engine.election.pre_votes_started == 0
    refusals: list[object] = []
    node.engine.admin.request("transfer", Member("b", "", ""), refusals.append)
    assert "no leader is known" in str(refusals[0])
    node.wal.disk_full = False
    net.heal()
    net.advance(0.2)
    assert node.engine.leader == net.leader.name


def test_administrative_calls_without_an_answer_do_not_pile_up(net):
    net.elect("a")
    net.advance(0.2)
    admin = net.nodes["c"].engine.admin
    answers: list[object] = []
    for _ in range(ASKED_MAX + 50):
        admin.request("transfer", Member("nobody", "", ""), answers.append)
    net.nodes["c"].outbox.clear()  # lost on the way
    assert len(admin._asked) == ASKED_MAX
    admin.request("transfer", Member("nobody", "", ""), answers.append)
    net.deliver_all()
    assert len(answers) == 1, "the newest is still waited for"


def test_reads_do_not_pile_up_while_nobody_leads(net):
    """Their callers give up at a deadline that the engine does not know; whoever still waits asks again."""
    net.isolate("c")
    engine = net.nodes["c"].engine
    outcomes: list[int | None] = []
    for _ in range(200):
        engine.read_index(outcomes.append)
        net.advance(0.1)
    assert len(outcomes) > 150
    assert not any(outcomes)


def test_answers_do_not_pile_up_while_the_disk_has_no_room(net):
    net.elect("a")
    net.advance(0.2)
    follower = net.nodes["c"]
    follower.is_disk_held = True
    term = follower.engine.term + 1
    for number in range(20_000):
        follower.engine.receive("b", Heartbeat(term, number, 0))
    assert len(follower.engine._gated) <= 1000
    follower.is_disk_held = False
    net.advance(1.0)
    assert not follower.engine._gated


def test_a_leader_stays_until_its_own_removal_is_committed(net):
    """Not until an earlier change is applied that happened to be committed when the removal was asked for."""
    leader = net.elect("a")
    net.advance(0.2)
    added: list[object] = []
    removed: list[object] = []
    leader.admin.request("add", Member("d", "d:1", "d:2"), added.append)
    index = leader.wal.last_index
    leader.wal.sync()
    leader.on_durable()
    leader.receive("b", AppendReply(leader.term, 1000, True, index))
    assert leader.applied_index < leader.commit_index == index
    leader.admin.request("remove", Member("a", "", ""), removed.append)
    leader.process()
    assert added == [None]
    assert leader.is_leader
    net.deliver_all()
    assert removed == [None]
    assert not leader.is_leader
