"""One redis-server without replicas, for the failover measurement: killed, and started again at once.

The time until it serves is that of a supervisor that restarts without any delay; what is lost is what its
persistence had not written.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from benchmarks.rivals.groups import Group, Opened, WriteFailed, Writer, until
from benchmarks.rivals.members import Members
from benchmarks.rivals.systems import free_port

NAME = "redis"


class _AloneWriter:
    def __init__(self, port: int) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._client = Redis(port=port, retry=Retry(NoBackoff(), 0))

    async def write(self, key: str, deadline_s: float) -> None:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(deadline_s):
                await self._client.set(key, key)
        except (RedisError, OSError, TimeoutError) as error:
            await self._client.connection_pool.disconnect()
            raise WriteFailed from error

    async def close(self) -> None:
        await self._client.aclose()


class AloneGroup:
    name = "redis alone"

    def __init__(self, directory: Path, setting: str, options: Sequence[str]) -> None:
        self.setting = setting
        self._port = free_port()
        data = directory / "data"
        data.mkdir()
        command = ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(data)]
        self.members = Members(directory, lambda _: [*command, *options])

    async def leader(self) -> str:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        async def answers() -> bool:
            client = Redis(port=self._port)
            try:
                return bool(await client.ping())
            except (RedisError, OSError):
                return False
            finally:
                await client.aclose()

        await until("redis answers", answers)
        return NAME

    async def kill(self, member: str) -> None:
        await asyncio.to_thread(self.members.kill, member)
        self.members.start(member)

    async def restart(self, member: str) -> None:
        """It was started by `kill`: there is nobody else who could serve."""

    async def writer(self, number: int) -> Writer:
        return _AloneWriter(self._port)

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        from redis.asyncio import Redis

        client = Redis(port=self._port)
        try:
            return list(await client.mget(keys))
        finally:
            await client.aclose()


def alone_group(setting: str, *options: str) -> Callable[[Path], Opened]:
    @contextlib.asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Group]:
        group = AloneGroup(directory, setting, options)
        try:
            group.members.start(NAME)
            yield group
        finally:
            await asyncio.to_thread(group.members.stop)

    return opened


ALONE_GROUPS = {
    "redis": alone_group("defaults"),
    "redis-aof": alone_group("appendfsync everysec", "--appendonly", "yes"),
}
