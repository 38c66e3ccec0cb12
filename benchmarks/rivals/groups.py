"""Clusters whose leader can be killed, and their clients in one common form, for the failover measurement.

Each starts fresh on free loopback ports with the settings that it has by default. A writer has an own client,
starts at an own endpoint, and goes to the next one after a failure, as far as its client does not do that by
itself.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from grpc import aio

from benchmarks.rivals.members import Members
from benchmarks.rivals.systems import START_TIMEOUT_S, etcd_stubs, free_port
from replcache.localcluster import LocalCluster, free_ports

# A restarted member has this long to follow again.
FOLLOW_TIMEOUT_S = 90.0
# Keys read at once when everything is read back.
READ_KEYS = 1000


class WriteFailed(Exception):
    """Not acknowledged: it may have happened or not."""


class Writer(Protocol):
    async def write(self, key: str, deadline_s: float) -> None:
        """Writes the key with itself as the value. Raises WriteFailed, at the latest at the deadline."""
        ...

    async def close(self) -> None: ...


class Group(Protocol):
    """A running cluster."""

    name: str
    setting: str

    async def leader(self) -> str:
        """Name of the member that takes writes."""
        ...

    async def kill(self, member: str) -> None: ...

    async def restart(self, member: str) -> None:
        """Returns when the member follows the leader again with all data."""
        ...

    async def writer(self, number: int) -> Writer: ...

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Values of at most READ_KEYS sorted keys, as the present leader has them."""
        ...


Opened = contextlib.AbstractAsyncContextManager[Group]


async def until(what: str, poll: Callable[[], Awaitable[Any]], timeout_s: float = START_TIMEOUT_S) -> Any:
    """Polls until the result is truthy. Raises RuntimeError after the time."""
    end = time.monotonic() + timeout_s
    while True:
        if result := await poll():
            return result
        if time.monotonic() > end:
            raise RuntimeError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(0.05)


# --- replcache ---


class _ReplcacheWriter:
    def __init__(self, url: str) -> None:
        from replcache import AsyncClient

        self._client = AsyncClient(url)

    async def write(self, key: str, deadline_s: float) -> None:
        from replcache import ReplcacheError

        try:
            await self._client.set(key, key.encode(), timeout=deadline_s)
        except ReplcacheError as error:
            raise WriteFailed from error

    async def close(self) -> None:
        await self._client.close()


class ReplcacheGroup:
    name = "replcache"
    setting = "defaults"

    def __init__(self, cluster: LocalCluster) -> None:
        from replcache import AsyncClient

        self._cluster = cluster
        self._client = AsyncClient(cluster.url, timeout="30s")

    async def leader(self) -> str:
        async def ask() -> str:
            return (await self._client.status()).leader

        return str(await until("a leader", ask))

    async def kill(self, member: str) -> None:
        await asyncio.to_thread(self._cluster.kill, member)

    async def restart(self, member: str) -> None:
        from replcache import ReplcacheError

        target = (await self._client.status(await self.leader())).applied_index
        self._cluster.start([member])
        address = self._cluster.layout(member).grpc_address

        async def follows() -> bool:
            try:
                status = await self._client.status(address, timeout="2s")
            except ReplcacheError:
                return False  # not up yet: asked again
            return bool(status.leader) and status.applied_index >= target

        await until(f"{member} follows", follows, FOLLOW_TIMEOUT_S)

    async def writer(self, number: int) -> Writer:
        endpoints = self._cluster.endpoints
        start = number % len(endpoints)
        return _ReplcacheWriter("replcache://" + ",".join(endpoints[start:] + endpoints[:start]))

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        found = await self._client.get_many(list(keys))
        return [None if (entry := found[key]) is None else entry.raw for key in keys]

    async def close(self) -> None:
        await self._client.close()


@contextlib.asynccontextmanager
async def replcache_group(directory: Path) -> AsyncIterator[Group]:
    cluster = LocalCluster(directory / "cluster", 3, free_ports(3, random.Random()))
    cluster.prepare()
    group = ReplcacheGroup(cluster)
    try:
        cluster.start()
        yield group
    finally:
        await group.close()
        await asyncio.to_thread(cluster.stop)


# --- etcd ---


