"""Random schedules on plain pysyncobj with our state machine: `python -m tests.simulation.plain_random`.

The unhardened library under faults that TCP and a crash can cause: broken connections, stalled directions,
kill -9, power cuts, slow nodes, log compaction. Everything follows from the seed. Each promise is watched,
and a run goes on after the first one is broken, so that one run may show several. Prints which promise was
broken at which seed and after how much time.
"""

import argparse
import logging
import pathlib
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pysyncobj import SyncObjConf, replicated
from pysyncobj.config import FAIL_REASON

from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Condition, Group, Set, Update
from replcache.statemachine.machine import StateMachine
from tests.simulation.plain import PlainCluster, PlainNode, Write

STEP_S = 0.02
FAULTS_S = 15.0
HEALED_S = 25.0
LIST = b"list"
# Not applied, as the library documents them; the rest says that the outcome is not known.
CERTAIN_FAILURES = (
    FAIL_REASON.QUEUE_FULL,
    FAIL_REASON.MISSING_LEADER,
    FAIL_REASON.DISCARDED,
    FAIL_REASON.NOT_LEADER,
    FAIL_REASON.LEADER_CHANGED,
    FAIL_REASON.REQUEST_DENIED,
)
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "memory journal": {"journal": False},
    "file journal": {},
    "file journal, small batches": {"appendEntriesBatchSizeBytes": 400},
    "file journal, dump file, compaction": {
        "dump": True,
        "logCompactionMinEntries": 15,
        "logCompactionBatchSize": 200,
    },
    "file journal, power cuts": {"power": True},
}
# Which hazards of docs/hazards.md break which promise.
HAZARDS = {
    "two leaders in a term": "H7, H8",
    "commit without quorum": "H1, H2, H10",
    "committed entry changed": "H1-H4, H8, H9, H12, H27",
    "commit index goes back": "H1, H4",
    "applied entries cut from the log": "H1",
    "state goes back": "H4",
    "acknowledged write lost": "H1-H4, H8, H11, H12, H14, H27",
    "acknowledged, never applied": "H3, H16",
    "stale read at a leader": "H18",
    "states differ": "H3, H4, H12, H31",
    "reported as not applied, applied": "H17",
    "callback never called": "H24",
    "exception in a node": "H5, H6, H13, H29",
    "no progress after everything was repaired": "H13, H22",
    "election without need": "H19, H21",
    "entry applied before it is committed": "H31",
}


class MachineNode(PlainNode):
    """Our state machine behind the library's own replication."""

    def __init__(
        self, cluster: "RandomCluster", name: str, members: Iterable[str], conf: SyncObjConf
    ) -> None:
        self.watch = cluster
        super().__init__(cluster, name, members, conf)
        self.machine = StateMachine()

    @replicated
    def execute(self, payload: bytes) -> int:
        self.machine.apply(self.machine.applied_index + 1, payload)
        return self.machine.revision

    def values(self) -> list[int]:
        entry = self.machine.peek(LIST)
        return [int(part) for part in entry.value.split(b",") if part] if entry is not None else []

    def _SyncObj__doApplyCommand(self, command: bytes) -> Any:
        self.watch.on_apply(self, self.raftLastApplied + 1, command)
        return super()._SyncObj__doApplyCommand(command)


@dataclass
class Broken:
    """A promise, when it was first broken (virtual seconds), and how."""

    promise: str
    at_s: float
    text: str


@dataclass
class _Seen:
    commit: int = 0
    applied: int = 0
    revision: int = 0


