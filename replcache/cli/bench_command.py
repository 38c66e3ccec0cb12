"""`replcache bench`: how fast this cluster answers this machine, with the Python client.

A quick look for operators: writes go to keys under bench/ and are removed in the end. Comparisons with other
systems are made by benchmarks/, which runs them side by side.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from replcache import AsyncClient

PREFIX = "bench/"
KEYS = 1000
DELETE_TOGETHER = 200
Call = Callable[["AsyncClient", random.Random, bytes], Awaitable[object]]


@dataclass
class Figure:
    """One measurement; latencies in seconds, sorted when asked for."""

    operation: str
    callers: int
    seconds: float = 0.0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: float) -> float:
        if not self.latencies:
            return 0.0
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Operation")(connected(bench))


def bench(
    connection: Connection,
    callers: Annotated[list[int] | None, typer.Option(min=1, help="Calls at once. Repeatable.")] = None,
    seconds: Annotated[Any, duration_option("--for", help="Time for each measurement.")] = "3s",
    value_bytes: Annotated[int, typer.Option(min=0, max=1 << 20, help="Size of a value.")] = 100,
) -> None:
    """Measure set, linearizable get and read-one with the Python client; removes what it wrote."""
    figures = asyncio.run(_measure_all(connection, callers or [1, 64, 256], seconds, value_bytes))
    if connection.as_json:
        print_json([_fields(figure) for figure in figures])
        return
    rows = [
        (f.operation, f.callers, f"{f.rate:,.0f}", *(f"{f.percentile_ms(p):.2f}" for p in (50, 99)), f.errors)
        for f in figures
    ]
    print_table(["operation", "callers", "a second", "p50 ms", "p99 ms", "errors"], rows)


async def _measure_all(
    connection: Connection, callers: list[int], seconds: float, value_bytes: int
) -> list[Figure]:
    rng = random.Random()
    value = rng.randbytes(value_bytes)
    calls: dict[str, Call] = {"set": _set, "get linearizable": _get, "get one": _get_one}
    figures = []
    async with connection.async_client() as client:
        try:
            await client.set_many({_key(number): value for number in range(KEYS)})
            for operation, call in calls.items():
                for number in callers:
                    say(f"{operation}, {number} callers, {seconds:g} s")
                    figures.append(await _measure(client, operation, call, number, seconds, rng, value))
        finally:
            for first in range(0, KEYS, DELETE_TOGETHER):
                numbers = range(first, min(KEYS, first + DELETE_TOGETHER))
                await asyncio.gather(*(client.delete(_key(number)) for number in numbers))
    return figures


async def _measure(
    client: "AsyncClient",
    operation: str,
    call: Call,
    callers: int,
    seconds: float,
    rng: random.Random,
    value: bytes,
) -> Figure:
    from replcache.errors import ReplcacheError

    figure = Figure(operation, callers)
    now = asyncio.get_running_loop().time
    begin = now()

    async def caller() -> None:
        while (start := now()) < begin + seconds:
            try:
                await call(client, rng, value)
            except ReplcacheError:
                figure.errors += 1
            else:
                figure.latencies.append(now() - start)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    figure.seconds = now() - begin
    return figure


def _key(number: int) -> str:
    return f"{PREFIX}{number:04}"


async def _set(client: "AsyncClient", rng: random.Random, value: bytes) -> None:
    await client.set(_key(rng.randrange(KEYS)), value)


async def _get(client: "AsyncClient", rng: random.Random, value: bytes) -> None:
    await client.get(_key(rng.randrange(KEYS)))


async def _get_one(client: "AsyncClient", rng: random.Random, value: bytes) -> None:
    await client.get(_key(rng.randrange(KEYS)), read="one")


def _fields(figure: Figure) -> dict[str, object]:
    return {
        "operation": figure.operation,
        "callers": figure.callers,
        "per_second": round(figure.rate, 1),
        "p50_ms": round(figure.percentile_ms(50), 3),
        "p99_ms": round(figure.percentile_ms(99), 3),
        "errors": figure.errors,
    }
