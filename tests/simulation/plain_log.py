"""Scripts for the log and commit hazards H1-H7, H9, H10, H13, H15 on plain pysyncobj.

Each function plays one schedule and returns what was broken. The numbers are those of docs/hazards.md.
"""

import pathlib

from pysyncobj.node import Node

from tests.simulation.plain import Evidence, PlainCluster, entries_of, iterate_until


def show_h1(directory: pathlib.Path) -> Evidence:
    """A benign resend deletes matching entries; the leader dies in the middle of it.

    The early acknowledgement of the first message takes nextIndex back, so the leader sends the rest again.
    """
    with PlainCluster(directory, appendEntriesBatchSizeBytes=300) as cluster:
        a = cluster["a"]
        cluster.elect("a", ["b", "c"])
        cluster.run(1.0)
        cluster.hold("a", "c")
        for number in range(6):
            cluster.write("a", number, padding=200)
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")  # sends the six writes in several messages
        cluster.deliver("a", "b")
        cluster.deliver("b", "a", 1)  # the answer to the first of them moves nextIndex back ...
        cluster.pass_time(0.2)
        cluster.tick("a")  # ... so that the rest goes out again
        cluster.deliver("b", "a")
        cluster.pass_time(0.01)
        cluster.tick("a")  # all six have a majority now
        acknowledged = cluster.acknowledged()
        resent = cluster.pending("a", "b")
        before = cluster["b"].log()[-1][0]
        cluster.deliver("a", "b", 1)
        after = cluster["b"].log()[-1][0]
        cluster.crash("a")
        cluster.run(10.0)
        return Evidence(
            "H1",
            bool(cluster.lost()),
            "a resend of entries that the follower has deletes acknowledged ones",
            {
                "acknowledged": acknowledged,
                "lost": cluster.lost(),
                "resent": len(resent),
                "follower_log": (before, after),
                "leader_was": a.name,
            },
        )


def show_h2(directory: pathlib.Path) -> Evidence:
    """A reply of an earlier term counts for matchIndex: two writes acknowledged that 2 of 5 hold."""
    with PlainCluster(directory, "abcde") as cluster:
        cluster.elect("a", "bcde")
        cluster.run(1.0)
        for other in "cde":
            cluster.hold("a", other)
        for number in range(8):
            cluster.write("a", f"old{number}")
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")
        cluster.deliver("a", "b")
        cluster.hold("b", "a")  # "I have everything up to 10", under way for a long time
        cluster.isolate("d", "e")
        cluster.connect("c", "d")
        cluster.connect("c", "e")
        for other in "de":
            cluster.links["c", other].clear()
        cluster.elect("c", "de")  # term 2; its no-op reaches only a and b, whose tails go
        cluster.hold("c", "d")
        cluster.hold("c", "e")
        cluster.pass_time(0.2)
        cluster.tick("c")
        for _ in range(3):  # nextIndex of a and b walks back to where the logs meet
            for other in "ab":
                cluster.deliver("c", other)
            cluster.deliver("a", "c")
            while len(cluster.pending("b", "c")):
                cluster.deliver("b", "c")
            cluster.pass_time(0.2)
            cluster.tick("c")
        cluster.crash("c")
        for other in "de":
            cluster.connect("a", other)
            cluster.connect("b", other)
            cluster.release("a", other)
            cluster.links["a", other].clear()
        cluster.pass_time(3.0)
        for _ in iterate_until(10):
            if cluster["a"].is_leader():
                break
            cluster.pass_time(2.0)
            cluster.tick("a")
            for other in "de":
                cluster.deliver("a", other)
                cluster.deliver(other, "a")
        cluster.write("a", "first")
        cluster.write("a", "second")
        cluster.tick("a")
        cluster.hold("a", "e")
        cluster.hold("a", "b")
        for _ in range(4):
            cluster.pass_time(0.2)
            cluster.tick("a")
            cluster.deliver("a", "d")
            cluster.deliver("d", "a")
        cluster.deliver("b", "a", 1)  # the reply of term 1
        stale = cluster["a"].match_index("b")
        cluster.pass_time(0.01)
        cluster.tick("a")
        acknowledged = [v for v in cluster.acknowledged() if v in ("first", "second")]
        index = cluster["a"].log()[-1]
        holders = [n for n in sorted(cluster.nodes) if index in cluster[n].log()]
        return Evidence(
            "H2",
            bool(acknowledged) and len(holders) * 2 < 5,
            "a reply of an earlier term makes a commit without quorum",
            {"acknowledged": acknowledged, "holders": holders, "match_index_of_b": stale},
        )


