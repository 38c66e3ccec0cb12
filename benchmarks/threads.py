"""Threads with the blocking client, beside threads with etcd's: the same harness, in turns.

Each thread sets (or gets) its own keys without a pause; all threads of a system share one client. etcd's is
grpc's blocking stub on one channel to the leader, which is what its Python clients are made of. Three nodes
each, a disk sync for each write on each node, linearizable reads, 100-byte values. Each system in a process
of its own; etcd with gRPC as it comes, and with gRPC's settings of replcache's client. Usage:

    python -m benchmarks.threads [--rounds 3] [--seconds 4] [--threads 64] [--json FILE]
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.apart import apart
from benchmarks.rivals.systems import SYSTEMS, Etcd, Replcache, etcd_stubs
from benchmarks.versus import KEYS_PER_CALLER, WARM_UP_S, percentile
from replcache.client import Client

VALUE = b"x" * 100
Call = Callable[[str], Any]


@contextlib.contextmanager
def replcache_calls() -> Iterator[dict[str, Call]]:
    with Replcache().running() as url, Client(url, timeout="20s") as client:
        yield {"set": lambda key: client.set(key, VALUE), "get": client.get}


@contextlib.contextmanager
def etcd_calls() -> Iterator[dict[str, Call]]:
    messages, services = etcd_stubs()
    with Etcd().running() as endpoints:
        leader = asyncio.run(leader_of(endpoints))
        with grpc.insecure_channel(leader) as channel:
            stub = services.KVStub(channel)
            yield {
                "set": lambda key: stub.Put(messages.PutRequest(key=key.encode(), value=VALUE)),
                "get": lambda key: stub.Range(messages.RangeRequest(key=key.encode())),
            }


async def leader_of(endpoints: list[str]) -> str:
    messages, services = etcd_stubs()
    await (await Etcd().connect(endpoints)).close()  # waits until there is one
    for endpoint in endpoints:
        async with grpc.aio.insecure_channel(endpoint) as channel:
            status = await services.MaintenanceStub(channel).Status(messages.StatusRequest(), timeout=2)
            if status.leader == status.header.member_id:
                return endpoint
    raise RuntimeError("etcd lost its leader while it was looked for")


def measure(call: Call, threads: int, seconds: float) -> tuple[float, list[float]]:
    """(calls a second, sorted latencies in seconds)."""
    latencies: list[list[float]] = [[] for _ in range(threads)]
    begin = time.perf_counter() + WARM_UP_S
    end = begin + seconds

    def run(number: int) -> None:
        count = 0
        while (started := time.perf_counter()) < end:
            call(f"key{number:04d}-{count % KEYS_PER_CALLER:06d}")
            count += 1
            if started > begin:
                latencies[number].append(time.perf_counter() - started)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    merged = sorted(one for found in latencies for one in found)
    return len(merged) / seconds, merged


# Each with how its calls are made.
WAYS = (
    (SYSTEMS["etcd"], etcd_calls),
    (SYSTEMS["etcd-ours"], etcd_calls),
    (SYSTEMS["replcache"], replcache_calls),
)


def measure_works(
    opened: Callable[[], contextlib.AbstractContextManager[dict[str, Call]]], threads: int, seconds: float
) -> dict[str, tuple[float, float, float]]:
    """(calls a second, p50 and p99 in milliseconds) of each work."""
    found = {}
    with opened() as calls:
        for work, call in calls.items():
            rate, latencies = measure(call, threads, seconds)
            found[work] = (rate, percentile(latencies, 0.5), percentile(latencies, 0.99))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for _ in range(args.rounds):
        for system, opened in WAYS:
            measured = apart(system.grpc_experiments, measure_works, opened, args.threads, args.seconds)
            for work, figures_of_work in measured.items():
                found.setdefault((work, system.name), []).append(figures_of_work)
    figures = {
        f"{work}, {name}": [statistics.median(column) for column in zip(*rows, strict=True)]
        for (work, name), rows in sorted(found.items())
    }
    table = Table(
        "work", "calls/s", "p50 ms", "p99 ms", "rate / etcd", title=f"{args.threads} threads, medians"
    )
    for what, (rate, p50, p99) in figures.items():
        ratio = rate / figures[what.split(",")[0] + ", etcd"][0]
        table.add_row(what, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{ratio:.2f}")
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
