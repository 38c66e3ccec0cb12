"""A run as data: options and faults, drawn from a seed, stored as JSON, shrunk by leaving faults out.

Swarm testing (Groce et al., ISSTA 2012): each seed switches about half of the fault kinds off and draws the
sizes and timings of the run, so that rare code runs often in some runs instead of rarely in all.
Nothing in here knows the engine. Times are virtual seconds since the start of the run.
"""

import json
import pathlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# Faults begin after the first election and end here; then everything is healed and must work again.
FAULTS_FROM_S = 1.5
FAULTS_TO_S = 11.0

FAULT_KINDS = (
    "crash",
    "power_cut",
    "crash_all",
    "power_cut_all",
    "pause",
    "isolate",
    "split",
    "one_way",
    "bridge",
    "reset",
    "flap",
    "stall",
    "slow_disk",
    "sync_error",
    "disk_full",
    "wipe",
    "damage",
    "transfer",
    "member",
    "rolling_restart",
    "clock_rate",
    "snapshot",
)


@dataclass(frozen=True)
class Options:
    """Sizes and timings of one run. All times in seconds, all sizes in bytes, shares in 0..1."""

    nodes: int = 3
    tick_s: float = 0.05
    heartbeat_s: float = 0.1
    election_min_s: float = 0.5
    election_max_s: float = 1.0
    append_bytes_max: int = 64 * 1024
    appends_in_flight_max: int = 16
    entry_bytes_max: int = 64 * 1024
    snapshot_after_entries: int = 40
    snapshot_chunk_bytes: int = 512
    log_kept_entries: int = 10
    segment_bytes: int = 16 * 1024
    # Network: one way delay is uniform in delay_s * (1 .. 1 + jitter).
    delay_s: float = 0.001
    jitter: float = 1.0
    # Each message for itself: late, early, twice, or again after its connection is long gone.
    is_datagram: bool = False
    duplicate_share: float = 0.0
    # Disk: time of one sync.
    sync_s: float = 0.002
    # How far the rates of the nodes' clocks may be off (0.05: 5 %).
    clock_drift: float = 0.0
    # How often a node proves its copy fresh (for reads at level ONE).
    probe_s: float = 0.5
    # Inputs that arrive within this time are handled in one turn of a node's event loop.
    turn_s: float = 0.0
    clients: int = 3
    session_ttl_ms: int = 60_000
    operation_every_s: float = 0.12
    # Weight of each kind of client operation.
    operations: dict[str, int] = field(default_factory=lambda: {"set": 1, "get": 1})
    keys: int = 3
    faults_to_s: float = FAULTS_TO_S


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong at a time. `node` counts from 0; -1 means whoever leads at that moment.

    Attributes:
        duration_s: until it is repaired (0: it repairs itself).
        argument: kind-specific (see faults.py).
    """

    at_s: float
    kind: str
    node: int = -1
    duration_s: float = 0.0
    argument: float = 0.0


@dataclass(frozen=True)
class Schedule:
    seed: int
    options: Options
    faults: tuple[Fault, ...]
    # Named planted bug or "": part of the replay command.
    mutant: str = ""

    def without(self, indexes: Sequence[int]) -> "Schedule":
        """The same run without these faults."""
        gone = set(indexes)
        return replace(self, faults=tuple(f for i, f in enumerate(self.faults) if i not in gone))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Schedule":
        data: dict[str, Any] = json.loads(text)
        # The file is sorted by name, but which operation a client draws follows from their order.
        operations = data["options"]["operations"]
        data["options"]["operations"] = {
            kind: operations[kind] for kind in sorted(operations, key=OPERATION_KINDS.index)
        }
        return Schedule(
            data["seed"],
            Options(**data["options"]),
            tuple(Fault(**fault) for fault in data["faults"]),
            data.get("mutant", ""),
        )

    def save(self, path: pathlib.Path) -> None:
        path.write_text(self.to_json() + "\n")

    @staticmethod
    def load(path: pathlib.Path) -> "Schedule":
        return Schedule.from_json(path.read_text())


OPERATION_KINDS = (
    "set",
    "get",
    "cas",
    "append",
    "increment",
    "ttl",
    "lock",
    "one",
    "session",
    "batch",
    "delete",
    "burst",
    "mixed",
)


def draw_options(rng: random.Random) -> Options:
    """The options of one run; every choice of one run is independent of the others."""
    timing = rng.choice([(0.1, 0.5, 1.0), (0.1, 0.5, 1.0), (0.05, 0.25, 0.5), (0.1, 0.35, 1.4)])
    delay_s = rng.choice([0.0005, 0.001, 0.003, 0.01, 0.03])
    kinds = [kind for kind in OPERATION_KINDS if rng.random() < 0.6] or ["set", "get"]
    is_datagram = rng.random() < 0.2
    return Options(
        nodes=rng.choice([3, 3, 3, 3, 3, 5, 5, 1]),
        tick_s=rng.choice([0.02, *[0.05] * 9]),
        heartbeat_s=timing[0],
        election_min_s=timing[1],
        election_max_s=timing[2],
        append_bytes_max=rng.choice([100, 300, 2000, 64 * 1024]),
        appends_in_flight_max=rng.choice([1, 2, 4, 64]),
        entry_bytes_max=rng.choice([200, 2000, 64 * 1024]),
        snapshot_after_entries=rng.choice([3, 8, 20, 60, 10**6]),
        snapshot_chunk_bytes=rng.choice([64, 300, 4096]),
        log_kept_entries=rng.choice([0, 0, 2, 10, 100]),
        segment_bytes=rng.choice([600, 2000, 16 * 1024]),
        delay_s=delay_s,
        jitter=rng.choice([0.1, 1.0, 5.0]),
        is_datagram=is_datagram,
        duplicate_share=rng.choice([0.0, 0.05, 0.3]) if is_datagram else 0.0,
        sync_s=rng.choice([0.0005, 0.002, 0.01]),
        clock_drift=rng.choice([0.0, 0.0, 0.01, 0.1]),
        probe_s=rng.choice([0.1, 0.4, 0.4, 1.0]),
        turn_s=rng.choice([0.0, 0.0002, 0.0002, 0.001]),
        clients=rng.choice([2, 3, 3, 4]),
        session_ttl_ms=rng.choice([1000, 3000, 60_000, 60_000]),
        operation_every_s=rng.choice([0.08, 0.12, 0.2]),
        operations={kind: rng.choice([1, 2, 5]) for kind in kinds},
        keys=rng.choice([1, 2, 3, 5]),
    )


# Duration of each kind: (shortest, longest).
_DURATIONS = {
    "crash": (0.05, 3.0),
    "power_cut": (0.05, 3.0),
    "crash_all": (0.05, 1.0),
    "power_cut_all": (0.05, 1.0),
    "pause": (0.1, 2.5),
    "isolate": (0.1, 4.0),
    "split": (0.1, 4.0),
    "one_way": (0.1, 4.0),
    "bridge": (0.1, 4.0),
    "flap": (0.5, 3.0),
    "stall": (0.05, 2.0),
    "slow_disk": (0.3, 3.0),
    "sync_error": (0.2, 2.0),
    "disk_full": (0.2, 2.0),
    "wipe": (0.1, 1.5),
    "damage": (0.1, 1.5),
    "member": (1.0, 3.0),
    "clock_rate": (1.0, 4.0),
}
# At most one of these in a run: each takes one disk's promises away, and P1 needs a majority of the disks.
_DISK_LOSSES = ("wipe", "damage")


def draw_faults(rng: random.Random, options: Options, kinds: Sequence[str] = FAULT_KINDS) -> list[Fault]:
    """0..12 faults of the kinds that this run has; times ascending."""
    enabled = [kind for kind in kinds if rng.random() < 0.4]
    if options.nodes == 1:
        enabled = [k for k in enabled if k not in ("wipe", "damage", "transfer", "member")]
    if not enabled:
        return []
    faults: list[Fault] = []
    is_disk_lost = False
    for _ in range(rng.choice([1, 3, 5, 8, 12])):
        kind = rng.choice(enabled)
        if kind in _DISK_LOSSES:
            if is_disk_lost:
                continue
            is_disk_lost = True
        shortest, longest = _DURATIONS.get(kind, (0.0, 0.0))
        faults.append(
            Fault(
                at_s=round(rng.uniform(FAULTS_FROM_S, options.faults_to_s - 0.5), 4),
                kind=kind,
                node=rng.choice([-1, *range(options.nodes)]),
                duration_s=round(rng.uniform(shortest, longest), 4),
                argument=round(rng.random(), 4),
            )
        )
    return sorted(faults, key=lambda fault: fault.at_s)


def draw(seed: int) -> Schedule:
    """The whole run of a seed."""
    rng = random.Random(f"schedule:{seed}")
    options = draw_options(rng)
    return Schedule(seed, options, tuple(draw_faults(rng, options)))