def _divergent_old_leader(cluster: PlainCluster, writes: int, others: str = "bc") -> list[object]:
    """a was leader and holds `writes` entries that nobody else has; the others went on and compacted."""
    cluster.elect("a", others)
    cluster.run(1.0)
    cluster.isolate("a")
    values: list[object] = [f"never{number}" for number in range(writes)]
    for value in values:
        cluster.write("a", value)
    cluster.tick("a")
    cluster.run(5.0, only=others)
    leader = next(n for n in cluster.leaders() if n != "a")
    for number in range(writes + 4):
        cluster.write(leader, f"real{number}")
    cluster.run(1.0, only=others)
    cluster[leader].forceLogCompaction()
    cluster.run(1.0, only=others)
    return values


def show_h3(directory: pathlib.Path) -> Evidence:
    """The first chunk of a snapshot makes a returning old leader commit its own, unverified entries."""
    with PlainCluster(directory) as cluster:
        values = _divergent_old_leader(cluster, 6)
        leader = next(n for n in cluster.leaders() if n != "a")
        cluster.connect("a", leader)
        cluster.hold("a", "b")
        cluster.hold("a", "c")
        for _ in iterate_until(50):
            cluster.pass_time(0.2)
            cluster.tick(leader)
            if any("serialized" in m for m in cluster.pending(leader, "a")):
                break
            cluster.deliver(leader, "a")
            cluster.deliver("a", leader)
        while "serialized" not in cluster.pending(leader, "a")[0]:
            cluster.deliver(leader, "a", 1)
        cluster.deliver(leader, "a", 1)  # the first chunk only
        cluster.tick("a")
        false_acknowledgements = [v for v in cluster.acknowledged() if v in values]
        cluster.held.clear()
        cluster.settle()
        return Evidence(
            "H3",
            bool(false_acknowledgements) and bool(cluster.lost()),
            "a snapshot chunk commits entries that nobody verified",
            {"acknowledged": false_acknowledgements, "lost": cluster.lost()},
        )


