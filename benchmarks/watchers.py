"""What watchers cost the writers: a steady rate of writes without and with thousands of watches.

Each watch has a prefix of its own, like one watch for each user who is online; the writes go to random ones.
The watches are in a process of their own, spread over all nodes. Nothing may be lost or doubled: the program
ends with 1 if any watch got something else than what was acknowledged. Usage:

    python -m benchmarks.watchers [--watches 2000] [--rate 5000] [--seconds 20] [--json FILE]
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.rivals.systems import Replcache
from benchmarks.versus import percentile
from replcache import AsyncClient

END = b"end"
TICK_S = 0.005
# Below the number of calls that a server allows on one connection.
WATCHES_PER_CLIENT = 500
DRAIN_S = 60.0


def prefix_of(number: int) -> str:
    return f"user/{number:06d}/"


@dataclass
class Written:
    """What was acknowledged: for each watch the texts in the order of their writes."""

    texts: dict[int, list[bytes]] = field(default_factory=dict)
    count: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.count / self.seconds


async def write(client: AsyncClient, watches: int, per_s: float, seconds: float) -> Written:
    """Writes at a steady rate, one writer for each tick's share; a tick that is late is made up for."""
    written = Written()
    rng = random.Random(7)
    last: dict[int, asyncio.Task[None]] = {}

    async def one(number: int, text: bytes, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before  # so that the order of a user's writes is known
        started = time.perf_counter()
        await client.set(prefix_of(number) + "x", text + b" %f" % time.time())
        written.latencies.append(time.perf_counter() - started)
        written.texts.setdefault(number, []).append(text)
        written.count += 1

    started, asked = time.perf_counter(), 0
    while (now := time.perf_counter() - started) < seconds:
        while asked < now * per_s:
            number = rng.randrange(watches)
            last[number] = asyncio.create_task(one(number, b"%d" % asked, last.get(number)))
            asked += 1
        await asyncio.sleep(TICK_S)
    await asyncio.gather(*last.values())
    written.seconds = time.perf_counter() - started
    for number in range(watches):
        await client.set(prefix_of(number) + "end", END)
    return written


async def watch_all(addresses: list[str], watches: int, pipe: Connection) -> None:
    """Watches; sends "ready", and after all have seen their end what each got and the delays."""
    delays: list[float] = []
    got: dict[int, list[bytes]] = {}

    async def one(client: AsyncClient, number: int, is_ready: "asyncio.Future[None]") -> None:
        seen = got.setdefault(number, [])
        async with client.watch(prefix=prefix_of(number), progress="5s") as watch:
            await watch.ready()
            is_ready.set_result(None)
            async for event in watch:
                assert event.entry is not None
                value = bytes(event.entry.value)
                if value == END:
                    return
                text, sent = value.split()
                delays.append(time.time() - float(sent))
                seen.append(text)

    clients = []
    tasks: list[asyncio.Task[None]] = []
    ready: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()
    for first in range(0, watches, WATCHES_PER_CLIENT):
        # Each client begins with another node.
        shift = first // WATCHES_PER_CLIENT % len(addresses)
        client = AsyncClient("replcache://" + ",".join(addresses[shift:] + addresses[:shift]), timeout="20s")
        clients.append(client)
        for number in range(first, min(watches, first + WATCHES_PER_CLIENT)):
            ready.append(loop.create_future())
            tasks.append(asyncio.create_task(one(client, number, ready[-1])))
    await asyncio.gather(*ready)
    pipe.send("ready")
    await asyncio.gather(*tasks)
    pipe.send((got, delays, time.process_time()))
    for client in clients:
        await client.close()


def watcher_process(url: str, watches: int, pipe: Connection) -> None:
    uvloop.run(watch_all(url.removeprefix("replcache://").split(","), watches, pipe))


def received(pipe: Connection, seconds: float) -> Any:
    """The next thing that the watching process says. Raises: RuntimeError when it says nothing in time."""
    if not pipe.poll(seconds):
        raise RuntimeError(f"the watchers said nothing for {seconds:.0f} s")
    return pipe.recv()


async def run_once(url: str, watches: int, per_s: float, seconds: float) -> Written:
    async with AsyncClient(url, timeout="20s") as client:
        return await write(client, watches, per_s, seconds)


def with_watches(
    url: str, watches: int, per_s: float, seconds: float
) -> tuple[Written, dict[int, list[bytes]], list[float], float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=watcher_process, args=(url, watches, there), daemon=True)
    process.start()
    try:
        received(here, DRAIN_S)
        written = uvloop.run(run_once(url, watches, per_s, seconds))
        got, delays, cpu_s = received(here, DRAIN_S)
        process.join(10)
    finally:
        process.kill()
        process.join()
    return written, got, delays, cpu_s


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--watches", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=5000.0, help="writes a second that are offered")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console()
    with Replcache().running() as url:
        console.print("writes without watches")
        alone = uvloop.run(run_once(url, args.watches, args.rate, args.seconds))
        console.print(f"writes with {args.watches:,} watches")
        written, got, delays, cpu_s = with_watches(url, args.watches, args.rate, args.seconds)
    wrong = [number for number in range(args.watches) if got[number] != written.texts.get(number, [])]
    delays.sort()
    figures = {
        "writes/s without watches": alone.rate,
        "writes/s with watches": written.rate,
        "ratio": written.rate / alone.rate,
        "set p50 ms without": percentile(sorted(alone.latencies), 0.5),
        "set p50 ms with": percentile(sorted(written.latencies), 0.5),
        "set p99 ms without": percentile(sorted(alone.latencies), 0.99),
        "set p99 ms with": percentile(sorted(written.latencies), 0.99),
        "events": float(len(delays)),
        "event p50 ms after its write began": percentile(delays, 0.5),
        "event p99 ms after its write began": percentile(delays, 0.99),
        "watches with a lost, doubled or disordered event": float(len(wrong)),
        "processor s of the watching process": cpu_s,
    }
    table = Table("figure", "value", title=f"{args.watches:,} watches, {args.rate:,.0f} writes/s")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if value < 1000 else f"{value:,.0f}")
    console.print(table)
    if args.json:
        args.json.write_text(json.dumps({"watches": args.watches, "figures": figures}, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
