"""Runs schedules: `python -m tests.simulation.run --seeds 1000 --jobs 2`, or one with `--seed S --trace`.

Prints progress, schedules per minute and a summary; every failure with the one command that repeats it.
Exit code 1 when a schedule broke a promise.
"""

import argparse
import gc
import multiprocessing
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from tests.simulation.schedule import Schedule, draw
from tests.simulation.shrink import shrink
from tests.simulation.world import Report, play

REGRESSIONS = pathlib.Path(__file__).parent / "regressions"
# The cyclic collector costs a third of the time; a run's garbage is small, so it is collected between runs.
COLLECT_EVERY = 20


@dataclass
class Outcome:
    """What a worker sends back of one seed: small and picklable."""

    seed: int
    kind: str
    text: str
    trace_hash: int
    virtual_s: float
    facts: dict[str, int]


@dataclass
class Summary:
    schedules: int = 0
    virtual_s: float = 0.0
    facts: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.schedules += 1
        self.virtual_s += outcome.virtual_s
        self.facts.update(outcome.facts)
        if outcome.kind:
            self.failures.append(outcome)


def outcome_of(report: Report) -> Outcome:
    violation = report.violation
    return Outcome(
        report.schedule.seed,
        violation.kind if violation else "",
        violation.text if violation else "",
        report.trace_hash,
        report.virtual_s,
        report.facts,
    )


def play_seed(seed: int) -> Outcome:
    """Runs one seed in a worker."""
    return outcome_of(play(draw(seed)))


def _start_worker() -> None:
    gc.disable()


def _chunk(seeds: list[int]) -> list[Outcome]:
    outcomes = [play_seed(seed) for seed in seeds]
    gc.collect()
    return outcomes


def run_seeds(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """Outcomes in no particular order; with one job in this process."""
    pending = list(seeds)
    chunks = [pending[at : at + COLLECT_EVERY] for at in range(0, len(pending), COLLECT_EVERY)]
    if jobs <= 1:
        _start_worker()
        try:
            for chunk in chunks:
                yield from _chunk(chunk)
        finally:
            gc.enable()
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _start_worker) as pool:
        for outcomes in pool.imap_unordered(_chunk, chunks):
            yield from outcomes


def print_failure(outcome: Outcome) -> None:
    print(f"FAILED seed {outcome.seed}: {outcome.kind}: {outcome.text[:1500]}")
    print(f"  again: python -m tests.simulation.run --seed {outcome.seed} --trace")


def run_many(first: int, count: int, jobs: int, stop_at: int) -> int:
    summary = Summary()
    started = shown = time.monotonic()
    for outcome in run_seeds(range(first, first + count), jobs):
        summary.add(outcome)
        if outcome.kind:
            print_failure(outcome)
        now = time.monotonic()
        if now - shown > 10:
            shown = now
            rate = summary.schedules / (now - started) * 60
            print(f"{summary.schedules} of {count} schedules, {rate:.0f} a minute", flush=True)
        if len(summary.failures) >= stop_at:
            break
    return _print_summary(summary, time.monotonic() - started)


def _print_summary(summary: Summary, seconds: float) -> int:
    rate = summary.schedules / seconds * 60 if seconds else 0.0
    print(
        f"{summary.schedules} schedules, {summary.virtual_s / 3600:.2f} virtual hours in {seconds:.1f} s: "
        f"{rate:.0f} schedules a minute, {len(summary.failures)} failed"
    )
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(summary.facts.items())))
    for kind, number in Counter(f.kind for f in summary.failures).most_common():
        print(f"  {number} x {kind}")
    return 1 if summary.failures else 0


def run_one(schedule: Schedule, trace: bool, shrink_it: bool) -> int:
    print(f"SEED={schedule.seed} {schedule.options}")
    for number, fault in enumerate(schedule.faults):
        print(f"  fault {number}: {fault}")
    report = play(schedule, keep_trace=trace)
    for line in report.trace:
        print(line)
    print(f"trace {report.trace_hash:08x}, {report.events} events, {report.virtual_s:.2f} virtual seconds")
    if report.violation is None:
        print("no violation")
        return 0
    print(f"VIOLATION {report.violation}")
    if shrink_it:
        small = shrink(schedule)
        path = REGRESSIONS / f"{report.violation.kind.replace(' ', '_')}_{schedule.seed}.json"
        replace(small, mutant=schedule.mutant).save(path)
        print(f"{len(small.faults)} faults left of {len(schedule.faults)}: {path}")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--stop-at", type=int, default=5, help="stop after this many failures")
    parser.add_argument("--seed", type=int, help="play this one")
    parser.add_argument("--replay", type=pathlib.Path, help="play a stored schedule")
    parser.add_argument("--trace", action="store_true", help="print every event of it")
    parser.add_argument("--shrink", action="store_true", help="leave out faults and store it")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return run_one(Schedule.load(arguments.replay), arguments.trace, arguments.shrink)
    if arguments.seed is not None:
        return run_one(draw(arguments.seed), arguments.trace, arguments.shrink)
    return run_many(arguments.first, arguments.seeds, arguments.jobs, arguments.stop_at)


if __name__ == "__main__":
    sys.exit(main())
