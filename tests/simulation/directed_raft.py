"""Directed schedules for elections, log and commit: what chance finds slowly or never.

Each script ends well on the product and raises Violation (or is caught by an oracle) with the bug that it is
written for. Nodes are n1..n5; terms start at 1 with n1's election.
"""

from dataclasses import replace
from typing import Any

from replcache.errors import NotApplied
from replcache.raft.messages import (
    ENTRY_NO_OP,
    Append,
    AppendReply,
    Forward,
    ForwardRefused,
    Heartbeat,
    PreVoteReply,
    RequestVote,
    VoteReply,
)
from replcache.statemachine.commands import Command, Increment
from tests.simulation.stage import Stage


def _has_no_op(message: Any, term: int) -> bool:
    """An Append that carries the no-op of this term."""
    entries = message.entries if isinstance(message, Append) else ()
    return any(entry.kind == ENTRY_NO_OP and entry.term == term for entry in entries)


def figure_8() -> None:
    """Raft paper, figure 8: an entry of an older term on a majority is not committed yet."""
    stage = Stage(5, append_bytes_max=1, appends_in_flight_max=1)
    stage.elect("n1")
    stage.run(0.3)
    for other in ("n3", "n4", "n5"):
        stage.hold("n1", other, Append)
    stage.write("n1", b"x")  # index 2 of term 1, on n1 and n2
    stage.run(0.05)
    stage.crash("n1")
    stage.release_all()
    for other in ("n1", "n2", "n3", "n4"):
        stage.hold("n5", other, Append)
    stage.elect("n5")  # term 2; its no-op at index 2 stays with it
    stage.run(0.05)
    stage.crash("n5")
    stage.release_all()
    stage.restart("n1")
    stage.hold_if("n1", "n3", lambda m: _has_no_op(m, 3) and m.sequence > 1)
    stage.hold("n1", "n4", Append)
    stage.elect("n1")  # term 3; "x" reaches n3, so a majority has it; the no-op reaches n2 only
    stage.run(0.5)
    stage.crash("n1")
    stage.release_all()
    stage.restart("n5")
    stage.elect("n5")  # by n2, n3, n4: its last term is later than that of "x"
    stage.run(0.3)
    stage.restart("n1")
    stage.finish()


def _overwritten_tail() -> Stage:
    """n1 led term 1 and n2 acknowledged indexes 2..5 of it (replies held); n3 led term 2 and cut both; n1
    leads term 3 with a log up to index 3. Its Appends reach n4 only."""
    stage = Stage(5, append_bytes_max=1, appends_in_flight_max=8)
    stage.elect("n1")
    stage.run(0.3)
    for other in ("n3", "n4", "n5"):
        stage.hold("n1", other)
        stage.hold(other, "n1")
        stage.hold("n2", other)
        stage.hold(other, "n2")
    return stage


def _overwrite(stage: Stage) -> None:
    """The rest of _overwritten_tail, from n3's election on."""
    stage.hold("n3", "n4", Append)
    stage.hold("n3", "n5", Append)
    stage.campaign("n3")
    stage.run_while(lambda: not stage["n3"].engine.is_leader, 1.0, "n3 is elected")
    for one in ("n1", "n2"):
        stage.release("n3", one, deliver=False)
        stage.release(one, "n3", deliver=False)
    stage.run(1.5)
    stage.crash("n3")
    for one in ("n1", "n2"):
        for other in ("n4", "n5"):
            stage.release(one, other, deliver=False)
            stage.release(other, one, deliver=False)
    for other in ("n2", "n5"):
        stage.hold("n1", other, Append)
    stage.elect("n1")
    stage.run(0.3)


def stale_reply() -> None:
    """H2: replies of term 1 arrive in term 3 and must not count."""
    stage = _overwritten_tail()
    stage.hold("n2", "n1", AppendReply)
    for number in range(4):
        stage.write("n1", b"old%d" % number)
        stage.run(0.01)
    replies = list(stage.held("n2", "n1"))
    stage.release("n2", "n1", deliver=False)
    stage.acknowledged.clear()
    _overwrite(stage)
    stage.write("n1", b"first")
    stage.write("n1", b"second")
    stage.run(0.2)
    for reply in replies:
        stage.deliver("n2", "n1", reply)
    stage.run(0.05)
    stage.crash("n1")
    stage.crash("n4")
    stage.release_all()
    stage.restart("n3")
    stage.elect("n2")
    stage.run(0.3)
    for name in ("n1", "n4"):
        stage.restart(name)
    stage.finish()


