"""What many keys cost: rates with 1k and 1M keys, memory, snapshots, recovery after kill -9, catching up.

    python -m benchmarks.data_size [--keys 1000000] [--json FILE]

Keys of 16 bytes, values of 100 bytes. Redis beside it for memory only (one node, no persistence).
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import signal
import statistics
import time
from collections.abc import Callable
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

VALUE = b"x" * 100
BATCH = 2000
CALLERS = 256
SECONDS = 4.0


def key(number: int) -> str:
    return f"key-{number:012d}"


def rss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert match is not None, text
    return int(match[1]) * 1024


def fill(client: Client, first: int, last: int, console: Console) -> float:
    """Seconds to set keys first..last-1 in batches."""
    started = time.perf_counter()
    for start in track(range(first, last, BATCH), description=f"filling {last:,} keys", console=console):
        client.set_many({key(number): VALUE for number in range(start, min(start + BATCH, last))})
    return time.perf_counter() - started


async def rate(url: str, keys: int, work: str, seconds: float) -> tuple[float, list[tuple[float, float]]]:
    """(operations a second, [(wall time at start, latency)]) over random keys."""
    done: list[tuple[float, float]] = []
    rng = random.Random(1)
    async with AsyncClient(url, timeout="20s") as client:
        await client.set("warm", VALUE)
        end = time.perf_counter() + seconds

        async def caller() -> None:
            while time.perf_counter() < end:
                name = key(rng.randrange(keys))
                at, started = time.time(), time.perf_counter()
                await (client.set(name, VALUE) if work == "set" else client.get(name))
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


def redis_bytes(keys: int, console: Console) -> int:
    """Resident bytes of a redis-server with the same keys and values."""
    import redis

    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with temporary_directory() as directory, processes([command], directory):
        client = redis.Redis(port=port)
        until(client.ping)
        for start in track(range(0, keys, BATCH), description="filling redis", console=console):
            client.mset({key(number): VALUE for number in range(start, min(start + BATCH, keys))})
        return int(client.info("memory")["used_memory_rss"])


def measure(keys: int, console: Console) -> dict[str, float]:
    figures: dict[str, float] = {}
    with temporary_directory() as directory:
        cluster = LocalCluster(directory / "cluster", 3, free_ports(3, random.Random()))
        cluster.prepare()
        environment = {"REPLCACHE_SNAPSHOT_AFTER_BYTES": str(48 * 1024 * 1024)}
        cluster.start(environment=environment)
        try:
            with Client(cluster.url, timeout="30s") as client:
                empty = statistics.median(rss_bytes(pid) for pid in cluster.running().values())
                fill(client, 0, 1000, console)
                for work in ("set", "get"):
                    figures[f"{work}/s with 1k keys"] = uvloop.run(rate(cluster.url, 1000, work, SECONDS))[0]
                figures["fill keys/s"] = (keys - 1000) / fill(client, 1000, keys, console)
                full = statistics.median(rss_bytes(pid) for pid in cluster.running().values())
                figures["bytes/key replcache"] = (full - empty) / keys
                console.print("rates with many keys")
                figures |= rates_with_snapshots(cluster, keys)
                figures |= recovery(cluster, client, keys, environment)
                figures |= catch_up(cluster, client, environment)
        finally:
            cluster.stop()
    if shutil.which("redis-server"):
        figures["bytes/key redis"] = redis_bytes(keys, console) / keys
    return figures


def rates_with_snapshots(cluster: LocalCluster, keys: int) -> dict[str, float]:
    get_rate, _ = uvloop.run(rate(cluster.url, keys, "get", SECONDS))
    set_rate, done = uvloop.run(rate(cluster.url, keys, "set", 4 * SECONDS))
    windows = snapshot_windows(cluster)
    during = sorted(s for at, s in done if any(begin <= at <= end for begin, end in windows))
    quiet = sorted(s for at, s in done if not any(begin <= at <= end for begin, end in windows))
    figures = {"get/s with many keys": get_rate, "set/s with many keys": set_rate}
    if during and quiet:
        figures["set p99 ms without snapshot"] = percentile(quiet, 0.99)
        figures["set p99 ms during a snapshot"] = percentile(during, 0.99)
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
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console()
    figures = measure(args.keys, console)
    table = Table("figure", "value", title=f"{args.keys:,} keys")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if value < 1000 else f"{value:,.0f}")
    console.print(table)
    if args.json:
        args.json.write_text(json.dumps({"keys": args.keys, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
