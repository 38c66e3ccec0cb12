"""`Redis` for asyncio: what redis.asyncio has, over AsyncClient."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from replcache.client.aio import AsyncClient
from replcache.client.lock import AsyncLock
from replcache.client.types import Consistency
from replcache.compat.arguments import RESERVED, encoded, glob
from replcache.compat.commands import PLANNED, Commands, Plan
from replcache.compat.exceptions import LockError, LockNotOwnedError, RedisError, translated
from replcache.errors import ConditionFailed, InvalidRequest, LockLost, LockTimeout, NotFound, ReplcacheError

# What database 0 does not see: keys of the others.
_OTHER_DATABASE = re.compile(rb"db[1-9][0-9]*:")
_LOCK_TTL_S = 10.0
_LOCK_WAIT_MAX_S = 3600.0
_DELETE_TOGETHER = 1000
# Settings of redis-py that have no counterpart: connections are made, checked and repaired by the client.
_IGNORED = frozenset(
    {
        "charset", "client_name", "connection_class", "connection_pool", "decode_components",
        "health_check_interval", "lib_name", "lib_version", "max_connections", "protocol", "retry",
        "retry_on_error", "retry_on_timeout", "single_connection_client", "socket_connect_timeout",
        "socket_keepalive", "socket_keepalive_options", "ssl_check_hostname",
        "username", "password", "driver_info", "socket_read_size", "legacy_responses",
    }
)  # fmt: skip


def client_settings(host: str, port: int, db: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the client for those of redis-py.

    Raises:
        TypeError: an argument that redis-py does not have either.
    """
    url = settings.pop("url", None)
    timeout = settings.pop("socket_timeout", None)
    # An IPv6 address, which redis-py takes without brackets.
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    arguments: dict[str, Any] = {"url": url if url is not None else f"{host}:{port}"}
    if timeout is not None:
        arguments["timeout"] = timeout
    if settings.pop("ssl", False):
        arguments["tls"] = True
    for theirs, ours in (("ssl_ca_certs", "ca"), ("ssl_certfile", "cert"), ("ssl_keyfile", "key")):
        if (file := settings.pop(theirs, None)) is not None:
            arguments[ours] = file
    unknown = sorted(set(settings) - _IGNORED)
    if unknown:
        raise TypeError(f"unexpected keyword arguments: {', '.join(unknown)}")
    return arguments


def url_settings(url: str) -> dict[str, Any]:
    """redis://host:port/db?decode_responses=true, or replcache://host:port,host:port/?timeout=2s (with TLS
    replcaches://).

    Raises:
        ValueError: another scheme, as in redis-py.
    """
    parts = urlsplit(url)
    if parts.scheme in ("replcache", "replcaches"):
        return {"url": url}
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("the URL must begin with replcache://, replcaches://, redis:// or rediss://")
    settings: dict[str, Any] = {"host": parts.hostname or "localhost", "port": parts.port or 7401}
    path = parts.path.strip("/")
    if path:
        settings["db"] = int(path)
    if parts.scheme == "rediss":
        settings["ssl"] = True
    for name, value in parse_qsl(parts.query):
        if name in ("decode_responses",):
            settings[name] = value.lower() in ("1", "true", "yes")
        elif name == "db":
            settings[name] = int(value)
        elif name.endswith("timeout"):
            settings[name] = float(value)
        else:
            settings[name] = value
    return settings


