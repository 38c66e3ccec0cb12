"""The planted bugs, and the proof that the suite sees each: `python -m tests.simulation.mutants`.

Each mutant is hunted by its directed schedule, if it has one, and by chance (seeds 0, 1, 2, ...), until it
is caught. A mutant that nothing catches within its budget is a missing check: exit code 1.
"""

import argparse
import gc
import json
import multiprocessing
import pathlib
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

from tests.simulation import mutants_raft, mutants_state, mutants_storage
from tests.simulation.directed import SCRIPTS, play_script
from tests.simulation.planting import Mutant, StaleMutantError, planted
from tests.simulation.schedule import draw
from tests.simulation.world import play

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (*mutants_raft.MUTANTS, *mutants_storage.MUTANTS, *mutants_state.MUTANTS)
}
# What the last full hunt found; the tests replay exactly this.
TABLE = pathlib.Path(__file__).parent / "mutants.json"
SEEDS_MAX = 300


@dataclass
class Catch:
    """How a mutant was caught: by which schedule, and what it broke first.

    `seeds`: number of random schedules played until it was caught; 0: chance did not find it.
    `directed`: the violation that its directed schedule found; "": there is none.
    """

    name: str
    group: str
    about: str
    seeds: int
    kind: str
    directed: str
    seconds: float

    @property
    def is_caught(self) -> bool:
        return bool(self.seeds or self.directed)


def hunt_by_chance(mutant: Mutant, seeds_max: int) -> tuple[int, str]:
    """(number of schedules played, what was violated); (0, "") when it survives."""
    for seed in range(seeds_max):
        with planted(mutant):
            report = play(draw(seed))
        if report.violation is not None:
            return seed + 1, report.violation.kind
        if seed % 20 == 19:
            gc.collect()
    return 0, ""


def hunt_directed(mutant: Mutant) -> str:
    if not mutant.directed:
        return ""
    with planted(mutant):
        violation = play_script(SCRIPTS[mutant.directed])
    return violation.kind if violation is not None else ""


def hunt(name: str, seeds_max: int) -> Catch:
    mutant = MUTANTS[name]
    started = time.monotonic()
    try:
        directed = hunt_directed(mutant)
        seeds, kind = hunt_by_chance(mutant, seeds_max)
    except StaleMutantError as error:
        print(f"STALE {name}: {error}", flush=True)
        directed, seeds, kind = "", 0, ""
    return Catch(
        name, mutant.group, mutant.about, seeds, kind, directed, round(time.monotonic() - started, 1)
    )


def _hunt(arguments: tuple[str, int]) -> Catch:
    gc.disable()
    return hunt(*arguments)


def print_catch(catch: Catch) -> None:
    chance = f"{catch.seeds} schedules ({catch.kind})" if catch.seeds else "not by chance"
    directed = f"; directed: {catch.directed}" if catch.directed else ""
    mark = "caught  " if catch.is_caught else "SURVIVES"
    print(f"{mark} {catch.group:8} {catch.name}: {chance}{directed} [{catch.seconds} s]", flush=True)


def store(catches: list[Catch]) -> None:
    """Takes these over into the table; the rest of it stays as it is."""
    entries = {entry["name"]: entry for entry in (json.loads(TABLE.read_text()) if TABLE.exists() else [])}
    entries.update({catch.name: asdict(catch) for catch in catches})
    table = [entries[name] for name in MUTANTS if name in entries]
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="random schedules for each at most")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--store", action="store_true", help=f"write {TABLE.name}")
    arguments = parser.parse_args()
    names = [name for name in MUTANTS if arguments.only in name]
    work = [(name, arguments.seeds) for name in names]
    catches: list[Catch] = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for catch in pool.imap_unordered(_hunt, work):
            catches.append(catch)
            print_catch(catch)
            if arguments.store:
                store([catch])
    survivors = [catch.name for catch in catches if not catch.is_caught]
    groups = Counter(catch.group for catch in catches)
    print(
        f"{len(catches) - len(survivors)} of {len(catches)} caught ({dict(groups)}); survivors: {survivors}"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
