"""Scripts for reads, elections, liveness and outcomes (H16-H26) on plain pysyncobj."""

import pathlib
import unittest.mock

import pysyncobj.transport
from pysyncobj.config import FAIL_REASON
from pysyncobj.node import TCPNode
from pysyncobj.tcp_connection import CONNECTION_STATE

from tests.simulation.plain import Evidence, PlainClock, PlainCluster, Write, iterate_until


def show_h16(directory: pathlib.Path) -> Evidence:
    """Request ids start at 1 after each restart: an old reply acknowledges a new, never applied command."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.write("b", "before the restart")
        cluster.tick("b")
        cluster.deliver("b", "a")  # in the queue of a, which has not looked at it yet
        cluster.crash("b")
        cluster.restart("b")
        cluster.pass_time(0.2)
        cluster.hold("a", "c")
        # b learns its leader from a heartbeat that a sends before it takes commands from its queue.
        cluster.tick("a")
        answer = [m for m in cluster.pending("a", "b") if m["type"] == "apply_command_response"]
        while cluster.pending("a", "b")[0]["type"] != "apply_command_response":
            cluster.deliver("a", "b", 1)
        new = cluster.write("b", "after the restart")
        cluster.tick("b")
        cluster.links["b", "a"].clear()
        cluster.deliver("a", "b", 1)  # the answer to the command of the earlier life
        cluster.reconnect("a", "b")  # the new command was lost with the connection
        cluster.held.clear()
        cluster.run(5.0)
        holders = [n for n in sorted(cluster.nodes) if new.value in cluster[n].items]
        return Evidence(
            "H16",
            new.acknowledged and not holders,
            "a command that was never applied is acknowledged by the reply to another one",
            {"answer": answer, "acknowledged": new.value, "holders": holders},
        )


def show_h17(directory: pathlib.Path) -> Evidence:
    """LEADER_CHANGED, "without command commit", for a command that was applied; its retry applies twice."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        add = Write("add", "b")
        cluster["b"].add(1, callback=add.answer)
        cluster.tick("b")
        cluster.hold("a", "b")  # the answer to b is slow
        cluster.run(1.0)
        cluster.isolate("a")
        cluster.run(5.0, only="bc")
        first_reason = add.reason
        cluster["b"].add(1, callback=Write("again", "b").answer)
        cluster.settle()
        counters = {n: cluster[n].counter for n in sorted(cluster.nodes)}
        return Evidence(
            "H17",
            first_reason == FAIL_REASON.LEADER_CHANGED and set(counters.values()) == {2},
            "a command is reported as not committed and was applied",
            {"reason": first_reason, "counters_after_one_retry": counters},
        )


def show_h18(directory: pathlib.Path) -> Evidence:
    """A leader that lost its majority says for 30 s that it leads, and its state is old."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.isolate("a")
        cut_at = cluster.clock.now_s
        cluster.run(4.0)
        leader = next(n for n in cluster.leaders() if n != "a")
        cluster.write(leader, "new")
        cluster.run(1.0)
        polls = stale = 0
        last_s = 0.0
        while cluster.clock.now_s < cut_at + 40:
            cluster.run(0.5)
            polls += 1
            if cluster["a"].is_leader() and "new" not in cluster["a"].items:
                stale += 1
                last_s = cluster.clock.now_s - cut_at
        return Evidence(
            "H18",
            stale > 0 and last_s > 25 and cluster.acknowledged() == ["new"],
            "a cut-off leader answers with old state",
            {"polls": polls, "stale": stale, "last_stale_after_s": round(last_s, 1)},
        )


def show_h19(directory: pathlib.Path) -> Evidence:
    """A node that was cut off comes back with a higher term and forces an election."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(2.0)
        term = cluster["a"].raftCurrentTerm
        # c hears nobody, but its own messages and connections are fine: it campaigns again and again.
        cluster.hold("a", "c")
        cluster.hold("b", "c")
        cluster.run(20.0)
        disturbed = cluster["b"].raftCurrentTerm
        return Evidence(
            "H19",
            disturbed >= term + 3,
            "a node with a deaf link takes the cluster's leader down again and again",
            {"elections_in_20_s": disturbed - term},
        )


