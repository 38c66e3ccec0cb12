"""What the Python client costs: operations a second and CPU time of each, with a server that does nothing.

The fake server runs in a process of its own; CPU times are those of the client's process alone, so they hold
on a busy machine too. Run: python -m benchmarks.client_path [--seconds 3] [--delay-ms 2]
"""

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import grpc
import uvloop

from replcache import AsyncClient, Client
from replcache.pb.v1 import cache_pb2
from replcache.pb.v1.cache_pb2_grpc import CacheStub

VALUE = b"x" * 100


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def server(delay_ms: float) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.helpers.fake_server", "--delay-ms", str(delay_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait()


def report(name: str, operations: int, seconds: float, cpu: float, more: str = "") -> None:
    print(
        f"{name:34} {operations / seconds:>10,.0f}/s   CPU {cpu / operations * 1e6:7.1f} us/op  {more}",
        flush=True,
    )


async def drive(
    name: str, call: Callable[[int], Awaitable[object]], callers: int, seconds: float, client: AsyncClient
) -> None:
    """`callers` tasks that each await one call after the other."""
    counts = [0] * callers
    end = time.monotonic() + seconds

    async def caller(index: int) -> None:
        number = index
        while time.monotonic() < end:
            for _ in range(16):
                await call(number)
                number += callers
            counts[index] += 16

    before, cpu, messages = time.monotonic(), cpu_s(), client.stats().messages
    await asyncio.gather(*(caller(index) for index in range(callers)))
    spent = cpu_s() - cpu
    sent = client.stats().messages - messages
    report(
        f"{name}, {callers} callers",
        sum(counts),
        time.monotonic() - before,
        spent,
        f"{sum(counts) / max(1, sent):.0f} a message",
    )


async def idle_latency(address: str, calls: int) -> None:
    """One caller, one call at a time: a Pipeline message beside a unary call of the same kind."""
    async with AsyncClient(address) as client:
        await client.set("key", VALUE)
        async with grpc.aio.insecure_channel(address) as channel:
            stub = CacheStub(channel)  # type: ignore[no-untyped-call]  # generated
            request = cache_pb2.GetRequest(key=b"key")
            found: dict[str, list[float]] = {"pipeline get": [], "unary get": []}
            # Turn by turn, so that both see the same machine.
            for _ in range(calls):
                start = time.perf_counter()
                await client.get("key")
                found["pipeline get"].append(time.perf_counter() - start)
                start = time.perf_counter()
                await stub.Get(request)
                found["unary get"].append(time.perf_counter() - start)
    for name, times in found.items():
        times.sort()
        p50, p90 = statistics.median(times) * 1e6, times[calls * 9 // 10] * 1e6
        print(f"{name:34} p50 {p50:.0f} us, p90 {p90:.0f} us")


async def asynchronous(address: str, seconds: float) -> None:
    async with AsyncClient(address) as client:
        await client.set("key", VALUE)
        keys = [f"key:{number}" for number in range(10_000)]
        for callers in (1, 16, 256, 1024):
            await drive("async set", lambda n: client.set(keys[n % 10_000], VALUE), callers, seconds, client)
        for callers in (1, 256):
            await drive("async get", lambda n: client.get(keys[n % 10_000]), callers, seconds, client)
        await drive("async incr", lambda n: client.incr("n"), 256, seconds, client)


def blocking(address: str, seconds: float, threads: int) -> None:
    with Client(address) as client:
        client.set("key", VALUE)
        counts = [0] * threads
        end = time.monotonic() + seconds

        def work(index: int) -> None:
            while time.monotonic() < end:
                for number in range(16):
                    client.set(f"key:{index}:{number}", VALUE)
                counts[index] += 16

        workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        before, cpu, messages = time.monotonic(), cpu_s(), client.stats().messages
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        spent, sent = cpu_s() - cpu, client.stats().messages - messages
        report(
            f"blocking set, {threads} threads",
            sum(counts),
            time.monotonic() - before,
            spent,
            f"{sum(counts) / max(1, sent):.0f} a message",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="", help="blocking, async or idle")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="the server answers after this")
    arguments = parser.parse_args()
    with server(arguments.delay_ms) as address:
        if arguments.only in ("", "idle"):
            uvloop.run(idle_latency(address, 1000))
        if arguments.only in ("", "async"):
            uvloop.run(asynchronous(address, arguments.seconds))
        if arguments.only in ("", "blocking"):
            for threads in (1, 8, 64):
                blocking(address, arguments.seconds, threads)


if __name__ == "__main__":
    main()
