"""Plain pysyncobj 0.3.17 on a virtual clock: the unhardened library, driven message by message.

The real `pysyncobj.SyncObj` runs here with its own journals and snapshots; only time, randomness, the poller
and the transport are ours. Scripts say which message arrives when, who ticks, who crashes. What a script does
to the network is what TCP may do: messages of one connection stay in order, a connection may stall for as
long as it likes, and when it breaks the rest of both directions is lost (`replay` is the one exception and is
named where it is used).

A power cut brings the files of a node back to what was last synced, or to what `write_back` copied before
(the kernel writing pages back by chance). The library never syncs, which `syncs` counts.
"""

import contextlib
import copy
import os
import pathlib
import random
import unittest.mock
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pysyncobj.journal
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.config import FAIL_REASON
from pysyncobj.node import Node
from pysyncobj.transport import Transport

Message = dict[str, Any]

# One look at the clock costs this much virtual time, so that no loop of the library that waits for the clock
# runs for ever.
CLOCK_READ_S = 0.000_05


@dataclass(frozen=True)
class Evidence:
    """What a script saw.

    Attributes:
        hazard: "H1" ... "H39".
        violated: whether the promise at stake was broken.
        what: one sentence.
        facts: numbers and names behind it.
    """

    hazard: str
    violated: bool
    what: str
    facts: dict[str, Any] = field(default_factory=dict)


class PlainClock:
    """Stands in for pysyncobj's monotonic(); moves only when told, and by CLOCK_READ_S at each look."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += CLOCK_READ_S
        return self.now_s


class _NoPoller:
    def subscribe(self, *_: object) -> None: ...

    def unsubscribe(self, *_: object) -> None: ...

    def poll(self, timeout: float) -> None: ...


class PlainTransport(Transport):
    """Hands messages to the cluster's links."""

    def __init__(self, cluster: "PlainCluster", name: str) -> None:
        super().__init__(None, None, None)
        self._cluster = cluster
        self._name = name

    def send(self, node: Node, message: Message) -> bool:
        return self._cluster.send(self._name, node.id, message)

    def connected(self, peer: str) -> None:
        self._onNodeConnected(Node(peer))

    def disconnected(self, peer: str) -> None:
        self._onNodeDisconnected(Node(peer))

    def receive(self, peer: str, message: Message) -> None:
        self._onMessageReceived(Node(peer), message)


class PlainNode(SyncObj):  # type: ignore[misc]
    """A replicated list and a counter, the way the library's documentation writes them."""

    def __init__(self, cluster: "PlainCluster", name: str, members: Iterable[str], conf: SyncObjConf) -> None:
        self.name = name
        self.wire = PlainTransport(cluster, name)
        others = [Node(other) for other in members if other != name]
        super().__init__(Node(name), others, conf, nodeClass=Node, transport=self.wire)
        # Attributes that are set after the library's constructor are part of its snapshots.
        self.items: list[Any] = []
        self.counter = 0

    @replicated
    def append(self, value: Any, padding: str = "") -> int:
        self.items.append(value)
        return len(self.items)

    @replicated
    def add(self, amount: int) -> int:
        self.counter += amount
        return self.counter

    @replicated
    def divide(self, by: int) -> float:
        return 1 / by

    def inner(self, attribute: str) -> Any:
        """The library's private attribute `attribute`."""
        return getattr(self, f"_SyncObj__{attribute}")

    def log(self) -> list[tuple[int, int]]:
        """(index, term) of each log entry."""
        journal = self.inner("raftLog")
        return [(journal[i][1], journal[i][2]) for i in range(len(journal))]

    def match_index(self, peer: str) -> int:
        return int(self.inner("raftMatchIndex")[Node(peer)])

    def is_leader(self) -> bool:
        return bool(self._isLeader())


@dataclass
class Write:
    """A command given to a node; `reason` is None until the library answers."""

    value: Any
    via: str
    reason: int | None = None
    result: Any = None
    answers: int = 0

    @property
    def acknowledged(self) -> bool:
        return self.reason == FAIL_REASON.SUCCESS

    def answer(self, result: Any, reason: int) -> None:
        self.result, self.reason = result, reason
        self.answers += 1


