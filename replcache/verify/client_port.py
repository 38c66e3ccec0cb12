"""The Port of a real cluster.

Data goes through AsyncClient, as users' data does: pipelined, with its retries and its sessions. Every
process has a client of its own; their lists of nodes start at different ones, and every other one stays with
its node instead of following the leader, so that all nodes are asked.

Locks and requests with an id go over plain stubs, one try a call, each to the next node: here the workload
itself decides what is tried again (AsyncLock renews and gives back in the background, which a history would
not show).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from replcache.client.aio import AsyncClient
from replcache.client.channel import Connection, credentials
from replcache.client.status import from_rpc_error
from replcache.client.types import Consistency
from replcache.client.url import ClientSettings, parse_settings
from replcache.errors import Unavailable
from replcache.pb.v1 import cache_pb2, common_pb2, lock_pb2
from replcache.verify.port import Condition, Fence, Found, OpenPort, Port, ReadLevel, Wrote

# Part of a call's time for reaching a node at all; after it nothing was sent.
_CONNECT_SHARE = 0.5


def client_ports(url: str | None, timeout_s: float) -> OpenPort:
    """Ports of the cluster at `url` (as for AsyncClient; None: REPLCACHE_URL).

    Raises:
        InvalidRequest: not an acceptable URL.
    """
    settings = parse_settings(url, {"timeout": timeout_s})

    async def open_port(index: int) -> Port:
        return ClientPort(settings, index, timeout_s)

    return open_port


class ClientPort:
    """One process's way to the cluster. Connects with the first call."""

    def __init__(self, settings: ClientSettings, index: int, timeout_s: float) -> None:
        start = index % len(settings.endpoints)
        self._endpoints = settings.endpoints[start:] + settings.endpoints[:start]
        self._settings = settings
        self._timeout_s = timeout_s
        self._calls = 0
        self._connections: dict[str, Connection] = {}
        self._client = AsyncClient(
            ",".join(self._endpoints),
            timeout=timeout_s,
            route="any" if index % 2 else "leader",
            tls=settings.tls,
            ca=settings.ca or None,
            cert=settings.cert or None,
            key=settings.key or None,
            server_name=settings.server_name or None,
            token=settings.token or None,
            token_file=settings.token_file or None,
            insecure=settings.insecure,
        )

    async def close(self) -> None:
        await self._client.close()
        for connection in self._connections.values():
            await connection.close()

    # --- data, through the client ---

    async def get(self, key: str, level: ReadLevel) -> Found | None:
        entry = await self._client.get(key, read=Consistency(level))
        if entry is None:
            return None
        served = entry.served
        return Found(entry.raw, entry.version, served.revision, served.staleness_s, served.node)

    async def set(
        self, key: str, value: bytes, *, ttl_ms: int = 0, condition: Condition | None = None
    ) -> Wrote:
        ttl = ttl_ms / 1000 if ttl_ms else None
        if condition is None:
            done = await self._client.set(key, value, ttl=ttl)
        else:
            options: dict[str, Any] = {} if condition.value is None else {"if_value": condition.value}
            done = await self._client.set(
                key,
                value,
                ttl=ttl,
                nx=condition.absent,
                xx=condition.present,
                if_version=condition.version,
                **options,
            )
        return Wrote(done.version, done.revision)

    async def append(self, key: str, value: bytes, fence: Fence | None = None) -> Found:
        entry = await self._client.update(key, append=value, fence=fence)
        return Found(entry.raw, entry.version, entry.mod_revision, None, entry.served.node)

    async def add(self, key: str, delta: int) -> int:
        return await self._client.incr(key, delta)

    async def delete(self, key: str) -> bool:
        return bool(await self._client.delete(key))

    async def touch(self, key: str, ttl_ms: int) -> None:
        await self._client.touch(key, ttl=ttl_ms / 1000)

    # --- one try a call, over plain stubs ---

    async def add_once(self, key: str, delta: int, request_id: str) -> int:
        request = cache_pb2.IncrementRequest(
            key=key.encode(),
            delta=delta,
            idempotency=common_pb2.Idempotency(request_id=request_id.encode()),
        )
        reply = await self._try(lambda connection: connection.cache.Increment, request)
        return int(reply.value)

    async def acquire(self, name: str, owner: str, ttl_ms: int, wait_ms: int) -> int:
        request = lock_pb2.AcquireRequest(name=name, owner=owner.encode(), ttl=_duration(ttl_ms))
        if wait_ms:
            request.wait.CopyFrom(_duration(wait_ms))
        reply = await self._try(lambda connection: connection.lock.Acquire, request)
        return int(reply.token)

    async def renew(self, name: str, owner: str, token: int, ttl_ms: int) -> None:
        request = lock_pb2.RenewRequest(name=name, owner=owner.encode(), token=token, ttl=_duration(ttl_ms))
        await self._try(lambda connection: connection.lock.Renew, request)

    async def release(self, name: str, owner: str, token: int) -> bool:
        request = lock_pb2.ReleaseRequest(name=name, owner=owner.encode(), token=token)
        reply = await self._try(lambda connection: connection.lock.Release, request)
        return bool(reply.released)

    async def _try(
        self, method: Callable[[Connection], Callable[..., Awaitable[Any]]], request: object
    ) -> Any:
        """One call to the next node. An answer without details may have been executed (OutcomeUnknown)."""
        address = self._endpoints[self._calls % len(self._endpoints)]
        self._calls += 1
        connection = self._connection(address)
        connect_s = self._timeout_s * _CONNECT_SHARE
        try:
            async with asyncio.timeout(connect_s):
                await connection.channel.channel_ready()
        except TimeoutError as err:
            raise Unavailable(f"no connection to {address} within {connect_s} s") from err
        try:
            return await method(connection)(request, timeout=self._timeout_s - connect_s)
        except grpc.RpcError as err:
            raise from_rpc_error(err) from err

    def _connection(self, address: str) -> Connection:
        if address not in self._connections:
            self._connections[address] = Connection(address, self._settings, credentials(self._settings))
        return self._connections[address]


def _duration(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
