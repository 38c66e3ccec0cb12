"""A nemesis for real processes: breaks a ProcessCluster while it is used. Implements verify.run.Faults.

All choices come from the rng that the run hands over, so the same seed gives the same schedule of faults.
Faults that need no rights: kill -9, SIGSTOP, cut peer links per direction and spoiled disks (both through the
fault page of a node started with fault_injection), restarts, leadership transfers.
"""

import asyncio
import json
import random
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

# Nodes of a nemesis cluster are started with these: rare code runs often.
ENVIRONMENT = {
    "REPLCACHE_FAULT_INJECTION": "true",
    "REPLCACHE_SNAPSHOT_AFTER_ENTRIES": "500",
    "REPLCACHE_LOG_KEPT_ENTRIES": "100",
}


def post_fault(cluster: ProcessCluster, name: str, what: dict[str, object]) -> None:
    """Raises OSError when the node does not answer."""
    address = cluster.local.layout(name).http_address
    request = urllib.request.Request(f"http://{address}/fault", json.dumps(what).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=3) as answer:
        assert answer.status == 200, answer.read()


@dataclass
class Nemesis:
    """Breaks at most one thing at a time, heals it before the next; `kinds`: names of FAULTS to draw from."""

    cluster: ProcessCluster
    kinds: Sequence[str]
    least_pause_s: float = 1.5
    most_pause_s: float = 4.0
    done: list[str] = field(default_factory=list)

    async def inject(self, rng: random.Random) -> str:
        await self.heal()
        kind = rng.choice(sorted(self.kinds))
        names = list(self.cluster.names)
        rng.shuffle(names)
        leader = await asyncio.to_thread(self._leader)
        if leader in names and rng.random() < 0.6:
            # The first name is the victim: mostly the leader, where faults hurt.
            names.remove(leader)
            names.insert(0, leader)
        what = await asyncio.to_thread(FAULTS[kind], self.cluster, names, rng)
        self.done.append(what)
        return what

    def pause_s(self, rng: random.Random) -> float:
        return rng.uniform(self.least_pause_s, self.most_pause_s)

    async def heal(self) -> None:
        await asyncio.to_thread(self._heal)

    def _heal(self) -> None:
        cluster = self.cluster

        def all_alive() -> bool:
            # A node that halts takes a moment to end: looked at again and again, not once.
            for name in cluster.names:
                cluster.resume(name)
                if not cluster.is_running(name):
                    cluster.start(name, **ENVIRONMENT)
            return all(self._is_well(name) for name in cluster.names)

        wait_until(all_alive, 40, "all nodes are alive", cluster.dump)
        for name in cluster.names:
            post_fault(cluster, name, {"block": [], "sync_delay_s": 0, "fail_syncs": 0, "is_full": False})

    def _is_well(self, name: str) -> bool:
        answer = self.cluster.readiness(name)
        return bool(answer) and not answer.get("halted") and not answer.get("stopping")

    def _leader(self) -> str:
        for name in self.cluster.names:
            known = self.cluster.readiness(name).get("leader", "")
            if known:
                return str(known)
        return ""


def kill(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    cluster.kill(names[0])
    return f"kill -9 {names[0]}"


def kill_two(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    for name in names[:2]:
        cluster.kill(name)
    return f"kill -9 {names[0]} and {names[1]}"


def kill_all(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    for name in names:
        cluster.kill(name)
    return f"kill -9 of all: {', '.join(names)}"


def pause(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    cluster.pause(names[0])
    return f"SIGSTOP {names[0]}"


def isolate(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    post_fault(cluster, names[0], {"block": [[other, "both"] for other in names[1:]]})
    return f"{names[0]} is cut off from all"


def deaf(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    post_fault(cluster, names[0], {"block": [[other, "in"] for other in names[1:]]})
    return f"{names[0]} hears nobody"


def mute(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    post_fault(cluster, names[0], {"block": [[other, "out"] for other in names[1:]]})
    return f"nobody hears {names[0]}"


def bridge(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    post_fault(cluster, names[0], {"block": [[names[1], "both"]]})
    return f"{names[0]} and {names[1]} can't talk, the rest can with both"


def slow_disk(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    delay_s = rng.choice((0.05, 0.3, 1.5))
    post_fault(cluster, names[0], {"sync_delay_s": delay_s})
    return f"fdatasync of {names[0]} takes {delay_s} s longer"


def failing_sync(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    post_fault(cluster, names[0], {"fail_syncs": 1})
    return f"the next fdatasync of {names[0]} fails"


def full_disk(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    post_fault(cluster, names[0], {"is_full": True})
    return f"the disk of {names[0]} is full"


def transfer(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    with cluster.client("5s") as client:
        target = client.transfer_leadership()
    return f"leadership was handed to {target}"


def restart(cluster: ProcessCluster, names: list[str], rng: random.Random) -> str:
    cluster.local.stop([names[0]], grace_s=5.0)
    cluster.start(names[0], **ENVIRONMENT)
    return f"{names[0]} was stopped in order and started again"


Fault = Callable[[ProcessCluster, list[str], random.Random], str]

FAULTS: dict[str, Fault] = {
    "kill": kill,
    "kill-two": kill_two,
    "kill-all": kill_all,
    "pause": pause,
    "isolate": isolate,
    "deaf": deaf,
    "mute": mute,
    "bridge": bridge,
    "slow-disk": slow_disk,
    "failing-sync": failing_sync,
    "full-disk": full_disk,
    "transfer": transfer,
    "restart": restart,
}
