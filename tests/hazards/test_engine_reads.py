"""The hazards of reads, elections and liveness on our engine: counterparts of test_plain_reads.py."""

import pytest

from replcache.errors import NodeHalted, NoLeader, OutcomeUnknown
from replcache.raft.messages import AppendReply, ForwardRefused, HeartbeatReply, ReadIndexReply, WireEntry
from replcache.statemachine.commands import Command, Set
from replcache.statemachine.results import SetResult
from tests.helpers.engine_net import EngineNet


@pytest.fixture
def net(tmp_path):
    return EngineNet(str(tmp_path))


def submit(net: EngineNet, name: str, key: bytes) -> tuple[object, list[object]]:
    outcome: list[object] = []
    proposal = net.nodes[name].engine.submit(Command(ops=(Set(key, b"v"),)), outcome.append)
    return proposal, outcome


def test_h16_a_refusal_meant_for_the_process_before_settles_nothing(net):
    net.elect("a")
    net.cut.add(("b", "a"))
    _, outcome = submit(net, "b", b"k")
    net.deliver_all()
    b = net.nodes["b"].engine
    b.receive("a", ForwardRefused(sequence=1, boot=b.boot - 1, reason="not the leader", attempt=1))
    assert outcome == []
    net.heal()
    net.advance(1.5)
    assert isinstance(outcome[0][0], SetResult)


def test_h17_an_end_is_called_not_applied_only_when_that_is_certain(net):
    net.elect("a")
    proposal, outcome = submit(net, "b", b"k")
    net.nodes["b"].settle()
    net.nodes["b"].outbox.clear()  # it may have arrived, for all that this node knows
    assert isinstance(proposal.abandon(), OutcomeUnknown)
    assert outcome == []


def test_h17_what_was_never_sent_is_certainly_not_applied(net):
    proposal, _ = submit(net, "b", b"k")
    net.deliver_all()
    assert isinstance(proposal.abandon(), NoLeader)
    net.elect("a")
    net.advance(1.0)
    assert net.leader.machine.peek(b"k") is None


def test_h18_a_confirmation_of_an_earlier_round_confirms_no_later_read(net):
    leader = net.elect("a")
    net.advance(0.2)
    net.isolate("a")
    reads: list[int | None] = []
    leader.read_index(reads.append)
    leader.process()
    wanted = leader.reads.round
    leader.receive("b", HeartbeatReply(leader.term, wanted - 1, leader.commit_index))
    leader.receive("c", HeartbeatReply(leader.term - 1, wanted, leader.commit_index))
    assert reads == []
    leader.receive("b", HeartbeatReply(leader.term, wanted, leader.commit_index))
    assert reads == [leader.commit_index]


def test_h18_no_read_before_an_entry_of_the_own_term_is_committed(net):
    """Dissertation 6.4, step 1: a new leader's commit index may be behind what was acknowledged."""
    leader = net.elect("a")
    net.advance(0.2)
    leader.term_start_index = leader.commit_index + 1
    reads: list[int | None] = []
    leader.read_index(reads.append)
    net.deliver_all()
    assert reads == []


def test_h18_a_late_answer_to_a_followers_first_try_is_not_taken_for_its_second(net):
    """etcd#20418: ids are never used twice."""
    net.elect("a")
    net.cut.add(("b", "a"))
    b = net.nodes["b"].engine
    reads: list[int | None] = []
    b.read_index(reads.append)
    b.process()
    net.advance(0.7)
    b.receive("a", ReadIndexReply(1, b.boot - 1, index=99))
    assert reads == []
    net.advance(1.0)
    assert reads == [None], "given back, to be asked again: nobody knows whether its caller still waits"


def test_h19_an_asymmetric_cut_makes_no_elections(net):
    """The follower that hears nobody asks in vain, and its term stays."""
    net.elect("a")
    net.cut |= {("a", "c"), ("b", "c")}
    net.advance(20.0)
    assert net.leader.name == "a"
    assert {node.engine.term for node in net.nodes.values()} == {net.leader.term}


def test_h21_a_leader_that_steps_down_waits_a_full_time_out(net):
    leader = net.elect("a")
    net.clock.at += 30.0
    leader.become_follower(leader.term + 1, leader=None)
    assert leader.election_deadline >= net.clock.at + leader.config.election_min_s


def test_h22_a_long_divergent_tail_is_found_in_a_few_round_trips(net):
    old = net.elect("a")
    net.advance(0.2)
    net.isolate("a")
    for _ in range(500):
        old.append_entries([WireEntry(old.term, 1, b"")])
    net.nodes["a"].settle()
    net.advance(4.0)
    for number in range(50):
        net.propose(net.leader.name, b"k%d" % number, b"v")
    net.deliver_all()
    net.heal()
    net.advance(1.0)
    assert old.wal.last_index == net.leader.wal.last_index
    assert old.follower.entries_deleted >= 500
    assert old.follower.matching_deleted == 0


def test_h22_a_stale_refusal_never_moves_next_behind_what_matches(net):
    leader = net.elect("a")
    net.propose("a", b"k", b"v")
    net.deliver_all()
    progress = leader.leadership.progress["b"]
    match = progress.match
    leader.receive("b", AppendReply(leader.term, progress.sequence + 1, False, 0, 0, 1))
    assert progress.match == match
    assert progress.next > match


def test_h24_a_proposal_that_goes_into_a_dead_link_ends_by_a_later_try(net):
    net.elect("a")
    _, outcome = submit(net, "b", b"k")
    net.nodes["b"].settle()
    net.nodes["b"].outbox.clear()  # lost with its connection
    net.advance(2.5)
    assert isinstance(outcome[0][0], SetResult)


def test_h26_an_entry_that_can_not_be_applied_halts_the_node_and_names_the_index(net):
    leader = net.elect("a")
    leader.append_as_leader([WireEntry(leader.term, 0, b"\xff no log entry")])
    index = leader.wal.last_index
    with pytest.raises(NodeHalted, match=f"log entry {index} failed"):
        net.deliver_all()
    halted = [node.engine for node in net.nodes.values() if node.engine.halted]
    assert halted
    assert halted[0].applied_index == index - 1
    with pytest.raises(NodeHalted):
        halted[0].submit(Command(ops=(Set(b"k", b"v"),)), lambda _: None)


def test_h26_a_refused_command_stops_nobody(net):
    """A refusal is a value: the next command is applied as if nothing had happened."""
    from replcache.statemachine.commands import Update
    from replcache.statemachine.results import Refusal

    net.elect("a")
    refused: list[object] = []
    net.nodes["a"].engine.submit(Command(ops=(Update(b"missing", replace=b"v"),)), refused.append)
    _, outcome = submit(net, "a", b"k")
    net.advance(0.5)
    assert isinstance(refused[0][0], Refusal)
    assert isinstance(outcome[0][0], SetResult)
    assert len({node.engine.machine.digest() for node in net.nodes.values()}) == 1
