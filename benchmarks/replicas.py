"""What a read replica adds: ONE reads a second of one voter alone, and with one replica beside it.

h2load asks each node for the same key with single gRPC calls, so that the servers and not the client are the
limit; with two cores that is a core for each of two nodes, less what h2load takes. Measured in turns, without
writes and while a writer changes the key all the time. Also what following a write costs the replica. Usage:

    python -m benchmarks.replicas [--rounds 3] [--calls 20000] [--json FILE]
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rivals.systems import processes, temporary_directory
from benchmarks.unary import KEY, VALUE, Target, cpu_s, h2load
from replcache.client import Client
from replcache.localcluster import LocalCluster, free_ports
from replcache.pb.v1 import cache_pb2, common_pb2

START_TIMEOUT_S = 30.0


@contextlib.contextmanager
def voter_and_replica() -> Iterator[tuple[Target, Target]]:
    """One voter, and one member that never votes."""
    rng = random.Random()
    with temporary_directory() as directory:
        cluster = LocalCluster(directory / "cluster", 1, free_ports(1, rng))
        cluster.prepare()
        ports = free_ports(1, rng)
        voter = cluster.layout("n1")
        grpc_address, peer_address = f"127.0.0.1:{ports.grpc}", f"127.0.0.1:{ports.peer}"
        command = [
            *(sys.executable, "-m", "replcache.cli.main", "serve", "--name", "replica", "--join"),
            *("--cluster-name", "local", "--data-dir", str(directory / "replica")),
            *("--members", f"n1={voter.peer_address}/{voter.grpc_address}"),
            *("--grpc-listen", grpc_address, "--peer-listen", peer_address),
            *("--http-listen", f"127.0.0.1:{ports.http}"),
        ]
        cluster.start()
        try:
            with (
                Client(cluster.url, timeout=START_TIMEOUT_S) as client,
                processes([command], directory) as pids,
            ):
                client.set(KEY, VALUE)
                client.add_member("replica", peer_address, grpc_address)
                end = time.monotonic() + START_TIMEOUT_S
                while not _follows(client):
                    if time.monotonic() > end:
                        raise RuntimeError("the replica does not follow")
                    time.sleep(0.1)
                pid = cluster.pid("n1")
                assert pid is not None
                yield _target("voter", voter.grpc_address, pid), _target("replica", grpc_address, pids[0])
        finally:
            cluster.stop()


def _follows(client: Client) -> bool:
    found = {member.name: member for member in client.members()}
    if "replica" not in found or found["replica"].voter:
        return False
    return client.status("replica").applied_index >= client.status("n1").applied_index > 0


def _target(name: str, address: str, pid: int) -> Target:
    request = cache_pb2.GetRequest(key=KEY)
    request.read.level = common_pb2.READ_LEVEL_ONE
    calls = {"get": ("/replcache.v1.Cache/Get", request.SerializeToString())}
    return Target(name, address, pid, [], calls, lambda: 0)


@contextlib.contextmanager
def writer(address: str) -> Iterator[list[int]]:
    """Changes the key as fast as one caller can; the value counts the writes."""
    stop = threading.Event()
    count = [0]

    def run() -> None:
        with Client(address, timeout=START_TIMEOUT_S) as client:
            while not stop.is_set():
                client.set(KEY, VALUE)
                count[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def reads_per_s(targets: list[Target], calls: int) -> float:
    """All targets at once, `calls` reads each."""
    with ThreadPoolExecutor(len(targets)) as pool:
        return sum(pool.map(lambda target: h2load(target, "get", calls), targets))


def run(rounds: int, calls: int, console: Console) -> dict[str, float]:
    rates: dict[str, list[float]] = {}
    following_us: list[float] = []
    with voter_and_replica() as (voter, replica):
        for number in range(rounds):
            for what, targets in (("voter alone", [voter]), ("voter and replica", [voter, replica])):
                rates.setdefault(what, []).append(reads_per_s(targets, calls))
            with writer(voter.address) as count:
                for what, targets in (("voter alone", [voter]), ("voter and replica", [voter, replica])):
                    rates.setdefault(what + ", with a writer", []).append(reads_per_s(targets, calls))
                before, writes = cpu_s(replica.core), count[0]
                time.sleep(3.0)
                following_us.append((cpu_s(replica.core) - before) / max(1, count[0] - writes) * 1e6)
            console.print(
                f"round {number + 1}: { ({name: round(found[-1]) for name, found in rates.items()}) }"
            )
    figures = {f"ONE reads/s, {name}": statistics.median(found) for name, found in rates.items()}
    for suffix in ("", ", with a writer"):
        figures["both / voter" + suffix] = (
            figures["ONE reads/s, voter and replica" + suffix] / figures["ONE reads/s, voter alone" + suffix]
        )
    return figures | {"replica's processor us a write that it follows": statistics.median(following_us)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=20_000, help="reads of each node and run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console()
    figures = run(args.rounds, args.calls, console)
    table = Table("figure", "value", title="read replica")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if value < 1000 else f"{value:,.0f}")
    console.print(table)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
