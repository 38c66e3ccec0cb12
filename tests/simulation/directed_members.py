"""Directed schedules for membership changes (H15) and lost disks."""

from typing import Any

from replcache.errors import NotApplied
from replcache.raft.messages import Append, SnapshotChunk
from replcache.raft.port import Member
from tests.simulation.stage import Stage


def _administer(stage: Stage, name: str, action: str, member: Member) -> list[Any]:
    outcome: list[Any] = []
    process = stage[name]
    process.run(process.administer, action, member, outcome.append)
    stage.run(0.05)
    return outcome


def _add_learner(stage: Stage, leader: str, name: str) -> None:
    stage.world.add_node(name)
    stage.calm(name)
    _administer(stage, leader, "add", Member(name, f"{name}:1", f"{name}:2"))
    stage.run(0.3)


def two_changes() -> None:
    """H15: a second change while the first is not committed could make two disjoint majorities."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("1", "23")
    for name in ("n4", "n5"):
        _add_learner(stage, "n1", name)
    for name in ("n4", "n5"):
        _administer(stage, "n1", "promote", Member(name, "", ""))
    stage.write("n1", b"here")
    stage.run(0.3)
    stage.hold_between("45", "23")
    stage.elect("n2")
    stage.write("n2", b"there")
    stage.run(0.3)
    stage.finish()


def cut_configuration() -> None:
    """A configuration entry that is cut off takes its configuration with it."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("1", "23")
    _administer(stage, "n1", "remove", Member("n3", "", ""))
    stage.elect("n2")
    stage.write("n2", b"k")
    stage.run(0.3)
    stage.release_all()
    stage.run(1.0)
    stage.finish()


def configuration_in_a_snapshot() -> None:
    """A snapshot holds the configuration of its index, not one that came behind it and was cut off later."""
    stage = Stage(3)
    stage.elect("n1")
    stage.write("n1", b"k")
    stage.run(0.3)
    stage.hold_between("1", "23")
    _administer(stage, "n1", "remove", Member("n3", "", ""))  # in the log, not committed
    process = stage["n1"]
    process.run(process.take_snapshot)
    stage.run(0.1)
    stage.elect("n2")
    stage.write("n2", b"l")
    stage.run(0.3)
    stage.crash("n1")
    stage.release_all()
    stage.restart("n1")
    stage.run(0.5)
    stage.finish()


def learner_counts() -> None:
    """Two learners and one voter of three are no majority."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    for name in ("n4", "n5"):
        _add_learner(stage, "n1", name)
    stage.hold_between("1", "23")
    stage.write("n1", b"k")
    stage.run(0.3)
    stage.finish()


def early_promotion() -> None:
    """A learner without the log is no voter yet, whoever asks for it."""
    stage = Stage(3)
    stage.elect("n1")
    for number in range(10):
        stage.write("n1", b"k%d" % number)
    stage.run(0.3)
    stage.hold("n1", "n4", Append, SnapshotChunk)
    _add_learner(stage, "n1", "n4")
    outcome = _administer(stage, "n1", "promote", Member("n4", "", ""))
    stage.expect(
        outcome and isinstance(outcome[0], NotApplied),
        "promoted too early",
        f"outcome {outcome} without any log",
    )
    stage.finish()


def removal_without_quorum() -> None:
    """n2 has lost its disk and is not back yet: removing n3 would leave nobody to elect a leader."""
    stage = Stage(3)
    stage.elect("n1")
    stage.write("n1", b"k")
    stage.run(0.3)
    stage.world.nodes["n2"].wipe()
    stage.restart("n2")
    _administer(stage, "n1", "remove", Member("n3", "", ""))
    stage.crash("n1")
    stage.restart("n1")
    stage.finish()


def lost_disk() -> None:
    """A member that lost its disk is taken in again, and counts for nothing that it had before."""
    stage = Stage(3)
    stage.elect("n1")
    for number in range(10):
        stage.write("n1", b"k%d" % number)
        stage.run(0.02)
    stage.world.nodes["n3"].wipe()
    stage.restart("n3")
    engine = stage["n3"].engine
    stage.run_while(lambda: "n3" not in engine.configurations.voters, 8.0, "the lost member votes again")
    stage.write("n1", b"after")
    stage.run(0.3)
    stage.finish()


def vote_from_an_empty_disk() -> None:
    """H8: n2 held a write with n1 and lost its disk. It can't make n3, which lacks the write, the leader."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("3", "12")
    stage.write("n1", b"kept")
    stage.run(0.2)
    stage.world.nodes["n2"].wipe()
    stage.crash("n1")
    stage.release_all()
    stage.restart("n2")
    stage.run(0.2)
    for _ in range(3):
        stage.campaign("n3")
        stage.run(0.3)
    stage.restart("n1")
    stage.finish()


