"""Real RaftNodes (real disk, real TCP on loopback) in one process and one loop."""

import random
import shutil
from pathlib import Path

from replcache.clock import SystemClock
from replcache.localcluster import free_ports
from replcache.raft.engine_config import EngineConfig
from replcache.raft.node import RaftNode
from replcache.raft.node_config import RaftConfig
from replcache.raft.port import Member
from replcache.statemachine.commands import Command, Increment, Set
from tests.helpers.wait import async_wait_until


def free_port() -> int:
    """Stays ours while its node is stopped: other tests run at the same time."""
    return free_ports(1, random.Random()).peer


class RaftCluster:
    """Named nodes that can be stopped, wiped and started again. `halts` collects the reasons of halts."""

    def __init__(
        self, directory: Path, names: tuple[str, ...] = ("n1", "n2", "n3"), **engine: object
    ) -> None:
        self.directory = directory
        self.engine = EngineConfig(**engine)  # type: ignore[arg-type]
        self.members = tuple(Member(name, f"127.0.0.1:{free_port()}", f"{name}:1") for name in names)
        self.nodes: dict[str, RaftNode] = {}
        self.halts: dict[str, str] = {}
        self.clock = SystemClock()
        self._starts = 0

    def config(self, member: Member, *, join: bool = False) -> RaftConfig:
        members = self.members if not join else (*self.members, member)
        return RaftConfig(
            name=member.name,
            cluster_id=b"test",
            data_dir=str(self.directory / member.name),
            peer_listen=member.peer_address,
            members=members,
            join=join,
            engine=self.engine,
            fault_injection=True,
        )

    async def start(self, *names: str) -> None:
        for member in self.members:
            if not names or member.name in names:
                await self.start_member(member)

    async def start_member(self, member: Member, *, join: bool = False) -> RaftNode:
        name = member.name
        self._starts += 1  # a wiped node must draw another incarnation

        def on_halt(reason: str) -> None:
            self.halts[name] = reason

        node = RaftNode(
            self.config(member, join=join), on_halt=on_halt, rng=random.Random(f"{name} {self._starts}")
        )
        self.nodes[name] = node
        await node.start()
        return node

    async def stop(self, *names: str) -> None:
        for name in names or tuple(self.nodes):
            node = self.nodes.pop(name, None)
            if node is not None:
                await node.close()

    def wipe(self, name: str) -> None:
        shutil.rmtree(self.directory / name)

    @property
    def leader(self) -> RaftNode | None:
        leaders = [n for n in self.nodes.values() if n.engine.is_leader and not n.halted]
        return max(leaders, key=lambda n: n.engine.term) if leaders else None

    async def wait_leader(self, timeout_s: float = 10.0) -> RaftNode:
        def ready() -> RaftNode | None:
            leader = self.leader
            followers = [n.engine.leader for n in self.nodes.values()]
            return leader if leader is not None and all(f == leader.config.name for f in followers) else None

        found = await async_wait_until(ready, timeout_s, "all nodes follow one leader", self.describe)
        assert isinstance(found, RaftNode)
        return found

    async def set(self, node: RaftNode, key: bytes, value: bytes, timeout_s: float = 5.0) -> object:
        result = await node.propose(Command(ops=(Set(key, value),)), self.clock.now() + timeout_s)
        assert isinstance(result, tuple)
        return result[0]

    async def increment(self, node: RaftNode, key: bytes, timeout_s: float = 5.0) -> object:
        result = await node.propose(Command(ops=(Increment(key, 1),)), self.clock.now() + timeout_s)
        assert isinstance(result, tuple)
        return result[0]

    async def wait_equal(self, timeout_s: float = 10.0) -> None:
        """All nodes are at the same index with the same digest."""

        def equal() -> bool:
            indexes = {n.engine.applied_index for n in self.nodes.values()}
            return len(indexes) == 1 and len({n.machine.digest() for n in self.nodes.values()}) == 1

        await async_wait_until(equal, timeout_s, "equal digests at equal index", self.describe)

    def describe(self) -> str:
        return "; ".join(
            f"{n.config.name}: {n.status().role.name} term {n.engine.term} leader {n.engine.leader!r} commit "
            f"{n.engine.commit_index} applied {n.engine.applied_index} last {n.engine.wal.last_index} base "
            f"{n.engine.wal.base_index} {n.halted}"
            for n in self.nodes.values()
        )