def stale_match() -> None:
    """matchIndex of the leadership of term 1 is no news in term 3."""
    stage = _overwritten_tail()
    for number in range(4):
        stage.write("n1", b"old%d" % number)
        stage.run(0.01)
    _overwrite(stage)
    stage.write("n1", b"first")
    stage.write("n1", b"second")
    stage.run(0.3)
    stage.finish()


def duplicate_vote() -> None:
    """H7: one voter's answer twice is one vote."""
    stage = Stage(5)
    for other in ("n3", "n4", "n5"):
        stage.hold("n1", other, RequestVote)
    stage.campaign("n1")
    stage.run(0.1)
    term = stage["n1"].engine.term
    stage.deliver("n2", "n1", replace(VoteReply(term, granted=True)))
    for one in ("n1", "n2"):
        for other in ("n3", "n4", "n5"):
            stage.hold(one, other)
            stage.hold(other, one)
    stage.campaign("n3")
    stage.run(0.2)
    stage.finish()


def late_vote() -> None:
    """A vote of term 1 is none in term 2."""
    stage = Stage(5)
    for other in ("n4", "n5"):
        stage.hold(other, "n1", VoteReply)
    stage.hold("n1", "n3", RequestVote)
    stage.campaign("n1")  # n2, n4 and n5 vote for it in term 1; two of the answers are slow
    stage.run(0.1)
    for other in ("n2", "n4", "n5"):
        stage.hold("n1", other, RequestVote, Append, Heartbeat)
    stage.release("n1", "n3", deliver=False)
    stage.campaign("n1")  # term 2: only n3 hears of it
    stage.run(0.1)
    for other in ("n2", "n4", "n5"):
        stage.hold("n1", other)
    stage.hold("n3", "n4")
    stage.campaign("n4")  # n2 and n5 vote in term 2
    stage.run(0.1)
    stage.finish()


def longer_but_older_log() -> None:
    """5.4.1: the last term decides before the length."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.2)
    stage.hold_between("1", "23")
    for number in range(5):
        stage.write("n1", b"alone%d" % number)
        stage.run(0.02)  # an entry for each
    stage.elect("n2")
    stage.write("n2", b"kept")
    stage.run(0.3)
    stage.crash("n2")
    stage.release_all()
    for _ in range(3):  # it learns of the newer terms first
        stage.campaign("n1")
        stage.run(0.3)
    stage.campaign("n3")
    stage.run(0.3)
    stage.restart("n2")
    stage.finish()


def vote_lost_at_a_power_cut() -> None:
    """H8: a vote leaves only when a power cut can't take it back."""
    stage = Stage(3)
    stage.hold_disk("n2")
    for kind in (RequestVote, Append):
        stage.hold("n1", "n3", kind)
    stage.hold("n1", "n3")
    stage.release("n1", "n3", deliver=False)
    stage.hold_if("n1", "n3", lambda m: not type(m).__name__.startswith("PreVote"))
    stage.campaign("n1")
    stage.run(0.2)  # n2 has voted, in memory
    stage.crash("n2", power=True)
    stage.release_disk("n2")
    stage.hold_between("1", "23")
    stage.restart("n2")
    stage.run(0.1)
    stage.campaign("n3")
    stage.run(0.2)
    stage.finish()


def vote_forgotten() -> None:
    """H8: a restart remembers the vote; n3's PreVote was granted before."""
    stage = Stage(3)
    stage.hold("n2", "n3", PreVoteReply)
    stage.hold("n1", "n3")
    stage.hold("n3", "n1")
    stage.hold("n1", "n2", Append)
    stage.campaign("n3")
    stage.run(0.05)
    stage.calm("n3")
    answers = list(stage.held("n2", "n3"))
    stage.campaign("n1")
    stage.run(0.2)
    stage.crash("n2")
    stage.hold_between("1", "2")
    stage.restart("n2")
    stage.run(0.1)
    for answer in answers:
        stage.deliver("n2", "n3", answer)
    stage.run(0.2)
    stage.finish()