class Redis:
    """The commands of PLANNED, and those below. Each call is exactly once, whatever is retried underneath."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 7401,
        db: int = 0,
        *,
        decode_responses: bool = False,
        encoding: str = "utf-8",
        encoding_errors: str = "strict",
        client: AsyncClient | None = None,
        **settings: Any,
    ) -> None:
        """
        Args:
            decode_responses, encoding, encoding_errors: str instead of bytes.
            db: databases above 0 are prefixes ("db1:") of the same keyspace; keys(), scan_iter(), dbsize()
                and flushdb() of database 0 leave out what begins with one.
            client: an AsyncClient to use; it is not closed by close().
        """
        arguments = client_settings(host, port, db, settings)
        self._owns = client is None
        self.client = client if client is not None else AsyncClient(**arguments)
        self._prefix = b"db%d:" % db if db else b""
        self.decode: Callable[[bytes], Any] = bytes
        if decode_responses:
            self.decode = lambda data: data.decode(encoding, encoding_errors)
        self.commands = Commands(self._prefix, self.decode)

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> Self:
        """`replcache://` with the client's own parameters, or `redis://host:port/db`."""
        return cls(**{**url_settings(url), **settings})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._owns:
            await self.client.close()

    async def close(self) -> None:
        await self.aclose()

    async def execute(self, plan: Plan) -> Any:
        """Runs one command."""
        return plan.result(await self.send(plan.operations, plan.is_read, plan.name))

    async def send(self, operations: list[Any], is_read: bool, name: str = "") -> list[Any]:
        client = self.client
        try:
            if is_read and len(operations) == 1:
                operation, _ = operations[0]
                return [await client.get(operation.get.key, read=Consistency.LINEARIZABLE)]
            return await client._send_batch(operations, False, client.settings.timeout_s)
        except ReplcacheError as err:
            raise translated(err, name) from err

    async def expire(
        self, name: Any, time: Any, nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False
    ) -> bool:
        """With one of the conditions: decided on the expiry that was looked at, and done if the value is
        still the same; another `expire` in between is not noticed."""
        plan = self.commands.expire(name, time)
        if not (nx or xx or gt or lt):
            return bool(await self.execute(plan))
        operation, converter = plan.operations[0]
        target = operation.touch if operation.HasField("touch") else operation.delete
        while True:
            found = (await self.send([self.commands.get(name).operations[0]], True))[0]
            if found is None:
                return False
            left_s = found.expires_in_s
            wanted_s = operation.touch.ttl.ToMilliseconds() / 1000 if operation.HasField("touch") else 0.0
            holds = (
                (not nx or left_s is None)
                and (not xx or left_s is not None)
                and (not gt or (left_s is not None and wanted_s > left_s))
                and (not lt or left_s is None or wanted_s < left_s)
            )
            if not holds:
                return False
            target.condition.if_version = found.version
            outcome = (await self.send([(operation, converter)], False))[0]
            if not isinstance(outcome, ReplcacheError):
                return True
            if isinstance(outcome, NotFound):
                return False
            if not isinstance(outcome, ConditionFailed):
                raise translated(outcome, "EXPIRE") from outcome

    async def scan_iter(
        self, match: Any = None, count: int | None = None, _type: str | None = None, **_: Any
    ) -> AsyncIterator[Any]:
        """Keys in their order, page by page; each page is from one state."""
        if _type is not None and _type.lower() != "string":
            return
        async for name in self._names(match, min(max(count or 500, 1), 1000)):
            yield self.decode(name)

    async def _names(self, match: Any, size: int) -> AsyncIterator[bytes]:
        prefix, pattern = glob(encoded(match)) if match is not None else (b"", None)
        try:
            async for entry in self.client.scan(
                self._prefix + prefix, keys_only=True, page_size=size, read=Consistency.LINEARIZABLE
            ):
                name = entry.key[len(self._prefix) :]
                if not self._prefix and _OTHER_DATABASE.match(name):
                    continue
                if not entry.key.startswith(RESERVED) and (pattern is None or pattern.fullmatch(name)):
                    yield name
        except ReplcacheError as err:
            raise translated(err, "SCAN") from err

    async def keys(self, pattern: Any = "*", **_: Any) -> list[Any]:
        return [name async for name in self.scan_iter(pattern)]

    async def dbsize(self) -> int:
        return len([name async for name in self._names(None, 1000)])

    async def flushdb(self, asynchronous: bool = False, **_: Any) -> bool:
        """Deletes the keys of this database (of its prefix); not atomic."""
        names: list[bytes] = []
        async for name in self._names(None, 1000):
            names.append(name)
            if len(names) == _DELETE_TOGETHER:
                await self.execute(self.commands.delete(*names))
                names = []
        if names:
            await self.execute(self.commands.delete(*names))
        return True

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Pipeline":
        """Collects commands and sends them as one log entry, also with transaction=False."""
        return Pipeline(self)

    def lock(
        self,
        name: Any,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
        **_: Any,
    ) -> "Lock":
        """A lock of the cluster: first come, first served, renewed while its holder lives, with a fencing
        token. `timeout` is how soon it is free after the holder's death; default 10 s."""
        return Lock(self, name, timeout, blocking, blocking_timeout)


def _command(name: str) -> Callable[..., Any]:
    async def run(self: Redis, *args: Any, **options: Any) -> Any:
        return await self.execute(getattr(self.commands, name)(*args, **options))

    run.__name__ = name
    run.__doc__ = f"As redis-py's {name}()."
    return run


for _name in PLANNED:
    if _name not in vars(Redis):
        setattr(Redis, _name, _command(_name))


