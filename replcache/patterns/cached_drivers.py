"""Doing the steps of cached_steps.py: in the calling thread, or in the running task.

With `ignore_errors` a failure of the cluster is the answer "nothing there" or "not stored", and the cluster
is left alone for a moment: a call must not wait out its timeout again and again for a cache that is down.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from replcache.client.aio import AsyncClient
from replcache.client.blocking import Client
from replcache.client.holds import Lock as BlockingLock
from replcache.client.lock import AsyncLock
from replcache.clock import Clock
from replcache.errors import LockTimeout, NotApplied, OutcomeUnknown, ReplcacheError
from replcache.patterns import cached_steps as steps
from replcache.patterns.cached_flight import Flight, loading, waiting_for
from replcache.patterns.cached_info import Counts
from replcache.patterns.cached_policy import Policy
from replcache.patterns.cached_store import CallStore, lock_name
from replcache.patterns.cached_stored import UNREACHABLE, Found, Outcome, read_entry

_LOGGER = logging.getLogger("replcache.patterns")
# After a failure calls go without the cache for so long.
PAUSE_S = 1.0


class Health:
    """Whether the cluster is worth asking; one for each decorated function."""

    def __init__(self, ignores: bool, counts: Counts, clock: Clock) -> None:
        self._ignores = ignores
        self._counts = counts
        self._clock = clock
        self._paused_until = float("-inf")
        # Errors of single requests that were logged; once of each kind is enough.
        self._told: set[type[ReplcacheError]] = set()

    @property
    def is_paused(self) -> bool:
        return self._ignores and self._clock.now() < self._paused_until

    @property
    def strict(self) -> "Health":
        """For calls whose failure must not be ignored: the cache would go on giving what is outdated."""
        return Health(False, self._counts, self._clock)

    def note(self, error: ReplcacheError) -> None:
        """Raises the error unless errors are to be ignored."""
        if not self._ignores:
            raise error
        self._counts.add("errors")
        is_news = type(error) not in self._told
        if isinstance(error, NotApplied | OutcomeUnknown):
            # The cluster, not this one request.
            is_news = self._clock.now() >= self._paused_until
            self._paused_until = self._clock.now() + PAUSE_S
        else:
            self._told.add(type(error))
        if is_news:
            _LOGGER.warning("the cache failed, the call goes on without it: %s: %s", error.reason, error)


def _nothing(step: steps.Step) -> Any:
    """What a step that needs the cluster comes to when there is none."""
    match step:
        case steps.Look():
            return UNREACHABLE
        case steps.Claim() | steps.Renew():
            return 0
        case _:
            return False


class Blocking:
    """One call, in its thread."""

    def __init__(
        self, client: Client, health: Health, policy: Policy, key: str, tags: tuple[str, ...]
    ) -> None:
        self._client = client
        self._health = health
        self._policy = policy
        self._key = key
        self._store = CallStore(client._aio, policy, key, tags)
        self._lock: BlockingLock | None = None

    def run(self, work: steps.Steps, function: Callable[[], Any]) -> Outcome:
        sent: Any = None
        try:
            while True:
                try:
                    step = work.send(sent)
                except StopIteration as stop:
                    outcome: Outcome = stop.value
                    return outcome
                sent = self._do(step, function)
        finally:
            self._end(work)

    def look(self) -> Found:
        policy = self._policy
        if self._health.is_paused:
            return UNREACHABLE
        try:
            entry = self._client.get(
                self._key, read=policy.read, max_staleness=policy.max_staleness, timeout=policy.timeout
            )
            return read_entry(entry, self._store.codec, policy.cache_exceptions)
        except ReplcacheError as err:
            self._health.note(err)
            return UNREACHABLE

    def _do(self, step: steps.Step, function: Callable[[], Any]) -> Any:
        if isinstance(step, steps.Load):
            return self._load(step.flight, function)
        if isinstance(step, steps.Wait):
            return self._wait(step.flight)
        if isinstance(step, steps.Look):
            return self.look()
        if self._health.is_paused:
            return _nothing(step)
        try:
            return self._ask(step)
        except ReplcacheError as err:
            self._health.note(err)
            return _nothing(step)

    def _ask(self, step: steps.Step) -> Any:
        store = self._store
        match step:
            case steps.Claim(over):
                return self._run(lambda: store.claim(over))
            case steps.Renew(found):
                return self._run(lambda: store.renew(found))
            case steps.Fill(revision, outcome):
                return self._run(lambda: store.fill(revision, outcome))
            case steps.Clear(revision):
                return self._run(lambda: store.clear(revision))
            case steps.Lock(is_waiting):
                return self._take_lock(self._policy.wait_s if is_waiting else 0.0)
        raise AssertionError(step)

    def _run(self, coroutine: Callable[[], Any]) -> Any:
        return self._client._run(coroutine, self._policy.timeout)

    def _take_lock(self, wait_s: float) -> bool:
        lock = self._client.lock(lock_name(self._key), ttl=self._policy.lease, wait=wait_s)
        try:
            lock.acquire()
        except LockTimeout:
            return False
        self._lock = lock
        return True

    def _load(self, flight: Flight | None, function: Callable[[], Any]) -> Outcome:
        clock = self._client._clock
        began = clock.now()
        with loading(flight):
            try:
                value = function()
            except Exception as err:  # noqa: BLE001  # whatever the function raises is how the load ended
                return Outcome(None, err, clock.now() - began)
        return Outcome(value, None, clock.now() - began)

    def _wait(self, flight: Flight) -> bool:
        with waiting_for(flight) as allowed:
            if not allowed:
                return False
            ended = threading.Event()
            flight.when_done(ended.set)
            return ended.wait(self._policy.wait_s)

    def _end(self, work: steps.Steps) -> None:
        """Of the call, however it ended. Closing the steps lets those go on who wait for this call, so that
        comes after the placeholder was cleared."""
        lock, self._lock = self._lock, None
        try:
            if self._store.has_placeholder and not self._client._bridge.is_closed:
                self._run(self._store.give_up)
        finally:
            work.close()
        if lock is not None and not self._client._bridge.is_closed:
            lock.release()


class Async:
    """One call, in its task."""

    def __init__(
        self, client: AsyncClient, health: Health, policy: Policy, key: str, tags: tuple[str, ...]
    ) -> None:
        self._client = client
        self._health = health
        self._policy = policy
        self._key = key
        self._store = CallStore(client, policy, key, tags)
        self._lock: AsyncLock | None = None

    async def run(self, work: steps.Steps, function: Callable[[], Awaitable[Any]]) -> Outcome:
        sent: Any = None
        try:
            while True:
                try:
                    step = work.send(sent)
                except StopIteration as stop:
                    outcome: Outcome = stop.value
                    return outcome
                sent = await self._do(step, function)
        finally:
            self._end(work)

    async def look(self) -> Found:
        policy = self._policy
        if self._health.is_paused:
            return UNREACHABLE
        try:
            entry = await self._client.get(
                self._key, read=policy.read, max_staleness=policy.max_staleness, timeout=policy.timeout
            )
            return read_entry(entry, self._store.codec, policy.cache_exceptions)
        except ReplcacheError as err:
            self._health.note(err)
            return UNREACHABLE

    async def _do(self, step: steps.Step, function: Callable[[], Awaitable[Any]]) -> Any:
        if isinstance(step, steps.Load):
            return await self._load(step.flight, function)
        if isinstance(step, steps.Wait):
            return await self._wait(step.flight)
        if isinstance(step, steps.Look):
            return await self.look()
        if self._health.is_paused:
            return _nothing(step)
        try:
            return await self._ask(step)
        except ReplcacheError as err:
            self._health.note(err)
            return _nothing(step)

    async def _ask(self, step: steps.Step) -> Any:
        store = self._store
        match step:
            case steps.Claim(over):
                return await store.claim(over)
            case steps.Renew(found):
                return await store.renew(found)
            case steps.Fill(revision, outcome):
                return await store.fill(revision, outcome)
            case steps.Clear(revision):
                return await store.clear(revision)
            case steps.Lock(is_waiting):
                return await self._take_lock(self._policy.wait_s if is_waiting else 0.0)
        raise AssertionError(step)

    async def _take_lock(self, wait_s: float) -> bool:
        lock = self._client.lock(lock_name(self._key), ttl=self._policy.lease, wait=wait_s)
        try:
            await lock.acquire()
        except LockTimeout:
            return False
        self._lock = lock
        return True

    async def _load(self, flight: Flight | None, function: Callable[[], Awaitable[Any]]) -> Outcome:
        clock = self._client._clock
        began = clock.now()
        with loading(flight):
            try:
                value = await function()
            except Exception as err:  # noqa: BLE001  # whatever the function raises is how the load ended
                return Outcome(None, err, clock.now() - began)
        return Outcome(value, None, clock.now() - began)

    async def _wait(self, flight: Flight) -> bool:
        with waiting_for(flight) as allowed:
            if not allowed:
                return False
            ended = asyncio.Event()
            flight.when_done(ended.set)
            try:
                async with asyncio.timeout(self._policy.wait_s):
                    await ended.wait()
            except TimeoutError:
                return False
            return True

    def _end(self, work: steps.Steps) -> None:
        """As that of Blocking, in the background: the caller has his answer, or was cancelled."""
        lock, self._lock = self._lock, None
        start = self._client._core.tasks.start
        if self._store.has_placeholder and not self._client._core.is_closed:
            start(self._give_up(work), "replcache placeholder")
        else:
            work.close()
        if lock is not None and not self._client._core.is_closed:
            start(lock.release(), "replcache cached unlock")

    async def _give_up(self, work: steps.Steps) -> None:
        try:
            await self._store.give_up()
        finally:
            work.close()
