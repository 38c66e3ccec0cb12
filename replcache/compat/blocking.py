"""`Redis` as redis-py has it, over Client. Each method is that of aio.Redis, run on the client's loop."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from replcache.client.blocking import Client
from replcache.compat import aio
from replcache.compat.aio import client_settings, url_settings
from replcache.compat.commands import PLANNED
from replcache.compat.exceptions import LockError, translated
from replcache.errors import ReplcacheError

_LOCK_WAIT_MAX_S = 3600.0
# Page after page, each of which ends by itself within the timeout.
_PAGES_S = float("inf")


class Redis:
    """For any number of threads. Arguments are those of redis-py; those about sockets are accepted and
    ignored."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 7401,
        db: int = 0,
        *,
        decode_responses: bool = False,
        encoding: str = "utf-8",
        encoding_errors: str = "strict",
        client: Client | None = None,
        **settings: Any,
    ) -> None:
        """
        Args:
            decode_responses, encoding, encoding_errors: str instead of bytes.
            db: databases above 0 are prefixes ("db1:") of the same keyspace; keys(), scan_iter(), dbsize()
                and flushdb() of database 0 leave out what begins with one.
            client: a Client to use; it is not closed by close().
        """
        arguments = client_settings(host, port, db, settings)
        self._owns = client is None
        self.client = client if client is not None else Client(**arguments)
        self._redis = aio.Redis(
            db=db,
            decode_responses=decode_responses,
            encoding=encoding,
            encoding_errors=encoding_errors,
            client=self.client._aio,
        )

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> Self:
        """`replcache://` with the client's own parameters, or `redis://host:port/db`."""
        return cls(**{**url_settings(url), **settings})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._owns:
            self.client.close()

    def _run(self, coroutine: Callable[[], Any], extra_s: float = 0.0) -> Any:
        try:
            return self.client._run(coroutine, None, extra_s)
        except ReplcacheError as err:
            raise translated(err) from err

    def scan_iter(
        self, match: Any = None, count: int | None = None, _type: str | None = None, **_: Any
    ) -> Iterator[Any]:
        """Keys in their order."""
        pages = self._redis.scan_iter(match, count, _type)

        async def page() -> list[Any]:
            names: list[Any] = []
            async for name in pages:
                names.append(name)
                if len(names) == (count or 500):
                    break
            return names

        while names := self._run(page, _PAGES_S):
            yield from names

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Pipeline":
        """As aio.Redis.pipeline."""
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
        """As aio.Redis.lock."""
        return Lock(self, aio.Lock(self._redis, name, timeout, blocking, blocking_timeout))


def _command(name: str, extra_s: float) -> Callable[..., Any]:
    def run(self: Redis, *args: Any, **options: Any) -> Any:
        return self._run(lambda: getattr(self._redis, name)(*args, **options), extra_s)

    run.__name__ = name
    run.__doc__ = f"As redis-py's {name}()."
    return run


for _name in PLANNED:
    setattr(Redis, _name, _command(_name, 0.0))
for _name in ("keys", "dbsize", "flushdb"):
    setattr(Redis, _name, _command(_name, _PAGES_S))


class Pipeline(aio.PipelineBase):
    """`with redis.pipeline() as pipe: pipe.set(...).incr(...); pipe.execute()`."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis._redis.commands)
        self._redis = redis

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Sends all; the results in order."""
        plans, operations = self._take()
        if not plans:
            return []
        is_read = all(plan.is_read for plan in plans)
        redis = self._redis
        outcomes = redis._run(lambda: redis._redis.send(operations, is_read))
        return self._results(plans, outcomes, raise_on_error)


class Lock:
    """As aio.Lock."""

    def __init__(self, redis: Redis, lock: aio.Lock) -> None:
        self._redis = redis
        self._lock = lock
        self.name = lock.name

    @property
    def token(self) -> int:
        """The fencing token; 0: not held."""
        return self._lock.token

    def __enter__(self) -> Self:
        if self.acquire():
            return self
        raise LockError("Unable to acquire lock within the time specified")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(
        self, sleep: float | None = None, blocking: bool | None = None, blocking_timeout: float | None = None,
        token: Any = None,
    ) -> bool:  # fmt: skip
        return bool(
            self._redis._run(
                lambda: self._lock.acquire(sleep, blocking, blocking_timeout, token), _LOCK_WAIT_MAX_S
            )
        )

    def locked(self) -> bool:
        return bool(self._redis._run(self._lock.locked))

    def owned(self) -> bool:
        return bool(self._redis._run(self._lock.owned))

    def release(self) -> None:
        self._redis._run(self._lock.release)

    def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:
        return bool(self._redis._run(self._lock.reacquire))

    def reacquire(self) -> bool:
        return bool(self._redis._run(self._lock.reacquire))


def from_url(url: str, **settings: Any) -> Redis:
    """As Redis.from_url."""
    return Redis.from_url(url, **settings)