def divergent_tail() -> None:
    """H3: an Append that verifies one entry commits no more, whatever follows it in the log.

    The first Append to the returning n1 is lost, so that a leader that starts over sends it what it has.
    """
    stage = Stage(3, append_bytes_max=1)
    stage.elect("n1")
    for number in range(2):
        stage.write("n1", b"common%d" % number)
        stage.run(0.05)
    stage.run(0.2)
    stage.hold_between("1", "23")
    for number in range(4):
        stage.write("n1", b"alone%d" % number)
        stage.run(0.01)
    stage.elect("n2")
    for number in range(3):
        stage.write("n2", b"kept%d" % number)
        stage.run(0.05)
    stage.hold("n2", "n1", Append)
    stage.release("n1", "n2", deliver=False)
    stage.run(0.8)
    stage.release_all()
    stage.run(2.0)
    stage.crash("n1")  # what was cut off stays cut off
    stage.restart("n1")
    stage.finish()


def resends() -> None:
    """Answers in another order: match and next index only ever move forward."""
    stage = Stage(3, append_bytes_max=1)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold("n2", "n1", AppendReply)
    stage.hold("n3", "n1", AppendReply)
    for number in range(6):
        stage.write("n1", b"k%d" % number)
        stage.run(0.01)
    answers = list(stage.held("n2", "n1"))
    stage.release("n2", "n1", deliver=False)
    for answer in reversed(answers):
        stage.deliver("n2", "n1", answer)
    match = stage["n1"].engine.leadership.progress["n2"].match
    last = stage["n1"].storage.wal.last_index
    stage.expect(match == last, "match goes back", f"match {match} after answers up to {last}")
    stage.finish()


# --- elections and liveness ------------------------------------------------------------------------------


def _own_timers(stage: Stage) -> None:
    """From now on everybody's election timeout runs."""
    for name in stage.names:
        if stage.world.process(name) is not None:
            stage[name].engine.set_election_deadline()


def returning_node() -> None:
    """H19: a node that was cut off comes back without an election."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    term = stage["n1"].engine.term
    stage.hold_between("3", "12")
    _own_timers(stage)
    stage.run(5.0)
    stage.release_all()
    stage.run(2.0)
    now = stage["n1"].engine
    stage.expect(now.is_leader and now.term == term, "needless election", f"term {term} -> {now.term}")
    stage.finish()


def cut_off_leader() -> None:
    """H18: a leader without a majority steps down within an election timeout."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("1", "23")
    took = stage.run_while(lambda: stage["n1"].engine.is_leader, 5.0, "the cut-off leader steps down")
    stage.expect(took < 1.5, "too slow", f"the cut-off leader stepped down after {took:.1f} s")
    stage.finish()


def stale_leader() -> None:
    """H20: whoever hears a leader of an earlier term tells it at once."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("1", "23")
    stage.elect("n2")
    stage.run(0.05)
    stage.release("n1", "n3", deliver=False)
    stage.release("n3", "n1", deliver=False)
    took = stage.run_while(lambda: stage["n1"].engine.is_leader, 2.0, "the stale leader learns of it")
    stage.expect(took < 0.3, "too slow", f"the stale leader was told after {took:.2f} s")
    stage.finish()


def stepping_down() -> None:
    """H21: a deposed leader waits for an election timeout before it campaigns."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(3.0)
    engine = stage["n1"].engine
    engine.election_deadline = 0.0  # a leader's is as old as its election
    stage.deliver("n2", "n1", AppendReply(term=engine.term + 1))
    wait = engine.election_deadline - engine.clock.now()
    stage.expect(
        not engine.is_leader and wait >= engine.config.election_min_s - 0.1,
        "campaigns at once",
        f"a deposed leader campaigns again in {wait:.2f} s",
    )
    stage.finish()


def long_divergent_tail() -> None:
    """H22: a follower with a long tail of its own is brought back in a few round trips."""
    stage = Stage(3, delay_s=0.01)
    stage.elect("n1")
    stage.run(0.5)
    stage.hold_between("1", "23")
    for number in range(200):
        stage.write("n1", b"alone%d" % number)
        stage.run(0.002)
    stage.elect("n2")
    for number in range(200):
        stage.write("n2", b"kept%d" % number)
        stage.run(0.002)
    stage.run(0.5)
    stage.crash("n2")
    stage.restart("n2")
    stage.elect("n3")  # starts with its own end as the next index of all
    stage.run(0.5)
    stage.release_all()
    wal = stage["n1"].storage.wal
    took = stage.run_while(
        lambda: (
            wal.last_index != stage["n3"].storage.wal.last_index or wal.last_term != stage["n3"].engine.term
        ),
        6.0,
        "the old leader has the log of the new one",
    )
    stage.expect(took < 2.0, "too slow", f"200 entries of divergent log took {took:.1f} s")
    stage.finish()


