"""Filling a missing key without ever storing something outdated.

    fills = AsyncFills(client)
    found = await fills.begin_fill("user:7")
    if isinstance(found, FillTicket):
        value = load_from_database(7)
        await fills.finish_fill(found, value, ttl="10m")

begin_fill puts a placeholder with a random mark under the key itself; finish_fill replaces exactly this
placeholder and nothing else. Whatever happens to the key in between (a delete, a set by anybody, the
invalidation of a tag, the expiry of the placeholder) takes the placeholder away, and the fill is refused. So
a value that was loaded before a change of its source was announced is never stored after it. The idea is
the lease of memcached (Nishtala et al., Scaling Memcache at Facebook, NSDI 2013, section 3.2.1), with one
difference: the mark is random, because versions start over when a key is deleted. See decision 0100.

The placeholder also makes one caller at a time load (single flight across processes): the others wait for its
fill. When the one that loads dies, its placeholder expires after `lease`, and the next one takes over.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from replcache.client import convert
from replcache.client.aio import AsyncClient
from replcache.client.blocking import Client
from replcache.client.durations import Duration, parse_seconds
from replcache.client.requests import Key, delete_operation, get_operation, key_bytes, set_operation
from replcache.client.types import Consistency, DeleteResult, Entry, SetResult
from replcache.errors import ConditionFailed, InvalidRequest, NotFound, OutcomeUnknown, ReplcacheError

# What a placeholder's content type is; nobody else writes entries of this type.
FILL_CONTENT_TYPE = "application/x-replcache-fill"
LEASE_DEFAULT = "10s"
WAIT_DEFAULT = "5s"
_MARK_BYTES = 16
# A waiter looks again after this long, then after twice that, and so on: short for loaders that are quick,
# rare enough for those that are not.
_LOOK_AGAIN_MIN_S = 0.002
_LOOK_AGAIN_MAX_S = 0.05


@dataclass(frozen=True, slots=True)
class FillTicket:
    """The right to fill a key, until something happens to the key.

    Attributes:
        key: as stored.
        mark: value of the placeholder; b"": another caller was loading for longer than `wait`, so this one
            may load for itself, but will not store.
    """

    key: bytes
    mark: bytes

    @property
    def may_store(self) -> bool:
        return bool(self.mark)


def is_placeholder(entry: Entry | None) -> bool:
    """Whether this entry only says that somebody is loading: for a reader the same as a missing key."""
    return entry is not None and entry.content_type == FILL_CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class _Options:
    lease: Duration
    wait_s: float
    tags: tuple[str, ...]
    timeout: Duration | None


class AsyncFills:
    """Fills through an AsyncClient. Holds no state: make as many as you like."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def begin_fill(
        self,
        key: Key,
        *,
        tags: Iterable[str] = (),
        lease: Duration = LEASE_DEFAULT,
        wait: Duration = WAIT_DEFAULT,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> FillTicket | Entry:
        """The entry, or the ticket of the caller that is to load it.

        Args:
            tags: whose invalidation makes the fill fail; those of the value to come.
            lease: how long loading may take. Later the fill is refused and another caller may load.
            wait: how long to wait for the fill of another caller; then the ticket's may_store is False.
            read, max_staleness: of the first look, as in get(). Whatever it is, a ticket is given out only
                when the key is missing in truth.
            timeout: for each call to the cluster.

        Raises:
            ReplcacheError: of get() and set(). After OutcomeUnknown a placeholder may be left; it expires.
        Cancellation: a placeholder that was being put is taken away in the background.
        """
        name = key_bytes(key)
        options = _Options(lease, parse_seconds(wait, "wait"), tuple(tags), timeout)
        entry = await self._client.get(name, read=read, max_staleness=max_staleness, timeout=timeout)
        if entry is not None and not is_placeholder(entry):
            return entry
        return await self._claim(name, options)

    async def _claim(self, name: bytes, options: _Options) -> FillTicket | Entry:
        client = self._client
        clock = client._clock
        end = clock.now() + options.wait_s
        delay_s = _LOOK_AGAIN_MIN_S
        while True:
            mark = client._rng.randbytes(_MARK_BYTES)
            ticket = FillTicket(name, mark)
            try:
                entry = await self._place(name, mark, options)
            except (OutcomeUnknown, asyncio.CancelledError):
                # It may be there, or come yet: nobody should wait for a load that never begins.
                self.abandon_later(ticket)
                raise
            if entry is None:
                return ticket
            while entry is not None:
                if not is_placeholder(entry):
                    return entry
                left_s = end - clock.now()
                if left_s <= 0:
                    return FillTicket(name, b"")
                await asyncio.sleep(min(left_s, delay_s))
                delay_s = min(delay_s * 2, _LOOK_AGAIN_MAX_S)
                entry = await client.get(name, read=Consistency.LINEARIZABLE, timeout=options.timeout)

    async def _place(self, name: bytes, mark: bytes, options: _Options) -> Entry | None:
        """None: the placeholder is ours. Otherwise what was there, in one round."""
        client = self._client
        placing = set_operation(
            name, mark, FILL_CONTENT_TYPE, ttl=options.lease, tags=options.tags, if_absent=True
        )
        while True:
            outcomes = await client._send_batch(
                [(placing, convert.set_result), (get_operation(name), convert.get_result)],
                False,
                client._timeout_s(options.timeout),
            )
            placed, entry = outcomes
            if isinstance(placed, SetResult):
                return None
            if not isinstance(placed, ConditionFailed):
                raise placed
            if isinstance(entry, ReplcacheError):
                raise entry
            # An entry whose last counted read this was is gone again: another try.
            if entry is not None:
                found: Entry = entry
                return found

    async def finish_fill(
        self,
        ticket: FillTicket,
        value: object,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        timeout: Duration | None = None,
        **options: Any,
    ) -> bool:
        """Stores the loaded value unless something has happened to the key since the ticket was given out.

        Args:
            ttl, tags, options: as in set(); idle and max_reads among them.

        Returns:
            False: refused; the value may be outdated, or another caller has filled the key.

        Raises:
            OutcomeUnknown: stored, or refused.
        """
        data, content_type = self._client._encode(value)
        return await self.finish_raw(
            ticket, data, content_type, ttl=ttl, tags=tags, timeout=timeout, **options
        )

    async def finish_raw(
        self,
        ticket: FillTicket,
        data: bytes,
        content_type: str,
        *,
        timeout: Duration | None = None,
        **options: Any,
    ) -> bool:
        """finish_fill for bytes that are encoded already."""
        if not ticket.may_store:
            return False
        if content_type == FILL_CONTENT_TYPE:
            raise InvalidRequest(
                f"{FILL_CONTENT_TYPE} marks keys that are being loaded", field="content_type"
            )
        operation = set_operation(ticket.key, data, content_type, if_value=ticket.mark, **options)
        try:
            await self._client._operate((operation, convert.set_result), timeout)
        except ConditionFailed:
            return False
        return True

    async def abandon_fill(self, ticket: FillTicket, *, timeout: Duration | None = None) -> bool:
        """Gives the ticket back when loading failed, so that nobody waits for it; True: it was valid."""
        if not ticket.may_store:
            return False
        operation = delete_operation(ticket.key, if_value=ticket.mark)
        try:
            result: DeleteResult = await self._client._operate((operation, convert.delete_result), timeout)
        except (ConditionFailed, NotFound):
            return False
        return result.deleted

    def abandon_later(self, ticket: FillTicket, *, timeout: Duration | None = None) -> None:
        """abandon_fill() in the background, for a placeholder that may be there, or come yet. When it fails,
        the lease ends the placeholder."""

        async def abandon() -> None:
            with contextlib.suppress(ReplcacheError):
                await self.abandon_fill(ticket, timeout=timeout)

        self._client._core.tasks.start(abandon(), "replcache placeholder")

    async def invalidate(self, key: Key, *, timeout: Duration | None = None) -> bool:
        """Removes the entry and refuses every fill that began before. Call it AFTER the source was changed.

        The same as delete(): this name is for saying what is meant.

        Returns:
            True: an entry (or the placeholder of a fill) was removed.
        """
        return bool(await self._client.delete(key, timeout=timeout))


