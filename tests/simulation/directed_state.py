"""Directed schedules for reads, exactly-once, locks, snapshots and damaged files."""

import contextlib

from replcache.errors import ReplcacheError
from replcache.raft.messages import (
    ENTRY_COMMAND,
    Append,
    Forward,
    Heartbeat,
    HeartbeatReply,
    ReadIndexReply,
    SnapshotChunk,
)
from replcache.raft.wal import Wal
from replcache.statemachine.commands import (
    Command,
    Fence,
    Increment,
    LockAcquire,
    SessionOpen,
    Set,
)
from replcache.statemachine.results import Refusal
from tests.helpers.sim_disk import PowerCut, SimDisk
from tests.simulation.oracles import Violation
from tests.simulation.process import DATA_DIR
from tests.simulation.stage import Stage


def _counter(stage: Stage, name: str) -> int:
    entry = stage[name].machine.peek(b"counter")
    return int(entry.value) if entry is not None else 0


def _increment(**identity: object) -> Command:
    return Command(ops=(Increment(b"counter", 1),), **identity)  # type: ignore[arg-type]


# --- reads -----------------------------------------------------------------------------------------------


def read_at_a_cut_off_leader() -> None:
    """H18: a leader that does not know of the next one answers no read."""
    stage = Stage(3)
    stage.elect("n1")
    stage.write("n1", b"k", b"old")
    stage.run(0.3)
    stage.hold_between("1", "23")
    stage.elect("n2")
    stage.write("n2", b"k", b"new")
    stage.run(0.2)
    stage.read("n1", b"k")
    stage.run(0.2)
    stage.finish()


def read_index_across_a_leader_change() -> None:
    """6.4: a new leader does not answer before it has committed something of its own term."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.write("n1", b"k", b"v")
    stage.hold("n1", "n2", Heartbeat)
    stage.hold_if(
        "n1", "n2", lambda m: isinstance(m, Heartbeat) or (isinstance(m, Append) and m.sequence > 2)
    )
    stage.hold("n1", "n3")
    stage.run(0.1)  # committed and applied by n1; n2 has the entry and does not know that it is committed
    stage.crash("n1")
    stage.release("n1", "n3", deliver=False)
    stage.hold("n2", "n3", Append)
    stage.elect("n2")
    stage.read("n2", b"k")
    stage.run(0.2)
    stage.restart("n1")
    stage.finish()


def confirmations_of_an_earlier_term() -> None:
    """What peers confirmed in the leadership of term 1 confirms nothing in that of term 3."""
    stage = Stage(3)
    stage.elect("n1")
    for _ in range(5):
        stage.read("n1", b"k")
        stage.run(0.05)
    stage.elect("n2")
    stage.run(0.2)
    stage.hold_between("2", "13")
    stage.elect("n1")
    stage.write("n1", b"k", b"old")
    stage.run(0.3)
    stage.release_all()
    stage.run(0.3)
    stage.hold_between("1", "23")
    stage.elect("n3")
    stage.write("n3", b"k", b"new")
    stage.run(0.2)
    stage.read("n1", b"k")
    stage.run(0.2)
    stage.finish()


def earlier_round() -> None:
    """etcd#20418: an answer to round 1 does not confirm round 2."""
    stage = Stage(3)
    stage.elect("n1")
    stage.write("n1", b"k", b"old")
    stage.run(0.3)
    stage.read("n1", b"k")
    stage.run(0.05)
    stage.hold_between("1", "23")
    stage.elect("n2")
    stage.write("n2", b"k", b"new")
    stage.run(0.2)
    stage.read("n1", b"k")
    stage.run(0.2)
    stage.finish()


def read_joins_a_round() -> None:
    """A read that arrives during a round waits for the next: the answers under way are older than it."""
    stage = Stage(3)
    stage.elect("n1")
    stage.write("n1", b"k", b"old")
    stage.run(0.3)
    stage.hold("n2", "n1", HeartbeatReply)
    stage.hold("n3", "n1", HeartbeatReply)
    stage.read("n1", b"k")  # its round begins; the answers are slow
    stage.run(0.05)
    answers = [(name, list(stage.held(name, "n1"))) for name in ("n2", "n3")]
    stage.hold_between("1", "23")
    stage.elect("n2")
    stage.write("n2", b"k", b"new")
    stage.run(0.1)
    stage.read("n1", b"k")
    stage.run(0.01)
    for name, messages in answers:
        for message in messages:
            stage.deliver(name, "n1", message)
    stage.run(0.1)
    stage.finish()