def forwarded_and_lost() -> None:
    """H24: a forwarded command that was lost with its connection is sent again."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold("n2", "n1", Forward)
    outcome = stage.command("n2", Command(ops=(Increment(b"counter", 1),)))
    stage.run(0.05)
    stage.release("n2", "n1", deliver=False)
    stage.world.network.reset("n2", "n1")
    stage.run_while(lambda: not outcome, 4.0, "the command that was lost is answered")
    stage.finish()


def given_up_in_company() -> None:
    """H17: a command is not "certainly not applied" while others wait for the group that it is in."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold("n2", "n1", Forward)
    impatient = stage.command("n2", Command(ops=(Increment(b"impatient", 1),)), timeout_s=0.3)
    patient = stage.command("n2", Command(ops=(Increment(b"patient", 1),)))
    stage.run(0.05)
    sent = stage.held("n2", "n1")[0]
    stage.release("n2", "n1", deliver=False)
    stage.hold_between("2", "13")
    engine = stage["n2"].engine
    engine.election_deadline = engine.clock.now()  # it has lost its leader, so nothing is sent again yet
    stage.run(0.05)
    stage.deliver("n1", "n2", ForwardRefused(sent.sequence, sent.boot, "leadership was lost", sent.attempt))
    stage.run(0.3)
    stage.release_all()
    stage.run_while(lambda: not patient, 3.0, "the other command is answered")
    executed = stage["n2"].machine.peek(b"impatient") is not None
    stage.expect(
        not (executed and isinstance(impatient[0], NotApplied)),
        "never applied",
        f"{impatient[0]!r}, but it was executed",
    )
    stage.finish()


def refused_and_late() -> None:
    """H17: what a node refused because it did not lead, it refuses also when it leads: a late second copy."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold("n2", "n1", Forward)
    outcome = stage.command("n2", Command(ops=(Increment(b"refused", 1),)), timeout_s=0.5)
    stage.run(0.05)
    sent = stage.held("n2", "n1")[0]
    stage.release("n2", "n1", deliver=False)
    stage.hold_between("2", "13")
    stage.crash("n1")
    stage.restart("n1")
    stage.elect("n3")
    engine = stage["n2"].engine
    engine.election_deadline = engine.clock.now()  # it has lost its leader: nothing is sent again
    stage.run(0.05)
    stage.deliver("n2", "n1", sent)
    stage.run(0.05)
    refusal = next(message for message in stage.held("n1", "n2") if isinstance(message, ForwardRefused))
    stage.deliver("n1", "n2", refusal)
    stage.run_while(lambda: not outcome, 2.0, "the command ends")
    stage.crash("n3")
    stage.restart("n3")
    stage.elect("n1")
    stage.deliver("n2", "n1", sent)
    stage.run(0.3)
    executed = stage["n1"].machine.peek(b"refused") is not None
    stage.expect(
        not (executed and isinstance(outcome[0], NotApplied)),
        "never applied",
        f"{outcome[0]!r}, but it was executed",
    )
    stage.expect(isinstance(outcome[0], NotApplied), "not certain", f"{outcome[0]!r} after a refusal")
    stage.finish()


SCRIPTS = {
    "given up in company": given_up_in_company,
    "refused and late": refused_and_late,
    "figure 8": figure_8,
    "stale reply": stale_reply,
    "stale match": stale_match,
    "duplicate vote": duplicate_vote,
    "late vote": late_vote,
    "longer but older log": longer_but_older_log,
    "vote lost at a power cut": vote_lost_at_a_power_cut,
    "vote forgotten": vote_forgotten,
    "divergent tail": divergent_tail,
    "resends": resends,
    "returning node": returning_node,
    "cut-off leader": cut_off_leader,
    "stale leader": stale_leader,
    "stepping down": stepping_down,
    "long divergent tail": long_divergent_tail,
    "forwarded and lost": forwarded_and_lost,
}
