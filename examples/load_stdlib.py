"""Stores Python's standard library in a cluster whose leader is killed every few seconds.

Every file becomes a key (its path) and a value (its bytes). While the files are written, the leader is
killed with SIGKILL again and again and started anew. In the end all keys are read through every node, and the
SHA-256 of each value is compared with the file's: a write that was acknowledged must be there, unchanged.

    python examples/load_stdlib.py
    python examples/load_stdlib.py --seconds-between-kills 1 --kills 10 --limit 2000 --seed 7

It starts a cluster of its own on free ports in a temporary directory and removes both in the end. Exit code
1 when anything was lost or wrong.
"""

import argparse
import asyncio
import hashlib
import random
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from replcache import AsyncClient
from replcache.constants import VALUE_BYTES_MAX
from replcache.errors import ReplcacheError
from replcache.localcluster import LocalCluster, NodeLayout, free_ports

# Calls under way at once.
WRITERS = 16
READERS = 32
# Failovers are retried inside a call: only a cluster that is really gone makes a call fail.
CALL_TIMEOUT_S = 30.0
READY_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.1
SIZE_CLASSES = (
    (0, "empty"),
    (1 << 10, "up to 1 KiB"),
    (16 << 10, "up to 16 KiB"),
    (128 << 10, "up to 128 KiB"),
    (VALUE_BYTES_MAX, "up to 1 MiB"),
)
console = Console()


@dataclass
class Load:
    """What was stored, and what happened meanwhile."""

    digests: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    writes: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    slowest_write_s: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    kills: list[str] = field(default_factory=list)


@dataclass
class Reads:
    """What one node answered."""

    hits: int = 0
    misses: int = 0
    wrong: int = 0
    elsewhere: int = 0
    bytes_read: int = 0
    seconds: float = 0.0