class PlainCluster:
    """Nodes, the links between them, and their files below `directory`.

    Args:
        directory: where journals and dumps go.
        names: members at the start.
        journal: False: the library's memory journal.
        dump: whether compaction writes a dump file.
        seed: of the library's random numbers.
        options: more SyncObjConf fields.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        names: Iterable[str] = ("a", "b", "c"),
        *,
        journal: bool = True,
        dump: bool = False,
        seed: int = 1,
        **options: Any,
    ) -> None:
        self.directory = directory
        self.names = list(names)
        self.clock = PlainClock()
        self.random = random.Random(seed)
        self.journal = journal
        self.dump = dump
        self.options = options
        self.nodes: dict[str, PlainNode] = {}
        self.links: dict[tuple[str, str], deque[Message]] = defaultdict(deque)
        self.connections: set[frozenset[str]] = set()
        self.held: set[tuple[str, str]] = set()
        self.sent: list[tuple[float, str, str, Message]] = []
        self.writes: list[Write] = []
        self.errors: list[tuple[str, BaseException]] = []
        self.syncs = 0
        self._gone: list[PlainNode] = []
        self._durable: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._patches = contextlib.ExitStack()
        self._patch()
        for name in self.names:
            self.start(name)

    def _patch(self) -> None:
        module = pysyncobj.syncobj
        for attribute, value in (
            ("monotonicTime", self.clock),
            ("random", self.random),
            ("createPoller", lambda _kind: _NoPoller()),
            ("PIPE_NOTIFIER_ENABLED", False),
        ):
            self._patches.enter_context(unittest.mock.patch.object(module, attribute, value))
        for attribute in ("fsync", "fdatasync"):
            self._patches.enter_context(unittest.mock.patch.object(os, attribute, self._count_sync))
        journal = pysyncobj.journal.ResizableFile
        self._patches.enter_context(unittest.mock.patch.object(journal, "flush", self._count_sync))

    def _count_sync(self, *_: object) -> None:
        self.syncs += 1

    def close(self) -> None:
        for node in [*self.nodes.values(), *self._gone]:
            # A journal may be broken on purpose; its file handle must go all the same.
            with contextlib.suppress(ValueError, OSError):
                node._doDestroy()
        self.nodes.clear()
        self._gone.clear()
        self._patches.close()

    def __enter__(self) -> "PlainCluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- nodes ---------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> PlainNode:
        return self.nodes[name]

    def path(self, name: str, kind: str) -> pathlib.Path:
        """File of a node; kind: "journal", "journal.meta", "dump"."""
        return self.directory / f"{name}.{kind}"

    def start(self, name: str, connect: bool = True, members: Iterable[str] | None = None) -> PlainNode:
        options: dict[str, Any] = {
            "autoTick": False,
            "useFork": False,
            "logCompactionMinEntries": 10**9,
            "logCompactionMinTime": 10**9,
            **self.options,
        }
        if self.journal:
            options["journalFile"] = str(self.path(name, "journal"))
        if self.dump:
            options["fullDumpFile"] = str(self.path(name, "dump"))
        node = self.make(name, members or self.names, SyncObjConf(**options))
        self.nodes[name] = node
        if connect:
            for other in sorted(self.nodes):
                if other != name:
                    self.connect(name, other)
        return node

    def make(self, name: str, members: Iterable[str], conf: SyncObjConf) -> PlainNode:
        """The node's object; a subclass may use another one."""
        return PlainNode(self, name, members, conf)

    def crash(self, name: str, power: bool = False) -> None:
        """kill -9; with power=True also what was never written back is gone."""
        for other in sorted(self.nodes):
            self.disconnect(name, other)
        self._gone.append(self.nodes.pop(name))
        if power:
            for path in self.directory.glob(f"{name}.*"):
                path.unlink()
            for file_name, content in self._durable[name].items():
                (self.directory / file_name).write_bytes(content)

    def restart(self, name: str, connect: bool = True) -> PlainNode:
        return self.start(name, connect)

    def write_back(self, name: str) -> None:
        """The kernel writes this node's dirty pages to the disk, as it does now and then."""
        self._durable[name] = {p.name: p.read_bytes() for p in self.directory.glob(f"{name}.*")}

    def tick(self, *names: str) -> None:
        for name in names:
            self.nodes[name].doTick(0)

    # --- network -------------------------------------------------------------------------------------------

    def send(self, source: str, target: str, message: Message) -> bool:
        if frozenset((source, target)) not in self.connections:
            return False
        self.sent.append((self.clock.now_s, source, target, message))
        self.links[source, target].append(copy.copy(message))
        return True

    def connect(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if one == other or pair in self.connections or not {one, other} <= set(self.nodes):
            return
        self.connections.add(pair)
        self.nodes[one].wire.connected(other)
        self.nodes[other].wire.connected(one)

    def disconnect(self, one: str, other: str) -> None:
        """The connection breaks: both sides notice, what is under way is lost."""
        pair = frozenset((one, other))
        if pair not in self.connections:
            return
        self.connections.discard(pair)
        self.links[one, other].clear()
        self.links[other, one].clear()
        self.nodes[one].wire.disconnected(other)
        self.nodes[other].wire.disconnected(one)

    def reconnect(self, one: str, other: str) -> None:
        self.disconnect(one, other)
        self.connect(one, other)

    def isolate(self, *names: str) -> None:
        """Breaks all connections between these nodes and the rest."""
        for name in names:
            for other in sorted(self.nodes):
                if other not in names:
                    self.disconnect(name, other)

    def heal(self) -> None:
        self.held.clear()
        for one in sorted(self.nodes):
            for other in sorted(self.nodes):
                self.connect(one, other)

    def hold(self, source: str, target: str) -> None:
        """This direction stalls: messages stay in order and under way until released."""
        self.held.add((source, target))

    def release(self, source: str, target: str) -> None:
        self.held.discard((source, target))

    def pending(self, source: str, target: str) -> list[Message]:
        return list(self.links[source, target])

    def deliver(self, source: str, target: str, count: int | None = None) -> int:
        """The next `count` messages (None: all that are there) arrive; returns how many did."""
        link = self.links[source, target]
        todo = len(link) if count is None else min(count, len(link))
        for _ in range(todo):
            if not link or target not in self.nodes:
                break
            self.nodes[target].wire.receive(source, link.popleft())
        return todo

    def replay(self, source: str, target: str, message: Message) -> None:
        """A message of the past arrives again, or late data of an old connection arrives now."""
        self.nodes[target].wire.receive(source, copy.copy(message))

    # --- time ----------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Nobody does anything."""
        self.clock.now_s += seconds

    def run(self, seconds: float, only: Iterable[str] | None = None, step_s: float = 0.02) -> None:
        """All nodes (or `only` these) tick; messages between them take one step. Exceptions that leave a tick
        or a message handler are collected in `errors`: a real node would log them and go on."""
        end = self.clock.now_s + seconds
        while self.clock.now_s < end:
            self.clock.now_s += step_s
            names = [n for n in sorted(self.nodes) if only is None or n in only]
            for name in names:
                if name in self.nodes:
                    self.guard(name, self.tick, name)
            for (source, target), link in sorted(self.links.items()):
                if target in names and (source, target) not in self.held:
                    for _ in range(len(link)):
                        self.guard(target, self.deliver, source, target, 1)

    def guard(self, name: str, action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001 - the library's autoTick thread does the same
            self.errors.append((name, error))

    def elect(self, name: str, voters: Iterable[str]) -> None:
        """`name` is the first to look at its clock after the election timeout; `voters` answer it."""
        self.pass_time(2.0)
        self.tick(name)
        for voter in voters:
            self.deliver(name, voter)
            self.deliver(voter, name)
        assert self[name].is_leader(), f"{name} was not elected"

    def leaders(self) -> list[str]:
        return [n for n in sorted(self.nodes) if self.nodes[n].is_leader()]

    def settle(self, seconds: float = 10.0) -> None:
        self.heal()
        self.run(seconds)

    # --- writes --------------------------------------------------------------------------------------------

    def write(self, name: str, value: Any, padding: int = 0) -> Write:
        """Gives append(value) to a node; the command waits there for the next tick."""
        write = Write(value, name)
        self.writes.append(write)
        self.nodes[name].append(value, "x" * padding, callback=write.answer)
        return write

    def acknowledged(self) -> list[Any]:
        return [w.value for w in self.writes if w.acknowledged]

    def lost(self) -> list[Any]:
        """Acknowledged values that a node lacks although it has applied all that the leader has committed."""
        leaders = self.leaders()
        assert leaders, f"no leader to ask; errors: {self.errors[:3]}"
        leader = self.nodes[max(leaders, key=lambda n: self.nodes[n].raftCurrentTerm)]
        reached = [n for n in self.nodes.values() if n.raftLastApplied >= leader.raftCommitIndex]
        return [v for v in self.acknowledged() if any(v not in node.items for node in reached)]

    def lost_among(self, names: Iterable[str]) -> list[Any]:
        """Acknowledged values that none of these nodes has, one of which must lead."""
        nodes = [self.nodes[name] for name in names]
        assert any(node.is_leader() for node in nodes), f"no leader; errors: {self.errors[:3]}"
        return [v for v in self.acknowledged() if not any(v in node.items for node in nodes)]


def entries_of(message: Message) -> list[tuple[int, int]]:
    """(index, term) of the entries of an append_entries message."""
    return [(entry[1], entry[2]) for entry in message.get("entries", [])]


def iterate_until(limit: int) -> Iterator[int]:
    """range(limit) whose exhaustion is an error: for loops that must come to an end by themselves."""
    yield from range(limit)
    raise AssertionError(f"not within {limit} steps")
