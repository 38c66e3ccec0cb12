"""The systems that are measured side by side: how to start one, and its Python client in one common form.

Every system starts fresh in a temporary directory on free loopback ports and is stopped by its pid. etcd and
replcache run three nodes with a disk sync for each write on each node; Redis runs one node without any.
"""

import asyncio
import contextlib
import importlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from grpc import aio

from replcache.grpc_settings import WITHOUT_EVENT_ENGINE
from replcache.localcluster import LocalCluster, free_ports

START_TIMEOUT_S = 30.0


class Store(Protocol):
    """An open client."""

    async def set(self, key: str, value: bytes) -> None: ...

    async def get(self, key: str) -> bytes | None: ...

    async def close(self) -> None: ...


class System(Protocol):
    """`grpc_experiments`: the GRPC_EXPERIMENTS of its client; None: the default of whoever uses it."""

    name: str
    nodes: int
    grpc_experiments: str | None

    def running(self) -> contextlib.AbstractContextManager[Any]:
        """Starts the servers; the value goes to `connect`."""
        ...

    async def connect(self, address: Any) -> Store: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def processes(commands: list[list[str]], directory: Path) -> Iterator[list[int]]:
    """Runs the commands with output to files, and ends them by pid; the value is their pids."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (directory / f"{number}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="replcache-bench-", dir="/var/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# --- replcache ---


class _ReplcacheStore:
    def __init__(self, client: Any, options: dict[str, Any]) -> None:
        self._client = client
        self._options = options
        self.set = client.set
        self.get = self._get if options else client.get

    async def _get(self, key: str) -> Any:
        return await self._client.get(key, **self._options)

    async def close(self) -> None:
        await self._client.close()


class Replcache:
    """Three nodes by default, fdatasync on each, linearizable unless `read` says otherwise."""

    name = "replcache"
    grpc_experiments = None

    def __init__(self, read: str = "", nodes: int = 3) -> None:
        self._read = read
        self.nodes = nodes

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        from replcache.client import Client

        with temporary_directory() as directory:
            cluster = LocalCluster(directory / "cluster", self.nodes, free_ports(self.nodes, random.Random()))
            cluster.prepare()
            cluster.start()
            try:
                with Client(cluster.url, timeout=START_TIMEOUT_S) as client:
                    client.set("warm", b"x")
                yield cluster.url
            finally:
                cluster.stop()

    async def connect(self, address: str) -> Store:
        from replcache import AsyncClient, Consistency

        client = AsyncClient(address, timeout="20s")
        options = {"read": Consistency[self._read]} if self._read else {}
        await client.set("warm", b"x")
        return _ReplcacheStore(client, options)


# --- etcd ---


def etcd_stubs() -> tuple[Any, Any]:
    """(messages, services), generated from etcd.proto beside this file."""
    directory = Path(tempfile.gettempdir()) / f"replcache-bench-stubs-{sys.version_info[1]}"
    directory.mkdir(exist_ok=True)
    here = Path(__file__).parent
    from grpc_tools import protoc

    arguments = ["protoc", f"-I{here}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
    if protoc.main([*arguments, str(here / "etcd.proto")]) != 0:
        raise RuntimeError("protoc refused etcd.proto")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    return importlib.import_module("etcd_pb2"), importlib.import_module("etcd_pb2_grpc")


class _EtcdStore:
    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        self._messages, services = etcd_stubs()
        self._kv = services.KVStub(channel)

    async def set(self, key: str, value: bytes) -> None:
        await self._kv.Put(self._messages.PutRequest(key=key.encode(), value=value))

    async def get(self, key: str) -> bytes | None:
        found = await self._kv.Range(self._messages.RangeRequest(key=key.encode()))
        return bytes(found.kvs[0].value) if found.kvs else None

    async def close(self) -> None:
        await self._channel.close()


class Etcd:
    """Three nodes unless told otherwise; the client speaks to the leader, so that nothing is forwarded.

    has_our_grpc: without the event engine, as replcache's client; False: as etcd's users have it.
    """

    def __init__(self, nodes: int = 3, has_our_grpc: bool = False) -> None:
        self.nodes = nodes
        self.name = "etcd, our grpc" if has_our_grpc else "etcd"
        self.grpc_experiments = WITHOUT_EVENT_ENGINE if has_our_grpc else ""

    @contextlib.contextmanager
    def running(self) -> Iterator[list[str]]:
        clients = [f"http://127.0.0.1:{free_port()}" for _ in range(self.nodes)]
        peers = [f"http://127.0.0.1:{free_port()}" for _ in range(self.nodes)]
        members = ",".join(f"e{i}={peer}" for i, peer in enumerate(peers))
        with temporary_directory() as directory:
            commands = [
                [
                    *("etcd", "--name", f"e{i}", "--data-dir", str(directory / f"e{i}")),
                    *("--listen-client-urls", clients[i], "--advertise-client-urls", clients[i]),
                    *("--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i]),
                    *("--initial-cluster", members, "--initial-cluster-state", "new"),
                    *("--logger", "zap", "--log-level", "error"),
                ]
                for i in range(self.nodes)
            ]
            with processes(commands, directory):
                yield [client.removeprefix("http://") for client in clients]

    async def connect(self, address: list[str]) -> Store:
        messages, services = etcd_stubs()
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            for endpoint in address:
                channel = aio.insecure_channel(endpoint)
                try:
                    stub = services.MaintenanceStub(channel)
                    status = await stub.Status(messages.StatusRequest(), timeout=2)
                    if status.leader and status.leader == status.header.member_id:
                        return _EtcdStore(channel)
                except aio.AioRpcError:
                    pass  # not up yet: the next one
                await channel.close()
            await asyncio.sleep(0.1)
        raise RuntimeError("etcd has no leader")


# --- redis ---


class _RedisStore:
    def __init__(self, client: Any) -> None:
        self._client = client
        self.set = client.set
        self.get = client.get

    async def close(self) -> None:
        await self._client.aclose()


class Redis:
    """One node, no persistence, no replica: the fastest that it can be."""

    name = "redis"
    nodes = 1
    grpc_experiments = None

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        port = free_port()
        command = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with temporary_directory() as directory, processes([command], directory):
            yield port

    async def connect(self, address: int) -> Store:
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio import Redis as Client
        from redis.exceptions import ConnectionError as RedisConnectionError

        pool = BlockingConnectionPool(host="127.0.0.1", port=address, max_connections=64, timeout=30)
        client = Client(connection_pool=pool)
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                await client.ping()
                return _RedisStore(client)
            except RedisConnectionError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)


SYSTEMS: dict[str, System] = {
    "replcache": Replcache(),
    "etcd": Etcd(),
    "etcd-ours": Etcd(has_our_grpc=True),
    "redis": Redis(),
}