def late_read_index() -> None:
    """A follower's read is not answered by the index that was confirmed for an earlier one."""
    stage = Stage(3)
    stage.elect("n1")
    stage.write("n1", b"k", b"old")
    stage.run(0.3)
    stage.hold("n1", "n2", ReadIndexReply)
    stage.read("n2", b"k")
    stage.run(0.02)
    early = list(stage.held("n1", "n2"))
    stage.hold("n1", "n2")
    stage.write("n1", b"k", b"new")
    stage.run(0.1)
    stage.read("n2", b"k")
    stage.run(0.8)  # the first question was given up; both reads go with the next one
    for message in early:
        stage.deliver("n1", "n2", message)
    stage.run(0.05)
    stage.finish()


# --- exactly once ----------------------------------------------------------------------------------------


def group_forwarded_twice() -> None:
    """A group counts once, also when its origin has moved on since."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.hold("n2", "n1", Forward)
    first = stage.command("n2", _increment())
    stage.run(0.02)
    message = stage.held("n2", "n1")[0]
    stage.release("n2", "n1")
    stage.run(0.3)
    stage.deliver("n2", "n1", message)
    stage.run(0.3)
    stage.expect(
        _counter(stage, "n1") == 1, "applied twice", f"counter {_counter(stage, 'n1')} after {first}"
    )
    stage.command("n2", _increment())
    stage.run(0.3)
    stage.deliver("n2", "n1", message)
    stage.run(0.3)
    stage.expect(_counter(stage, "n1") == 2, "applied twice", f"counter {_counter(stage, 'n1')}, 2 were sent")
    stage.finish()


def late_copy_of_an_old_write() -> None:
    """A session's write below what it has acknowledged is refused, never executed."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    opened = stage.command("n1", Command(ops=(SessionOpen(60_000),)))
    stage.run(0.2)
    session = opened[0][0].session_id
    for sequence in (1, 2, 3):
        stage.command(
            "n1", _increment(session_id=session, session_sequence=sequence, session_acked_below=sequence)
        )
        stage.run(0.1)
    stage.command("n2", _increment(session_id=session, session_sequence=1, session_acked_below=1))
    stage.run(0.4)
    stage.expect(_counter(stage, "n1") == 3, "applied twice", f"counter {_counter(stage, 'n1')}, 3 were sent")
    stage.finish()


def retry_after_a_snapshot() -> None:
    """A restart from a snapshot knows sessions, request ids and groups as before."""
    stage = Stage(3, log_kept_entries=0)
    stage.elect("n1")
    stage.run(0.3)
    opened = stage.command("n1", Command(ops=(SessionOpen(60_000),)))
    stage.run(0.2)
    session = opened[0][0].session_id
    same = _increment(session_id=session, session_sequence=1)
    by_id = _increment(request_id=b"once")
    stage.command("n1", same)
    stage.command("n1", by_id)
    stage.run(0.3)
    for name in stage.names:
        stage[name].run(stage[name].take_snapshot)
    stage.run(0.3)
    for name in stage.names:
        stage.crash(name)
    for name in stage.names:
        stage.restart(name)
    stage.elect("n2")
    stage.run(0.3)
    for command in (same, by_id):
        outcome = stage.command("n2", command)
        stage.run(0.3)
        stage.expect(
            outcome and not isinstance(outcome[0], ReplcacheError | Refusal), "retry refused", f"{outcome}"
        )
    stage.expect(_counter(stage, "n2") == 2, "applied twice", f"counter {_counter(stage, 'n2')}, 2 were sent")
    stage.finish()


# --- locks and pauses ------------------------------------------------------------------------------------


