"""Entries that know the version of the row they were made from: older versions never replace newer ones.

    await set_if_newer(client, "user:7", profile, origin_version=row.version)
    await invalidate_if_older(client, "user:7", origin_version=event.version)      # from a change feed

Loads, messages and retries overtake each other; the order is what the origin says (a counter of the row, or
a timestamp that grows), not the time of arrival. The version is kept beside the entry, under a key of its
own, and both are written in one atomic batch on the condition that the version is still the one that was
compared. It outlives the entry by `remember`, so that a late message can't bring back what was deleted. See
decision 0103.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from replcache.client import convert
from replcache.client.aio import AsyncClient
from replcache.client.base import Prepared
from replcache.client.durations import Duration, parse_ttl_ms
from replcache.client.requests import Key, delete_operation, key_bytes, set_operation
from replcache.client.status import BY_REASON
from replcache.client.types import Consistency, Entry
from replcache.constants import TTL_MS_MAX
from replcache.errors import (
    BatchAborted,
    ConditionFailed,
    DeadlineExceeded,
    InvalidRequest,
    ReplcacheError,
    WrongType,
)

PREFIX = b"\0origin\0"
REMEMBER_DEFAULT = "1d"
_CONTENT_TYPE = "application/json"
_MICROSECONDS = 1_000_000

OriginVersion = int | datetime


def origin_number(version: OriginVersion) -> int:
    """An int as it is; an aware datetime in microseconds since 1970."""
    if isinstance(version, datetime):
        if version.tzinfo is None:
            raise InvalidRequest("origin_version: a datetime needs a time zone", field="origin_version")
        delta = version - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400 + delta.seconds) * _MICROSECONDS + delta.microseconds
    if isinstance(version, bool) or not isinstance(version, int):
        raise InvalidRequest(f"origin_version={version!r}: int or datetime", field="origin_version")
    return version


def version_key(key: Key) -> bytes:
    """Where the origin version of `key` is kept."""
    return key_bytes(PREFIX + key_bytes(key))


async def set_if_newer(
    client: AsyncClient,
    key: Key,
    value: object,
    origin_version: OriginVersion,
    *,
    ttl: Duration | None = None,
    tags: Iterable[str] = (),
    remember: Duration = REMEMBER_DEFAULT,
    timeout: Duration | None = None,
) -> bool:
    """Sets, unless the entry was made from this version or a newer one.

    The version that was seen last may be set again when the entry itself is gone (expired, evicted, or
    invalidated by invalidate_if_older for exactly this version).

    Returns:
        Whether it was set.

    Raises:
        DeadlineExceeded: others changed the key all the time.
        ReplcacheError: of set().
    """
    data, content_type = client._encode(value)
    name, number = key_bytes(key), origin_number(origin_version)
    # It outlives the entry by `remember`; beside an entry that never expires it stays ten years.
    kept_ms = TTL_MS_MAX
    if ttl is not None:
        kept_ms = min(TTL_MS_MAX, parse_ttl_ms(ttl, "ttl") + parse_ttl_ms(remember, "remember"))
    labels = tuple(tags)

    def change(known: int | None, entry: Entry | None) -> Prepared | None:
        if known is not None and (known > number or (known == number and entry is not None)):
            return None
        operation = set_operation(
            name, data, content_type, ttl=ttl, tags=labels, if_absent=known is not None and known == number
        )
        return operation, convert.set_result

    return await _compare_and_apply(client, name, number, change, kept_ms, timeout)


async def invalidate_if_older(
    client: AsyncClient,
    key: Key,
    origin_version: OriginVersion,
    *,
    remember: Duration = REMEMBER_DEFAULT,
    timeout: Duration | None = None,
) -> bool:
    """Removes the entry if it was made from an older version, and refuses older ones from now on.

    Returns:
        False: the entry was made from this version or a newer one, and stays.

    Raises:
        DeadlineExceeded: others changed the key all the time.
        ReplcacheError: of delete().
    """
    name, number = key_bytes(key), origin_number(origin_version)

    def change(known: int | None, entry: Entry | None) -> Prepared | None:
        if known is not None and known >= number:
            return None
        return delete_operation(name), convert.delete_result

    return await _compare_and_apply(client, name, number, change, parse_ttl_ms(remember, "remember"), timeout)


async def origin_version_of(client: AsyncClient, key: Key) -> int | None:
    """The newest version that was set or invalidated; None: none is known."""
    return _number(await client.get(version_key(key), read=Consistency.LINEARIZABLE))


async def _compare_and_apply(
    client: AsyncClient, name: bytes, number: int, change: Any, kept_ms: int, timeout: Duration | None
) -> bool:
    clock = client._clock
    end = clock.now() + client._timeout_s(timeout)
    side = version_key(name)
    while True:
        left_s = end - clock.now()
        if left_s <= 0:
            raise DeadlineExceeded(f"the origin version of {name!r} was changed by others all the time")
        found = await client.get_many([side, name], read=Consistency.LINEARIZABLE, timeout=left_s)
        known = found[side]
        operation = change(_number(known), found[name])
        if operation is None:
            return False
        # A version only grows: while it is what was compared, nothing has happened that matters.
        setting = set_operation(
            side,
            str(number).encode(),
            _CONTENT_TYPE,
            ttl=kept_ms / 1000,
            if_absent=known is None,
            if_value=None if known is None else known.raw,
        )
        try:
            outcomes = await client._send_batch([(setting, convert.set_result), operation], True, left_s)
        except BatchAborted as err:
            if err.metadata.get("cause") != ConditionFailed.reason:
                raise _cause_of(err) from err
            continue
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return True


def _cause_of(aborted: BatchAborted) -> ReplcacheError:
    """What the operation at fault was refused with: the caller knows nothing of a batch."""
    known = BY_REASON.get(aborted.metadata.get("cause", ""))
    return aborted if known is None else known(str(aborted), metadata=aborted.metadata)


def _number(entry: Entry | None) -> int | None:
    if entry is None:
        return None
    try:
        return int(entry.raw)
    except ValueError:
        raise WrongType(f"{entry.key!r} is no origin version") from None