def show_h4(directory: pathlib.Path) -> Evidence:
    """A second refusal, answered late, sends an older snapshot over a newer state; then one crash."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.isolate("b")
        for number in range(5):
            cluster.write("a", number)
        cluster.run(1.0, only="ac")
        cluster.hold("a", "c")
        cluster.elect("c", "a")
        cluster.release("a", "c")
        cluster.run(0.5, only="ac")
        cluster.connect("b", "c")
        for _ in range(2):  # two heartbeats reach b before its first refusal is read
            cluster.pass_time(0.2)
            cluster.tick("c")
            cluster.deliver("c", "b")
            cluster.deliver("c", "a")
            cluster.deliver("a", "c")
        cluster.deliver("b", "c", 1)
        cluster.hold("c", "a")
        cluster.write("c", "first")
        cluster.write("c", "second")
        cluster["c"].forceLogCompaction()
        cluster.pass_time(0.01)
        cluster.tick("c")  # appends both, and takes a snapshot of what is applied so far
        cluster.pass_time(0.2)
        cluster.tick("c")  # sends everything from b's index on; the log is trimmed
        cluster.deliver("c", "b")
        cluster.tick("b")
        applied_before = len(cluster["b"].items)
        cluster.deliver("b", "c", 1)  # the second refusal
        cluster.pass_time(0.2)
        cluster.tick("c")  # so b is sent the snapshot
        cluster.deliver("b", "c")
        cluster.tick("c")
        acknowledged = cluster.acknowledged()
        while cluster["b"].log()[-1][0] > 8:  # the snapshot arrives; what the leader sends after it does not
            cluster.deliver("c", "b", 1)
        applied_after = len(cluster["b"].items)
        cluster.crash("c")
        cluster.connect("a", "b")
        cluster.run(10.0)
        return Evidence(
            "H4",
            bool(cluster.lost()),
            "an older snapshot takes back acknowledged state",
            {
                "acknowledged": acknowledged,
                "lost": cluster.lost(),
                "items_of_b": (applied_before, applied_after),
            },
        )


def show_h5(directory: pathlib.Path) -> Evidence:
    """A snapshot that can't be loaded is answered with success and the own, divergent, last index."""
    with PlainCluster(directory) as cluster:
        _divergent_old_leader(cluster, 30)
        leader = next(n for n in cluster.leaders() if n != "a")
        cluster.connect("a", leader)
        for _ in iterate_until(200):
            cluster.pass_time(0.2)
            cluster.tick(leader)
            for message in cluster.pending(leader, "a"):
                if message.get("serialized"):
                    data, first, last = message["serialized"]
                    message["serialized"] = (data[:-20], first, last)
            if any(m.get("serialized") for m in cluster.pending(leader, "a")):
                break
            cluster.deliver(leader, "a")
            cluster.deliver("a", leader)
        last = cluster["a"].log()[-1]
        cluster.deliver(leader, "a")
        cluster.deliver("a", leader)
        match = cluster[leader].match_index("a")
        common = [e for e in cluster["a"].log() if e in cluster[leader].log()]
        held = max((index for index, _ in common), default=0)
        return Evidence(
            "H5",
            match > held,
            "a follower is counted as holding entries that it refused to load",
            {"match_index": match, "really_common": held, "last_of_follower": last},
        )


def show_h6(directory: pathlib.Path) -> Evidence:
    """A split entry: its end is computed from another length, and its start may be missing."""
    raised = []
    for size in range(900, 950):
        place = directory / str(size)
        place.mkdir()
        with PlainCluster(place, journal=False, appendEntriesBatchSizeBytes=100) as cluster:
            cluster.elect("a", "bc")
            cluster.run(0.5)
            cluster.write("a", "big", padding=size)
            cluster.run(0.5)
            if cluster.errors:
                raised.append(size)
    missing = directory / "missing"
    missing.mkdir()
    with PlainCluster(missing, journal=False, appendEntriesBatchSizeBytes=100) as cluster:
        cluster.elect("a", "bc")
        cluster.run(0.5)
        cluster.write("a", "big", padding=900)
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")
        cluster.deliver("a", "b", 1)
        last = cluster.pending("a", "b")[-1]
        cluster.reconnect("a", "b")  # the middle is lost with the connection
        try:
            cluster.replay("a", "b", last)
            first_lost = "accepted"
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the evidence
            first_lost = type(error).__name__
    return Evidence(
        "H6",
        bool(raised) and first_lost != "accepted",
        "parts of an entry are put together without offset or owner",
        {"sizes_tried": 50, "sizes_that_raise": len(raised), "part_lost": first_lost},
    )


def show_h7(directory: pathlib.Path) -> Evidence:
    """One voter's vote counted twice (its reply is replayed): two leaders in one term of five nodes."""
    with PlainCluster(directory, "abcde") as cluster:
        cluster.pass_time(2.0)
        cluster.tick("a")
        cluster.deliver("a", "b")
        vote = cluster.pending("b", "a")[0]
        cluster.deliver("b", "a")
        cluster.isolate("a", "b")
        cluster.tick("c")
        for voter in "de":
            cluster.deliver("c", voter)
            cluster.deliver(voter, "c")
        cluster.replay("b", "a", vote)
        leaders = cluster.leaders()
        terms = {n: cluster[n].raftCurrentTerm for n in leaders}
        return Evidence(
            "H7",
            len(leaders) == 2 and len(set(terms.values())) == 1,
            "votes are counted by number, not by voter",
            {"leaders": terms},
        )


