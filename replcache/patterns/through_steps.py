"""The order of steps of reads and writes between the cache and a database: the same for both clients.

Reads fill through marked placeholders (fill.py). Writes differ by mode:

around    placeholder (takes the cached value away, keeps fills out) -> database -> delete
through   lock of the key -> cached value lives no longer than the lease -> database -> set, fenced -> unlock
behind    value and queue record in one atomic batch; the drainer writes the database (drainer.py)

A process can die between any two steps. Around and through: the cache then has nothing, or something that
ends with the lease; so what the cache serves is never outdated for longer than the lease. See decision 0101.
"""

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

from replcache.client import convert
from replcache.client.aio import AsyncClient
from replcache.client.base import Prepared
from replcache.client.durations import parse_seconds
from replcache.client.lock import AsyncLock
from replcache.client.requests import delete_operation, key_bytes, set_operation, touch_operation
from replcache.client.types import Consistency, Entry, SetResult
from replcache.errors import (
    ConditionFailed,
    FenceRejected,
    InvalidRequest,
    NotApplied,
    NotFound,
    OutcomeUnknown,
    QuotaExceeded,
    Refused,
    ReplcacheError,
)
from replcache.patterns.behind import DELETED_CONTENT_TYPE, Queue, Status
from replcache.patterns.bound import LagBound
from replcache.patterns.fill import FILL_CONTENT_TYPE, AsyncFills, FillTicket, is_placeholder
from replcache.patterns.source import DELETED, CacheStep, Row, SourceStep, Steps
from replcache.patterns.through_options import Mode, ThroughOptions, ThroughStatistics

if TYPE_CHECKING:
    from collections.abc import Coroutine

ABSENT_CONTENT_TYPE = "application/x-replcache-absent"
_MARK_BYTES = 16
# Longer keys, and keys that are no text, are locked by their hash.
_LOCK_KEY_BYTES_MAX = 120
# How a step ends that may have been done, or be done yet.
_MAYBE_DONE = (OutcomeUnknown, asyncio.CancelledError, KeyboardInterrupt)


