"""Near cache: entries kept in this process, served only while a bound on their staleness is proven.

    near = client.near(prefix="user:", max_staleness="100ms")
    near.get("user:1")      # local while proven fresh; else a linearizable read, whose answer is kept

A watch of the prefix takes changed entries out; linearizable reads of this client (its ordinary ones, or a
small one of the near cache itself when there are none) prove how fresh the rest is (near_store.py). When the
watch or the cluster is not reachable, hits become reads; nothing older than the bound is ever served.
Entries whose reads are counted or lengthen their life, and entries with tags or a lease, are never kept.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from replcache.client.durations import Duration, parse_seconds
from replcache.client.near_store import Freshness, NearStore, Row
from replcache.client.requests import Key, key_bytes, prefix_bytes
from replcache.client.retry import Backoff
from replcache.client.types import Consistency, DeleteResult, Entry, SetResult
from replcache.client.watch import AsyncWatch, watch_options
from replcache.constants import (
    MANIFEST_TYPE,
    NEAR_ENTRIES_MAX_DEFAULT,
    NEAR_PROBE_IDLE_S_MAX,
    NEAR_STALENESS_S_MIN,
    WATCH_PROGRESS_MS_DEFAULT,
    WATCH_PROGRESS_MS_MIN,
)
from replcache.errors import ClientClosed, InvalidRequest, ReplcacheError
from replcache.pb.v1 import cache_pb2, common_pb2

# Proofs come three times within the bound, so that one may be late.
_PROBES_IN_BOUND = 3
_PROGRESS_IN_BOUND = 4
# A prefix that is unlikely to hold anything: the read is made for its revision only.
_PROBE_PREFIX = b"\x00near\x00"


@dataclass(frozen=True, slots=True)
class NearStatistics:
    """hits: served locally. refused_as_stale: held, but not proven fresh enough at that moment."""

    hits: int
    misses: int
    refused_as_stale: int
    invalidations: int
    evictions: int
    restarts: int
    probes: int
    entries: int
    staleness_s: float | None

    @property
    def hit_rate(self) -> float:
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0


@dataclass(frozen=True, slots=True)
class NearOptions:
    """What a near cache was asked for, checked."""

    prefix: bytes
    max_entries: int
    bound_s: float

    @classmethod
    def checked(cls, prefix: Key, max_entries: int | None, max_staleness: Duration) -> "NearOptions":
        entries = NEAR_ENTRIES_MAX_DEFAULT if max_entries is None else max_entries
        if entries < 1:
            raise InvalidRequest(f"max_entries={entries} must be above 0", field="max_entries")
        bound_s = parse_seconds(max_staleness, "max_staleness")
        if bound_s < NEAR_STALENESS_S_MIN:
            raise InvalidRequest(
                f"max_staleness={max_staleness!r} is below {NEAR_STALENESS_S_MIN} s", field="max_staleness"
            )
        return cls(prefix_bytes(prefix), entries, bound_s)


class AsyncNear:
    """The near cache of an AsyncClient; close it, or use it as a context manager. It starts with its first
    call. Reads of keys outside the prefix are refused: the watch would not see their changes."""

    def __init__(self, client: Any, options: NearOptions) -> None:
        """client: the AsyncClient (whose module imports this one)."""
        self.options = options
        self.store = NearStore(options.max_entries)
        self.freshness = Freshness(options.bound_s)
        self._client = client
        self._core = client._core
        self._watch: AsyncWatch | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        # Reads under way, with the time of their beginning: what they bring may be as old as that.
        self._fetches: dict[bytes, tuple[float, asyncio.Task[Entry | None]]] = {}
        self.is_closed = False
        # A look-up since the last proof: an unused near cache asks for none.
        self._is_wanted = False
        self._now = client._clock.now
        # The freshness that was computed last holds until then.
        self._fresh_until = float("-inf")
        self._hits = self._misses = self._refused = self._restarts = self._probes = 0

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Forgets everything. May be called twice; the client stays open."""
        self.is_closed = True
        self.store.restart(None)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._watch is not None:
            await self._watch.close()

    def _start(self) -> None:
        if self.is_closed:
            raise ClientClosed("the near cache is closed")
        self._client._waiter()
        if not self._tasks:
            tasks = self._core.tasks
            self._tasks = [
                tasks.start(self._follow(), "replcache near watch"),
                tasks.start(self._prove(), "replcache near proofs"),
            ]

    # --- reads ---

    def hit(self, key: Key) -> Row | None:
        """The row, if it may be served at this moment; needs no loop, so that threads can ask directly."""
        # The prefix is not looked at: a key outside of it has no row.
        name = key if type(key) is bytes else key_bytes(key)
        now = self._now()
        self._is_wanted = True
        if now > self._fresh_until and not self._is_fresh(now):
            if self.store.lookup(name, now) is not None:
                self._refused += 1
            return None
        row = self.store.lookup(name, now)
        if row is not None:
            self._hits += 1
        return row

    def _is_fresh(self, now: float) -> bool:
        freshness, watch = self.freshness, self._watch
        freshness.note_proof(*self._core.proof)
        if watch is not None and self.store.base is not None:
            freshness.note_delivered(watch.revision)
        # A proof stays good when later events are lost: what they would have taken out is gone as a whole.
        self._fresh_until = freshness.proven_at + freshness.bound_s
        return freshness.is_fresh(now)

    def name_of(self, key: Key) -> bytes:
        name = key_bytes(key)
        if not name.startswith(self.options.prefix):
            raise InvalidRequest(f"{key!r} is outside the prefix {self.options.prefix!r}", field="key")
        return name

    async def get(self, key: Key, *, timeout: Duration | None = None) -> Entry | None:
        """As AsyncClient.get, at most max_staleness behind.

        `served` of a local entry tells about the read that brought it, not about this one.
        """
        row = self.hit(key)
        if row is not None:
            return row.entry
        return await self.fetch(self.name_of(key), timeout)

    async def get_value(self, key: Key, default: Any = None, *, timeout: Duration | None = None) -> Any:
        """The decoded value, or `default`. Do not change a list or dict that it returns: it is kept."""
        entry = await self.get(key, timeout=timeout)
        return default if entry is None else entry.value

    async def fetch(self, name: bytes, timeout: Duration | None) -> Entry | None:
        """A linearizable read whose answer is kept; those of a key that begin within the bound share it."""
        self._start()
        self._misses += 1
        now = self._now()
        began_at, shared = self._fetches.get(name, (now, None))
        if shared is None or now - began_at > self.options.bound_s:
            shared = self._core.tasks.start(self._read(name, timeout), "replcache near read")
            self._fetches[name] = (now, shared)
            shared.add_done_callback(lambda done: self._end_fetch(name, done))
        # A cancelled caller must not take the read away from the others.
        return await asyncio.shield(shared)

    def _end_fetch(self, name: bytes, done: asyncio.Task[Entry | None]) -> None:
        if name in self._fetches and self._fetches[name][1] is done:
            del self._fetches[name]

    async def _read(self, name: bytes, timeout: Duration | None) -> Entry | None:
        store = self.store
        row: Row | None = None
        entry: Entry | None
        store.begin_read(name)
        began_at = self._core.clock.now()
        try:
            waiter = self._client._waiter()
            timeout_s = self._client._timeout_s(timeout)
            self._core.get_seen(name, timeout_s, waiter)
            entry, revision = await waiter
            if entry is not None and entry.content_type == MANIFEST_TYPE:
                seen = entry.mod_revision
                entry = await self._client._large.whole(entry, Consistency.LINEARIZABLE, 0, timeout_s)
                if entry is None or entry.mod_revision != seen:
                    # Changed since it was seen: of which revision this is, nobody has said.
                    return entry
            if entry is None:
                row = Row(None, revision, float("inf"))
            elif _may_be_kept(entry):
                ttl_s = float("inf") if entry.expires_in_s is None else entry.expires_in_s
                row = Row(entry, revision, began_at + ttl_s)
            return entry
        finally:
            store.end_read(name, row)

    # --- writes that are seen here at once ---

    async def set(self, key: Key, value: object, **options: Any) -> SetResult:
        """AsyncClient.set; later reads through this near cache see it, also within max_staleness."""
        name = self.name_of(key)
        try:
            result: SetResult = await self._client.set(key, value, **options)
        except ReplcacheError as err:
            self._after_failure(name, err)
            raise
        self._changed(name, result.revision)
        return result

    async def delete(self, key: Key, **options: Any) -> DeleteResult:
        """AsyncClient.delete; as set."""
        name = self.name_of(key)
        try:
            result: DeleteResult = await self._client.delete(key, **options)
        except ReplcacheError as err:
            self._after_failure(name, err)
            raise
        self._changed(name, result.revision)
        return result

    def _changed(self, name: bytes, revision: int) -> None:
        # Nobody may join a read that began before the write and does not know of it.
        self._fetches.pop(name, None)
        self.store.changed(name, revision)

    def _after_failure(self, name: bytes, error: ReplcacheError) -> None:
        if error.may_have_executed:
            self._fetches.pop(name, None)
            self.store.drop(name)

    def invalidate(self, key: Key) -> None:
        """Drops one entry here; the next read brings it back."""
        name = self.name_of(key)
        self._fetches.pop(name, None)
        self.store.drop(name)

    # --- in the background ---

    async def _follow(self) -> None:
        """Takes changed keys out; begins anew with nothing when events were lost."""
        backoff, failures = Backoff(), 0
        progress_ms = self.options.bound_s * 1000 / _PROGRESS_IN_BOUND
        progress_s = min(max(progress_ms, WATCH_PROGRESS_MS_MIN), WATCH_PROGRESS_MS_DEFAULT) / 1000
        while True:
            options = watch_options(None, self.options.prefix, "now", True, progress_s, 30.0)
            watch = AsyncWatch(self._core, options)
            try:
                async with watch:
                    base = await watch.ready()
                    self.freshness.reset()
                    self.store.restart(base)
                    self._watch = watch
                    failures = 0
                    async for event in watch:
                        # Also a TOUCH: the expiry that is held is not the entry's any more.
                        self.store.changed(event.key, event.revision)
                return
            except ClientClosed:
                return
            except ReplcacheError as err:
                self._watch = None
                self.store.restart(None)
                self.freshness.reset()
                self._restarts += 1
                failures += 1
                await asyncio.sleep(backoff.delay_s(failures, self._core.rng, err.retry_after_s))

    async def _prove(self) -> None:
        """Asks for a revision when nobody else of this client has lately, and somebody looks things up."""
        core, interval_s = self._core, self.options.bound_s / _PROBES_IN_BOUND
        request = cache_pb2.ScanRequest(
            prefix=_PROBE_PREFIX,
            page_size=1,
            keys_only=True,
            read=common_pb2.ReadOptions(level=common_pb2.READ_LEVEL_LINEARIZABLE),
        )
        idle_s = interval_s
        while True:
            if not self._is_wanted:
                # Wakes up rarely while nobody uses it; the first look-ups after that are reads.
                idle_s = min(idle_s * 2, max(interval_s, NEAR_PROBE_IDLE_S_MAX))
                await asyncio.sleep(idle_s)
                continue
            idle_s = interval_s
            self._is_wanted = False
            now = core.clock.now()
            if now - core.proof[0] >= interval_s / 2:
                sent: list[float] = []
                self._probes += 1
                try:
                    response = await core.unary(
                        "cache",
                        "Scan",
                        request,
                        max(interval_s, core.settings.timeout_s),
                        is_write=False,
                        on_send=lambda at, _, sent=sent: sent.append(at),
                    )
                except ClientClosed:
                    return
                except ReplcacheError:
                    # Hits become reads until a proof comes through.
                    await asyncio.sleep(interval_s)
                    continue
                core.note_proof(sent[-1], response.header.revision)
            await asyncio.sleep(max(0.0, interval_s - (core.clock.now() - now)))

    def stats(self) -> NearStatistics:
        now, proven_at = self._core.clock.now(), self.freshness.proven_at
        return NearStatistics(
            hits=self._hits,
            misses=self._misses,
            refused_as_stale=self._refused,
            invalidations=self.store.invalidations,
            evictions=self.store.evictions,
            restarts=self._restarts,
            probes=self._probes,
            entries=len(self.store),
            staleness_s=now - proven_at if proven_at > float("-inf") else None,
        )


def _may_be_kept(entry: Entry) -> bool:
    """Not when its reads matter (they must reach the cluster), nor when a tag or a lease can end it: that
    end is one event for many keys, which a watch of keys does not show at once."""
    return not (entry.reads_left or entry.idle_ttl_s is not None or entry.tags or entry.lease_id)