class Fills:
    """AsyncFills for threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._fills = AsyncFills(client._aio)

    def begin_fill(
        self, key: Key, *, wait: Duration = WAIT_DEFAULT, timeout: Duration | None = None, **options: Any
    ) -> FillTicket | Entry:
        """As AsyncFills.begin_fill."""
        found: FillTicket | Entry = self._client._run(
            lambda: self._fills.begin_fill(key, wait=wait, timeout=timeout, **options),
            timeout,
            # Beside waiting: the first look, placing, and looking again, each with its own timeout.
            parse_seconds(wait, "wait") + 3 * self._client._timeout_s(timeout),
        )
        return found

    def finish_fill(
        self, ticket: FillTicket, value: object, *, timeout: Duration | None = None, **options: Any
    ) -> bool:
        """As AsyncFills.finish_fill."""
        return bool(
            self._client._run(
                lambda: self._fills.finish_fill(ticket, value, timeout=timeout, **options), timeout
            )
        )

    def abandon_fill(self, ticket: FillTicket, *, timeout: Duration | None = None) -> bool:
        """As AsyncFills.abandon_fill."""
        return bool(self._client._run(lambda: self._fills.abandon_fill(ticket, timeout=timeout), timeout))

    def invalidate(self, key: Key, *, timeout: Duration | None = None) -> bool:
        """As AsyncFills.invalidate."""
        return bool(self._client.delete(key, timeout=timeout))


__all__ = [
    "FILL_CONTENT_TYPE",
    "AsyncFills",
    "FillTicket",
    "Fills",
    "is_placeholder",
]
