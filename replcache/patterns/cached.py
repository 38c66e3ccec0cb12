"""`client.cached(...)`: a function whose answers the cluster keeps.

    @cache.cached(ttl="10m", key="user:{uid}:{lang}", tags=["user:{uid}"])
    def load_user(uid, lang="en"): ...

    load_user(7)                 # from the cache, or loaded and stored
    load_user.invalidate(7)      # after the user was changed

How a call goes: cached_steps.py. What is stored: cached_stored.py. Why nothing outdated ever is: decisions
0100 and 0110. Which option for which trouble: docs/patterns.md.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, cast, overload

from replcache.client.aio import AsyncClient
from replcache.client.base import BaseClient
from replcache.client.blocking import Client
from replcache.client.types import SetResult
from replcache.errors import InvalidRequest
from replcache.patterns import cached_steps as steps
from replcache.patterns.cached_drivers import Async, Blocking, Health
from replcache.patterns.cached_flight import Flights
from replcache.patterns.cached_info import CacheInfo, Counts
from replcache.patterns.cached_key import CallKeys
from replcache.patterns.cached_policy import Policy
from replcache.patterns.cached_store import CallStore
from replcache.patterns.cached_stored import Found, Outcome

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")


class Peeked(NamedTuple):
    """What is stored for a call.

    Attributes:
        value: None when it is an exception.
        error: the stored exception.
        fresh_s: seconds until it is outdated; at most 0: kept for times when loading fails.
    """

    value: Any
    error: Exception | None
    fresh_s: float | None


@dataclass(frozen=True, slots=True)
class Spec:
    """A decorated function with all that its calls share."""

    client: BaseClient
    function: Callable[..., Any]
    keys: CallKeys
    policy: Policy
    flights: Flights
    counts: Counts
    health: Health
    # "instance", "class" or "": what a method gets as its first argument.
    binds: str

    def call(self, key: str) -> steps.Call:
        return steps.Call(key, self.policy, self.flights, self.counts)


class _Decorated(Generic[P, R]):
    """What both colours share: binding to objects, keys, counts."""

    def __init__(self, spec: Spec, bound: tuple[Any, ...] = ()) -> None:
        self._spec = spec
        self._bound = bound
        # Name, docstring and __wrapped__; its type is made for functions that wrap functions.
        update_wrapper(cast(Any, self), spec.function)

    def _bind(self, instance: object, owner: type | None) -> Any:
        """Methods: what is bound has the same functions, for that object."""
        if self._spec.binds == "class":
            return type(self)(self._spec, (owner if owner is not None else type(instance),))
        if self._spec.binds == "static" or instance is None:
            return self
        return type(self)(self._spec, (instance,))

    def __repr__(self) -> str:
        return f"<cached {self._spec.function!r}>"

    def _of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        return self._spec.keys.of(self._bound + args, kwargs)

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the answer to these arguments is stored."""
        return self._of(args, kwargs)[0]

    def tags_for(self, *args: P.args, **kwargs: P.kwargs) -> tuple[str, ...]:
        """The tags that it carries."""
        return self._of(args, kwargs)[1]

    def cache_info(self) -> CacheInfo:
        """Counted in this process since the function was decorated."""
        return self._spec.counts.info()

    def _is_answer(self, found: Found) -> bool:
        spec = self._spec
        return found.is_fresh and not spec.policy.is_early(found, spec.client._rng)


