"""A few engines in one process, driven step by step: messages, syncs and time move only when a test says so.

For tests of single rules. Whole schedules with crashes and faults belong to tests/simulation.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from replcache.raft.disk import Disk, OsDisk
from replcache.raft.engine import Engine
from replcache.raft.engine_config import EngineConfig
from replcache.raft.membership import Configuration
from replcache.raft.messages import Message
from replcache.raft.port import Member
from replcache.raft.snapshot_transfer import SnapshotInfo
from replcache.raft.wal import Wal
from replcache.statemachine.commands import Command, Set
from replcache.statemachine.machine import Applied, StateMachine


class ManualClock:
    """Moves only by `advance`."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


class NoSnapshots:
    """A node that never takes or receives a snapshot."""

    def latest(self) -> SnapshotInfo | None:
        return None

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes | None:
        raise AssertionError("no snapshot was taken")

    def receive(self, index: int, term: int, total: int, offset: int, data: bytes) -> int:
        raise AssertionError("no snapshot was sent")


class ReceivedSnapshots(NoSnapshots):
    """Takes chunks of one snapshot at a time, in order only, as the real store does."""

    def __init__(self) -> None:
        self._of = (0, 0)
        self._data = b""

    def receive(self, index: int, term: int, total: int, offset: int, data: bytes) -> int:
        if self._of != (index, term):
            self._of, self._data = (index, term), b""
        if offset == len(self._data):
            self._data += data
        return len(self._data)


@dataclass
class Node:
    """One engine with its outbox; implements engine.Shell."""

    name: str
    net: "EngineNet"
    engine: Engine = field(init=False)
    wal: Wal = field(init=False)
    outbox: deque[tuple[str, Message]] = field(default_factory=deque)
    applied: list[tuple[int, Applied]] = field(default_factory=list)
    installs: list[tuple[int, int]] = field(default_factory=list)
    is_disk_held: bool = False

    def transmit(self, peer: str, message: Message) -> bool:
        if (self.name, peer) in self.net.cut:
            return False
        self.outbox.append((peer, message))
        return True

    def on_applied(self, index: int, applied: Applied) -> None:
        self.applied.append((index, applied))

    def install_snapshot(self, index: int, term: int) -> None:
        self.installs.append((index, term))

    def on_configuration(self, members: Configuration) -> None:
        pass

    def settle(self) -> None:
        """Processes, and syncs unless the disk is held."""
        while True:
            has_more = self.engine.process()
            job = None if self.is_disk_held else self.wal.take_sync_job()
            if job is not None:
                job.run()
                self.wal.complete(job)
                self.engine.on_durable()
            elif not has_more:
                return


class EngineNet:
    """`names` engines that know each other, on one manual clock."""

    def __init__(self, directory: str, names: str = "abc", seed: int = 1, disk: Disk | None = None) -> None:
        self.clock = ManualClock()
        self.cut: set[tuple[str, str]] = set()
        self.directory = directory
        self.disk = disk or OsDisk()
        self.seed = seed
        self.members = tuple(
            Member(name, f"{name}:1", f"{name}:2", incarnation=number) for number, name in enumerate(names, 1)
        )
        self.nodes: dict[str, Node] = {}
        for name in names:
            self.start(name)
        self.connect_all()

    def start(self, name: str, boot: int = 1) -> Node:
        node = self.nodes[name] = Node(name, self)
        number = 1 + [m.name for m in self.members].index(name)
        node.wal = Wal.open(self.disk, f"{self.directory}/{name}", owner=number)
        node.engine = Engine(
            name=name,
            incarnation=number,
            boot=boot,
            is_bootstrapped=True,
            config=EngineConfig(apply_slice_s=1e9),
            wal=node.wal,
            base_configuration=self.members,
            machine=StateMachine(),
            applied_index=0,
            snapshots=NoSnapshots(),
            shell=node,
            clock=self.clock,
            rng=random.Random(f"{self.seed}-{name}"),
        )
        return node

    def connect_all(self) -> None:
        for node in self.nodes.values():
            for member in self.members:
                if member.name != node.name:
                    node.engine.on_peer_up(member.name, member.incarnation)

    def isolate(self, name: str) -> None:
        for other in self.nodes:
            self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()
        self.connect_all()

    def advance(self, seconds: float, step: float = 0.02) -> None:
        """Moves time in ticks, delivering everything after each."""
        end = self.clock.at + seconds
        while self.clock.at < end:
            self.clock.at += step
            for node in self.nodes.values():
                node.engine.tick()
            self.deliver_all()

    def deliver_all(self) -> None:
        """Until nothing is under way any more."""
        while True:
            for node in self.nodes.values():
                node.settle()
            batch = [(node.name, *node.outbox.popleft()) for node in self.nodes.values() if node.outbox]
            if not batch:
                return
            for sender, peer, message in batch:
                if (sender, peer) not in self.cut and peer in self.nodes:
                    self.nodes[peer].engine.receive(sender, message)

    def elect(self, name: str) -> Engine:
        """Makes one node the leader by letting its election time-out pass first."""
        self.nodes[name].engine.election_deadline = self.clock.at
        for other in self.nodes.values():
            if other.name != name:
                other.engine.election_deadline = self.clock.at + 10
                other.engine.election.last_leader_contact = float("-inf")
        self.advance(0.02)
        assert self.nodes[name].engine.is_leader, self.describe()
        return self.nodes[name].engine

    @property
    def leader(self) -> Engine:
        leaders = [n.engine for n in self.nodes.values() if n.engine.is_leader]
        assert leaders, self.describe()
        return max(leaders, key=lambda engine: engine.term)

    def propose(self, name: str, key: bytes, value: bytes) -> list[object]:
        """Submits a set at a node; the returned list gets the outcome."""
        outcome: list[object] = []
        self.nodes[name].engine.submit(Command(ops=(Set(key, value),)), outcome.append)
        return outcome

    def describe(self) -> str:
        return "; ".join(
            f"{n.name}: term {n.engine.term} leader {n.engine.leader!r} commit {n.engine.commit_index} "
            f"applied {n.engine.applied_index} last {n.wal.last_index}"
            for n in self.nodes.values()
        )
