"""What a message costs with gRPC's event engine and without: one stream between two processes, one at a time.

The installed grpcio is measured; another one can be put in front with PYTHONPATH. Run:

    python -m benchmarks.grpc_engine [--messages 5000] [--rounds 3]
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.apart import apart
from benchmarks.client_path import cpu_s
from benchmarks.versus import percentile
from replcache.grpc_settings import WITHOUT_EVENT_ENGINE

METHOD = "/Echo/Stream"
MESSAGE = b"x" * 150
WARM_UP = 500


class Echo(grpc.GenericRpcHandler):
    def service(self, _: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        return grpc.stream_stream_rpc_method_handler(self._run)

    async def _run(self, _: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


def serve(pipe: Connection) -> None:
    """Tells its port; then its processor time whenever it is asked, until it is told to end."""

    async def run() -> None:
        async with echo_server() as port:
            pipe.send(port)
            while await asyncio.to_thread(pipe.recv):
                pipe.send(cpu_s())

    uvloop.run(run())


async def ask(port: int, pipe: Connection, messages: int) -> tuple[float, float, float, float]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(METHOD)()
        latencies = []
        for number in range(WARM_UP + messages):
            if number == WARM_UP:
                pipe.send(True)
                server_before, own_before = pipe.recv(), cpu_s()
            started = time.perf_counter()
            await call.write(MESSAGE)
            await call.read()
            latencies.append(time.perf_counter() - started)
        own = cpu_s() - own_before
        pipe.send(True)
        server = pipe.recv() - server_before
        await call.done_writing()
    ordered = sorted(latencies[WARM_UP:])
    p50, p99 = percentile(ordered, 0.5) * 1000, percentile(ordered, 0.99) * 1000
    return p50, p99, server / messages * 1e6, own / messages * 1e6


def measure(messages: int) -> tuple[float, float, float, float]:
    """Microseconds: round trip p50 and p99, processor time a message of the server and of the client."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    try:
        figures = uvloop.run(ask(ours.recv(), ours, messages))
    finally:
        ours.send(False)
        process.join()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    settings = {"as it comes": "", "without event engine": WITHOUT_EVENT_ENGINE}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in settings}
    for _ in range(args.rounds):
        for name, experiments in settings.items():
            found[name].append(apart(experiments, measure, args.messages))
    table = Table("grpcio " + grpc.__version__, "p50 us", "p99 us", "server CPU us", "client CPU us")
    for name, rows in found.items():
        table.add_row(name, *(f"{statistics.median(column):.0f}" for column in zip(*rows, strict=True)))
    Console().print(table)


if __name__ == "__main__":
    main()
