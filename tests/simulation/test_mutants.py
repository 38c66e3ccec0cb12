"""The suite can see: each planted bug is caught, by its directed schedule or the one that caught it last.

The table (mutants.json) says which that was; `python -m tests.simulation.mutants --store` hunts anew. When
the product has changed so that the stored schedule no longer catches a mutant, some more are tried.
"""

import json

import pytest

from tests.simulation.mutants import MUTANTS, TABLE, Catch, hunt_by_chance, hunt_directed
from tests.simulation.planting import planted
from tests.simulation.schedule import draw
from tests.simulation.world import play

CATCHES = {entry["name"]: Catch(**entry) for entry in json.loads(TABLE.read_text())}
# Schedules to try when the stored one fails.
SEEDS_MAX = 100


def test_there_are_enough_mutants_of_each_kind() -> None:
    groups = [mutant.group for mutant in MUTANTS.values()]
    assert len(groups) >= 60
    assert groups.count("raft") >= 25
    assert groups.count("storage") >= 5
    assert {"reads", "locks", "ttl", "sessions"} <= set(groups)
    assert set(CATCHES) == set(MUTANTS), "hunt again: python -m tests.simulation.mutants --store"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    if mutant.directed:
        assert hunt_directed(mutant), f"{name}: its directed schedule sees nothing"
        return
    seeds = CATCHES[name].seeds if name in CATCHES else 0
    if seeds:
        with planted(mutant):
            report = play(draw(seeds - 1))
        if report.violation is not None:
            return
    found, _ = hunt_by_chance(mutant, SEEDS_MAX)
    assert found, f"{name}: {SEEDS_MAX} schedules see nothing"