class _EtcdWriter:
    def __init__(self, endpoints: Sequence[str], start: int) -> None:
        self._messages, services = etcd_stubs()
        self._channels = [aio.insecure_channel(endpoint) for endpoint in endpoints]
        self._stubs = [services.KVStub(channel) for channel in self._channels]
        self._at = start

    async def write(self, key: str, deadline_s: float) -> None:
        request = self._messages.PutRequest(key=key.encode(), value=key.encode())
        try:
            await self._stubs[self._at % len(self._stubs)].Put(request, timeout=deadline_s)
        except aio.AioRpcError as error:
            self._at += 1
            raise WriteFailed from error

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class EtcdGroup:
    name = "etcd"
    setting = "defaults"

    def __init__(self, directory: Path) -> None:
        self._clients = {f"e{i}": f"127.0.0.1:{free_port()}" for i in range(3)}
        self._peers = {f"e{i}": f"http://127.0.0.1:{free_port()}" for i in range(3)}
        self._directory = directory
        self.members = Members(directory, self._command)

    def _command(self, name: str) -> list[str]:
        client = f"http://{self._clients[name]}"
        together = ",".join(f"{other}={peer}" for other, peer in self._peers.items())
        return [
            *("etcd", "--name", name, "--data-dir", str(self._directory / name)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", self._peers[name], "--initial-advertise-peer-urls", self._peers[name]),
            *("--initial-cluster", together, "--initial-cluster-state", "new"),
            *("--logger", "zap", "--log-level", "error"),
        ]

    async def _status(self, name: str) -> Any:
        """None: it does not answer."""
        messages, services = etcd_stubs()
        async with aio.insecure_channel(self._clients[name]) as channel:
            try:
                return await services.MaintenanceStub(channel).Status(messages.StatusRequest(), timeout=2)
            except aio.AioRpcError:
                return None

    async def leader(self) -> str:
        async def ask() -> str:
            for name in self._clients:
                status = await self._status(name)
                if status and status.leader and status.leader == status.header.member_id:
                    return name
            return ""

        return str(await until("a leader", ask))

    async def kill(self, member: str) -> None:
        await asyncio.to_thread(self.members.kill, member)

    async def restart(self, member: str) -> None:
        target = (await self._status(await self.leader())).header.revision
        self.members.start(member)

        async def follows() -> bool:
            status = await self._status(member)
            return bool(status and status.leader and status.header.revision >= target)

        await until(f"{member} follows", follows, FOLLOW_TIMEOUT_S)

    async def writer(self, number: int) -> Writer:
        return _EtcdWriter(list(self._clients.values()), number)

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """By ranges: between two of the keys there may be ones whose write was not acknowledged."""
        messages, services = etcd_stubs()
        found: dict[bytes, bytes] = {}
        begin, end = keys[0].encode(), keys[-1].encode() + b"\0"
        async with aio.insecure_channel(self._clients[await self.leader()]) as channel:
            stub = services.KVStub(channel)
            while True:
                request = messages.RangeRequest(key=begin, range_end=end, limit=READ_KEYS)
                part = (await stub.Range(request, timeout=30)).kvs
                found.update((pair.key, pair.value) for pair in part)
                if len(part) < READ_KEYS:
                    return [found.get(key.encode()) for key in keys]
                begin = part[-1].key + b"\0"


@contextlib.asynccontextmanager
async def etcd_group(directory: Path) -> AsyncIterator[Group]:
    group = EtcdGroup(directory)
    try:
        for name in ("e0", "e1", "e2"):
            group.members.start(name)
        yield group
    finally:
        await asyncio.to_thread(group.members.stop)


# --- Redis Sentinel ---

MASTER = "mymaster"


class _SentinelWriter:
    def __init__(self, sentinels: Sequence[int]) -> None:
        from redis.asyncio.retry import Retry
        from redis.asyncio.sentinel import Sentinel
        from redis.backoff import NoBackoff

        once = Retry(NoBackoff(), 0)  # the measuring loop tries again, as for every other system
        addresses = [("127.0.0.1", port) for port in sentinels]
        self._sentinel = Sentinel(addresses, socket_timeout=0.5, sentinel_kwargs={"retry": once})
        self._client = self._sentinel.master_for(MASTER, retry=once)

    async def write(self, key: str, deadline_s: float) -> None:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(deadline_s):
                await self._client.set(key, key)
        except (RedisError, OSError, TimeoutError) as error:
            # Whatever it was connected to: the next write asks the sentinels again.
            await self._client.connection_pool.disconnect()
            raise WriteFailed from error

    async def close(self) -> None:
        await self._client.aclose()
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class SentinelGroup:
    """One primary, two replicas with the default settings of redis-server, and three sentinels."""

    name = "redis sentinel"

    def __init__(self, directory: Path, down_after_ms: int) -> None:
        self.setting = f"down-after {down_after_ms} ms"
        self._directory = directory
        self._redis = {f"r{i}": free_port() for i in range(3)}
        self.sentinels = [free_port() for _ in range(3)]
        for name, port in self._redis.items():
            lines = ["bind 127.0.0.1", f"port {port}", f"dir {directory / name}"]
            if name != "r0":
                lines.append(f"replicaof 127.0.0.1 {self._redis['r0']}")
            self._write(name, lines)
        for number, port in enumerate(self.sentinels):
            lines = ["bind 127.0.0.1", f"port {port}", f"dir {directory / f's{number}'}"]
            lines.append(f"sentinel monitor {MASTER} 127.0.0.1 {self._redis['r0']} 2")
            lines.append(f"sentinel down-after-milliseconds {MASTER} {down_after_ms}")
            self._write(f"s{number}", lines)
        self.members = Members(directory, self._command)

    def _write(self, name: str, lines: list[str]) -> None:
        (self._directory / name).mkdir()
        (self._directory / f"{name}.conf").write_text("\n".join(lines) + "\n")

    def _command(self, name: str) -> list[str]:
        sentinel = ["--sentinel"] if name.startswith("s") else []
        return ["redis-server", str(self._directory / f"{name}.conf"), *sentinel]

    async def _ask(self, port: int, *words: str) -> Any:
        """None: nobody answers, or an error."""
        from redis.asyncio import Redis as Client
        from redis.exceptions import RedisError

        client = Client(host="127.0.0.1", port=port, socket_timeout=2)
        try:
            return await client.execute_command(*words)
        except (RedisError, OSError):
            return None
        finally:
            await client.aclose()

    async def leader(self) -> str:
        """The primary by all sentinels, when both replicas stream from it and all sentinels see them well.

        Without the first a kill would find a replica that has not had its first copy yet.
        """

        async def agreed() -> str:
            primaries = set()
            for port in self.sentinels:
                address = await self._ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
                healthy = await self._ask(port, "SENTINEL", "CKQUORUM", MASTER)
                if not address or healthy is None or await self._good_replicas(port) < 2:
                    return ""
                primaries.add(int(address[1]))
            if len(primaries) != 1:
                return ""
            info = await self._ask(primaries.pop(), "INFO", "replication")
            replicas = [info.get(f"slave{i}", {}) for i in range(2)] if info else [{}]
            if any(one.get("state") != "online" or one.get("lag", 9) > 1 for one in replicas):
                return ""
            return next(name for name, port in self._redis.items() if port == int(address[1]))

        return str(await until("the sentinels agree", agreed, FOLLOW_TIMEOUT_S))

    async def _good_replicas(self, sentinel: int) -> int:
        from redis.asyncio import Redis as Client
        from redis.exceptions import RedisError

        client = Client(host="127.0.0.1", port=sentinel, socket_timeout=2)
        try:
            found = await client.sentinel_slaves(MASTER)
        except (RedisError, OSError):
            return 0
        finally:
            await client.aclose()
        return sum(not (one["is_sdown"] or one["is_odown"] or one["is_disconnected"]) for one in found)

    async def kill(self, member: str) -> None:
        await asyncio.to_thread(self.members.kill, member)

    async def restart(self, member: str) -> None:
        self.members.start(member)

        async def follows() -> bool:
            info = await self._ask(self._redis[member], "INFO", "replication")
            return bool(info and info["role"] == "slave" and info["master_link_status"] == "up")

        await until(f"{member} follows", follows, FOLLOW_TIMEOUT_S)

    async def writer(self, number: int) -> Writer:
        start = number % len(self.sentinels)
        return _SentinelWriter(self.sentinels[start:] + self.sentinels[:start])

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        values = await self._ask(self._redis[await self.leader()], "MGET", *keys)
        if values is None:
            raise RuntimeError("the primary does not answer")
        return list(values)


def sentinel_group(down_after_ms: int) -> Callable[[Path], Opened]:
    @contextlib.asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Group]:
        group = SentinelGroup(directory, down_after_ms)
        try:
            for name in ("r0", "r1", "r2", "s0", "s1", "s2"):
                group.members.start(name)
            yield group
        finally:
            await asyncio.to_thread(group.members.stop)

    return opened


GROUPS: dict[str, Callable[[Path], Opened]] = {
    "replcache": replcache_group,
    "etcd": etcd_group,
    "sentinel-1000": sentinel_group(1000),
    "sentinel-5000": sentinel_group(5000),
}
