"""A stream: what was clicked most within the last seconds, kept up to date by a watch.

Producers write clicks; one consumer watches their prefix and keeps a window of them. The leader is killed
meanwhile: the watch goes on at another node, at the revision where it was. Each producer numbers its clicks,
so that the consumer can see that none is missing and none came twice.

    python examples/sliding_window.py
"""

import asyncio
import random
import sys
import time
from collections import Counter, deque

from replcache import AsyncClient
from replcache.client.watch import AsyncWatch
from replcache.testing import Cluster

PAGES = 20
TIMEOUT_S = 30.0


class Window:
    """Counts of what came within the last `length_s`, kept by adding and taking away single clicks."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._clicks: deque[tuple[float, int]] = deque()
        self._counts: Counter[int] = Counter()

    def add(self, at: float, page: int) -> None:
        self._clicks.append((at, page))
        self._counts[page] += 1
        while self._clicks[0][0] <= at - self._length_s:
            self._counts[self._clicks.popleft()[1]] -= 1

    def top(self, n: int) -> list[tuple[int, int]]:
        """(page, clicks) of the most clicked."""
        return self._counts.most_common(n)

    def __len__(self) -> int:
        return len(self._clicks)


async def produce(cache: AsyncClient, number: int, clicks: range, rng: random.Random) -> None:
    for sequence in clicks:
        page = min(int(rng.paretovariate(1.0)), PAGES)
        await cache.set(f"click/{number}", {"sequence": sequence, "page": page}, ttl="1m")


async def consume(watch: AsyncWatch, window: Window, expected: int) -> dict[str, list[int]]:
    """Sequence numbers of each producer in the order in which they came."""
    seen: dict[str, list[int]] = {}
    came = 0
    async for event in watch:
        if event.kind == "put" and event.entry is not None:
            seen.setdefault(event.entry.name, []).append(event.entry.value["sequence"])
            window.add(time.monotonic(), event.entry.value["page"])
            came += 1
            if came == expected:
                break
    return seen


async def run(cluster: Cluster, producers: int, clicks: int, window: Window, kills: int = 1) -> bool:
    """Whether every click came, once and in its producer's order."""
    async with cluster.async_client(timeout=TIMEOUT_S) as cache, cache.watch(prefix="click/") as watch:
        consumer = asyncio.create_task(consume(watch, window, producers * clicks * (kills + 1)))
        for turn in range(kills + 1):
            part = range(turn * clicks, (turn + 1) * clicks)
            async with asyncio.TaskGroup() as group:
                for number in range(producers):
                    group.create_task(produce(cache, number, part, random.Random(number)))
                if turn < kills:
                    leader = await asyncio.to_thread(cluster.leader)
                    await asyncio.to_thread(cluster.kill, leader)
            if turn < kills:
                await asyncio.to_thread(cluster.restart, leader)
        seen = await asyncio.wait_for(consumer, TIMEOUT_S)
    return seen == {f"click/{number}": list(range(clicks * (kills + 1))) for number in range(producers)}


def main() -> int:
    producers, clicks, kills = 8, 200, 3
    window = Window(length_s=0.5)
    with Cluster(3) as cluster:
        is_complete = asyncio.run(run(cluster, producers, clicks, window, kills))
    print(f"{producers * clicks * (kills + 1):,} clicks, {kills} leaders killed; complete: {is_complete}")
    print(f"in the last half second: {len(window)}; the most clicked pages: {window.top(3)}")
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
