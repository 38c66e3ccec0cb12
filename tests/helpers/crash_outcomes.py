"""Which unsynced things survive a power cut: every subset where that is feasible, a sample where not.

The idea of checking all legal persistence orders is that of ALICE (OSDI 2014).
"""

import random
from collections.abc import Iterator

EXHAUSTIVE_UNSYNCED_MAX = 9
SAMPLES = 40


def outcomes(unsynced: int, rng: random.Random) -> Iterator[list[bool]]:
    """One decision for each unsynced thing; up to 2**9 subsets, else the extremes and a sample."""
    if unsynced <= EXHAUSTIVE_UNSYNCED_MAX:
        for mask in range(1 << unsynced):
            yield [bool(mask >> at & 1) for at in range(unsynced)]
        return
    yield [False] * unsynced
    yield [True] * unsynced
    for at in rng.sample(range(unsynced), min(unsynced, SAMPLES // 4)):
        yield [other == at for other in range(unsynced)]
        yield [other != at for other in range(unsynced)]
    for _ in range(SAMPLES // 2):
        keep = rng.random()
        yield [rng.random() < keep for _ in range(unsynced)]
