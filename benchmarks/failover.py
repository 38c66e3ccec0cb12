"""How long nobody can write after kill -9 of the leader, and which acknowledged writes are gone afterwards.

The same loop for every system: writers with a client each write keys that were never written before, every
write with a deadline, the next endpoint after a failure. While they do, the leader is killed, started again,
and killed again when the cluster is whole. For each kill: the longest time between two acknowledgements. At
the end every key whose write was acknowledged is read from the leader. Usage:

    python -m benchmarks.failover [--kills 30] [--rounds 3] [--systems replcache,etcd,...] [--json FILE]

The rounds go through the systems in turn, so that a noisy moment of the machine does not hit only one.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.rivals.alone import ALONE_GROUPS
from benchmarks.rivals.groups import GROUPS, READ_KEYS, Group, WriteFailed, until
from benchmarks.rivals.systems import temporary_directory

# After a failed write: a writer that is refused at once must not spin.
FAILURE_PAUSE_S = 0.02
# Writes go on undisturbed this long before each kill and after the service is back.
QUIET_S = 1.0
# No acknowledgement for this long after a kill: the measurement ends with an error.
GAP_LIMIT_S = 120.0


@dataclass
class Figure:
    """One round of one system. Gaps in seconds, one for each kill."""

    system: str
    setting: str
    gaps: list[float] = field(default_factory=list)
    acknowledged: int = 0
    failed: int = 0
    lost: int = 0


class Load:
    """Writers at work; remembers every acknowledgement."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._deadline_s: float = args.deadline
        self._pause_s: float = args.pause
        self.acknowledged: list[str] = []
        self.times: list[float] = []
        self.failed = 0
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    async def write(self, group: Group, number: int) -> None:
        writer = await group.writer(number)
        sequence = 0
        try:
            while not self._stopping:
                key = f"w{number:02d}-{sequence:08d}"
                sequence += 1
                try:
                    await writer.write(key, self._deadline_s)
                except WriteFailed:
                    self.failed += 1
                    await asyncio.sleep(FAILURE_PAUSE_S)
                    continue
                self.acknowledged.append(key)
                self.times.append(time.perf_counter())
                await asyncio.sleep(self._pause_s)
        finally:
            await writer.close()

    async def served_since(self, moment: float) -> bool:
        """Whether writes are acknowledged steadily at least QUIET_S long after the moment."""
        recent = self.times[bisect_left(self.times, moment) :]
        if not recent:
            return False
        gaps = [b - a for a, b in pairwise(recent)]
        steady_from = recent[0]
        for at, gap in zip(recent, gaps, strict=False):
            if gap > QUIET_S / 2:
                steady_from = at + gap
        return recent[-1] - steady_from >= QUIET_S

    def longest_gap(self, start: float) -> float:
        """Longest time between two acknowledgements that ends after `start`."""
        first = max(0, bisect_left(self.times, start) - 1)
        recent = self.times[first:]
        return max(b - a for a, b in pairwise(recent))


async def measure(group: Group, kills: int, args: argparse.Namespace, advance: "Progressing") -> Figure:
    figure = Figure(group.name, group.setting)
    await group.leader()
    load = Load(args)
    async with asyncio.TaskGroup() as tasks:
        for number in range(args.writers):
            tasks.create_task(load.write(group, number))
        for _ in range(kills):
            begin = time.perf_counter()
            await until("writes are served", lambda begin=begin: load.served_since(begin), GAP_LIMIT_S)
            leader = await group.leader()
            killed = time.perf_counter()
            await group.kill(leader)
            await until("writes are served again", lambda at=killed: load.served_since(at), GAP_LIMIT_S)
            figure.gaps.append(load.longest_gap(killed))
            await group.restart(leader)
            advance(figure)
        load.stop()
    figure.acknowledged = len(load.acknowledged)
    figure.failed = load.failed
    figure.lost = await count_lost(group, sorted(load.acknowledged))
    return figure


async def count_lost(group: Group, keys: list[str]) -> int:
    lost = 0
    for at in range(0, len(keys), READ_KEYS):
        part = keys[at : at + READ_KEYS]
        values = await group.read(part)
        lost += sum(value != key.encode() for key, value in zip(part, values, strict=True))
    return lost


class Progressing:
    """Counts kills on the progress bar, with the last gap."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("killing leaders", total=total)

    def __call__(self, figure: Figure) -> None:
        text = f"{figure.system} {figure.setting}: {figure.gaps[-1]:.2f} s"
        self._progress.update(self._task, advance=1, description=text)
        if not self._progress.console.is_terminal:
            self._progress.console.print(text)


async def measure_fresh(name: str, kills: int, args: argparse.Namespace, advance: Progressing) -> Figure:
    with temporary_directory() as directory:
        async with (GROUPS | ALONE_GROUPS)[name](directory) as group:
            return await measure(group, kills, args, advance)


def run(args: argparse.Namespace, console: Console) -> list[Figure]:
    shares = [len(range(start, args.kills, args.rounds)) for start in range(args.rounds)]
    figures = []
    with Progress(console=console) as progress:
        advance = Progressing(progress, args.kills * len(args.systems))
        for share in filter(None, shares):
            for name in args.systems:
                figures.append(uvloop.run(measure_fresh(name, share, args, advance)))
    return figures


def totals(figures: list[Figure]) -> list[Figure]:
    """The rounds of each system together."""
    together: dict[tuple[str, str], Figure] = {}
    for one in figures:
        total = together.setdefault((one.system, one.setting), Figure(one.system, one.setting))
        total.gaps += one.gaps
        total.acknowledged += one.acknowledged
        total.failed += one.failed
        total.lost += one.lost
    return list(together.values())


def show(figures: list[Figure], console: Console) -> None:
    table = Table(title="seconds without an acknowledged write around kill -9 of the leader")
    table.add_column("system", no_wrap=True)
    for column in ("kills", "p50", "p90", "max", "acked", "failed", "lost"):
        table.add_column(column, justify="right")
    for one in totals(figures):
        gaps = sorted(one.gaps)
        high = gaps[min(len(gaps) - 1, int(len(gaps) * 0.9))]
        seconds = (f"{statistics.median(gaps):.2f}", f"{high:.2f}", f"{gaps[-1]:.2f}")
        counts = (f"{one.acknowledged:,}", f"{one.failed:,}", f"{one.lost:,}")
        table.add_row(f"{one.system}, {one.setting}", str(len(gaps)), *seconds, *counts)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=30, help="of each system, all rounds together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", type=lambda t: t.split(","), default=list(GROUPS))
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds of one write")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds of a writer between two writes")
    parser.add_argument("--json", type=Path, help="write every single gap to this file")
    args = parser.parse_args()
    known = [*GROUPS, *ALONE_GROUPS]
    if unknown := set(args.systems) - set(known):
        parser.error(f"no such system: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    figures = run(args, console)
    show(figures, console)
    if args.json:
        facts = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        args.json.write_text(json.dumps({**facts, "figures": [asdict(f) for f in figures]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
