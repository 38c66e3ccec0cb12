"""Advertising: nobody sees an advertisement more than three times an hour, whichever server decides.

Three servers, each with a client of its own, decide at the same time for the same people; meanwhile the
leader of the cluster is killed. One line makes it exact: an increment that the cluster refuses above the cap.
The key goes with its ttl, an hour after the first impression. Retries count once, so none is lost either.

    python examples/frequency_cap.py
"""

import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from replcache import Client
from replcache.errors import OutOfRange
from replcache.testing import Cluster

SERVERS = 3
THREADS_A_SERVER = 4
CAP = 3
TIMEOUT_S = 30.0


def may_show(cache: Client, advertisement: str, user: int) -> bool:
    """Counts an impression; False when this user had enough of it within the hour."""
    try:
        cache.incr(f"cap/{advertisement}/{user}", maximum=CAP, ttl="1h")
    except OutOfRange:
        return False
    return True


def run(cluster: Cluster, users: int, tries: int, rng: random.Random) -> Counter[int]:
    """Impressions of each user, of whom each comes to pages `tries` times; the leader dies half-way."""
    visits = [user for user in range(users) for _ in range(tries)]
    rng.shuffle(visits)
    half = threading.Event()

    def decide(number: int, cache: Client, user: int) -> int | None:
        if number == len(visits) // 2:
            half.set()
        return user if may_show(cache, "ad17", user) else None

    servers = [cluster.client(timeout=TIMEOUT_S) for _ in range(SERVERS)]
    with ThreadPoolExecutor(SERVERS * THREADS_A_SERVER) as pool:
        decisions = [
            pool.submit(decide, number, servers[number % SERVERS], user) for number, user in enumerate(visits)
        ]
        half.wait(TIMEOUT_S)
        cluster.kill(cluster.leader())
        shown = Counter(user for decision in decisions if (user := decision.result()) is not None)
    for server in servers:
        server.close()
    return shown


def main() -> int:
    users, tries = 200, 10
    with Cluster(3) as cluster:
        shown = run(cluster, users, tries, random.Random())
    print(f"{users * tries:,} decisions by {SERVERS} servers, the leader killed among them")
    print(f"impressions of a user: {min(shown.values())} to {max(shown.values())}; users: {len(shown)}")
    return 0 if shown == Counter(dict.fromkeys(range(users), CAP)) else 1


if __name__ == "__main__":
    sys.exit(main())
