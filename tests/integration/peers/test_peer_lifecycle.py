"""Goal: links come up, go, and come back, with their nodes and with the membership; nothing is left behind.

Method: real transports on loopback are started, stopped, restarted and starved of file descriptors.
"""

import asyncio
import os
import random
import resource
import socket
import time

import pytest

from replcache.constants import PEER_RECONNECT_MAX_S
from replcache.errors import ConfigError
from replcache.raft import messages as m
from replcache.raft.peer_listener import parse_address
from tests.helpers.peers import (
    Pair,
    RawPeer,
    RawServer,
    append_of,
    close_all,
    hello_of,
    make_node,
    silent_after_hello,
    start_pair,
)
from tests.helpers.wait import async_wait_until, scaled


async def test_peer_that_restarts_is_reached_again_within_a_second(rng: random.Random) -> None:
    first = make_node("n1", rng=rng)
    second = make_node("n2", rng=rng)
    await start_pair(first, second, ("n1", "n2"))
    address = second.address
    await second.transport.close()
    await async_wait_until(lambda: not first.is_sending_to("n2"))
    assert ("disconnected", "n2", None) in first.happened
    assert not first.transport.send("n2", m.Heartbeat())
    assert first.counters["dropped_not_connected"] == 1
    # Long enough for the back-off to reach its maximum.
    await async_wait_until(lambda: first.counters["dials_failed"] >= 7, timeout_s=10)
    again = make_node("n2", rng=rng, listen=address, peers={"n1": first.address})
    await again.transport.start()
    begin = time.perf_counter()
    await async_wait_until(lambda: first.is_sending_to("n2") and again.is_sending_to("n1"))
    took = time.perf_counter() - begin
    print(f"both directions up {took * 1e3:.0f} ms after the restart")
    assert took < scaled(PEER_RECONNECT_MAX_S)
    assert first.transport.send("n2", m.Heartbeat(term=3))
    await async_wait_until(lambda: again.messages == [m.Heartbeat(term=3)])
    await close_all(first, again)


async def test_dialling_backs_off(rng: random.Random) -> None:
    """Nobody listens: six attempts take at least half of 50 + 100 + 200 + 400 + 800 ms."""
    async with RawServer(lambda peer: asyncio.sleep(0)) as server:
        address = server.address
    node = make_node("n1", rng=rng, peers={"n2": address})
    begin = time.perf_counter()
    await node.transport.start()
    await async_wait_until(lambda: node.counters["dials_failed"] >= 6, timeout_s=10)
    assert time.perf_counter() - begin > 0.75
    await node.transport.close()


async def test_set_peers_ends_and_begins_connections(pair: Pair, rng: random.Random) -> None:
    first, second = pair
    third = make_node("n3", rng=rng, peers={"n1": first.address})
    await third.transport.start()
    first.transport.set_peers({"n3": third.address, "n1": "127.0.0.1:1"})
    assert not first.is_sending_to("n2")
    assert not first.transport.send("n2", m.Heartbeat())
    await async_wait_until(lambda: first.is_sending_to("n3") and third.is_sending_to("n1"))
    assert ("disconnected", "n2", None) in first.happened
    await async_wait_until(lambda: ("disconnected", "n1", None) in second.happened)
    assert set(first.transport.statistics().peers) == {"n3"}
    with pytest.raises(ConfigError, match="nowhere"):
        first.transport.set_peers({"n2": "nowhere"})
    assert set(first.transport.statistics().peers) == {"n3"}
    first.transport.set_peers({"n3": third.address, "n2": second.address})
    await async_wait_until(lambda: first.is_sending_to("n2") and first.is_sending_to("n3"))
    await third.transport.close()


async def test_new_incarnation_of_a_peer_ends_the_link_to_the_old_one(rng: random.Random) -> None:
    """The old process of n2 seems alive to TCP; the new one's Hello shows that it is not."""
    async with RawServer(silent_after_hello) as server:
        node = make_node("n1", rng=rng, peers={"n2": server.address})
        await node.transport.start()
        await async_wait_until(lambda: node.is_sending_to("n2"))
        peer = await RawPeer.connect_as(node.address, hello_of("n2", "n1", incarnation=2))
        assert ("disconnected", "n2", None) in node.happened
        peer.close()
        await node.transport.close()


async def test_listener_survives_the_lack_of_file_descriptors(pair: Pair, rng: random.Random) -> None:
    first, second = pair
    strangers = [await RawPeer.connect(second.address) for _ in range(4)]
    await async_wait_until(lambda: second.transport.statistics().handshaking == 4)
    # The kernel completes these without anybody accepting; their descriptors are taken before there are none.
    waiting = [socket.create_connection(parse_address(second.address)) for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        await async_wait_until(lambda: second.counters["accepts_failed"] >= 2)
        first.transport.send("n2", m.Heartbeat(term=5))
        await async_wait_until(lambda: second.messages == [m.Heartbeat(term=5)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    third = make_node("n3", rng=rng, peers={"n2": second.address})
    await third.transport.start()
    await async_wait_until(lambda: third.is_sending_to("n2"))
    await third.transport.close()
    for stranger in strangers:
        stranger.close()
    for sock in waiting:
        sock.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_close_leaves_nothing_and_may_be_repeated(rng: random.Random) -> None:
    """Two rounds: what the loop itself opens on first use is there after the first one."""
    tasks = len(asyncio.all_tasks())
    unstarted = make_node("n1", rng=rng)
    await close_all(unstarted, unstarted)
    descriptors = 0
    for _ in range(2):
        first, second = make_node("n1", rng=rng), make_node("n2", rng=rng, peers={"n3": "127.0.0.1:1"})
        await start_pair(first, second, ("n1", "n2"))
        stranger = await RawPeer.connect(first.address)
        await async_wait_until(
            lambda first=first: first.transport.statistics().handshaking == 1, what="stranger seen"
        )
        address = first.address
        happened = list(first.happened)
        await close_all(first, second, first)
        await first.transport.close()
        await stranger.wait_closed()
        assert len(asyncio.all_tasks()) == tasks
        assert first.happened == happened
        assert not first.transport.send("n2", m.Heartbeat())
        with pytest.raises(OSError):
            await RawPeer.connect(address)
        if descriptors == 0:
            descriptors = open_descriptors()
    await async_wait_until(lambda: open_descriptors() <= descriptors, what="sockets closed")


async def test_last_messages_before_close_leave(pair: Pair) -> None:
    """Also one that is larger than what the kernel takes at once."""
    first, second = pair
    large = append_of(6 * 1024 * 1024)
    assert first.transport.send("n2", large)
    assert first.transport.send("n2", m.TimeoutNow(term=9))
    await first.transport.close()
    await async_wait_until(lambda: second.messages == [m.TimeoutNow(term=9), large])


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "127.0.0.1:70000", ":1", "::1:80", "host:"])
async def test_bad_address_is_a_configuration_error(address: str, rng: random.Random) -> None:
    for node in (make_node("n1", rng=rng, listen=address), make_node("n1", rng=rng, peers={"n2": address})):
        with pytest.raises(ConfigError, match="host:port"):
            await node.transport.start()
        await node.transport.close()


async def test_address_in_use_is_a_configuration_error(pair: Pair, rng: random.Random) -> None:
    node = make_node("n3", rng=rng, listen=pair[0].address)
    with pytest.raises(ConfigError, match="in use"):
        await node.transport.start()
    await node.transport.close()