def paused_leader() -> None:
    """A leader that slept while its lock holder's lease ended and the lock went to another: it must not act
    on what it believed, and the old token must not write."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    first = stage.command("n1", Command(ops=(LockAcquire("lock", b"a", 500),)))
    stage.run(0.2)
    token = first[0][0].token
    stage["n1"].pause()
    stage.elect("n2")
    stage.run(1.0)
    second = stage.command("n2", Command(ops=(LockAcquire("lock", b"b", 60_000),)))
    stage.run(0.3)
    stage.expect(
        second and second[0][0].token > token, "token not newer", f"{second} after token {token} was given"
    )
    stage.write("n2", b"k", b"new")
    stage.run(0.2)
    old = stage.world.process("n1")
    assert old is not None
    stage.read("n1", b"k")
    stage.command("n1", Command(ops=(Set(b"data", b"by a", fence=Fence("lock", token)),)))
    old.resume()
    stage.run(1.5)
    entry = stage["n2"].machine.peek(b"data")
    stage.expect(entry is None, "fence passed", f"the old token {token} wrote {entry}")
    stage.finish()


def ttl_to_the_moment() -> None:
    """A key is there until its time has come on the cluster clock, and gone when it has."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    stage.command("n1", Command(ops=(Set(b"short", b"v", ttl_ms=500),)))
    stage.run(0.02)
    begun = stage.world.now
    while stage.world.now - begun < 0.8:
        stage.write("n1", b"clock")  # moves the cluster clock
        stage.run(0.02)
        elapsed = stage.world.now - begun
        there = [stage[name].machine.peek(b"short") is not None for name in ("n1", "n2")]
        stage.expect(all(there) or elapsed > 0.44, "expired early", f"after {elapsed:.3f} of 0.5 s")
        stage.expect(not any(there) or elapsed < 0.56, "expired late", f"after {elapsed:.3f} of 0.5 s")
    stage.finish()


# --- snapshots -------------------------------------------------------------------------------------------


def _lagging_follower(stage: Stage) -> None:
    """n3 misses 30 entries; the leader n1 has a snapshot and has trimmed its log."""
    stage.elect("n1")
    stage.run(0.3)
    stage.hold_between("3", "12")
    for number in range(30):
        stage.write("n1", b"k%d" % number)
        stage.run(0.01)
    stage["n1"].run(stage["n1"].take_snapshot)
    stage.run(0.2)


def snapshot_during_install() -> None:
    """While n3 loads a snapshot, the leader writes, takes the next one and trims again."""
    stage = Stage(3, log_kept_entries=0, snapshot_chunk_bytes=200, sync_s=0.01)
    _lagging_follower(stage)
    stage.release_all()
    stage.run(0.05)
    for number in range(10):
        stage.write("n1", b"more%d" % number)
        stage.run(0.01)
        stage["n1"].run(stage["n1"].take_snapshot)
        stage["n3"].run(stage["n3"].take_snapshot)
    stage.run(1.0)
    stage.crash("n1")
    stage.elect("n2")
    stage.run(0.5)
    stage.restart("n1")
    stage.finish()


def two_snapshots_in_a_row() -> None:
    """The second snapshot replaces the first while its chunks are under way; one chunk comes twice."""
    stage = Stage(3, log_kept_entries=0, snapshot_chunk_bytes=64)
    _lagging_follower(stage)
    stage.release_all()
    stage.hold_if("n1", "n3", lambda m: isinstance(m, SnapshotChunk) and m.offset > 500)
    stage.run(0.5)
    late = list(stage.held("n1", "n3"))
    for number in range(5):
        stage.write("n1", b"more%d" % number)
        stage.run(0.02)
    stage["n1"].run(stage["n1"].take_snapshot)
    stage.run(0.2)
    stage.release("n1", "n3")
    stage.run(2.0)
    for message in late:
        stage.deliver("n1", "n3", message)
    stage.run(0.5)
    stage.finish()


def old_snapshot() -> None:
    """H4: chunks of a snapshot that is older than what is applied change nothing."""
    stage = Stage(3, log_kept_entries=0, snapshot_chunk_bytes=4096)
    _lagging_follower(stage)
    stage.hold_if("n1", "n3", lambda m: False)
    stage.release_all()
    stage.run(1.0)
    chunks = [m for _, s, t, m in stage.seen if isinstance(m, SnapshotChunk) and t == "n3"]
    stage.expect(chunks, "no snapshot", "the follower was brought up without a snapshot")
    for number in range(5):
        stage.write("n1", b"more%d" % number)
        stage.run(0.05)
    for chunk in chunks:
        stage.deliver("n1", "n3", chunk)
    stage.run(0.5)
    stage.finish()


def power_cut_after_a_snapshot() -> None:
    """A snapshot that replaced a part of the log survives a power cut, and so does the rest of the log."""
    stage = Stage(3, log_kept_entries=0, segment_bytes=600)
    stage.elect("n1")
    for round_number in range(4):
        for number in range(6):
            stage.write("n1", b"k%d-%d" % (round_number, number), b"x" * 100)
            stage.run(0.02)
        for name in ("n2", "n3"):
            stage[name].run(stage[name].take_snapshot)
        stage.run(0.2)
        for number in range(round_number + 1):  # the log goes on, in the same segment or in the next
            stage.write("n1", b"l%d-%d" % (round_number, number), b"y" * 150)
            stage.run(0.02)
        for name in ("n2", "n3"):
            stage.crash(name, power=True)
            stage.restart(name)
        stage.run(0.2)
    stage.finish()


