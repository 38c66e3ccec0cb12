"""Advertising: no user sees an advertisement more than three times an hour, and nobody misses one of these.

Many servers decide at once for the same users, while the leader is killed again and again.
"""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from replcache.errors import OutOfRange
from tests.helpers.process_cluster import ProcessCluster

USERS = 300
CAP = 3
TRIES = 12
DECIDERS = 24
KILLS = 3


@pytest.mark.timeout(600)
def test_three_impressions_a_user_and_hour(cluster: ProcessCluster, rng: random.Random) -> None:
    cluster.start()
    cluster.wait_ready()
    asked = [user for user in range(USERS) for _ in range(TRIES)]
    rng.shuffle(asked)
    kill_at = {len(asked) * (number + 1) // (KILLS + 1) for number in range(KILLS)}
    due = [threading.Event() for _ in kill_at]
    done = 0
    lock = threading.Lock()

    with cluster.client("60s") as client:

        def decide(user: int) -> int | None:
            """The user when the advertisement may be shown."""
            nonlocal done
            try:
                client.incr(f"cap/ad17/user{user}/hour0", maximum=CAP, ttl="1h")
                shown: int | None = user
            except OutOfRange:
                shown = None
            with lock:
                done += 1
                if done in kill_at:
                    next(event for event in due if not event.is_set()).set()
            return shown

        with ThreadPoolExecutor(DECIDERS) as pool:
            decisions = [pool.submit(decide, user) for user in asked]
            for event in due:
                assert event.wait(120), f"{done} of {len(asked)} decisions"
                leader = cluster.leader(client)
                cluster.kill(leader)
                cluster.start(leader)
                cluster.wait_ready(leader)
            shown = Counter(future.result() for future in decisions)
    del shown[None]
    wrong = {user: count for user, count in shown.items() if count != CAP}
    assert len(shown) == USERS
    assert not wrong, wrong
    print(f"{len(asked)} decisions, {sum(shown.values())} impressions, {KILLS} leaders killed")
