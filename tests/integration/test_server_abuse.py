"""Connections that mean no good: silent, slow, junk, floods of resets. A good client must hardly notice."""

import asyncio

import grpc

from replcache import constants
from replcache.clock import SystemClock
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import common_pb2
from tests.helpers.serving import Serving, serving
from tests.helpers.wait import async_wait_until, scaled

GET = pb.GetRequest(key=b"k", read=common_pb2.ReadOptions(level=common_pb2.READ_LEVEL_ONE))


async def connect(one: Serving) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = one.server.grpc_address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def closed(reader: asyncio.StreamReader) -> bool:
    """Reads until the server hangs up."""
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass
    return True


async def test_silent_and_slow_connections_are_closed_by_the_handshake_timeout() -> None:
    """grpcio's own default keeps them for 120 s; half of these send a byte of the preface now and then."""
    clock = SystemClock()
    async with serving() as one:
        started = clock.now()
        connections = [await connect(one) for _ in range(100)]
        for _, writer in connections[:50]:
            writer.write(b"PRI * HTTP/2.0")
        await one.cache.Get(GET, timeout=5)
        async with asyncio.timeout(scaled(constants.GRPC_HANDSHAKE_TIMEOUT_S + 5)):
            await asyncio.gather(*(closed(reader) for reader, _ in connections))
        assert clock.now() - started > constants.GRPC_HANDSHAKE_TIMEOUT_S / 2
        for _, writer in connections:
            writer.close()


async def test_junk_closes_its_connection_and_no_other() -> None:
    async with serving() as one:
        await one.cache.Get(GET, timeout=5)
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x80\x04\x95" + bytes(100), b"\x16\x03\x01" + bytes(500)):
            reader, writer = await connect(one)
            writer.write(junk)
            async with asyncio.timeout(scaled(10)):
                assert await closed(reader)
            writer.close()
        await one.cache.Get(GET, timeout=5)


async def test_flood_of_cancelled_calls_leaves_nothing_and_a_good_client_goes_on() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        gauge = one.server.metrics.registry.get_sample_value
        async with grpc.aio.insecure_channel(one.server.grpc_address) as good:
            get = good.unary_unary(
                "/replcache.v1.Cache/Get", pb.GetRequest.SerializeToString, pb.GetResponse.FromString
            )
            await get(GET, timeout=5)
            for _ in range(20):
                calls = [one.cache.Set(pb.SetRequest(key=b"k", value=b"v"), timeout=30) for _ in range(50)]
                await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await get(GET, timeout=5)
        await async_wait_until(lambda: gauge("replcache_proposals_in_flight") == 0, what="nothing left")
        one.raft.proposals_open.set()
        assert (await one.cache.Set(pb.SetRequest(key=b"k", value=b"v"), timeout=5)).version >= 1