def failed_sync() -> None:
    """fsyncgate: after a failed sync the node stops; what it had not synced is not on its disk."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    node = stage.world.nodes["n3"]
    node.disk_was_hurt = True
    failures = [True]

    def fail_once(operation: str, path: str) -> None:
        if operation == "fdatasync" and failures:
            failures.clear()
            raise OSError(5, "simulated I/O error", path)

    node.disk.fault = fail_once
    stage.write("n1", b"k")
    stage.run(0.1)
    stage.write("n1", b"l")
    stage.run(0.3)
    node.disk.fault = None
    if node.process is not None:
        stage.crash("n3", power=True)
    stage.restart("n3")
    stage.finish()


# --- damaged files ---------------------------------------------------------------------------------------


def flipped_bits() -> None:
    """Each flipped bit of a log is refused or means nothing; the node never starts from wrong data."""
    stage = Stage(3)
    stage.elect("n1")
    for number in range(6):
        stage.write("n1", b"key%d" % number, b"value%d" % number)
        stage.run(0.05)
    stage.crash("n3")
    node = stage.world.nodes["n3"]
    path = next(path for path in node.disk.files() if path.startswith(f"{DATA_DIR}/wal/"))
    good = node.disk.contents(path)
    used = len(good.rstrip(b"\0"))
    refused = 0
    for bit in range(3, used * 8, 89):  # another byte and another place in it each time
        node.disk.put(path, good)
        node.disk.flip_bit(path, bit)
        node.is_damaged = True
        node.start()
        if node.process is None:
            refused += 1
        else:
            stage.crash("n3")  # the oracles have looked at what it started from
    stage.expect(refused * 2 > used * 8 // 89, "damage not seen", f"{refused} flips were refused")
    node.disk.put(path, good)
    node.is_damaged = False
    stage.restart("n3")
    stage.finish()


def torn_tail() -> None:
    """Whole records of a group whose first one was torn must not come back behind what is written next."""
    disk = SimDisk()
    wal = Wal.open(disk, "/wal", owner=7)
    wal.set_hard_state(1, None)
    wal.append([(1, 1, ENTRY_COMMAND, b"a" * 1000)])
    wal.sync()
    wal.append([(index, 1, ENTRY_COMMAND, b"b" * 1000) for index in (2, 3, 4)])
    job = wal.take_sync_job()
    assert job is not None

    def power_goes(operation: str, _path: str) -> None:
        if operation == "fdatasync":
            raise PowerCut

    disk.fault = power_goes
    with contextlib.suppress(PowerCut):
        job.run()
    disk.fault = None
    disk.power_cut_with([number > 0 for number in range(disk.unsynced())])  # the first sector is lost
    wal = Wal.open(disk, "/wal", owner=7)
    assert wal.last_index == 1, wal.last_index
    wal.set_hard_state(1, "n1")
    wal.append([(2, 1, ENTRY_COMMAND, b"c" * 1000)])
    wal.sync()
    disk.kill()
    wal = Wal.open(disk, "/wal", owner=7)
    if wal.last_index != 2:
        raise Violation("dead records", f"the log ends at {wal.last_index}, 2 was written last")


SCRIPTS = {
    "read at a cut-off leader": read_at_a_cut_off_leader,
    "read index across a leader change": read_index_across_a_leader_change,
    "confirmations of an earlier term": confirmations_of_an_earlier_term,
    "earlier round": earlier_round,
    "read joins a round": read_joins_a_round,
    "late read index": late_read_index,
    "group forwarded twice": group_forwarded_twice,
    "late copy of an old write": late_copy_of_an_old_write,
    "retry after a snapshot": retry_after_a_snapshot,
    "paused leader": paused_leader,
    "ttl to the moment": ttl_to_the_moment,
    "snapshot during install": snapshot_during_install,
    "two snapshots in a row": two_snapshots_in_a_row,
    "old snapshot": old_snapshot,
    "power cut after a snapshot": power_cut_after_a_snapshot,
    "failed sync": failed_sync,
    "flipped bits": flipped_bits,
    "torn tail": torn_tail,
}
