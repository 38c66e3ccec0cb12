"""The short tour of `make cluster`: what the cluster does, shown on a running one.

Each step prints what it did and how long it took, and raises when the answer is not the promised one.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import typer

from replcache import Client
from replcache.cli.cluster_command import wait_ready
from replcache.cli.connection import connection_of
from replcache.cli.exits import Exit
from replcache.cli.nodes import agreed_leader, look_at_all
from replcache.cli.output import say
from replcache.cli.units import short_duration
from replcache.errors import FenceRejected, NotFound
from replcache.localcluster import LocalCluster

KEY = "tour/greeting"
COUNTER = "tour/visits"
LOCK = "tour/door"
# A failover and a client's search for the new leader fit many times over.
CALL_TIMEOUT_S = 10.0


def take(cluster: LocalCluster) -> None:
    """Runs all steps; raises ReplcacheError at the first one that does not hold."""
    with Client(cluster.url, timeout=CALL_TIMEOUT_S) as client:
        _writes_and_reads(cluster, client)
        _lock_and_fence(client)
        _failover(cluster, client)
    print("\nThe cluster runs on. Try, for example:")
    for arguments in (f"get {KEY}", "status", "cluster kill leader", "cluster up", "cluster down"):
        print(f"  {_program()} {arguments}")


def _program() -> str:
    """How to call the command line from here: its script may be on no search path."""
    script = Path(sys.executable).with_name("replcache")
    if not script.exists():
        return f"{sys.executable} -m replcache.cli.main"
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)


def _step(what: str, action: Callable[[], Any]) -> Any:
    begin = time.monotonic()
    answer = action()
    print(f"  {what:<58} {answer!s:<34} {short_duration(time.monotonic() - begin):>8}")
    return answer


def _expect(holds: bool, what: str) -> None:
    if not holds:
        say(f"error: the tour found a broken promise: {what}")
        raise typer.Exit(int(Exit.NEGATIVE))


def _writes_and_reads(cluster: LocalCluster, client: Client) -> None:
    print("\nWrite once, read anywhere:")
    _step(f"set {KEY} = hello", lambda: f"version {client.set(KEY, 'hello').version}")
    for layout in cluster.layouts:
        with Client(layout.grpc_address, route="any", timeout=CALL_TIMEOUT_S) as single:
            value = _step(f"linearizable get through {layout.name}", partial(single.get_value, KEY))
            _expect(value == "hello", f"{layout.name} answered {value!r}")
    one = _step("read-one: the node's own copy, with its staleness", lambda: _read_one(client))
    _expect(one.startswith("hello"), f"read-one answered {one!r}")
    _step(
        "update: append in one step, only if it exists",
        lambda: client.update(KEY, append=" world").raw.decode(),
    )
    try:
        client.update("tour/missing", "x")
    except NotFound:
        print("  update of a missing key: NOT_FOUND, as promised")
    _step("increment a counter", lambda: client.incr(COUNTER))


def _read_one(client: Client) -> str:
    entry = client.get(KEY, read="one")
    if entry is None:
        return "(not there yet)"
    bound = "unknown" if entry.staleness_s is None else f"{entry.staleness_s * 1000:.0f} ms"
    return f"{entry.value} (from {entry.served_by}, {bound})"


def _lock_and_fence(client: Client) -> None:
    print("\nLocks that hold:")
    with client.lock(LOCK, ttl=10) as held:
        token = held.token
        print(f"  lock {LOCK} granted with fencing token {token}")
        _step("a write under the fence", lambda: f"version {client.set(KEY, 'fenced', fence=held).version}")
    try:
        client.set(KEY, "late", fence=(LOCK, token))
        _expect(False, "a write with an old fencing token was accepted")
    except FenceRejected:
        print("  the same fence after the release: FENCE_REJECTED, by the server")


def _failover(cluster: LocalCluster, client: Client) -> None:
    connection = connection_of(cluster.url)
    leader = agreed_leader(look_at_all(connection, cluster.endpoints, CALL_TIMEOUT_S))
    if cluster.nodes < 3 or not leader:
        print("\nNo failover to show: that needs three nodes.")
        return
    print(f"\nkill -9 of the leader, {leader}:")
    before = int(client.get_value(COUNTER))
    cluster.kill(leader)
    value = _step("linearizable get, right after", lambda: client.get_value(KEY))
    _expect(value == "fenced", f"after the failover {KEY} is {value!r}")
    after = _step("increment, right after", lambda: client.incr(COUNTER))
    _expect(after == before + 1, f"the counter went from {before} to {after}")
    running = [layout.grpc_address for layout in cluster.layouts if layout.name != leader]
    new_leader = agreed_leader([*look_at_all(connection, running, CALL_TIMEOUT_S)])
    print(f"  the new leader is {new_leader}; {leader} is started again")
    cluster.start([leader])
    wait_ready(cluster, 30.0)
    with Client(cluster.layout(leader).grpc_address, route="any", timeout=CALL_TIMEOUT_S) as single:
        value = _step(
            f"linearizable get through {leader}, back again", lambda: int(single.get_value(COUNTER))
        )
    _expect(value == after, f"{leader} came back with {value!r} instead of {after}")