class RandomCluster(PlainCluster):
    """PlainCluster with its oracles."""

    def __init__(self, directory: pathlib.Path, seed: int, **options: Any) -> None:
        self.broken: dict[str, Broken] = {}
        self.applied: dict[int, tuple[int, int]] = {}
        self.term_leaders: dict[int, str] = {}
        self.seen: dict[str, _Seen] = {}
        self.start_s = 1000.0
        super().__init__(directory, seed=seed, **options)

    def start(self, name: str, connect: bool = True, members: Iterable[str] | None = None) -> PlainNode:
        self.seen[name] = _Seen()
        return super().start(name, connect, members)

    def make(self, name: str, members: Iterable[str], conf: SyncObjConf) -> PlainNode:
        return MachineNode(self, name, members, conf)

    def fail(self, promise: str, text: str) -> None:
        if promise not in self.broken:
            self.broken[promise] = Broken(promise, round(self.clock.now_s - self.start_s, 2), text)

    def on_apply(self, node: PlainNode, index: int, command: bytes) -> None:
        terms = dict(node.log())
        found = (terms.get(index, -1), zlib.crc32(command))
        known = self.applied.setdefault(index, found)
        if known[1] != found[1]:
            self.fail("committed entry changed", f"{node.name} applies {found} at {index}, it was {known}")

    def look(self) -> None:
        """The oracles, after each step."""
        for name, node in self.nodes.items():
            seen = self.seen[name]
            commit, applied = node.raftCommitIndex, node.raftLastApplied
            last = node.log()[-1][0] if len(node.inner("raftLog")) else 0
            if commit < seen.commit:
                self.fail("commit index goes back", f"{name}: {seen.commit} -> {commit}")
            if last < seen.applied:
                self.fail(
                    "applied entries cut from the log", f"{name}: applied {seen.applied}, log to {last}"
                )
            revision = node.machine.revision  # type: ignore[attr-defined]
            if revision < seen.revision:
                self.fail("state goes back", f"{name}: revision {seen.revision} -> {revision}")
            if node.is_leader():
                term = node.raftCurrentTerm
                if self.term_leaders.setdefault(term, name) != name:
                    self.fail("two leaders in a term", f"{term}: {self.term_leaders[term]} and {name}")
                if commit > seen.commit:
                    self._check_quorum(node, commit)
            self.seen[name] = _Seen(commit, applied, revision)

    def _check_quorum(self, leader: PlainNode, commit: int) -> None:
        entry = next((e for e in leader.log() if e[0] == commit), None)
        holders = [n for n, node in self.nodes.items() if entry in node.log() or node.log()[0][0] > commit]
        gone = len(self.names) - len(self.nodes)
        if entry is not None and (len(holders) + gone) * 2 <= len(self.names):
            self.fail("commit without quorum", f"{leader.name} commits {entry}, held by {holders}")


def _payload(value: int) -> bytes:
    command = Command(
        ops=(Set(LIST, b"", condition=Condition(if_absent=True)), Update(LIST, append=b"%d," % value))
    )
    return codec.encode_entry(0, [codec.encode_group(Group("plain", 1, value, 0, (command,)))])


