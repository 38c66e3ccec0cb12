"""The calls to the cluster that a decorated function makes, and the life of a placeholder.

Everything but `look` runs on the client's loop; the blocking colour goes there through the bridge. A
placeholder is renewed as long as its load goes on, so its lease may be short: that is how long the others are
held up when the loader dies.
"""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

from replcache.client import convert
from replcache.client.aio import AsyncClient
from replcache.client.base import Prepared
from replcache.client.codec import Codec
from replcache.client.requests import delete_operation, key_bytes, set_operation, touch_operation
from replcache.client.types import DeleteResult, SetResult
from replcache.constants import CLIENT_ATTEMPT_TIMEOUT_S, LOCK_NAME_BYTES_MAX
from replcache.errors import ConditionFailed, NotFound, OutcomeUnknown, ReplcacheError
from replcache.patterns.cached_policy import Policy
from replcache.patterns.cached_stored import ERROR_CONTENT_TYPE, Found, Outcome, encode_error, stamped
from replcache.patterns.fill import FILL_CONTENT_TYPE, AsyncFills, FillTicket

_MARK_BYTES = 16
_LOCK_PREFIX = "cached/"


def lock_name(key: str) -> str:
    name = _LOCK_PREFIX + key
    if len(name.encode("utf-8", "surrogateescape")) <= LOCK_NAME_BYTES_MAX and name.isprintable():
        return name
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=32)
    return _LOCK_PREFIX + digest.hexdigest()


class CallStore:
    """One key, for the length of one call. Used on the loop of `client` only."""

    def __init__(self, client: AsyncClient, policy: Policy, key: str, tags: tuple[str, ...]) -> None:
        self._client = client
        self._policy = policy
        self._name = key_bytes(key)
        self._tags = tags
        # The placeholder that is ours, and what renews it.
        self._placeholder = 0
        self._keeper: asyncio.Task[Any] | None = None

    @property
    def codec(self) -> Codec:
        return self._policy.codec or self._client._codec

    # --- the steps ---

    async def claim(self, over: int) -> int:
        mark = self._client._rng.randbytes(_MARK_BYTES)
        operation = set_operation(
            self._name, mark, FILL_CONTENT_TYPE, ttl=self._policy.lease, tags=self._tags, if_absent=not over
        )
        if over:
            operation.set.condition.if_mod_revision = over
        try:
            revision = await self._write((operation, convert.set_result))
        except (OutcomeUnknown, asyncio.CancelledError):
            # It may be there, or come yet: while it is, no load is stored.
            ticket = FillTicket(self._name, mark)
            AsyncFills(self._client).abandon_later(ticket, timeout=self._policy.timeout)
            raise
        if revision:
            self._placeholder = revision
            self._keeper = self._client._core.tasks.start(self._keep(revision), "replcache placeholder")
        return revision

    async def renew(self, found: Found) -> int:
        entry = found.entry
        assert entry is not None
        operation = set_operation(self._name, entry.raw, entry.content_type, keep_ttl=True, tags=self._tags)
        operation.set.condition.if_mod_revision = found.revision
        return await self._write((operation, convert.set_result))

    async def fill(self, revision: int, outcome: Outcome) -> bool:
        data, content_type, ttl = self.encoded(outcome)
        operation = set_operation(self._name, data, content_type, ttl=ttl, tags=self._tags)
        operation.set.condition.if_mod_revision = revision
        self._stop_keeping()
        taken = await self._write((operation, convert.set_result)) > 0
        self._placeholder = 0
        return taken

    async def put(self, outcome: Outcome) -> SetResult:
        """Stores without a condition: a fill that began before is refused from now on."""
        data, content_type, ttl = self.encoded(outcome)
        operation = set_operation(self._name, data, content_type, ttl=ttl, tags=self._tags)
        result: SetResult = await self._client._operate((operation, convert.set_result), self._policy.timeout)
        return result

    async def clear(self, revision: int) -> bool:
        self._stop_keeping()
        operation = delete_operation(self._name)
        if revision:
            operation.delete.condition.if_mod_revision = revision
        try:
            result: DeleteResult = await self._client._operate(
                (operation, convert.delete_result), self._policy.timeout
            )
        except (ConditionFailed, NotFound):
            self._placeholder = 0
            return False
        self._placeholder = 0
        return result.deleted

    def encoded(self, outcome: Outcome) -> tuple[bytes, str, timedelta]:
        """(bytes, content type, how long they are stored)."""
        policy = self._policy
        if outcome.error is not None:
            data, content_type = encode_error(outcome.error), ERROR_CONTENT_TYPE
        else:
            data, content_type = self.codec.encode(outcome.value)
        stale_ms = policy.stale_ms_of(outcome)
        ttl_ms = policy.draw_ttl_ms(outcome, self._client._rng) + stale_ms
        load_s = outcome.load_s if policy.is_xfetch else None
        return data, stamped(content_type, load_s, stale_ms), timedelta(milliseconds=ttl_ms)

    async def _write(self, prepared: Prepared) -> int:
        """Revision of the change; 0: its condition did not hold."""
        try:
            result: SetResult = await self._client._operate(prepared, self._policy.timeout)
        except ConditionFailed:
            return 0
        return result.revision

    # --- the placeholder ---

    async def _keep(self, revision: int) -> None:
        """Starts its lease anew every third of it, until it is filled, cleared or gone."""
        lease_s = self._policy.lease_ms / 1000
        while True:
            await asyncio.sleep(lease_s / 3)
            operation = touch_operation(self._name, ttl=self._policy.lease)
            operation.touch.condition.if_mod_revision = revision
            try:
                await self._client._operate(
                    (operation, convert.touch_result), min(lease_s, CLIENT_ATTEMPT_TIMEOUT_S)
                )
            except (ConditionFailed, NotFound):
                return
            except ReplcacheError:
                # Asked again in a third of the lease; when it is over meanwhile, the fill will be refused.
                continue

    def _stop_keeping(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()

    @property
    def has_placeholder(self) -> bool:
        """A claim that was neither filled nor cleared, or not for certain."""
        return self._placeholder != 0

    async def give_up(self) -> None:
        """Clears the placeholder, so that nobody has to wait for its lease; never raises a ReplcacheError."""
        revision, self._placeholder = self._placeholder, 0
        self._stop_keeping()
        if not revision or self._client._core.is_closed:
            return
        try:
            await self.clear(revision)
        except ReplcacheError:
            # Its lease is running out.
            return
