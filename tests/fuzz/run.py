"""Fuzzes for a while: `make fuzz MINUTES=n`. Each pass has a fresh seed; the first failure ends the run.

    python -m tests.fuzz.run [--minutes 5] [--factor 4] [--seed N] [pytest arguments]

A failure prints the pass's seed and Hypothesis's @reproduce_failure line; either brings it back.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--factor", type=int, default=4, help="examples, as a multiple of those of make test")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args, rest = parser.parse_known_args()
    end = time.monotonic() + args.minutes * 60
    number = 0
    while number == 0 or time.monotonic() < end:
        seed = args.seed + number
        number += 1
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=0"]
        command += [f"--hypothesis-seed={seed}", *(rest or [str(Path(__file__).parent)])]
        print(f"--- pass {number}, seed {seed}, {max(0.0, end - time.monotonic()):.0f} s left", flush=True)
        done = subprocess.run(command, env={**os.environ, "REPLCACHE_FUZZ_FACTOR": str(args.factor)})
        if done.returncode != 0:
            print(f"again: python -m tests.fuzz.run --minutes 0 --factor {args.factor} --seed {seed}")
            return 1
    print(f"{number} passes, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