def configuration_behind_a_snapshot() -> None:
    """A snapshot that replaces the log takes away the configurations that came behind it in that log."""
    stage = Stage(3, log_kept_entries=0)
    stage.elect("n1")
    stage.write("n1", b"k")
    stage.run(0.3)
    stage.hold_between("1", "23")
    for number in range(8):
        stage.write("n1", b"lost%d" % number)
        stage.run(0.02)
    _administer(stage, "n1", "remove", Member("n3", "", ""))  # far behind the snapshot that n2 will send
    stage.elect("n2")
    stage.write("n2", b"l")
    stage.run(0.3)
    process = stage["n2"]
    process.run(process.take_snapshot)
    stage.run(0.1)
    stage.release_all()
    stage.run(1.0)
    installed = stage["n1"].engine.snapshots_in.installed_count
    stage.expect(installed == 1, "no snapshot", f"n1 installed {installed} snapshots")
    stage.finish()


def removal_of_the_leader_is_cut_short() -> None:
    """Only n2 has the entry that removes it, so only n2 can win: it must campaign (dissertation 4.2.2)."""
    stage = Stage(3)
    stage.elect("n2")
    stage.run(0.3)
    _administer(stage, "n2", "remove", Member("n1", "", ""))
    stage.run(0.3)
    stage.hold_between("2", "3")
    _administer(stage, "n2", "remove", Member("n2", "", ""))
    stage.run(0.1)
    stage.crash("n2")
    stage.restart("n2")
    stage.finish()


def counted_after_its_disk() -> None:
    """n2 held the write and is back without its disk: n1 and n3 alone are no majority of five."""
    stage = Stage(5)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("1", "345")
    stage.write("n1", b"k")
    stage.run(0.1)
    stage.world.nodes["n2"].wipe()
    stage.restart("n2")
    stage.run(0.05)
    stage.release("n1", "n3")
    stage.release("n3", "n1")
    stage.run(0.2)
    stage.finish()


def promotion_while_voters_are_away() -> None:
    """n2 is back without its disk and has caught up just when three of the five others went away: the leader
    can't let it vote yet, and goes on; it does when they are back."""
    stage = Stage(5)
    stage.elect("n1")
    stage.run(0.3)
    stage.world.nodes["n2"].wipe()
    stage.restart("n2")
    stage.hold_if("n1", "n2", lambda message: isinstance(message, Append) and bool(message.entries))
    leader = stage["n1"].engine
    stage.run_while(lambda: "n2" in leader.configurations.voters, 8.0, "n2 is taken in as a learner")
    for name in ("n3", "n4", "n5"):
        stage.crash(name)
    stage.release("n1", "n2")
    stage.run(0.3)
    for name in ("n3", "n4", "n5"):
        stage.restart(name)
    stage.run_while(
        lambda: "n2" not in stage["n3"].engine.configurations.voters, 8.0, "n2 votes again after a while"
    )
    stage.finish()


def voter_that_missed_the_candidate() -> None:
    """n3 missed that n4 came in, n1 has lost its disk, and only n4 can win: n3 must vote for it."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("3", "12")
    stage.world.add_node("n4")
    stage.calm("n4")
    stage.hold_between("3", "4")
    _administer(stage, "n1", "add", Member("n4", "n4:1", "n4:2"))
    stage.run(0.3)
    _administer(stage, "n1", "promote", Member("n4", "", ""))
    stage.run(0.3)
    stage.hold("n1", "n2")
    stage.write("n1", b"k")
    stage.run(0.1)
    stage.world.nodes["n1"].wipe()
    stage.restart("n1")
    stage.finish()


SCRIPTS = {
    "promotion while voters are away": promotion_while_voters_are_away,
    "lost disk": lost_disk,
    "voter that missed the candidate": voter_that_missed_the_candidate,
    "counted after its disk": counted_after_its_disk,
    "configuration behind a snapshot": configuration_behind_a_snapshot,
    "removal of the leader is cut short": removal_of_the_leader_is_cut_short,
    "vote from an empty disk": vote_from_an_empty_disk,
    "two changes": two_changes,
    "cut configuration": cut_configuration,
    "configuration in a snapshot": configuration_in_a_snapshot,
    "learner counts": learner_counts,
    "early promotion": early_promotion,
    "removal without quorum": removal_without_quorum,
}
