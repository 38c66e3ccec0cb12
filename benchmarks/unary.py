"""What one unary gRPC call costs: h2load against one node with and without gateways, beside one etcd.

h2load speaks gRPC with a prepared body: 8 connections with 64 calls at once each. On a machine where client
and server share the cores the rate says little, so the figure is the CPU time a call, per process, read from
/proc before and after. Set and Put sync the disk, Get and Range are linearizable, one key, 100-byte value.
h2load looks at HTTP's status only, so each run is checked: the key's version has to have grown by the number
of calls. Usage:

    python -m benchmarks.unary [--rounds 3] [--calls 20000] [--gateways 0,1,2] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import platform
import random
import re
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.rivals.systems import etcd_stubs, free_port, processes, temporary_directory
from replcache.localcluster import LocalCluster, free_ports
from replcache.pb.v1 import cache_pb2, cache_pb2_grpc

CONNECTIONS = 8
STREAMS = 64
KEY = b"key"
VALUE = b"x" * 100
START_TIMEOUT_S = 30.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """One running server. core: its main process; others: its gateways; calls: work -> (path, request)."""

    system: str
    address: str
    core: int
    others: list[int]
    calls: dict[str, tuple[str, bytes]]
    version: Callable[[], int]


@dataclass(frozen=True)
class Figure:
    """One run. CPU in microseconds a call, of the core and of all gateways together."""

    system: str
    work: str
    rate: float
    core_us: float
    gateways_us: float


def cpu_s(pid: int) -> float:
    """User and system time of a process and all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def eventually(ask: Callable[[], Any]) -> Any:
    """The answer of a server that is still starting."""
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return ask()
        except grpc.RpcError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def replcache(gateways: int) -> Iterator[Target]:
    with temporary_directory() as directory:
        cluster = LocalCluster(directory / "cluster", 1, free_ports(1, random.Random()))
        cluster.prepare()
        cluster.start((), {"REPLCACHE_GATEWAYS": str(gateways)})
        try:
            address = cluster.layout("n1").grpc_address
            with grpc.insecure_channel(address) as channel:
                stub = cache_pb2_grpc.CacheStub(channel)
                put, get = cache_pb2.SetRequest(key=KEY, value=VALUE), cache_pb2.GetRequest(key=KEY)
                eventually(lambda: stub.Set(put, timeout=5, wait_for_ready=True))
                pid = cluster.pid("n1")
                assert pid is not None
                calls = {
                    "set": ("/replcache.v1.Cache/Set", put.SerializeToString()),
                    "get": ("/replcache.v1.Cache/Get", get.SerializeToString()),
                }
                name = f"replcache, {gateways} gateways" if gateways else "replcache"
                yield Target(
                    name, address, pid, children(pid), calls, lambda: int(stub.Get(get).entry.version)
                )
        finally:
            cluster.stop()


@contextlib.contextmanager
def etcd() -> Iterator[Target]:
    messages, services = etcd_stubs()
    client, peer = f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    with temporary_directory() as directory:
        command = [
            *("etcd", "--name", "e0", "--data-dir", str(directory / "e0"), "--log-level", "error"),
            *("--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}"),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"e0={peer}", "--logger", "zap"),
        ]
        with processes([command], directory) as pids, grpc.insecure_channel(client) as channel:
            kv = services.KVStub(channel)
            put, get = messages.PutRequest(key=KEY, value=VALUE), messages.RangeRequest(key=KEY)
            eventually(lambda: kv.Put(put, timeout=5, wait_for_ready=True))
            calls = {
                "set": ("/etcdserverpb.KV/Put", put.SerializeToString()),
                "get": ("/etcdserverpb.KV/Range", get.SerializeToString()),
            }
            # Every Put is one revision.
            yield Target("etcd", client, pids[0], [], calls, lambda: int(kv.Range(get).header.revision))


def h2load(target: Target, work: str, calls: int) -> float:
    """Calls a second. Raises RuntimeError when not all of them were answered."""
    path, request = target.calls[work]
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + struct.pack(">I", len(request)) + request)
        body.flush()
        command = [
            *("h2load", "-n", str(calls), "-c", str(CONNECTIONS), "-m", str(STREAMS), "-d", body.name),
            *("-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{target.address}{path}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    if rate is None or succeeded is None or int(succeeded[1]) != calls:
        raise RuntimeError(f"h2load: not every call was answered\n{done.stdout}{done.stderr}")
    return float(rate[1])


def measure(target: Target, work: str, calls: int) -> Figure:
    version = target.version()
    pids = [target.core, *target.others]
    before = [cpu_s(pid) for pid in pids]
    rate = h2load(target, work, calls)
    spent = [cpu_s(pid) - start for pid, start in zip(pids, before, strict=True)]
    grown = target.version() - version
    if grown != (calls if work == "set" else 0):
        raise RuntimeError(f"{target.system}: {calls} x {work}, but the version grew by {grown}")
    return Figure(target.system, work, rate, spent[0] / calls * 1e6, sum(spent[1:]) / calls * 1e6)


def run(args: argparse.Namespace, console: Console) -> list[Figure]:
    figures = []
    systems = [etcd, *(lambda n=n: replcache(n) for n in args.gateways)]
    for number in range(args.rounds):
        for system in systems:
            with system() as target:
                for work in ("set", "get"):
                    measure(target, work, max(CONNECTIONS * STREAMS, args.calls // 10))  # warm up
                    figures.append(measure(target, work, args.calls))
                    console.print(f"round {number + 1}: {figures[-1]}")
    return figures


def show(figures: list[Figure], console: Console) -> None:
    table = Table(title="one unary call, medians over the rounds; ratios to etcd in the same run")
    for column in ("work", "system", "calls/s", "core us", "gateways us", "core / etcd", "all / etcd"):
        table.add_column(column, justify="left" if column in ("work", "system") else "right")
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.work, figure.system), []).append(figure)

    def median(group: list[Figure], name: str) -> float:
        return statistics.median(getattr(figure, name) for figure in group)

    for (work, system), group in sorted(groups.items()):
        core, gateways = median(group, "core_us"), median(group, "gateways_us")
        other = median(groups[work, "etcd"], "core_us")
        table.add_row(
            *(work, system, f"{median(group, 'rate'):,.0f}", f"{core:.0f}", f"{gateways:.0f}"),
            *(f"{core / other:.2f}", f"{(core + gateways) / other:.2f}"),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--gateways", type=lambda t: [int(n) for n in t.split(",")], default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="write every single measurement to this file")
    args = parser.parse_args()
    console = Console()
    figures = run(args, console)
    show(figures, console)
    if args.json:
        facts = {"machine": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        args.json.write_text(json.dumps({**facts, "figures": [asdict(f) for f in figures]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