def show_h20(directory: pathlib.Path) -> Evidence:
    """An append_entries of an old term gets no answer: the stale leader does not learn that it is one."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.isolate("a")
        cluster.run(5.0, only="bc")
        follower = next(n for n in "bc" if not cluster[n].is_leader())
        cluster.connect("a", follower)
        answers = 0
        for _ in range(100):
            cluster.pass_time(0.2)
            cluster.tick("a")
            cluster.deliver("a", follower)
            answers += len(cluster.pending(follower, "a"))
        return Evidence(
            "H20",
            answers == 0 and cluster["a"].is_leader(),
            "a stale leader is never told",
            {
                "messages_sent": 100,
                "answers": answers,
                "terms": (cluster["a"].raftCurrentTerm, cluster[follower].raftCurrentTerm),
            },
        )


def show_h21(directory: pathlib.Path) -> Evidence:
    """A leader that is made to step down campaigns at its very next tick."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(3.0)
        cluster.write("a", "c lacks this")
        cluster.hold("a", "c")
        cluster.run(3.0, only="ab")
        cluster.pass_time(2.0)
        cluster.links["a", "c"].clear()
        cluster.tick("c")  # campaigns; its log is too short to win
        cluster.deliver("c", "a")
        stepped_down = not cluster["a"].is_leader()
        term = cluster["a"].raftCurrentTerm
        cluster.tick("a")
        return Evidence(
            "H21",
            stepped_down and cluster["a"].raftCurrentTerm == term + 1,
            "a deposed leader waits for no election timeout",
            {"ticks_until_it_campaigns": 1},
        )


def _long_tail(cluster: PlainCluster, entries: int, padding: int = 0) -> str:
    """a holds `entries` entries that nobody has, the others have as many of their own; all are healthy."""
    cluster.elect("a", "bc")
    cluster.run(1.0)
    cluster.isolate("a")
    for number in range(entries):
        cluster.write("a", f"never{number}", padding)
    cluster.tick("a")
    cluster.run(4.0, only="bc")
    leader = next(n for n in cluster.leaders() if n != "a")
    for number in range(entries):
        cluster.write(leader, f"real{number}", padding)
    cluster.run(1.0, only="bc")
    other = "c" if leader == "b" else "b"
    cluster.elect(other, leader)
    cluster.run(1.0, only="bc")
    return other


def show_h22(directory: pathlib.Path) -> Evidence:
    """nextIndex walks back one entry a heartbeat; with a tail longer than a batch it never gets there."""
    short, stuck = directory / "short", directory / "stuck"
    short.mkdir()
    stuck.mkdir()
    with PlainCluster(short, journal=False) as cluster:
        leader = _long_tail(cluster, 100)
        cluster.heal()
        start_s = cluster.clock.now_s
        for _ in iterate_until(300):
            cluster.run(0.2)
            if cluster["a"].items == cluster[leader].items:
                break
        catch_up_s = cluster.clock.now_s - start_s
    with PlainCluster(stuck, journal=False, appendEntriesBatchSizeBytes=1000) as cluster:
        leader = _long_tail(cluster, 60, padding=100)
        cluster.heal()
        cluster.run(60.0)
        equal = cluster["a"].items == cluster[leader].items
    return Evidence(
        "H22",
        catch_up_s > 5 and not equal,
        "a follower with a divergent tail is slow to come back, or never does",
        {"catch_up_of_100_entries_s": round(catch_up_s, 1), "long_tail_equal_after_60_s": equal},
    )


