"""replcache beside etcd and Redis: the same callers, the same machine, one run.

Each round starts one system after the other, measures it and stops it, so that they never share the cores,
each from a process of its own. The figure is the median over the rounds, and the ratio to etcd. etcd is
measured twice: with gRPC as it comes, and with gRPC's settings of replcache's client. Usage:

    python -m benchmarks.versus [--rounds 3] [--seconds 3] [--callers 1,256] [--sizes 100]
        [--nodes 3] [--json FILE]
"""

import argparse
import asyncio
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.apart import apart
from benchmarks.rivals.systems import SYSTEMS, Etcd, Replcache, Store, System

KEYS_PER_CALLER = 100
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Figure:
    """One measurement. Latencies in milliseconds."""

    system: str
    work: str
    callers: int
    value_bytes: int
    nodes: int
    rate: float
    p50_ms: float
    p99_ms: float


async def measure(
    store: Store, work: str, callers: int, value: bytes, seconds: float
) -> tuple[float, list[float]]:
    """(operations a second, sorted latencies in seconds) of `callers` loops of one operation."""
    latencies: list[float] = []
    begin = time.perf_counter() + WARM_UP_S
    end = begin + seconds

    async def caller(number: int) -> None:
        count = 0
        while True:
            started = time.perf_counter()
            if started > end:
                return
            key = f"key{number:04d}-{count % KEYS_PER_CALLER:06d}"
            count += 1
            if work == "set":
                await store.set(key, value)
            else:
                await store.get(key)
            if started > begin:
                latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    latencies.sort()
    return len(latencies) / seconds, latencies


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def start_and_measure(system: System, args: argparse.Namespace) -> list[Figure]:
    with system.running() as address:
        return uvloop.run(measure_system(system, address, args))


async def measure_system(system: System, address: object, args: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []

    async def one(store: Store, name: str, work: str, callers: int, size: int) -> None:
        rate, latencies = await measure(store, work, callers, b"x" * size, args.seconds)
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        figures.append(Figure(system.name, name, callers, size, system.nodes, rate, p50, p99))

    store = await system.connect(address)
    for size in args.sizes:
        for callers in args.callers:
            for work in ("set", "get"):
                await one(store, work, work, callers, size)
    await store.close()
    if isinstance(system, Replcache):
        local = await Replcache("ONE").connect(address)
        for callers in args.callers:
            await one(local, "get one", "get", callers, args.sizes[-1])
        await local.close()
    return figures


def run(args: argparse.Namespace, console: Console) -> list[Figure]:
    figures: list[Figure] = []
    systems = [system for name in args.systems for system in sized(name, args.nodes)]
    with Progress(console=console) as progress:
        task = progress.add_task("measuring", total=args.rounds * len(systems))
        for number in range(args.rounds):
            for system in systems:
                progress.update(task, description=f"round {number + 1}: {system.name} x {system.nodes}")
                figures += apart(system.grpc_experiments, start_and_measure, system, args)
                progress.advance(task)
    return figures


def sized(name: str, nodes: list[int]) -> list[System]:
    """The system once for each number of nodes; Redis has one only."""
    if name == "redis":
        return [SYSTEMS[name]]
    if name == "replcache":
        return [Replcache(nodes=number) for number in nodes]
    return [Etcd(nodes=number, has_our_grpc=name == "etcd-ours") for number in nodes]


def medians(figures: list[Figure]) -> list[Figure]:
    groups: dict[tuple[str, str, int, int, int], list[Figure]] = {}
    for figure in figures:
        key = (figure.system, figure.work, figure.callers, figure.value_bytes, figure.nodes)
        groups.setdefault(key, []).append(figure)
    return [
        Figure(
            *key,
            statistics.median(f.rate for f in group),
            statistics.median(f.p50_ms for f in group),
            statistics.median(f.p99_ms for f in group),
        )
        for key, group in groups.items()
    ]


def show(figures: list[Figure], console: Console) -> None:
    table = Table(title="medians over the rounds; ratios to etcd in the same run")
    # Sizes and numbers of nodes are shown when there are several.
    varies = len({f.value_bytes for f in figures}) > 1 or len({f.nodes for f in figures} - {1}) > 1
    varied = ("bytes", "nodes") if varies else ()
    columns = ("work", "callers", *varied, "system", "ops/s", "p50 ms", "p99 ms", "rate / etcd", "p50 / etcd")
    for column in columns:
        table.add_column(column, justify="left" if column in ("work", "system") else "right")
    base = {(f.work, f.callers, f.value_bytes, f.nodes): f for f in figures if f.system == "etcd"}
    most = max((f.nodes for f in base.values()), default=1)
    for f in sorted(figures, key=lambda f: (f.value_bytes, f.callers, f.work, f.system, f.nodes)):
        nodes = most if f.system == "redis" else f.nodes
        other = base.get((f.work.split()[0], f.callers, f.value_bytes, nodes))
        ratios = (f"{f.rate / other.rate:.2f}", f"{f.p50_ms / other.p50_ms:.2f}") if other else ("", "")
        table.add_row(
            *(f.work, str(f.callers), *((str(f.value_bytes), str(f.nodes)) if varies else ()), f.system),
            *(f"{f.rate:,.0f}", f"{f.p50_ms:.2f}", f"{f.p99_ms:.2f}", *ratios),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--callers", type=lambda t: [int(n) for n in t.split(",")], default=[1, 256])
    parser.add_argument("--sizes", type=lambda t: [int(n) for n in t.split(",")], default=[100])
    parser.add_argument("--nodes", type=lambda t: [int(n) for n in t.split(",")], default=[3])
    parser.add_argument("--systems", type=lambda t: t.split(","), default=list(SYSTEMS))
    parser.add_argument("--json", type=Path, help="write every single measurement to this file")
    args = parser.parse_args()
    console = Console()
    figures = run(args, console)
    show(medians(figures), console)
    if args.json:
        facts = {"machine": platform.platform(), "python": platform.python_version()}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**facts, "figures": [asdict(f) for f in figures]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
