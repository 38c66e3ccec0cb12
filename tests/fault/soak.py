"""Hours of ordinary use with a fault now and then: `make soak HOURS=8`, report in .soak/.

    python -m tests.fault.soak [--hours 1] [--seed N] [--rate 60] [--kinds kill ...] [--out DIR]

Slices of verified workloads (register, counter, lock, append, ttl, exactly-once) follow each other, each
judged by the checker, while one client writes and another watches the same range all the time. Every second
the memory, files, threads, log and snapshots of each node go to samples.csv. Exit code 0 when every slice is
linearizable, every call ended by its deadline, no event was missed, all nodes have the same state at the end,
and nothing grew beyond the limits of resources.py; else 1. The same seed gives the same work and faults.
"""

import argparse
import asyncio
import html
import itertools
import random
import shutil
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from replcache import AsyncClient
from replcache.client.watch import WatchKind
from replcache.errors import ReplcacheError, Unavailable
from replcache.verify.checker import Verdict
from replcache.verify.run import Report, verify
from replcache.verify.workloads import WORKLOADS
from tests.fault.nemesis import ENVIRONMENT, FAULTS, Nemesis
from tests.fault.report import chart
from tests.fault.resources import MB, Sampler, growth, problems
from tests.fault.soak_report import write_soak_report
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import async_wait_until

CALL_TIMEOUT_S = 3.0
# A call that ends later than this after its deadline hangs.
GRACE_S = 1.0
WATCHED_PREFIX = "soak/"
WATCHED_KEYS = 50
WATCH_WRITE_PAUSE_S = 0.2
SAMPLE_PAUSE_S = 1.0
# In the report: pictures of the newest slices only.
PICTURES_MAX = 40


@dataclass
class Watched:
    """One writer and one watcher of the same range; everything acknowledged must be seen, once, in order."""

    url: str
    acknowledged: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    # Up to here the watcher was given a snapshot instead of events.
    complete_from: int = 0
    newest: int = 0
    resyncs: int = 0
    problems: list[str] = field(default_factory=list)

    async def write(self, stopping: asyncio.Event) -> None:
        async with AsyncClient(self.url, timeout=CALL_TIMEOUT_S) as client:
            for number in itertools.count():
                if stopping.is_set():
                    return
                began = time.monotonic()
                try:
                    done = await client.set(f"{WATCHED_PREFIX}{number % WATCHED_KEYS}", number)
                    self.acknowledged.append(done.revision)
                except ReplcacheError:
                    pass  # faults are under way; whether it happened does not matter here
                if time.monotonic() - began > CALL_TIMEOUT_S + GRACE_S:
                    self.problems.append(f"write {number} took {time.monotonic() - began:.1f} s")
                await asyncio.sleep(WATCH_WRITE_PAUSE_S)

    async def watch(self) -> None:
        """Until cancelled. A watch that no node could serve for long begins again with a snapshot."""
        async with AsyncClient(self.url, timeout=CALL_TIMEOUT_S) as client:
            while True:
                try:
                    async with client.watch(prefix=WATCHED_PREFIX, start="snapshot") as watch:
                        async for event in watch:
                            self._note(event.kind, event.revision)
                except Unavailable:
                    self.resyncs += 1

    def _note(self, kind: WatchKind, revision: int) -> None:
        if kind is WatchKind.RESYNC:
            self.resyncs += 1
        elif kind is WatchKind.SYNCED:
            self.complete_from = max(self.complete_from, revision)
            self.newest = max(self.newest, revision)
        elif kind is not WatchKind.ENTRY:
            if revision <= self.newest:
                self.problems.append(f"event {revision} came after {self.newest}")
            self.newest = max(self.newest, revision)
            self.seen.add(revision)

    def missed(self) -> list[int]:
        return [one for one in self.acknowledged if one > self.complete_from and one not in self.seen]


