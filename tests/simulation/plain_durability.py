"""Scripts for what plain pysyncobj keeps and loses on disk: H8, H11, H12, H14, H27-H31."""

import gzip
import os
import pathlib
import pickle
import unittest.mock
from typing import Any

import pysyncobj.journal
import pysyncobj.serializer
from pysyncobj.journal import FileJournal

from tests.simulation.plain import Evidence, PlainCluster


def show_h8(directory: pathlib.Path) -> Evidence:
    """Memory journal: a restart forgets the vote (two leaders in a term) and the log (a write is lost)."""
    votes, log = directory / "votes", directory / "log"
    votes.mkdir()
    log.mkdir()
    with PlainCluster(votes, journal=False) as cluster:
        cluster.isolate("c")
        cluster.elect("a", "b")
        cluster.crash("b")
        cluster.restart("b", connect=False)
        cluster.connect("b", "c")
        cluster.elect("c", "b")
        terms = {n: cluster[n].raftCurrentTerm for n in cluster.leaders()}
    with PlainCluster(log, journal=False) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.hold("a", "c")
        cluster.write("a", "value")
        cluster.run(1.0, only="ab")
        acknowledged = cluster.acknowledged()
        cluster.crash("b")
        cluster.restart("b", connect=False)
        cluster.isolate("a")
        cluster.release("a", "c")
        cluster.connect("b", "c")
        cluster.run(10.0, only="bc")
        cluster.settle()
        lost = cluster.lost()
    return Evidence(
        "H8",
        len(terms) == 2 and len(set(terms.values())) == 1 and bool(lost),
        "a restarted node has forgotten what it promised",
        {"leaders_of_one_term": terms, "acknowledged": acknowledged, "lost": lost},
    )


def show_h11(directory: pathlib.Path) -> Evidence:
    """A crash between the rename of a dump and the trim of the journal throws the journal's tail away."""
    with PlainCluster(directory, dump=True) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for number in range(5):
            cluster.write("a", f"old{number}")
        cluster.run(1.0)
        cluster.hold("a", "c")
        for number in range(3):
            cluster.write("a", f"new{number}")
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")
        cluster.deliver("a", "b")
        cluster["b"].forceLogCompaction()
        # The dump of what b has applied is in place; the trim would come with b's next tick.
        cluster.tick("b")
        cluster.deliver("b", "a")
        cluster.tick("a")
        before = cluster["b"].log()[-1][0]
        acknowledged = cluster.acknowledged()
        cluster.crash("b")
        cluster.restart("b", connect=False)
        cluster.tick("b")
        after = cluster["b"].log()[-1][0]
        cluster.isolate("a")
        cluster.connect("b", "c")
        cluster.run(10.0, only="bc")
        return Evidence(
            "H11",
            bool(cluster.lost_among("bc")),
            "a restart drops acknowledged entries from a journal that has them",
            {"acknowledged": acknowledged, "lost": cluster.lost_among("bc"), "log_end": (before, after)},
        )


class _Child:
    """A dump process whose end the script decides: the library's fork without a process."""

    def __init__(self) -> None:
        self.data = b""
        self.path = ""
        self.done = False
        self._serialize = pysyncobj.serializer.Serializer.serialize

    def serialize(self, serializer: Any, data: Any, index: int) -> None:
        # What the child would see: the memory as it is now.
        self.data = gzip.compress(pickle.dumps(data))
        self.path = serializer._Serializer__fileName
        self._serialize(serializer, data, index)

    def finish(self) -> None:
        pathlib.Path(self.path + ".tmp").write_bytes(self.data)
        pathlib.Path(self.path + ".tmp").rename(self.path)
        self.done = True

    def wait(self, pid: int, _flags: int) -> tuple[int, int]:
        return (pid, 0) if self.done else (0, 0)


def show_h12(directory: pathlib.Path) -> Evidence:
    """A forked dump ends after a snapshot was installed: the older dump replaces the newer file."""
    child = _Child()
    with PlainCluster(directory, dump=True) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for number in range(5):
            cluster.write("a", number)
        cluster.run(1.0)
        cluster.crash("c")
        cluster.options["useFork"] = True
        cluster.restart("c")
        cluster.options["useFork"] = False
        cluster.run(1.0)
        with (
            unittest.mock.patch.object(os, "fork", return_value=4711),
            unittest.mock.patch.object(os, "waitpid", child.wait),
            unittest.mock.patch.object(
                pysyncobj.serializer.Serializer, "serialize", lambda s, d, i: child.serialize(s, d, i)
            ),
        ):
            cluster["c"].forceLogCompaction()
            cluster.tick("c")  # the child starts
        with unittest.mock.patch.object(os, "waitpid", child.wait):
            cluster.isolate("c")
            for number in range(5, 18):
                cluster.write("a", number)
            cluster.run(1.0)
            cluster["a"].forceLogCompaction()
            cluster.run(1.0)
            cluster.connect("a", "c")
            cluster.run(2.0)
            before = cluster["c"].log()[-1][0]
            child.finish()
            cluster.run(1.0)
        cluster.crash("c")
        cluster.restart("c", connect=False)
        cluster.tick("c")
        after = cluster["c"].log()[-1][0]
        return Evidence(
            "H12",
            after < before,
            "an older dump replaces a newer snapshot, and the journal is cut to it",
            {"log_up_to_before_restart": before, "after_restart": after},
        )