def show_h9(directory: pathlib.Path) -> Evidence:
    """Data of the old connection is read after the new one is up: three acknowledged writes lost."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.hold("a", "c")
        cluster.write("a", "early")
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")
        old = cluster.pending("a", "b")[-1]  # in b's receive buffer when the connection breaks
        cluster.reconnect("a", "b")
        for number in range(3):
            cluster.write("a", f"late{number}")
        cluster.run(1.0, only="ab")
        acknowledged = cluster.acknowledged()
        cluster.replay("a", "b", old)
        cluster.crash("a")
        cluster.run(10.0)
        return Evidence(
            "H9",
            bool(cluster.lost()),
            "late data of an old connection deletes acknowledged entries",
            {"acknowledged": acknowledged, "lost": cluster.lost(), "late_data": entries_of(old)},
        )


def show_h10(directory: pathlib.Path) -> Evidence:
    """The leader counts itself before its own log is durable: one power cut loses the majority."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.write_back("a")
        cluster.write_back("c")
        cluster.hold("a", "c")
        cluster.write("a", "value")
        cluster.run(1.0, only="ab")
        cluster.write_back("b")  # the follower is lucky: its copy is on the disk
        acknowledged = cluster.acknowledged()
        cluster.release("a", "c")
        cluster.crash("a", power=True)
        cluster.isolate("b")
        cluster.restart("a", connect=False)
        cluster.connect("a", "c")
        cluster.run(10.0, only="ac")
        return Evidence(
            "H10",
            bool(cluster.lost()),
            "the leader's own copy counted while only memory held it",
            {"acknowledged": acknowledged, "lost": cluster.lost(), "syncs": cluster.syncs},
        )


def show_h13(directory: pathlib.Path) -> Evidence:
    """The log is cut below the snapshot that is being taken: trimming empties it, every tick raises."""
    with PlainCluster(directory, appendEntriesBatchSizeBytes=300) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        for number in range(6):
            cluster.write("a", number, padding=200)
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.tick("a")
        cluster.deliver("a", "b")
        cluster.deliver("b", "a", 1)
        cluster.pass_time(0.2)
        cluster.tick("a")  # the resend of H1
        resend = cluster.pending("a", "b")
        cluster.deliver("b", "a")
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.links["a", "b"].clear()
        cluster.tick("a")
        cluster.deliver("a", "b")
        cluster.tick("b")
        cluster["b"].forceLogCompaction()
        cluster.tick("b")  # snapshot of index 8 taken; trimmed at the next tick
        cluster.replay("a", "b", resend[0])
        cluster.run(10.0)
        raised = [type(error).__name__ for name, error in cluster.errors if name == "b"]
        return Evidence(
            "H13",
            raised.count("IndexError") > 20,
            "trimming beyond the end of the log empties it; the node is dead for good",
            {"exceptions_in_10_s": len(raised), "log_entries": len(cluster["b"].inner("raftLog"))},
        )


def show_h15(directory: pathlib.Path) -> Evidence:
    """Two uncommitted membership changes at once: two disjoint majorities, both acknowledge."""
    with PlainCluster(directory, dynamicMembershipChange=True) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.isolate("a")
        for name in "de":
            cluster.start(name, connect=False, members="abcde")
            cluster.connect("a", name)
        cluster.connect("d", "e")
        answers: list[tuple[object, int]] = []
        for name in "de":
            cluster["a"].addNodeToCluster(Node(name), callback=lambda r, e: answers.append((r, e)))
        cluster.tick("a")
        cluster.pass_time(0.2)
        cluster.run(3.0)
        leaders = cluster.leaders()
        for name in leaders:
            cluster.write(name, f"by {name}")
        cluster.run(2.0)
        acknowledged = cluster.acknowledged()
        both = {n: cluster[n].items for n in sorted(cluster.nodes)}
        return Evidence(
            "H15",
            len(leaders) == 2 and len(acknowledged) == 2,
            "two changes under way at once make two disjoint majorities",
            {"leaders": leaders, "acknowledged": acknowledged, "states": both},
        )
