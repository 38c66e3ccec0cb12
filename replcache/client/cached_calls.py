"""`cached` of both clients. What it makes is in replcache/patterns/cached*.py, loaded when first used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from replcache.client.codec import Codec
from replcache.client.durations import Duration
from replcache.client.types import Consistency

if TYPE_CHECKING:
    from replcache.patterns.cached import AsyncCachedFunction, CachedFunction

P = ParamSpec("P")
R = TypeVar("R")


class AsyncCachedCalls:
    """Part of AsyncClient."""

    def cached(
        self,
        *,
        ttl: Duration,
        key: str | None = None,
        tags: Iterable[str] = (),
        jitter: float = 0.0,
        single_flight: Literal["process", "cluster"] | None = None,
        early: Duration | None = None,
        beta: float = 1.0,
        stale_on_error: Duration | None = None,
        negative_ttl: Duration | None = None,
        cache_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
        when: Callable[[Any], bool] | None = None,
        codec: Codec | None = None,
        lease: Duration = "10s",
        wait: Duration = "30s",
        ignore_errors: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], AsyncCachedFunction[P, R]]:
        """Decorates an `async def` function or method: its answers are kept in the cluster for `ttl`.

        Args:
            ttl: after this an answer is not given any more.
            key: template such as "user:{uid}"; None: the function's name and all arguments but self.
            tags: templates of tags, each of which invalidates all entries that carry it.
            jitter: part of the ttl by which it is shortened at random, so that entries that were stored
                together do not end together.
            single_flight: one load of a key at a time: in this "process", or in the whole "cluster".
            early: refresh before the end: "xfetch" by lot, or from this age on, by the first who asks then.
            beta: above 1: xfetch draws more and earlier refreshes.
            stale_on_error: for so long after its end an answer is given when the function raises.
            negative_ttl: how long None, and exceptions of cache_exceptions, are kept.
            cache_exceptions: exceptions that are answers: kept, and raised again.
            when: whether a result is to be kept.
            codec: for the values of this function.
            lease: how long a loader that died holds up the others; loads themselves may take longer.
            wait: how long to wait for somebody else's load, before loading beside it.
            ignore_errors: failures of the cache are misses, nothing more.
            read, max_staleness, timeout: as in get().

        Raises:
            InvalidRequest: an option is not acceptable, or the template names no parameter.
        """
        options = {name: value for name, value in locals().items() if name != "self"}
        return _decorator(self, options)


class CachedCalls:
    """Part of Client."""

    def cached(
        self,
        *,
        ttl: Duration,
        key: str | None = None,
        tags: Iterable[str] = (),
        jitter: float = 0.0,
        single_flight: Literal["process", "cluster"] | None = None,
        early: Duration | None = None,
        beta: float = 1.0,
        stale_on_error: Duration | None = None,
        negative_ttl: Duration | None = None,
        cache_exceptions: type[Exception] | tuple[type[Exception], ...] = (),
        when: Callable[[Any], bool] | None = None,
        codec: Codec | None = None,
        lease: Duration = "10s",
        wait: Duration = "30s",
        ignore_errors: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
        """As AsyncClient.cached, for plain functions and methods."""
        options = {name: value for name, value in locals().items() if name != "self"}
        return _decorator(self, options)


def _decorator(client: Any, options: dict[str, Any]) -> Callable[[Any], Any]:
    from replcache.patterns.cached import decorate
    from replcache.patterns.cached_policy import parse_policy

    key, tags = options.pop("key"), options.pop("tags")
    policy = parse_policy(**options)
    return lambda function: decorate(client, function, key, tags, policy)
