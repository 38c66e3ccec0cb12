"""A shop: 1,000 articles, many more buyers, and a leader that is killed while they buy.

Each sale is an increment by -1 that the cluster refuses below zero. It is executed exactly once, also when
its answer was lost and it was sent again: so what is left in the end is what nobody bought, and every article
is sold to one buyer.

    python examples/stock.py
"""

import asyncio
import sys
from collections import Counter

from replcache import AsyncClient
from replcache.errors import OutOfRange
from replcache.testing import Cluster

TIMEOUT_S = 30.0
CLIENTS = 4


async def buy(cache: AsyncClient) -> int | None:
    """The number of the article that was bought; None: sold out."""
    try:
        return await cache.incr("stock", -1, minimum=0)
    except OutOfRange:
        return None


async def run(cluster: Cluster, stock: int, buyers: int) -> Counter[int]:
    """How often each article was sold: buyers buy until nothing is left; the leader dies half-way."""
    clients = [cluster.async_client(timeout=TIMEOUT_S) for _ in range(CLIENTS)]
    await clients[0].set("stock", stock)
    sold: Counter[int] = Counter()
    half = asyncio.Event()

    async def buyer(number: int) -> None:
        while (article := await buy(clients[number % CLIENTS])) is not None:
            sold[article] += 1
            if sold.total() * 2 >= stock:
                half.set()

    async def accident() -> None:
        await half.wait()
        await asyncio.to_thread(lambda: cluster.kill(cluster.leader()))

    async with asyncio.TaskGroup() as group:
        group.create_task(accident())
        for number in range(buyers):
            group.create_task(buyer(number))
    left = await clients[0].get_value("stock")
    for client in clients:
        await client.close()
    if left != 0:
        raise AssertionError(f"{left} left, and nobody could buy it")
    return sold


def main() -> int:
    stock, buyers = 1000, 200
    with Cluster(3) as cluster:
        sold = asyncio.run(run(cluster, stock, buyers))
    twice = sum(times > 1 for times in sold.values())
    print(f"{sold.total():,} sold to {buyers} buyers, {twice} of them twice, 0 left; the leader was killed")
    return 0 if sold == Counter(range(stock)) else 1


if __name__ == "__main__":
    sys.exit(main())