def standard_library(limit: int, rng: random.Random) -> tuple[list[tuple[str, Path]], list[Path]]:
    """(key and path of each file to store, in random order; files that are too large for one value)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: list[tuple[str, Path]] = []
    too_large: list[Path] = []
    for path in sorted(root.rglob("*")):
        if not path.is_file() or {"site-packages", "dist-packages"} & set(path.parts):
            continue
        if path.stat().st_size > VALUE_BYTES_MAX:
            too_large.append(path)
        else:
            found.append((f"stdlib/{path.relative_to(root).as_posix()}", path))
    rng.shuffle(found)
    return (found[:limit] if limit else found), too_large


async def wait_for(what: str, look: Callable[[], Awaitable[str]], timeout_s: float) -> str:
    """Looks until the answer is not empty; raises TimeoutError when it stays so for timeout_s."""
    end = time.monotonic() + timeout_s
    while not (answer := await look()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(POLL_INTERVAL_S)
    return answer


@asynccontextmanager
async def own_cluster(rng: random.Random) -> AsyncIterator[LocalCluster]:
    with tempfile.TemporaryDirectory(prefix="replcache-stdlib-") as folder:
        cluster = LocalCluster(Path(folder), nodes=3, ports=free_ports(3, rng))
        cluster.prepare()
        await asyncio.to_thread(cluster.start)
        try:
            yield cluster
        finally:
            await asyncio.to_thread(cluster.stop)


def through(layout: NodeLayout) -> AsyncClient:
    """A client that asks this node only."""
    return AsyncClient(layout.grpc_address, route="any", timeout=CALL_TIMEOUT_S)


async def leader_of(cluster: LocalCluster, not_this: str = "") -> str:
    """The leader that every running node follows; "" while there is none, or while they still follow
    `not_this` one, of whose death they have not heard."""
    followed = set()
    for layout in cluster.layouts:
        if cluster.pid(layout.name) is None:
            continue
        try:
            async with through(layout) as client:
                followed.add((await client.status(timeout=1.0)).leader)
        except ReplcacheError:
            return ""
    return followed.pop() if len(followed) == 1 and not_this not in followed else ""


async def keep_killing(cluster: LocalCluster, load: Load, pause_s: float, enough: int) -> None:
    """Kills the leader, starts it again once the others have elected a new one, pauses, and so on."""
    while len(load.kills) < enough:
        await asyncio.sleep(pause_s)
        leader = await wait_for("a leader to kill", partial(leader_of, cluster), READY_TIMEOUT_S)
        await asyncio.to_thread(cluster.kill, leader)
        load.kills.append(leader)
        await wait_for("a new leader", partial(leader_of, cluster, not_this=leader), READY_TIMEOUT_S)
        await asyncio.to_thread(cluster.start, [leader])
        await wait_for(f"{leader} is back", partial(leader_of, cluster), READY_TIMEOUT_S)


async def store(client: AsyncClient, load: Load, key: str, path: Path) -> None:
    """Stores one file; an error is counted, and the write is repeated until it is acknowledged."""
    data = await asyncio.to_thread(path.read_bytes)
    while True:
        begin = time.monotonic()
        try:
            await client.set(key, data)
        except ReplcacheError as error:
            load.errors[error.reason] += 1
            continue
        load.slowest_write_s = max(load.slowest_write_s, time.monotonic() - begin)
        load.digests[key] = hashlib.sha256(data).digest()
        load.sizes[key] = len(data)
        load.writes += 1
        load.bytes_written += len(data)
        return


async def write_once(
    client: AsyncClient, load: Load, files: list[tuple[str, Path]], advance: Callable[[], None]
) -> None:
    """Stores all files with WRITERS calls under way."""
    waiting = iter(files)

    async def writer() -> None:
        for key, path in waiting:
            await store(client, load, key, path)
            advance()

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(writer())


async def write_all(
    cluster: LocalCluster, files: list[tuple[str, Path]], options: argparse.Namespace, bar: Progress
) -> Load:
    """Writes all files, over again until the leader was killed often enough."""
    load = Load()
    task = bar.add_task("store", total=len(files), note="")
    begin = time.monotonic()
    async with AsyncClient(cluster.url, timeout=CALL_TIMEOUT_S) as client, asyncio.TaskGroup() as group:
        killing = keep_killing(cluster, load, options.seconds_between_kills, options.kills)
        killer = group.create_task(killing)
        rounds = 0
        while rounds == 0 or not killer.done():
            rounds += 1
            bar.reset(task)

            def advance(number: int = rounds) -> None:
                bar.update(task, advance=1, note=f"round {number}, leader killed {len(load.kills)} times")

            await write_once(client, load, files, advance)
    load.seconds = time.monotonic() - begin
    return load


async def read_all(layout: NodeLayout, load: Load, bar: Progress) -> Reads:
    """Reads every stored key through one node and compares its SHA-256."""
    reads = Reads()
    task = bar.add_task(f"read through {layout.name}", total=len(load.digests), note="")
    keys = iter(load.digests.items())
    begin = time.monotonic()

    async def reader(client: AsyncClient) -> None:
        for key, digest in keys:
            entry = await client.get(key)
            if entry is None:
                reads.misses += 1
            else:
                reads.hits += 1
                reads.bytes_read += len(entry.raw)
                reads.elsewhere += entry.served_by != layout.name
                reads.wrong += hashlib.sha256(entry.raw).digest() != digest
            bar.update(task, advance=1)

    async with through(layout) as client, asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(reader(client))
    reads.seconds = time.monotonic() - begin
    return reads


def print_report(load: Load, reads: dict[str, Reads], too_large: list[Path]) -> None:
    sizes = Table("file size", "files", "bytes", title="Sizes", title_justify="left")
    low = -1
    for high, name in SIZE_CLASSES:
        inside = [size for size in load.sizes.values() if low < size <= high]
        sizes.add_row(name, f"{len(inside):,}", f"{sum(inside):,}")
        low = high
    if too_large:
        skipped = f"{sum(path.stat().st_size for path in too_large):,}"
        sizes.add_row("above 1 MiB: skipped", f"{len(too_large):,}", skipped)
    hits = Table("node", "reads", "hits", "misses", "wrong", "hit rate", "reads/s", "MB/s", title="Reads")
    hits.title_justify = "left"
    for name, one in reads.items():
        total = one.hits + one.misses
        hits.add_row(
            name,
            f"{total:,}",
            f"{one.hits:,}",
            f"{one.misses:,}",
            f"{one.wrong:,}",
            f"{one.hits / max(1, total):.2%}",
            f"{total / one.seconds:,.0f}",
            f"{one.bytes_read / one.seconds / 1e6:.1f}",
        )
    console.print(sizes, hits)
    console.print(
        f"{load.writes:,} writes acknowledged in {load.seconds:.1f} s: {load.writes / load.seconds:,.0f}/s, "
        f"{load.bytes_written / load.seconds / 1e6:.1f} MB/s, the slowest took {load.slowest_write_s:.2f} s"
    )
    console.print(f"leader killed {len(load.kills)} times: {' '.join(load.kills)}")
    problems = ", ".join(f"{count} x {reason}" for reason, count in load.errors.items())
    console.print(f"errors seen by the writer: {problems or 'none'}")


async def run(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    files, too_large = standard_library(options.limit, rng)
    console.print(
        f"seed {options.seed}: {len(files):,} files, {sum(p.stat().st_size for _, p in files):,} bytes"
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reads: dict[str, Reads] = {}
    async with own_cluster(rng) as cluster:
        await wait_for("a leader", partial(leader_of, cluster), READY_TIMEOUT_S)
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bar:
            load = await write_all(cluster, files, options, bar)
            for layout in cluster.layouts:
                reads[layout.name] = await read_all(layout, load, bar)
    print_report(load, reads, too_large)
    lost = max(one.misses for one in reads.values())
    wrong = max(one.wrong for one in reads.values())
    elsewhere = sum(one.elsewhere for one in reads.values())
    if elsewhere:
        console.print(f"{elsewhere} reads were not answered by the node that was asked")
    console.print(f"[bold]{lost} lost, {wrong} wrong[/bold]")
    return 1 if lost or wrong or elsewhere else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--seconds-between-kills", type=float, default=3.0, metavar="S")
    parser.add_argument("--kills", type=int, default=5, help="kill the leader this often (default: 5)")
    parser.add_argument("--limit", type=int, default=0, help="store only that many files (0: all)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(parse(sys.argv[1:]))))