class Soak:
    """One run."""

    def __init__(self, cluster: ProcessCluster, args: argparse.Namespace) -> None:
        self._cluster = cluster
        self._args = args
        self._seconds = args.hours * 3600
        # Short runs see every workload, long ones are not cut into thousands of pieces.
        self._slice_s = min(600.0, max(12.0, self._seconds / (2 * len(WORKLOADS))))
        pause_s = min(300.0, max(6.0, self._slice_s / 3))
        self._nemesis = Nemesis(cluster, args.kinds, pause_s * 0.5, pause_s * 1.5)
        self.sections: list[str] = []
        self.problems: list[str] = []
        self.calls = 0
        self.slices = 0
        self.faults = 0

    async def run(self, sampler: Sampler) -> None:
        watched = Watched(self._cluster.url)
        stopping = asyncio.Event()
        sampling = asyncio.create_task(self._sample(sampler))
        watching = asyncio.create_task(watched.watch())
        writing = asyncio.create_task(watched.write(stopping))
        try:
            await self._slices()
            stopping.set()
            await writing
            await self._settled(watched)
            await self._same_state()
        except (AssertionError, ReplcacheError, ExceptionGroup) as error:
            # A cluster that does not come back ends the run, but what was seen until then is reported.
            self.problems.append(f"the run ended early: {error!r}")
            traceback.print_exc()
        finally:
            for task in (sampling, watching, writing):
                task.cancel()
            await asyncio.gather(sampling, watching, writing, return_exceptions=True)
        for task in (sampling, watching, writing):
            if not task.cancelled() and (error := task.exception()) is not None:
                self.problems.append(f"a task of the soak failed: {error!r}")
        self.problems += watched.problems[:20]
        print(
            f"watch: {len(watched.acknowledged)} writes acknowledged, {len(watched.seen)} events seen, "
            f"{watched.resyncs} resyncs",
            flush=True,
        )

    async def _sample(self, sampler: Sampler) -> None:
        while True:
            await asyncio.to_thread(sampler.look)
            await asyncio.sleep(SAMPLE_PAUSE_S)

    async def _slices(self) -> None:
        end = time.monotonic() + self._seconds
        for number, workload in enumerate(itertools.cycle(WORKLOADS)):
            left_s = end - time.monotonic()
            if left_s < min(5.0, self._slice_s):
                return
            report = await verify(
                self._cluster.url,
                workload,
                min(self._slice_s, left_s),
                processes=6,
                seed=self._args.seed + number,
                faults=self._nemesis,
                rate=self._args.rate,
                timeout_s=CALL_TIMEOUT_S,
            )
            self._note(report, number)

    def _note(self, report: Report, number: int) -> None:
        text = report.text()
        is_good = report.verdict is Verdict.LINEARIZABLE
        print(f"--- slice {number}\n{text}", flush=True)
        self.slices += 1
        self.calls += len(report.history)
        self.faults += len(report.faults)
        if not is_good:
            self.problems.append(f"slice {number}: {text}")
        if not is_good or len(self.sections) < PICTURES_MAX:
            title = f"<h2>slice {number}: {html.escape(report.workload)}, {report.verdict.value}</h2>"
            self.sections.append(f"{title}{chart(report)}<pre>{html.escape(text)}</pre>")

    async def _settled(self, watched: Watched) -> None:
        """All faults are healed: the watch must come to the last acknowledged write."""
        last = watched.acknowledged[-1] if watched.acknowledged else 0
        try:
            await async_wait_until(lambda: watched.newest >= last, 45, "the watch is up to date")
        except AssertionError as error:
            self.problems.append(f"{error} (at {watched.newest}, last write {last})")
        if missed := watched.missed():
            self.problems.append(f"the watch missed {len(missed)} events, e.g. {missed[:5]}")

    async def _same_state(self) -> None:
        """Nobody writes now; expiries may still be applied, so hashes are compared at an equal index."""
        async with AsyncClient(self._cluster.url, timeout="10s") as client:

            async def hashes() -> list[object] | None:
                found = [await client.hash(name) for name in self._cluster.names]
                return found if len({one.applied_index for one in found}) == 1 else None

            found = await async_wait_until(hashes, 60, "all nodes are at the same index")
        digests = {one.digest for one in found}
        print(f"state at index {found[0].applied_index}: {len(digests)} digest(s)", flush=True)
        if len(digests) != 1:
            self.problems.append(f"different states at one index: {found}")


def run(args: argparse.Namespace) -> int:
    out: Path = args.out
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    print(f"seed {args.seed}, {args.hours * 60:.1f} minutes", flush=True)
    cluster = ProcessCluster(out / "cluster", random.Random(args.seed))
    soak = Soak(cluster, args)
    with (out / "samples.csv").open("w", encoding="utf-8", newline="") as sink:
        sampler = Sampler(cluster, sink)
        try:
            cluster.start(**ENVIRONMENT)
            cluster.wait_ready()
            asyncio.run(soak.run(sampler))
        finally:
            cluster.stop()
    found = soak.problems + problems(sampler.samples)
    write_soak_report(out / "report.html", args.seed, sampler.samples, soak.sections, found)
    for one in growth(sampler.samples):
        unit, name = (MB, "MB") if one.what.endswith("bytes") else (1, "")
        print(f"{one.node} {one.what}: {one.before / unit:.1f} -> {one.after / unit:.1f} {name}")
    print(f"{soak.slices} slices, {soak.calls} calls, {soak.faults} faults, {len(found)} problems")
    for problem in found:
        print(f"PROBLEM {problem}")
    print(f"report: {out / 'report.html'}; again: python -m tests.fault.soak --seed {args.seed}")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--rate", type=float, default=60.0, help="verified calls a second")
    parser.add_argument("--kinds", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--out", type=Path, default=Path(".soak"))
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