def show_h23(directory: pathlib.Path) -> Evidence:
    """While a snapshot is being written the leader sends empty chunks in a busy loop."""
    with PlainCluster(directory, dump=True) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster.isolate("c")
        for number in range(10):
            cluster.write("a", number)
        cluster.run(1.0)
        cluster["a"].forceLogCompaction()
        cluster.run(1.0)
        cluster["a"].inner("serializer")._Serializer__pid = 4711  # a dump that takes its time
        cluster.connect("a", "c")
        cluster.hold("a", "c")
        cluster.pass_time(0.2)
        with unittest.mock.patch("os.waitpid", return_value=(0, 0)):
            cluster.tick("a")
        empty = [m for m in cluster.pending("a", "c") if "serialized" in m and m["serialized"] is None]
        return Evidence(
            "H23",
            len(empty) > 500,
            "a busy loop of empty snapshot chunks blocks the node for a heartbeat interval",
            {"messages_in_one_tick": len(empty)},
        )


def show_h24(directory: pathlib.Path) -> Evidence:
    """The callback of a forwarded command that was lost with its connection is never called."""
    with PlainCluster(directory) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        write = cluster.write("b", "value")
        cluster.tick("b")
        cluster.reconnect("a", "b")
        cluster.run(120.0, step_s=0.1)
        return Evidence(
            "H24",
            write.answers == 0,
            "a caller waits for ever",
            {"answers_after_120_s": write.answers, "leader": cluster.leaders()},
        )


class _Refused:
    """A TcpConnection whose peer is down until `up` is set."""

    up = False

    def __init__(self, **_: object) -> None:
        self.state = CONNECTION_STATE.DISCONNECTED
        self.encryptor = None

    def connect(self, _host: str, _port: int) -> bool:
        self.state = CONNECTION_STATE.CONNECTED if _Refused.up else CONNECTION_STATE.DISCONNECTED
        return _Refused.up

    def __getattr__(self, name: str) -> object:
        if name.startswith("setOn"):
            return lambda *_: None
        raise AttributeError(name)


def show_h25(directory: pathlib.Path) -> Evidence:
    """A node that was restarted is dialled again only after connectionRetryTime (5 s)."""
    with PlainCluster(directory, "a") as cluster:
        clock = PlainClock()
        _Refused.up = False
        with (
            unittest.mock.patch.object(pysyncobj.transport, "TcpConnection", _Refused),
            unittest.mock.patch.object(pysyncobj.transport, "monotonicTime", clock),
            unittest.mock.patch.object(pysyncobj.transport.TCPTransport, "_createServer", return_value=None),
        ):
            transport = pysyncobj.transport.TCPTransport(
                cluster["a"], TCPNode("127.0.0.1:9"), [TCPNode("127.0.0.1:8")]
            )
            transport._connectIfNecessary()  # the peer is just restarting
            _Refused.up = True
            start_s = clock.now_s
            while not transport._connectIfNecessarySingle(TCPNode("127.0.0.1:8")):
                clock.now_s += 0.05
            waited_s = clock.now_s - start_s
        return Evidence(
            "H25",
            waited_s > 4,
            "a rejoining node waits for the next dial of its peers",
            {"first_connection_after_s": round(waited_s, 1)},
        )


def show_h26(directory: pathlib.Path) -> Evidence:
    """An exception in a command stops all nodes; one in a callback applies the command again on that node."""
    command, callback = directory / "command", directory / "callback"
    command.mkdir()
    callback.mkdir()
    with PlainCluster(command) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        cluster["a"].divide(0)
        cluster.run(1.0)
        after = cluster.write("a", "after it")
        cluster.run(30.0)
        applied = {n: (cluster[n].raftLastApplied, cluster[n].raftCommitIndex) for n in sorted(cluster.nodes)}
    with PlainCluster(callback) as cluster:
        cluster.elect("a", "bc")
        cluster.run(1.0)
        calls: list[int] = []

        def raise_once(_result: object, _reason: int) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("a bug in the caller's code")

        cluster["a"].add(1, callback=raise_once)
        cluster.run(3.0)
        counters = {n: cluster[n].counter for n in sorted(cluster.nodes)}
    return Evidence(
        "H26",
        after.answers == 0 and len(set(counters.values())) > 1,
        "an exception stops every node for good, or makes one node differ",
        {"applied_and_committed": applied, "counters": counters},
    )
