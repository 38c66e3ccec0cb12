"""What many keys cost: rates with 1k and 1M keys, memory, snapshots, recovery after kill -9, catching up.

    python -m benchmarks.data_size [--keys 1000000] [--value-bytes 100] [--rounds 5] [--json FILE]

Keys of 16 bytes. The rates with few and with many keys are measured in turns, on two
clusters of which one idles; figures are medians. Redis beside it for memory only (one node, no persistence).
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rivals.systems import free_port, processes, temporary_directory
from benchmarks.versus import percentile
from replcache import AsyncClient
from replcache.client import Client
from replcache.localcluster import LocalCluster, free_ports

# Bytes of values, and of keys, in one message of a filling.
BATCH_BYTES = 2 * 1024 * 1024
BATCH = 2000
CALLERS = 256
SECONDS = 4.0
FEW = 1000
# Of all nodes together.
SNAPSHOTS = 6
SNAPSHOT_TRIES = 12


def key(number: int) -> str:
    return f"key-{number:012d}"


def rss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert match is not None, text
    return int(match[1]) * 1024


def fill(client: Client, keys: int, value: bytes, console: Console) -> float:
    """Seconds to set keys 0..keys-1 in batches."""
    started = time.perf_counter()
    batch = batch_keys(value)
    for start in track(range(0, keys, batch), description=f"filling {keys:,} keys", console=console):
        client.set_many({key(number): value for number in range(start, min(start + batch, keys))})
    return time.perf_counter() - started


def batch_keys(value: bytes) -> int:
    return max(1, min(BATCH, BATCH_BYTES // (len(value) + 16)))


async def rate(
    url: str, keys: int, value: bytes, work: str, seconds: float
) -> tuple[float, list[tuple[float, float]]]:
    """(operations a second, [(wall time at start, latency)]) over random keys."""
    done: list[tuple[float, float]] = []
    rng = random.Random(1)
    async with AsyncClient(url, timeout="20s") as client:
        await client.set("warm", value)
        end = time.perf_counter() + seconds

        async def caller() -> None:
            while time.perf_counter() < end:
                name = key(rng.randrange(keys))
                at, started = time.time(), time.perf_counter()
                await (client.set(name, value) if work == "set" else client.get(name))
                done.append((at, time.perf_counter() - started))

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(done) / seconds, done


def snapshot_windows(cluster: LocalCluster) -> list[tuple[float, float]]:
    """(begin, end) in wall time of each snapshot that a node's log tells of."""
    windows = []
    for name in cluster.names:
        text = cluster.layout(name).log.read_text(errors="replace")
        for line in re.findall(
            r"^(\S+Z)[^\n]*snapshot_taken[^\n]*?seconds=([\d.]+)", text, flags=re.MULTILINE
        ):
            end = datetime.fromisoformat(line[0].replace("Z", "+00:00")).astimezone(UTC).timestamp()
            windows.append((end - float(line[1]), end))
    return windows


def until(ready: Callable[[], Any], timeout_s: float = 120.0) -> float:
    """Seconds until `ready()` is true and does not raise."""
    started = time.perf_counter()
    while time.perf_counter() - started < timeout_s:
        try:
            if ready():
                return time.perf_counter() - started
        except Exception:  # noqa: BLE001  # not up yet, in whatever way
            pass
        time.sleep(0.05)
    raise TimeoutError("not ready in time")


def redis_bytes(keys: int, value: bytes, console: Console) -> int:
    """Resident bytes of a redis-server with the same keys and values."""
    import redis

    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with temporary_directory() as directory, processes([command], directory):
        client = redis.Redis(port=port)
        until(client.ping)
        for start in track(range(0, keys, BATCH), description="filling redis", console=console):
            client.mset({key(number): value for number in range(start, min(start + BATCH, keys))})
        return int(client.info("memory")["used_memory_rss"])


@contextlib.contextmanager
def running(directory: Path, environment: dict[str, str], nodes: int = 3) -> Iterator[LocalCluster]:
    cluster = LocalCluster(directory, nodes, free_ports(nodes, random.Random()))
    cluster.prepare()
    cluster.start(environment=environment)
    try:
        yield cluster
    finally:
        cluster.stop()