class _Run:
    def __init__(self, cluster: RandomCluster, rng: random.Random, power: bool) -> None:
        self.cluster = cluster
        self.rng = rng
        self.power = power
        self.value = 0
        self.down: dict[str, float] = {}
        # The process that each write was given to: a crashed one owes no answer.
        self.asked: dict[int, PlainNode] = {}
        # How much of what could happen in a step does happen: slow nodes and links in some runs.
        self.pace = rng.choice([0.98, 0.8, 0.5])

    def play(self) -> None:
        cluster, rng = self.cluster, self.rng
        end = cluster.clock.now_s + FAULTS_S
        while cluster.clock.now_s < end:
            self._fault(rng)
            if rng.random() < 0.5 and cluster.nodes:
                self._write(rng.choice(sorted(cluster.nodes)))
            self._step(rng)
            cluster.look()
            self._read()
        self._heal()

    def _step(self, rng: random.Random) -> None:
        """Some nodes look at their clock; of each connection some messages arrive, in order."""
        cluster = self.cluster
        cluster.clock.now_s += STEP_S
        for name in sorted(cluster.nodes):
            if rng.random() < self.pace:
                cluster.guard(name, cluster.tick, name)
        for (source, target), link in sorted(cluster.links.items()):
            while link and target in cluster.nodes and (source, target) not in cluster.held:
                if rng.random() > self.pace:
                    break
                cluster.guard(target, cluster.deliver, source, target, 1)

    def _write(self, name: str) -> None:
        self.value += 1
        write = Write(self.value, name)
        self.cluster.writes.append(write)
        self.asked[self.value] = self.cluster.nodes[name]
        self.cluster.nodes[name].execute(_payload(self.value), callback=write.answer)  # type: ignore[attr-defined]

    def _read(self) -> None:
        """Whoever says that it leads is asked: all that was acknowledged must be there."""
        acknowledged = set(self.cluster.acknowledged())
        for name, node in self.cluster.nodes.items():
            if node.is_leader() and not acknowledged <= set(node.values()):  # type: ignore[attr-defined]
                missing = sorted(acknowledged - set(node.values()))[:3]  # type: ignore[attr-defined]
                self.cluster.fail("stale read at a leader", f"{name} lacks {missing}")

    def _fault(self, rng: random.Random) -> None:
        cluster = self.cluster
        now = cluster.clock.now_s
        for name in [n for n, until in self.down.items() if until <= now]:
            del self.down[name]
            cluster.restart(name)
        draw = rng.random()
        names = sorted(cluster.nodes)
        if draw < 0.008 and len(names) > 1:
            name = rng.choice(names)
            if self.power and rng.random() < 0.5:
                cluster.write_back(name)
            cluster.crash(name, power=self.power)
            self.down[name] = now + rng.uniform(0.1, 2.0)
        elif draw < 0.02 and len(names) > 1:
            cluster.isolate(rng.choice(names))
        elif draw < 0.04 and len(names) > 1:
            cluster.reconnect(*rng.sample(names, 2))
        elif draw < 0.07 and len(names) > 1:
            cluster.hold(*rng.sample(names, 2))
        elif draw < 0.12:
            for source, target in sorted(cluster.held):
                cluster.release(source, target)
            cluster.heal()
        elif draw < 0.13 and names and self.power:
            cluster.write_back(rng.choice(names))

    def _heal(self) -> None:
        cluster = self.cluster
        for name in sorted(self.down):
            cluster.restart(name)
        self.down.clear()
        cluster.heal()
        terms = 0
        end = cluster.clock.now_s + HEALED_S
        while cluster.clock.now_s < end:
            if int(cluster.clock.now_s) % 2 == 0 and self.rng.random() < 0.2:
                self._write(self.rng.choice(sorted(cluster.nodes)))
            cluster.run(STEP_S)
            cluster.look()
            if end - cluster.clock.now_s > HEALED_S - 8:
                terms = max(node.raftCurrentTerm for node in cluster.nodes.values())
        self._judge(terms)

    def _judge(self, settled_term: int) -> None:
        cluster = self.cluster
        states = {name: node.values() for name, node in cluster.nodes.items()}  # type: ignore[attr-defined]
        every = set().union(*map(set, states.values()))
        lost = [v for v in cluster.acknowledged() if not all(v in state for state in states.values())]
        if lost:
            cluster.fail(
                "acknowledged write lost", f"{len(lost)} of {len(cluster.acknowledged())}: {lost[:5]}"
            )
        if [v for v in lost if v not in every]:
            cluster.fail("acknowledged, never applied", f"{[v for v in lost if v not in every][:5]}")
        if len({tuple(state) for state in states.values()}) > 1:
            cluster.fail("states differ", f"lengths { ({n: len(s) for n, s in states.items()}) }")
        wrong = [w.value for w in cluster.writes if w.reason in CERTAIN_FAILURES and w.value in every]
        if wrong:
            cluster.fail("reported as not applied, applied", f"{len(wrong)} commands: {wrong[:5]}")
        silent = [w for w in cluster.writes[:-50] if w.answers == 0]
        alive = [w for w in silent if cluster.nodes.get(w.via) is self.asked[w.value]]
        if alive:
            cluster.fail("callback never called", f"{len(alive)} commands")
        if cluster.errors:
            cluster.fail("exception in a node", f"{cluster.errors[0][0]}: {cluster.errors[0][1]!r}")
        applied = [node.raftLastApplied for node in cluster.nodes.values()]
        if not cluster.leaders() or max(applied) - min(applied) > 20:
            cluster.fail("no progress after everything was repaired", f"applied {applied}")
        term = max(node.raftCurrentTerm for node in cluster.nodes.values())
        if term > settled_term + 1:
            cluster.fail("election without need", f"term {settled_term} -> {term} in quiet times")


def play_plain(seed: int, configuration: str) -> dict[str, Broken]:
    """Runs one seed; returns the promises that were broken."""
    options = dict(CONFIGURATIONS[configuration])
    power = options.pop("power", False)
    rng = random.Random(f"plain:{configuration}:{seed}")
    names = rng.choice(["abc", "abc", "abcde"])
    with tempfile.TemporaryDirectory() as directory:
        with RandomCluster(pathlib.Path(directory), seed, names=names, **options) as cluster:
            _Run(cluster, rng, power).play()
            return cluster.broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--table", action="store_true", help="as Markdown")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    first: dict[str, tuple[str, int, float, str]] = {}
    counts: dict[tuple[str, str], int] = {}
    for configuration in CONFIGURATIONS:
        started = time.monotonic()
        for seed in range(arguments.seeds):
            for promise, broken in play_plain(seed, configuration).items():
                counts[configuration, promise] = counts.get((configuration, promise), 0) + 1
                spent = time.monotonic() - started
                if promise not in first or spent < first[promise][2]:
                    first[promise] = (configuration, seed, spent, broken.text)
        print(
            f"{configuration}: "
            + ", ".join(
                f"{promise} {count}" for (c, promise), count in sorted(counts.items()) if c == configuration
            ),
            flush=True,
        )
    for promise, (configuration, seed, spent, text) in sorted(first.items()):
        shares = "; ".join(f"{c}: {n}" for (c, p), n in sorted(counts.items()) if p == promise)
        if arguments.table:
            where = f"{configuration}, seed {seed}"
            print(f"| {promise} | {HAZARDS[promise]} | {where} | {spent:.1f} s | {shares} |")
        else:
            print(f"{promise} ({HAZARDS[promise]}): {configuration}, seed {seed}, {spent:.1f} s: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