def show_h14(directory: pathlib.Path) -> Evidence:
    """Journal file without dump file: compaction trims the journal, the snapshot lives in memory only."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for number in range(10):
            cluster.write("a", number)
        cluster.run(1.0)
        acknowledged = cluster.acknowledged()
        for name in "abc":
            cluster[name].forceLogCompaction()
        cluster.run(1.0)
        for name in "abc":
            cluster.crash(name)
        for name in "abc":
            cluster.restart(name)
        cluster.run(20.0)
        states = {n: cluster[n].items for n in "abc"}
        return Evidence(
            "H14",
            len(acknowledged) == 10 and not any(states.values()),
            "a restart of all nodes loses everything",
            {"acknowledged": len(acknowledged), "states": states},
        )


def show_h27(directory: pathlib.Path) -> Evidence:
    """Nothing is ever synced: a power cut of all nodes loses acknowledged writes."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for name in "abc":
            cluster.write_back(name)
        for number in range(10):
            cluster.write("a", number)
        cluster.run(1.0)
        for name in "abc":
            cluster.crash(name, power=True)
        for name in "abc":
            cluster.restart(name)
        cluster.run(10.0)
        return Evidence(
            "H27",
            len(cluster.lost()) == 10 and cluster.syncs == 0,
            "acknowledged before durable",
            {"acknowledged": 10, "lost": len(cluster.lost()), "syncs": cluster.syncs},
        )


class _KilledError(Exception):
    """The process is gone at this instruction."""


def show_h28(directory: pathlib.Path) -> Evidence:
    """kill -9 while the journal is rewritten (clear, then add again) loses entries."""
    with PlainCluster(directory, dump=True) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for number in range(10):
            cluster.write("a", number)
        cluster.run(1.0)
        cluster.hold("a", "c")
        cluster["b"].forceLogCompaction()
        cluster.tick("b")  # the dump is in place
        for number in range(10, 14):
            cluster.write("a", number)
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")
        cluster.deliver("a", "b")
        cluster.deliver("b", "a")
        cluster.tick("a")
        acknowledged = cluster.acknowledged()

        def killed(*_: object) -> None:
            raise _KilledError

        killed_in = ""
        with unittest.mock.patch.object(pysyncobj.journal.FileJournal, "add", killed):
            try:
                cluster.tick("b")  # trims the journal
            except _KilledError:
                killed_in = "deleteEntriesTo, before the first add"
        cluster.crash("b")
        cluster.restart("b", connect=False)
        cluster.tick("b")
        cluster.isolate("a")
        cluster.connect("b", "c")
        cluster.run(10.0, only="bc")
        return Evidence(
            "H28",
            bool(killed_in) and bool(cluster.lost_among("bc")),
            "the journal is cleared before it is written again",
            {
                "killed_in": killed_in,
                "acknowledged": len(acknowledged),
                "lost": cluster.lost_among("bc"),
            },
        )


def show_h29(directory: pathlib.Path) -> Evidence:
    """No checksum: a flipped bit is served, a torn meta file forgets term and vote, zeros stop the start."""
    facts: dict[str, Any] = {}
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.write("a", "VALUE-007")
        cluster.run(1.0)
        term = cluster["b"].raftCurrentTerm
        for name in "abc":
            cluster.crash(name)
        path = cluster.path("b", "journal")
        good = path.read_bytes()
        path.write_bytes(good.replace(b"VALUE-007", b"VALUE-006"))
        for name in "bc":
            cluster.restart(name)
        cluster.run(5.0, only="bc")
        facts["served_after_one_flipped_bit"] = cluster["b"].items
        for name in "bc":
            cluster.crash(name)
        path.write_bytes(good)
        meta = cluster.path("b", "journal.meta")
        meta.write_bytes(meta.read_bytes()[:-3])
        journal = FileJournal(str(path))
        facts["term_and_vote_after_torn_meta"] = (journal.getCurrentTerm(), journal.getVotedForNodeId())
        journal._destroy()
        path.write_bytes(good[:60] + bytes(len(good) - 60))
        try:
            FileJournal(str(path))
            facts["start_with_zeroed_tail"] = "accepted"
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the evidence
            facts["start_with_zeroed_tail"] = type(error).__name__
    return Evidence(
        "H29",
        facts["served_after_one_flipped_bit"] == ["VALUE-006"]
        and facts["term_and_vote_after_torn_meta"] == (0, None)
        and facts["start_with_zeroed_tail"] != "accepted",
        "damage is served as data, or forgets a vote, or is a crash",
        {"term_before": term, **facts},
    )


def show_h30(directory: pathlib.Path) -> Evidence:
    """A dump that can't be read is logged; the node starts empty and takes part."""
    with PlainCluster(directory, dump=True) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for number in range(5):
            cluster.write("a", number)
        cluster.run(1.0)
        for name in "abc":
            cluster[name].forceLogCompaction()
        cluster.run(1.0)
        for name in "abc":
            cluster.crash(name)
            dump = cluster.path(name, "dump")
            dump.write_bytes(dump.read_bytes()[:100])
        for name in "abc":
            cluster.restart(name)
        cluster.run(10.0)
        states = {n: cluster[n].items for n in "abc"}
        return Evidence(
            "H30",
            bool(cluster.leaders()) and not any(states.values()),
            "nodes that can't read their state start without it",
            {"leaders": cluster.leaders(), "states": states},
        )


def show_h31(directory: pathlib.Path) -> Evidence:
    """The saved commit index leads the journal after a power cut: uncommitted entries are applied."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.write_back("b")
        for number in range(6):
            cluster.write("a", number)
        cluster.run(2.0)
        meta = cluster.path("b", "journal.meta").read_bytes()
        cluster._durable["b"]["b.journal.meta"] = meta  # the small file reached the disk, the journal did not
        cluster.crash("b", power=True)
        cluster.crash("c")
        cluster.restart("b")
        commit = cluster["b"].raftCommitIndex
        end = cluster["b"].log()[-1][0]
        return Evidence(
            "H31",
            commit > end,
            "the node believes entries committed that it does not have",
            {"commit_index": commit, "log_end": end},
        )