class PipelineBase:
    """Commands that wait; each call returns the pipeline, so that they can be chained."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._plans: list[Plan] = []

    def __len__(self) -> int:
        return len(self._plans)

    def __bool__(self) -> bool:
        return True

    def _queue(self, name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._plans.append(getattr(self._commands, name)(*args, **options))

    def _take(self) -> tuple[list[Plan], list[Any]]:
        plans, self._plans = self._plans, []
        return plans, [operation for plan in plans for operation in plan.operations]

    @staticmethod
    def _results(plans: list[Plan], outcomes: list[Any], raise_on_error: bool) -> list[Any]:
        results: list[Any] = []
        position = 0
        for number, plan in enumerate(plans, 1):
            part = outcomes[position : position + len(plan.operations)]
            position += len(plan.operations)
            try:
                results.append(plan.result(part))
            except RedisError as err:
                results.append(type(err)(f"Command # {number} ({plan.name}) of pipeline caused error: {err}"))
        if raise_on_error:
            for result in results:
                if isinstance(result, RedisError):
                    raise result
        return results

    def reset(self) -> None:
        """Forgets what waits."""
        self._plans = []


class Pipeline(PipelineBase):
    """`async with redis.pipeline() as pipe: pipe.set(...).incr(...); await pipe.execute()`."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis.commands)
        self._redis = redis

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Sends all; the results in order."""
        plans, operations = self._take()
        if not plans:
            return []
        outcomes = await self._redis.send(operations, all(plan.is_read for plan in plans))
        return self._results(plans, outcomes, raise_on_error)


def _queued(name: str) -> Callable[..., Any]:
    def queue(self: PipelineBase, *args: Any, **options: Any) -> Any:
        self._queue(name, args, options)
        return self

    queue.__name__ = name
    return queue


for _name in PLANNED:
    setattr(PipelineBase, _name, _queued(_name))


class Lock:
    """redis-py's Lock, on a lock of the cluster."""

    def __init__(
        self, redis: Redis, name: Any, timeout: float | None, blocking: bool, blocking_timeout: float | None
    ) -> None:
        self.redis = redis
        self.name = name
        self.timeout = timeout
        self.blocking = blocking
        self.blocking_timeout = blocking_timeout
        self._name = f"replcache/compat/{redis.commands.key(name).decode('utf-8', 'backslashreplace')}"
        self._lock: AsyncLock | None = None

    @property
    def token(self) -> int:
        """The fencing token; 0: not held. Pass it on: redis-py has none."""
        return self._lock.token if self._lock is not None else 0

    async def __aenter__(self) -> Self:
        if await self.acquire():
            return self
        raise LockError("Unable to acquire lock within the time specified")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    async def acquire(
        self, sleep: float | None = None, blocking: bool | None = None, blocking_timeout: float | None = None,
        token: Any = None,
    ) -> bool:  # fmt: skip
        blocking = self.blocking if blocking is None else blocking
        wait = self.blocking_timeout if blocking_timeout is None else blocking_timeout
        wait_s = 0.0 if not blocking else _LOCK_WAIT_MAX_S if wait is None else wait
        try:
            lock = self.redis.client.lock(self._name, ttl=self.timeout or _LOCK_TTL_S, wait=wait_s)
            await lock.acquire()
        except LockTimeout:
            return False
        except InvalidRequest as err:
            raise LockError(str(err)) from err
        except ReplcacheError as err:
            raise translated(err) from err
        self._lock = lock
        return True

    async def locked(self) -> bool:
        """Whether anybody holds it."""
        try:
            return any(view.holders for view in await self.redis.client.locks(self._name))
        except ReplcacheError as err:
            raise translated(err) from err

    async def owned(self) -> bool:
        return self._lock is not None and self._lock.is_held

    async def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            raise LockError("Cannot release a lock that's not owned or is already unlocked.")
        try:
            released = await lock.release()
        except ReplcacheError as err:
            raise translated(err) from err
        if not released:
            raise LockNotOwnedError("Cannot release a lock that's no longer owned")

    async def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:
        return await self.reacquire()

    async def reacquire(self) -> bool:
        """The lock is renewed by itself: this only says whether it is still held."""
        if self._lock is None:
            raise LockError("Cannot reacquire an unlocked lock")
        try:
            self._lock.check()
        except LockLost as err:
            raise LockNotOwnedError("Cannot reacquire a lock that's no longer owned") from err
        return True


def from_url(url: str, **settings: Any) -> Redis:
    """As Redis.from_url."""
    return Redis.from_url(url, **settings)


__all__ = ["Lock", "Pipeline", "Redis", "from_url"]