class ThroughSteps:
    """The protocols of one view. One object serves any number of threads or tasks."""

    def __init__(self, client: AsyncClient, options: ThroughOptions) -> None:
        self.options = options
        self.statistics = ThroughStatistics()
        self.queue = Queue(client, options.name, options.shards)
        self._client = client
        self._fills = AsyncFills(client)
        self._is_behind = options.mode is Mode.WRITE_BEHIND
        self._bound = LagBound(client._clock, self.queue, options, self.statistics)

    def name(self, key: str) -> bytes:
        if not isinstance(key, str):
            raise InvalidRequest(f"key={key!r}: the keys of a view are str", field="key")
        return key_bytes(self.options.prefix + key)

    # --- reads ---

    def get(self, key: str, default: Any) -> Steps:
        """The cached value; else what waits in the queue; else what the loader says, which is then cached."""
        options, statistics = self.options, self.statistics
        name = self.name(key)
        wait_s = parse_seconds(options.wait, "wait")
        found = yield CacheStep(
            lambda: self._fills.begin_fill(
                name,
                tags=options.fixed_tags,
                lease=options.lease_s,
                wait=options.wait,
                read=options.read,
                max_staleness=options.max_staleness,
            ),
            wait_s + 3 * self._client.settings.timeout_s,
        )
        if isinstance(found, Entry):
            statistics.hits += 1
            return default if found.content_type == ABSENT_CONTENT_TYPE else found.value
        statistics.misses += 1
        try:
            answer = yield from self._load(key, found, default)
        except BaseException as err:
            # Nobody should wait for the end of the lease.
            if not isinstance(err, GeneratorExit):
                yield CacheStep(lambda: self._abandon(found))
            raise
        return answer

    def _load(self, key: str, ticket: FillTicket, default: Any) -> Steps:
        options, statistics = self.options, self.statistics
        if self._is_behind:
            # After the placeholder is there: what is not in the queue now is in the database.
            record = yield CacheStep(lambda: self.queue.pending(key))
            if record is not None:
                if record.content_type == DELETED_CONTENT_TYPE:
                    yield CacheStep(lambda: self._abandon(ticket))
                    return default
                yield self._finish(ticket, key, record.value, record.raw, record.content_type)
                return record.value
        value = None
        if options.loader is not None:
            statistics.loads += 1
            try:
                value = yield SourceStep(options.loader, (key,))
            except BaseException:
                statistics.load_failures += 1
                raise
        if value is None or value is DELETED:
            statistics.absent += 1
            if options.negative_ttl is None:
                yield CacheStep(lambda: self._abandon(ticket))
            else:
                negative = {"ttl": options.negative_ttl, "tags": options.fixed_tags}
                yield CacheStep(lambda: self._store(ticket, b"", ABSENT_CONTENT_TYPE, negative))
            return default
        data, content_type = self._client._encode(value)
        yield self._finish(ticket, key, value, data, content_type)
        return value

    def _finish(self, ticket: FillTicket, key: str, value: Any, data: bytes, content_type: str) -> CacheStep:
        kept = {"ttl": self.options.ttl_of(key, value), "tags": self.options.tags_of(key, value)}
        return CacheStep(lambda: self._store(ticket, data, content_type, kept))

    async def _store(self, ticket: FillTicket, data: bytes, content_type: str, kept: dict[str, Any]) -> None:
        """The caller has its value; that the cache does not take it is no reason to fail."""
        try:
            stored = await self._fills.finish_raw(ticket, data, content_type, **kept)
        except (NotApplied, OutcomeUnknown, QuotaExceeded):
            self.statistics.failed_fills += 1
        else:
            self.statistics.refused_fills += not stored

    async def _abandon(self, ticket: FillTicket) -> None:
        try:
            await self._fills.abandon_fill(ticket)
        except (NotApplied, OutcomeUnknown):
            # The lease ends the placeholder.
            self.statistics.failed_fills += 1

    def invalidate(self, key: str) -> Steps:
        name = self.name(key)
        removed = yield CacheStep(lambda: self._fills.invalidate(name))
        return removed

    # --- writes ---

    def write(self, key: str, value: Any) -> Steps:
        """Returns the revision of the change. value DELETED: removes."""
        mode = self.options.mode
        if mode is Mode.WRITE_BEHIND:
            return (yield from self._write_behind(key, value))
        if self.options.writer is None:
            raise InvalidRequest(
                f"this view ({mode}) has no writer: write the database yourself, then invalidate({key!r})",
                field="writer",
            )
        if mode is Mode.WRITE_THROUGH:
            return (yield from self._write_through(key, value))
        return (yield from self._write_around(key, value))

    def _source(self, row: Row) -> Steps:
        writer = self.options.writer
        assert writer is not None
        try:
            yield SourceStep(writer, ([row],), to_end=True)
        except BaseException:
            self.statistics.write_failures += 1
            raise
        self.statistics.writes += 1

    def _write_around(self, key: str, value: Any) -> Steps:
        name = self.name(key)
        client, options = self._client, self.options
        mark = client._rng.randbytes(_MARK_BYTES)
        placing = set_operation(name, mark, FILL_CONTENT_TYPE, ttl=options.lease_s)
        try:
            placed: SetResult = yield self._operate(placing, convert.set_result)
        except _MAYBE_DONE:
            # The database was not asked: nobody should wait for this write.
            yield CacheStep(lambda: self._abandon(FillTicket(name, mark)))
            raise
        try:
            yield from self._source(Row(key, value, placed.revision))
        except BaseException as err:
            # It may have reached the database all the same. The next read looks there.
            if not isinstance(err, GeneratorExit):
                yield CacheStep(lambda: self._fills.invalidate(name))
            raise
        yield self._after_commit(lambda: self._fills.invalidate(name), key)
        return placed.revision

    def _write_through(self, key: str, value: Any) -> Steps:
        name = self.name(key)
        client, options = self._client, self.options
        # Validated before anything is done.
        encoded = None if value is DELETED else client._encode(value)
        kept: dict[str, Any] = {}
        if encoded is not None:
            kept = {"ttl": options.ttl_of(key, value), "tags": options.tags_of(key, value)}
        lock = client.lock(self._lock_name(key), ttl=options.lease_s, wait=options.wait)
        yield CacheStep(lock.acquire, parse_seconds(options.wait, "wait") + options.lease_s)
        try:
            undo = yield from self._shorten(name)
            lock.check()
            revision = lock.token
            try:
                yield from self._source(Row(key, value, revision))
            except Exception:
                if undo is not None:
                    yield CacheStep(lambda: self._undo(*undo))
                raise
            except (asyncio.CancelledError, KeyboardInterrupt):
                # The database may have the new value.
                yield CacheStep(lambda: self._fills.invalidate(name))
                raise
            if encoded is None:
                operation = delete_operation(name, fence=lock)
            else:
                operation = set_operation(name, *encoded, fence=lock, **kept)
            converter = convert.delete_result if encoded is None else convert.set_result
            yield self._after_commit(lambda: self._set_or_drop(name, operation, converter), key)
        finally:
            yield from self._unlock(lock)
        return revision

    def _unlock(self, lock: AsyncLock) -> Steps:
        try:
            yield CacheStep(lock.release)
        except ReplcacheError:
            # It ends with its ttl; the write itself has its own outcome.
            return

    async def _set_or_drop(self, name: bytes, operation: Any, converter: Any) -> None:
        """The value; or, when the lock was lost during the database's commit, nothing: another writer may
        have
        been there, before or after."""
        try:
            await self._client._operate((operation, converter), None)
        except FenceRejected:
            await self._fills.invalidate(name)

    def _shorten(self, name: bytes) -> Steps:
        """The cached value, if there is one, ends with the lease unless it is replaced; if there is none, a
        placeholder keeps out fills whose value was loaded before the commit.

        Returns what takes this back when the database refuses, or None. A value that a loader can bring back
        keeps its shorter life: a commit that failed for its caller may have been one all the same.
        """
        client, lease_s = self._client, self.options.lease_s
        while True:
            entry: Entry | None = yield CacheStep(lambda: client.get(name, read=Consistency.LINEARIZABLE))
            undo: Prepared | None = None
            if entry is not None and not is_placeholder(entry):
                left_s = lease_s if entry.expires_in_s is None else min(lease_s, entry.expires_in_s)
                # A revision is of this very value; versions start over when a key is deleted and made again.
                this = entry.mod_revision
                touching = touch_operation(name, ttl=max(left_s, 0.001), if_mod_revision=this)
                step = self._operate(touching, convert.touch_result)
                if self.options.loader is None:
                    lengthening = touch_operation(name, ttl=entry.expires_in_s, if_mod_revision=this)
                    undo = lengthening, convert.touch_result
            else:
                mark = client._rng.randbytes(_MARK_BYTES)
                placing = set_operation(
                    name,
                    mark,
                    FILL_CONTENT_TYPE,
                    ttl=lease_s,
                    if_absent=entry is None,
                    if_value=None if entry is None else entry.raw,
                )
                step = self._operate(placing, convert.set_result)
                undo = delete_operation(name, if_value=mark), convert.delete_result
            try:
                yield step
            except (ConditionFailed, NotFound):
                continue
            except _MAYBE_DONE:
                if undo is not None:
                    yield CacheStep(partial(self._undo, *undo))
                raise
            return undo

    async def _undo(self, operation: Any, converter: Any) -> None:
        """The caller is told why it came to this, also when the cluster can't be reached."""
        try:
            await self._client._operate((operation, converter), None)
        except (Refused, NotApplied, OutcomeUnknown):
            # Somebody else has changed the key since, and there is nothing left to take back; or the lease
            # ends it.
            return

    def _after_commit(self, work: Any, key: str) -> CacheStep:
        """What follows the database's commit: when it fails, the caller has to know which half was done."""

        async def run() -> None:
            try:
                await work()
            except ReplcacheError as err:
                raise OutcomeUnknown(
                    f"the database has the new value of {key!r}, but the cache could not be told ({err}); it "
                    f"serves an older one for {self.options.lease_s:g} s at most",
                    metadata={"source_written": "true", "cause": err.reason},
                ) from err

        return CacheStep(run)

    def _lock_name(self, key: str) -> str:
        raw = key.encode("utf-8", "surrogateescape")
        if len(raw) > _LOCK_KEY_BYTES_MAX or raw != key.encode("utf-8", "replace"):
            key = f"sha256/{hashlib.sha256(raw).hexdigest()}"
        return f"replcache/through/{self.options.name}/{key}"

    # --- write-behind ---

    def _write_behind(self, key: str, value: Any) -> Steps:
        name = self.name(key)
        client, queue, options = self._client, self.queue, self.options
        yield from self._bound.check()
        operations: list[Prepared]
        if value is DELETED:
            operations = [(delete_operation(name), convert.delete_result), queue.put_deleted(key)]
        else:
            data, content_type = client._encode(value)
            setting = set_operation(
                name, data, content_type, ttl=options.ttl_of(key, value), tags=options.tags_of(key, value)
            )
            operations = [(setting, convert.set_result), queue.put(key, data, content_type)]
        shard = queue.shard_of(key)
        operations.append(queue.read_status(shard))
        outcomes = yield CacheStep(lambda: client._send_batch(operations, True, client.settings.timeout_s))
        self.statistics.writes += 1
        self._bound.note(shard, Status.of(outcomes[2]))
        return outcomes[1].revision

    def _operate(self, operation: Any, converter: Any) -> CacheStep:
        client = self._client

        def make() -> "Coroutine[Any, Any, Any]":
            return client._operate((operation, converter), None)

        return CacheStep(make)