def measure(keys: int, value: bytes, rounds: int, console: Console) -> dict[str, float]:
    figures: dict[str, float] = {}
    often = {"REPLCACHE_SNAPSHOT_AFTER_BYTES": str(48 * 1024 * 1024)}
    with temporary_directory() as directory:
        with running(directory / "few", {}) as few, running(directory / "many", {}) as many:
            with Client(few.url, timeout="30s") as client:
                fill(client, FEW, value, console)
            with Client(many.url, timeout="30s") as client:
                client.set(key(0), value)
                empty = statistics.median(rss_bytes(pid) for pid in many.running().values())
                figures["fill keys/s"] = keys / fill(client, keys, value, console)
                full = statistics.median(rss_bytes(pid) for pid in many.running().values())
                figures["bytes/key replcache"] = (full - empty) / keys
            console.print("rates with few and with many keys, in turns")
            figures |= rates_in_turns({FEW: few, keys: many}, value, rounds)
        with running(directory / "snapshots", often) as cluster, Client(cluster.url, timeout="30s") as client:
            fill(client, keys, value, console)
            figures |= rates_with_snapshots(cluster, keys, value, console)
            figures |= recovery(cluster, client, keys, often)
            figures |= catch_up(cluster, client, often)
    if shutil.which("redis-server"):
        figures["bytes/key redis"] = redis_bytes(keys, value, console) / keys
    return figures


def rates_in_turns(clusters: dict[int, LocalCluster], value: bytes, rounds: int) -> dict[str, float]:
    """The first has few keys, the second many."""
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        # Each round in another order, so that nobody always has the moment after the other.
        for keys, cluster in sorted(clusters.items(), reverse=number % 2 == 1):
            for work in ("set", "get"):
                measured, _ = uvloop.run(rate(cluster.url, keys, value, work, SECONDS))
                found.setdefault((work, keys), []).append(measured)
    few, many = clusters
    figures = {}
    for work in ("set", "get"):
        figures[f"{work}/s with {few:,} keys"] = statistics.median(found[work, few])
        figures[f"{work}/s with {many:,} keys"] = statistics.median(found[work, many])
        figures[f"{work}: many / few"] = statistics.median(
            with_many / with_few
            for with_many, with_few in zip(found[work, many], found[work, few], strict=True)
        )
    return figures


def rates_with_snapshots(
    cluster: LocalCluster, keys: int, value: bytes, console: Console
) -> dict[str, float]:
    """Sets until at least SNAPSHOTS were taken meanwhile: latencies with and without one under way."""
    console.print("sets until snapshots are taken")
    before = len(snapshot_windows(cluster))
    done: list[tuple[float, float]] = []
    for _ in range(SNAPSHOT_TRIES):
        done += uvloop.run(rate(cluster.url, keys, value, "set", 2 * SECONDS))[1]
        if len(snapshot_windows(cluster)) - before >= SNAPSHOTS:
            break
    windows = snapshot_windows(cluster)[before:]
    during = sorted(s for at, s in done if any(begin <= at <= end for begin, end in windows))
    quiet = sorted(s for at, s in done if not any(begin <= at <= end for begin, end in windows))
    figures = {"snapshots taken": float(len(windows))}
    if during and quiet:
        figures["s a snapshot takes"] = statistics.median(end - begin for begin, end in windows)
        figures["set p99 ms without snapshot"] = percentile(quiet, 0.99)
        figures["set p99 ms during a snapshot"] = percentile(during, 0.99)
        figures["set max ms during a snapshot"] = percentile(during, 1.0)
        figures["share of sets during a snapshot"] = len(during) / len(done)
    return figures


def recovery(
    cluster: LocalCluster, client: Client, keys: int, environment: dict[str, str]
) -> dict[str, float]:
    for name in cluster.names:
        cluster.kill(name, signal.SIGKILL)
    cluster.start(environment=environment)
    seconds = until(lambda: client.get(key(keys - 1)) is not None)
    return {"s from kill -9 of all to the first read": seconds}


def catch_up(cluster: LocalCluster, client: Client, environment: dict[str, str]) -> dict[str, float]:
    """A node that lost its disk, while the others serve."""
    leader = client.status().leader
    victim = next(name for name in cluster.names if name != leader)
    cluster.kill(victim, signal.SIGKILL)
    shutil.rmtree(cluster.layout(victim).data)
    started = time.perf_counter()
    cluster.start([victim], environment)

    def is_back() -> bool:
        client.set("during", time.time())
        behind = client.status(leader).applied_index - client.status(victim).applied_index
        member = next(m for m in client.members() if m.name == victim)
        return behind < 50 and member.voter

    until(is_back)
    return {"s for an empty node to be a voter again": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console()
    figures = measure(args.keys, b"x" * args.value_bytes, args.rounds, console)
    table = Table("figure", "value", title=f"{args.keys:,} keys, values of {args.value_bytes:,} bytes")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if value < 1000 else f"{value:,.0f}")
    console.print(table)
    if args.json:
        args.json.write_text(
            json.dumps({"keys": args.keys, "value_bytes": args.value_bytes, "figures": figures}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
