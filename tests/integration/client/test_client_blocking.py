"""What only the blocking client has: threads, Ctrl-C, fork; and what both have alike: methods, closing."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from replcache import AsyncClient, Client, errors
from replcache.client.batch import AsyncBatch, Batch
from replcache.client.election import AsyncElection, AsyncTerm
from replcache.client.holds import Election, Lease, Lock, RWLock, Term
from replcache.client.lease import AsyncLease
from replcache.client.lock import AsyncLock, AsyncRWLock
from replcache.client.near import AsyncNear
from replcache.client.near_calls import Near
from replcache.client.txn import AsyncTxn, Txn
from tests.helpers.client_driver import ClusterThread, Driver
from tests.helpers.wait import wait_until

# What the blocking classes use of the others.
INTERNAL = {"on_lost", "hit", "fetch", "name_of", "acquire_s", "ready"}


def public(cls: type) -> dict[str, inspect.Signature | None]:
    """name -> signature without types of what both colours must have."""
    found: dict[str, inspect.Signature | None] = {}
    for name in dir(cls):
        if name.startswith("_") or name in INTERNAL:
            continue
        member = inspect.getattr_static(cls, name)
        found[name] = inspect.signature(member) if inspect.isfunction(member) else None
    return found


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (Client, AsyncClient),
        (Lock, AsyncLock),
        (RWLock, AsyncRWLock),
        (Lease, AsyncLease),
        (Election, AsyncElection),
        (Term, AsyncTerm),
        (Batch, AsyncBatch),
        (Txn, AsyncTxn),
        (Near, AsyncNear),
    ],
)
def test_both_colours_have_the_same_methods_with_the_same_arguments(
    blocking: type, asynchronous: type
) -> None:
    ours, theirs = public(blocking), public(asynchronous)
    assert set(ours) == set(theirs)
    for name, signature in ours.items():
        other = theirs[name]
        if signature is None or other is None:
            assert signature is other
            continue
        if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            # Hands everything on to the other one.
            continue
        assert {p.name: (p.kind, p.default) for p in signature.parameters.values()} == {
            p.name: (p.kind, p.default) for p in other.parameters.values()
        }, name


def test_every_call_of_the_async_client_waits_or_is_plain() -> None:
    plain = {
        "batch", "cached", "election", "find", "lease", "lock", "near", "rwlock", "scan", "semaphore",
        "stats", "through", "txn", "watch",
    }  # fmt: skip
    for name, signature in public(AsyncClient).items():
        if signature is not None:
            is_coroutine = inspect.iscoroutinefunction(getattr(AsyncClient, name))
            assert is_coroutine != (name in plain), name


def test_many_threads_share_messages(cluster: ClusterThread) -> None:
    with Client(cluster.url, timeout=30) as client:
        client.set("warm", "up")
        barrier = threading.Barrier(32)
        answers: list[int] = []

        def work() -> None:
            barrier.wait()
            for _ in range(20):
                answers.append(client.incr("n"))

        threads = [threading.Thread(target=work) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(answers) == list(range(1, 641))
        assert client.stats().messages < 641


def test_constructor_does_nothing(cluster: ClusterThread) -> None:
    before = threading.active_count()
    Client(cluster.url)
    AsyncClient(cluster.url)
    assert threading.active_count() == before
    assert cluster.cluster.calls("Pipeline") == 0


def test_closing(make_client: Any) -> None:
    client = make_client()
    client.set("key", 1)
    client.close()
    client.close()
    never_used = make_client()
    never_used.close()
    never_used.close()


def test_use_after_close_is_an_error(cluster: ClusterThread) -> None:
    client = Client(cluster.url)
    client.set("key", 1)
    client.close()
    for call in (lambda: client.get("key"), lambda: client.set("key", 1), lambda: client.members()):
        with pytest.raises(errors.ClientClosed):
            call()
    unused = Client(cluster.url)
    unused.close()
    with pytest.raises(errors.ClientClosed):
        unused.get("key")
    lock = client.lock("l")
    assert lock.release() is False


def test_close_ends_the_thread(cluster: ClusterThread) -> None:
    before = set(threading.enumerate())
    client = Client(cluster.url)
    client.set("key", 1)
    started = set(threading.enumerate()) - before
    assert {thread.name for thread in started} == {"replcache"}
    client.close()
    wait_until(lambda: not any(thread.is_alive() for thread in started), what="the thread has ended")


def test_interrupted_call_leaves_the_client_usable(cluster: ClusterThread) -> None:
    """Ctrl-C while a call waits; the answer that comes later must not be taken for the next call's."""
    client = Client(cluster.url, timeout=20)
    client.set("key", "first")
    cluster.hang("n1")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        client.get("key")
    cluster.resume("n1")
    assert client.set("other", "second").version == 1
    assert client.get_value("other") == "second"
    client.close()


def test_interrupted_lock_wait_gives_its_place_back(cluster: ClusterThread) -> None:
    client = Client(cluster.url)
    with client.lock("l"):
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            client.lock("l", wait="1m").acquire()
        wait_until(lambda: not cluster.state.locks["l"].waiters, what="an empty queue")
    client.close()


def test_fork_is_found_out(cluster: ClusterThread) -> None:
    """In the child the loop's thread does not exist: calls must raise instead of waiting for ever."""
    script = textwrap.dedent(
        """
        import os, sys
        from replcache import Client, errors
        client = Client(sys.argv[1])
        client.set("key", 1)
        child = os.fork()
        if child == 0:
            try:
                client.get("key", timeout=1)
            except errors.ClientClosed as err:
                os._exit(7 if "fork" in str(err) else 8)
            os._exit(9)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert client.get_value("key") == 1
        client.close()
        sys.exit(status)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, cluster.url], timeout=60, check=False, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr


def test_call_inside_the_own_loop_is_an_error_not_a_deadlock(cluster: ClusterThread) -> None:
    with Client(cluster.url) as client:
        client.set("key", 1)
        found: list[BaseException] = []

        async def inside() -> None:
            try:
                client.get("key")
            except errors.ClientClosed as err:
                found.append(err)

        client._run(inside, 5)
        assert len(found) == 1


async def test_async_client_belongs_to_one_loop(cluster: ClusterThread) -> None:
    client = AsyncClient(cluster.url)
    await client.set("key", 1)
    found: list[BaseException] = []

    def elsewhere() -> None:
        import asyncio

        async def use() -> None:
            await client.get("key")

        try:
            asyncio.run(use())
        except errors.ClientClosed as err:
            found.append(err)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert len(found) == 1
    await client.close()


def test_url_from_the_environment(cluster: ClusterThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLCACHE_URL", cluster.url)
    with Client() as client:
        client.set("key", 1)
    assert cluster.state.entries[b"key"].value == b"1"


def test_hit_statistics(client: Driver) -> None:
    client.set("a", 1)
    client.get("a")
    client.get("b")
    client.get_many(["a", "b", "c", "a"])
    client.get("a", full=True)
    stats = client.stats()
    assert (stats.hits, stats.misses) == (3, 3)
    assert stats.hit_rate == 0.5
    assert stats.calls == 7
    assert stats.failures == 0
    with pytest.raises(AttributeError):
        stats.hits = 7