class CachedFunction(_Decorated[P, R]):
    """A function, or method, decorated by Client.cached."""

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(
        self: "CachedFunction[Concatenate[T, Q], R]", instance: T, owner: type | None = None
    ) -> "CachedFunction[Q, R]": ...

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self._bind(instance, owner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The stored answer, or that of the function.

        Raises:
            ReplcacheError: of the cache, unless `ignore_errors`. All else is the function's own.
        """
        key, driver = self._driver(args, kwargs)
        found = driver.look()
        if self._is_answer(found):
            assert found.outcome is not None
            result: R = steps.count_hit(self._spec.counts, found.outcome).unwrap()
            return result
        loaded: R = driver.run(steps.answer(self._spec.call(key), found), self._load(args, kwargs)).unwrap()
        return loaded

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Loads now, whatever is stored, and stores that; loads that began before store nothing any more.

        While it loads the old answer is still given; when it returns, nothing older than its load is stored.
        Never ignores errors of the cache.
        """
        key, driver = self._driver(args, kwargs, self._spec.health.strict)
        result: R = driver.run(steps.refresh(self._spec.call(key)), self._load(args, kwargs)).unwrap()
        return result

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Removes the stored answer, and refuses those of loads under way. Call it AFTER the source was
        changed; never ignores errors.

        Returns:
            Whether there was something.
        """
        return bool(self._client.delete(self.key_for(*args, **kwargs), timeout=self._spec.policy.timeout))

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Peeked | None:
        """What is stored, without loading; None: nothing."""
        _, driver = self._driver(args, kwargs)
        return _peeked(driver.look())

    def set(self, value: R, *args: P.args, **kwargs: P.kwargs) -> SetResult:
        """Stores `value` as the answer to these arguments."""
        key, tags = self._of(args, kwargs)
        store = CallStore(self._client._aio, self._spec.policy, key, tags)
        result: SetResult = self._client._run(lambda: store.put(Outcome(value)), self._spec.policy.timeout)
        return result

    @property
    def _client(self) -> Client:
        client = self._spec.client
        assert isinstance(client, Client)
        return client

    def _driver(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], health: Health | None = None
    ) -> tuple[str, Blocking]:
        key, tags = self._of(args, kwargs)
        return key, Blocking(self._client, health or self._spec.health, self._spec.policy, key, tags)

    def _load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], R]:
        return partial(self._spec.function, *self._bound, *args, **kwargs)


class AsyncCachedFunction(_Decorated[P, R]):
    """A coroutine function, or method, decorated by AsyncClient.cached; as CachedFunction, with await."""

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(
        self: "AsyncCachedFunction[Concatenate[T, Q], R]", instance: T, owner: type | None = None
    ) -> "AsyncCachedFunction[Q, R]": ...

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self._bind(instance, owner)

    def __init__(self, spec: Spec, bound: tuple[Any, ...] = ()) -> None:
        super().__init__(spec, bound)
        if hasattr(inspect, "markcoroutinefunction"):
            inspect.markcoroutinefunction(self)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """As CachedFunction.__call__. Cancelling stops the load; others who wait for it begin their own."""
        key, driver = self._driver(args, kwargs)
        found = await driver.look()
        if self._is_answer(found):
            assert found.outcome is not None
            result: R = steps.count_hit(self._spec.counts, found.outcome).unwrap()
            return result
        outcome = await driver.run(steps.answer(self._spec.call(key), found), self._load(args, kwargs))
        loaded: R = outcome.unwrap()
        return loaded

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """As CachedFunction.refresh."""
        key, driver = self._driver(args, kwargs, self._spec.health.strict)
        outcome = await driver.run(steps.refresh(self._spec.call(key)), self._load(args, kwargs))
        result: R = outcome.unwrap()
        return result

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """As CachedFunction.invalidate."""
        key = self.key_for(*args, **kwargs)
        return bool(await self._client.delete(key, timeout=self._spec.policy.timeout))

    async def peek(self, *args: P.args, **kwargs: P.kwargs) -> Peeked | None:
        """As CachedFunction.peek."""
        _, driver = self._driver(args, kwargs)
        return _peeked(await driver.look())

    async def set(self, value: R, *args: P.args, **kwargs: P.kwargs) -> SetResult:
        """As CachedFunction.set."""
        key, tags = self._of(args, kwargs)
        return await CallStore(self._client, self._spec.policy, key, tags).put(Outcome(value))

    @property
    def _client(self) -> AsyncClient:
        client = self._spec.client
        assert isinstance(client, AsyncClient)
        return client

    def _driver(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], health: Health | None = None
    ) -> tuple[str, Async]:
        key, tags = self._of(args, kwargs)
        return key, Async(self._client, health or self._spec.health, self._spec.policy, key, tags)

    def _load(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Awaitable[R]]:
        return partial(self._spec.function, *self._bound, *args, **kwargs)


def _peeked(found: Found) -> Peeked | None:
    outcome = found.outcome
    return None if outcome is None else Peeked(outcome.value, outcome.error, found.fresh_s)


def decorate(
    client: BaseClient, function: Any, key: str | None, tags: Iterable[str], policy: Policy
) -> CachedFunction[Any, Any] | AsyncCachedFunction[Any, Any]:
    """
    Raises:
        InvalidRequest: the templates do not fit, or the function is of the other colour.
    """
    binds = ""
    if isinstance(function, classmethod):
        function, binds = function.__func__, "class"
    elif isinstance(function, staticmethod):
        function, binds = function.__func__, "static"
    if isinstance(function, _Decorated):
        raise InvalidRequest(f"{function!r} is cached already", field="function")
    if not callable(function):
        raise InvalidRequest(f"{function!r} is no function", field="function")
    is_async = asyncio.iscoroutinefunction(function)
    if is_async != isinstance(client, AsyncClient):
        raise InvalidRequest(
            f"{function!r}: AsyncClient caches `async def` functions, Client all others", field="function"
        )
    names = list(inspect.signature(function).parameters)
    is_method = binds == "class" or (not binds and names[:1] == ["self"])
    counts = Counts()
    spec = Spec(
        client=client,
        function=function,
        keys=CallKeys(function, key, tags, is_method),
        policy=policy,
        flights=Flights(),
        counts=counts,
        health=Health(policy.ignore_errors, counts, client._clock),
        binds=binds or ("instance" if is_method else ""),
    )
    return AsyncCachedFunction(spec) if is_async else CachedFunction(spec)
