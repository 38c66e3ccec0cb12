"""The same seed gives the same trace in another process with other hash seeds."""

import os
import subprocess
import sys

from tests.tidy.sources import ROOT

PROGRAM = """
from tests.simulation.schedule import draw
from tests.simulation.world import play
for seed in (2, 9, 31):
    print(play(draw(seed)).trace_hash)
"""


def test_trace_does_not_depend_on_the_hash_seed() -> None:
    """Sets of strings iterate in another order under each PYTHONHASHSEED: nothing may follow from it."""
    traces = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
