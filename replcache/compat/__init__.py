"""replcache for programs written for redis-py: change the import.

    import replcache.compat as redis
    r = redis.Redis.from_url("replcache://127.0.0.1:7401,127.0.0.1:7402", decode_responses=True)

What is the same and what is not is in docs/redis.md; `replcache.compat.aio` has the same for asyncio.
"""

from replcache.compat import exceptions
from replcache.compat.blocking import Lock, Pipeline, Redis, from_url
from replcache.compat.exceptions import (
    ConnectionError,  # the names of redis-py
    DataError,
    LockError,
    LockNotOwnedError,
    RedisError,
    ResponseError,
    TimeoutError,  # the names of redis-py
    WatchError,
)

StrictRedis = Redis

__all__ = [
    "ConnectionError",
    "DataError",
    "Lock",
    "LockError",
    "LockNotOwnedError",
    "Pipeline",
    "Redis",
    "RedisError",
    "ResponseError",
    "StrictRedis",
    "TimeoutError",
    "WatchError",
    "exceptions",
    "from_url",
]
