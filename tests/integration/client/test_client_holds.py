"""Leases, elections, reader locks and semaphores of both clients, against a real server."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from replcache import AsyncClient, Client, errors
from replcache.pb.v1 import election_pb2, election_pb2_grpc
from replcache.server import status_map
from tests.helpers.client_driver import Driver, ServerThread
from tests.helpers.wait import async_wait_until, scaled, wait_until


def lease_of(served: Driver, ttl: str = "10s") -> Any:
    return served.driven(served.client.lease(ttl))


# --- leases ---


def test_keys_and_locks_go_with_their_lease(served: Driver) -> None:
    lease = lease_of(served)
    lease_id = lease.grant()
    assert lease_id == lease.id > 0
    assert lease.is_alive
    served.set("a", 1, lease=lease.under)
    served.set("b", 2, lease=lease_id)
    served.run_batch(lambda b: b.set("c", 3, lease=lease.under))
    lock = served.lock("l", lease=lease.under)
    lock.acquire()
    assert lock.is_held
    view = lease.describe()
    assert set(view.keys) == {b"a", b"b", b"c"}
    assert view.locks == ("l",)
    assert 0 < view.expires_in_s <= view.ttl_s == 10
    assert served.get("a", full=True).lease_id == lease_id
    assert lease.revoke() is True
    assert served.get_many(["a", "b", "c"]) == {"a": None, "b": None, "c": None}
    assert served.locks("l") == ()
    assert lock.is_lost
    with pytest.raises(errors.LockLost):
        lock.check()
    with pytest.raises(errors.LockLost):
        lease.check()
    assert lease.revoke() is False
    assert lock.release() in (True, False)
    assert served.describe_lease(lease_id) is None


def test_lease_can_be_granted_again(served: Driver) -> None:
    lease = lease_of(served)
    first = lease.grant()
    with pytest.raises(errors.InvalidRequest):
        lease.grant()
    lease.revoke()
    assert lease.grant() > first
    assert lease.is_alive
    assert not lease.is_lost
    lease.revoke()


def test_lease_is_kept_alive(served: Driver, server: ServerThread) -> None:
    lease = lease_of(served, "1s")
    lease_id = lease.grant()
    seen: list[int] = []

    def renewed() -> bool:
        seen.append(len(server.raft.proposed))
        return seen[-1] >= seen[0] + 3

    wait_until(renewed, what="three renewals")
    assert lease.is_alive
    assert served.keep_lease(lease_id) is True
    lease.revoke()
    assert served.keep_lease(lease_id) is False


def test_lease_that_ended_is_lost(served: Driver, server: ServerThread) -> None:
    lease = lease_of(served, "1s")
    lease_id = lease.grant()
    lock = served.lock("l", lease=lease.under)
    lock.acquire()
    server.advance(100)
    wait_until(lambda: lease.is_lost, what="the lease is lost")
    assert lock.is_lost
    assert not lock.is_held
    with pytest.raises(errors.NotFound):
        served.set("a", 1, lease=lease_id)
    with pytest.raises(errors.LockLost):
        served.lock("m", lease=lease.under).acquire()
    lease.revoke()


def test_any_lease_can_be_revoked_by_its_id(served: Driver) -> None:
    lease = lease_of(served)
    lease_id = lease.grant()
    assert served.revoke_lease(lease_id) is True
    assert served.revoke_lease(lease_id) is False
    lease.revoke()


def test_context_managers_of_the_blocking_client(server: ServerThread) -> None:
    with Client(server.url) as client:
        with client.lease("5s") as lease:
            client.set("a", 1, lease=lease)
            with client.lock("l", lease=lease) as lock, client.rwlock("rw").read():
                lock.check()
        assert client.get("a") is None
        with client.election("e").campaign("me") as term:
            assert term.token > 0
        with client.txn() as t:
            t.set("b", 2)
        assert client.get_value("b") == 2


# --- reader locks, semaphores ---


def test_readers_share_and_a_writer_is_alone(served: Driver) -> None:
    rwlock = served.client.rwlock("index", wait=None)
    readers = [served.driven(rwlock.read()) for _ in range(3)]
    for reader in readers:
        reader.acquire()
    writer = served.driven(rwlock.write())
    with pytest.raises(errors.LockTimeout):
        writer.acquire()
    for reader in readers:
        reader.release()
    token = writer.acquire()
    served.set("index", 1, fence=writer.under)
    with pytest.raises(errors.LockTimeout):
        served.driven(rwlock.read()).acquire()
    writer.release()
    assert token > readers[2].token


def test_semaphore(served: Driver) -> None:
    places = [served.driven(served.client.semaphore("gpu", 2, wait=None)) for _ in range(3)]
    places[0].acquire()
    places[1].acquire()
    with pytest.raises(errors.LockTimeout):
        places[2].acquire()
    places[0].release()
    assert places[2].acquire() > 0
    for place in places:
        place.release()


# --- elections ---


def test_one_leads_and_the_next_follows(served: Driver) -> None:
    election = served.driven(served.client.election("scheduler"))
    assert election.leader() is None
    first = served.driven(election.under.campaign("host-1"))
    second = served.driven(election.under.campaign("host-2", wait="20s"))
    token = first.acquire()
    leader = election.leader()
    assert (leader.value, leader.token) == ("host-1", token)
    with pytest.raises(errors.LockTimeout):
        served.driven(election.under.campaign("host-3", wait=None)).acquire()
    tokens: list[int] = []
    thread = threading.Thread(target=lambda: tokens.append(second.acquire()))
    thread.start()
    first.proclaim("host-1, busy")
    assert election.leader().value == first.value == "host-1, busy"
    served.set("plan", 1, fence=first.under)
    assert first.resign() is True
    thread.join(20)
    assert tokens[0] > token
    assert election.leader().value == "host-2"
    with pytest.raises(errors.FenceRejected):
        served.set("plan", 2, fence=("scheduler", token))
    with pytest.raises(errors.LockLost):
        first.proclaim("late")
    assert second.resign() is True
    assert second.resign() is False


def test_leader_that_is_replaced_knows(served: Driver, server: ServerThread) -> None:
    term = served.driven(served.client.election("e", ttl="1s").campaign("a"))
    term.acquire()
    server.advance(100)
    wait_until(lambda: term.is_lost, what="the term is lost")
    with pytest.raises(errors.LockLost):
        term.proclaim("b")
    term.resign()


def test_observers_see_each_leader(served: Driver, server: ServerThread) -> None:
    seen: list[str | None] = []

    def observe() -> None:
        with Client(server.url) as observer:
            for leader in observer.election("obs").observe():
                seen.append(None if leader is None else leader.value)
                if seen[-1] == "last":
                    return

    thread = threading.Thread(target=observe)
    thread.start()
    wait_until(lambda: seen == [None], what="nobody leads")
    term = served.driven(served.client.election("obs").campaign("first"))
    term.acquire()
    wait_until(lambda: seen[-1] == "first", what="the first leader")
    term.proclaim("second")
    wait_until(lambda: seen[-1] == "second", what="the new value")
    term.resign()
    wait_until(lambda: seen[-1] is None, what="nobody leads again")
    last = served.driven(served.client.election("obs").campaign("last"))
    last.acquire()
    thread.join(20)
    last.resign()
    assert seen == [None, "first", "second", None, "last"]


def test_closing_the_client_ends_an_observer(server: ServerThread) -> None:
    client = Client(server.url)
    leaders = client.election("closed").observe()
    assert next(leaders) is None
    ended = threading.Event()

    def wait() -> None:
        try:
            for _ in leaders:
                pass
        except errors.ReplcacheError:
            pass
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    client.close()
    assert ended.wait(20)
    thread.join(20)


async def test_closing_the_client_ends_an_observer_in_another_task(server: ServerThread) -> None:
    seen: list[object] = []

    async def observe(client: AsyncClient) -> None:
        async for leader in client.election("closed").observe():
            seen.append(leader)

    async with AsyncClient(server.url) as client:
        observing = asyncio.create_task(observe(client))
        await async_wait_until(lambda: seen == [None], what="nobody leads")
    done, _ = await asyncio.wait([observing], timeout=scaled(10))
    assert done
    assert not observing.cancelled()
    assert isinstance(observing.exception(), errors.ClientClosed)


async def test_observers_leave_a_node_that_takes_the_call_and_says_nothing(
    server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replcache.client.election._OBSERVE_TURN_S", 0.3)

    class Silent(election_pb2_grpc.ElectionServicer):
        async def Observe(self, request: object, context: object) -> AsyncIterator[object]:
            await asyncio.Event().wait()
            yield

    silent = grpc.aio.server()
    election_pb2_grpc.add_ElectionServicer_to_server(Silent(), silent)  # type: ignore[no-untyped-call]
    port = silent.add_insecure_port("127.0.0.1:0")
    await silent.start()
    try:
        good = server.url.removeprefix("replcache://")
        async with AsyncClient(f"127.0.0.1:{port},{good}") as client:
            client._core.router._local = 0
            leaders = client.election("silent").observe()
            assert await asyncio.wait_for(anext(leaders), scaled(10)) is None
            await leaders.aclose()
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(errors.Unavailable, match="no node answered"):
                await anext(client.election("silent").observe(stall_timeout="1s"))
    finally:
        await silent.stop(None)


async def test_an_observer_that_was_too_slow_is_told_who_leads_by_now() -> None:
    class Impatient(election_pb2_grpc.ElectionServicer):
        calls = 0

        async def Observe(self, request: object, context: Any) -> AsyncIterator[object]:
            self.calls += 1
            leader = election_pb2.LeaderResponse()
            leader.leader.token, leader.leader.value = self.calls, f"leader {self.calls}"
            yield leader
            if self.calls == 1:
                form = status_map.to_status(errors.WatchTooSlow("observe again"))
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
                await context.abort(code, form.message, status_map.trailers(form))
            await asyncio.Event().wait()

    node = grpc.aio.server()
    election_pb2_grpc.add_ElectionServicer_to_server(Impatient(), node)  # type: ignore[no-untyped-call]
    port = node.add_insecure_port("127.0.0.1:0")
    await node.start()
    try:
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            leaders = client.election("busy").observe()
            seen = [await asyncio.wait_for(anext(leaders), scaled(10)) for _ in range(2)]
            await leaders.aclose()
    finally:
        await node.stop(None)
    assert [leader and leader.value for leader in seen] == ["leader 1", "leader 2"]
