"""Large values: written and read in parts (parts.py), whole or not at all.

Writing. The parts are written first, each with a ttl: what a writer that was killed leaves behind ends by
itself. Then ONE atomic batch makes the parts last as long as the value, sets the manifest (with the
caller's condition, or that nobody else wrote meanwhile), and lets the parts of the value before expire. So
there is no moment at which a manifest is stored whose parts are not.

Reading. The manifest, then its parts, which nobody ever changes. A part that is missing means that the value
was replaced or ended meanwhile: the manifest is read again. What comes back is one writing's bytes, never a
mix. Parts outlive their manifest for a while, so that a reader under way can still finish.

What a small `set`, `delete` or the end of a ttl leaves behind: `ClientCore.large` knows the parts of values
that this client wrote or read, and deletes those; `sweep` finds all others.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from replcache.client.batches import GetManyBatch
from replcache.client.convert import LEVELS, delete_result, set_result, touch_result
from replcache.client.durations import Duration, parse_seconds
from replcache.client.ids import unique_id
from replcache.client.parts import Manifest, manifest_of, parent_of, part_stem, split
from replcache.client.requests import (
    UNSET,
    Fence,
    LeaseId,
    delete_operation,
    set_operation,
    touch_operation,
)
from replcache.client.scan import PageQuery, ScanQuery, scan_pages
from replcache.client.types import Consistency, Entry, SetResult
from replcache.constants import MANIFEST_TYPE, REPLY_BYTES_MAX
from replcache.errors import (
    BatchAborted,
    ConditionFailed,
    InvalidRequest,
    NotFound,
    ReplcacheError,
    Unavailable,
)

if TYPE_CHECKING:
    from replcache.client.aio import AsyncClient
    from replcache.client.base import Prepared

# Parts of a value that is being written live so long, and are renewed when a third of it is over.
UPLOAD_TTL_S = 60.0
# Parts outlive their manifest by this, for readers that have just read it.
GRACE_S = 10.0
# Parts under way at once; they share messages of up to 3 MiB.
_PARTS_IN_FLIGHT = 8
_GETS_IN_FLIGHT = 4
# So often in a row another writer was faster, or a part was gone when it was to be made final.
_COMMITS_MAX = 20


class LargeValues:
    """What AsyncClient does with values above its limit. Each step ends within the caller's timeout."""

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client
        self._core = client._core
        self._core.on_parts_left = self._delete_parts

    # --- writing ---

    async def set(
        self,
        key: bytes,
        data: bytes,
        content_type: str,
        timeout_s: float,
        *,
        ttl: Duration | None = None,
        idle: Duration | None = None,
        tags: Iterable[str] = (),
        lease: LeaseId | None = None,
        if_version: int | None = None,
        if_mod_revision: int | None = None,
        nx: bool = False,
        xx: bool = False,
        fence: Fence | None = None,
        **more: object,
    ) -> SetResult:
        _check_options(**more)
        conditions = (if_version, if_mod_revision, nx, xx)
        part_bytes = self._client.settings.part_bytes
        manifest = split(key, data, content_type, part_bytes, unique_id())
        old = await self._read(key, timeout_s)
        _check(old, *conditions)
        upload = _Upload(self, key, manifest, timeout_s, lease, fence)
        life = {"ttl": _longer(ttl), "idle": _longer(idle)}
        options = {"ttl": ttl, "idle": idle, "tags": tuple(tags), "lease": lease, "fence": fence}
        # Whether it is certain that no manifest means these parts.
        is_unused = True
        try:
            await upload.write(data, part_bytes)
            is_gentle = True
            for _ in range(_COMMITS_MAX):
                is_unused = False
                try:
                    result = await upload.commit(manifest, old, life, options, is_gentle)
                except BatchAborted as err:
                    is_unused = True
                    is_gentle = await self._after_abort(err, upload, manifest, data) and is_gentle
                    old = await self._read(key, timeout_s)
                    _check(old, *conditions)
                    continue
                except ReplcacheError as err:
                    is_unused = not err.may_have_executed
                    raise
                self._core.note_large(key, manifest.id)
                return result
            raise Unavailable("the entry was changed by others all the time")
        except (ReplcacheError, asyncio.CancelledError):
            if is_unused:
                stem = part_stem(key, manifest.id)
                self._core.tasks.start(self._discard(stem, fence), "replcache parts")
            raise

    async def _after_abort(
        self, error: BatchAborted, upload: "_Upload", manifest: Manifest, data: bytes
    ) -> bool:
        """Prepares the next try to commit; False: the old parts are to be deleted, not left to expire."""
        step = int(error.metadata.get("failed_operation", "-1"))
        if 0 <= step < manifest.parts and error.metadata.get("cause") == NotFound.reason:
            # The cluster's time ran ahead of ours (there was no leader for a while): parts have expired.
            await upload.write(data, self._client.settings.part_bytes)
            return True
        if step == manifest.parts and error.metadata.get("cause") == ConditionFailed.reason:
            # Somebody else was faster.
            return True
        if step > manifest.parts and error.metadata.get("cause") == NotFound.reason:
            return False
        raise error

    async def _read(self, key: bytes, timeout_s: float) -> Entry | None:
        """The entry itself, also when it is a manifest."""
        waiter = self._client._waiter()
        self._core.get_plain(key, Consistency.LINEARIZABLE, 0, timeout_s, waiter)
        entry: Entry | None = await waiter
        return entry

    # --- reading ---

    async def whole(self, entry: Entry, level: Consistency, bound_ms: int, timeout_s: float) -> Entry | None:
        """The entry with its value in place of the manifest, or what replaced it; None: it is gone."""
        deadline = self._core.clock.now() + timeout_s
        while (manifest := manifest_of(entry)) is not None:
            parts = await self._parts(manifest.keys(entry.key), level, bound_ms, timeout_s)
            if parts is not None:
                self._core.note_large(entry.key, manifest.id)
                return entry.with_value(await self._join(manifest, parts), manifest.content_type)
            again = await self._read(entry.key, timeout_s)
            if again is None:
                return None
            if again.mod_revision == entry.mod_revision and level is Consistency.LINEARIZABLE:
                # With the parts gone, so is the value: its ttl was made longer, or they were evicted.
                return None
            level, bound_ms = Consistency.LINEARIZABLE, 0
            entry = again
            if self._core.clock.now() > deadline:
                raise Unavailable("the entry was changed by others all the time")
        return entry

    async def whole_pages(
        self, pages: AsyncGenerator[list[Entry], None], query: PageQuery
    ) -> AsyncGenerator[list[Entry], None]:
        """The same pages with whole values in place of the manifests."""
        async for page in pages:
            if not query.keys_only and any(entry.content_type == MANIFEST_TYPE for entry in page):
                level, bound_ms = query.level, query.max_staleness_ms
                found = [await self.whole(entry, level, bound_ms, query.timeout_s) for entry in page]
                yield [entry for entry in found if entry is not None]
            else:
                yield page

    async def _join(self, manifest: Manifest, parts: list[bytes]) -> bytes:
        # Tens of milliseconds for large ones: not on the loop that serves everybody.
        if manifest.size < self._client.settings.part_bytes * 4:
            return manifest.join(parts)
        return await asyncio.to_thread(manifest.join, parts)

    async def _parts(
        self, keys: list[bytes], level: Consistency, bound_ms: int, timeout_s: float
    ) -> list[bytes] | None:
        """None: one of them is missing."""
        group = max(1, REPLY_BYTES_MAX // (self._client.settings.part_bytes + 1024) - 1)
        groups = [keys[start : start + group] for start in range(0, len(keys), group)]
        found: list[list[bytes] | None] = [None] * len(groups)

        async def read(number: int) -> bool:
            batch = GetManyBatch(LEVELS[level], bound_ms, timeout_s, self._core.clock.now())
            batch.keys = list(groups[number])
            entries = await self._client._send_get_many(batch, level)
            # Parts are no reads that anybody asked for.
            self._core.counters.hits -= len(entries) - entries.count(None)
            self._core.counters.misses -= entries.count(None)
            if None in entries:
                return False
            found[number] = [entry.raw for entry in entries if entry is not None]
            return True

        # The first one alone: a value that is gone costs one read.
        if not await read(0):
            return None
        if not all(await _some_at_once(read, range(1, len(groups)), _GETS_IN_FLIGHT)):
            return None
        return [part for parts in found for part in parts or ()]

    # --- what is left behind ---

    def _delete_parts(self, key: bytes, part_id: str) -> None:
        self._core.tasks.start(self._discard(part_stem(key, part_id), None), "replcache parts")

    async def _discard(self, stem: bytes, fence: Fence | None) -> None:
        """Parts that nobody will ever mean. Failing is no harm: they have a ttl, or the sweep finds them."""
        try:
            await self._client.delete_prefix(stem, fence=fence)
        except ReplcacheError:
            return

    async def sweep(self, prefix: bytes, timeout_s: float) -> int:
        """Deletes the parts below `prefix` that no manifest means any more; returns how many.

        Parts with a ttl are left alone: they end by themselves, or are being written. The others became
        final together with a manifest; when that is not the stored one now, it never will be again.
        """
        level = (Consistency.LINEARIZABLE, 0)
        query = ScanQuery.checked(prefix, None, 0, True, level, timeout_s)
        swept = 0
        known: dict[bytes, str] = {}
        async for page in scan_pages(self._core, query, with_parts=True):
            left: dict[tuple[bytes, str], list[bytes]] = {}
            for entry in page:
                origin = parent_of(entry.key)
                if origin is not None and entry.expires_in_s is None:
                    left.setdefault(origin, []).append(entry.key)
            for (parent, part_id), keys in left.items():
                if known.get(parent) == part_id:
                    continue
                found = manifest_of(await self._read(parent, timeout_s))
                if found is not None:
                    known[parent] = found.id
                if found is None or found.id != part_id:
                    for key in keys:
                        operation = delete_operation(key)
                        swept += bool(await self._client._operate((operation, delete_result), timeout_s))
        return swept


class _Upload:
    """One writing of one value."""

    def __init__(
        self,
        owner: LargeValues,
        key: bytes,
        manifest: Manifest,
        timeout_s: float,
        lease: LeaseId | None,
        fence: Fence | None,
    ) -> None:
        self._client = owner._client
        self._clock = owner._core.clock
        self._key = key
        self._keys = manifest.keys(key)
        self._timeout_s = timeout_s
        self._lease = lease
        self._fence = fence
        self._renewed_at = 0.0

    async def write(self, data: bytes, part_bytes: int) -> None:
        self._renewed_at = self._clock.now()
        view = memoryview(data)

        async def write(number: int) -> bool:
            operation = set_operation(
                self._keys[number],
                bytes(view[number * part_bytes : (number + 1) * part_bytes]),
                "",
                ttl=UPLOAD_TTL_S,
                lease=self._lease,
                fence=self._fence,
            )
            await self._client._operate((operation, set_result), self._timeout_s)
            await self._renew(number)
            return True

        await _some_at_once(write, range(len(self._keys)), _PARTS_IN_FLIGHT)

    async def _renew(self, until: int) -> None:
        """A slow upload must not lose its first parts before the last one is there."""
        now = self._clock.now()
        if now - self._renewed_at < UPLOAD_TTL_S / 3:
            return
        self._renewed_at = now
        touches: list[Prepared] = [
            (touch_operation(key, ttl=UPLOAD_TTL_S, fence=self._fence), touch_result)
            for key in self._keys[:until]
        ]
        outcomes = await self._client._send_batch(touches, False, self._timeout_s)
        for outcome in outcomes:
            # A part that is under way yet, or gone: the commit notices.
            if isinstance(outcome, ReplcacheError) and not isinstance(outcome, NotFound):
                raise outcome

    async def commit(
        self,
        manifest: Manifest,
        old: Entry | None,
        life: dict[str, Any],
        options: dict[str, Any],
        is_gentle: bool,
    ) -> SetResult:
        """All in one log entry; see the module. Operations: the parts, the manifest, the old parts."""
        fence = self._fence
        operations: list[Prepared] = [
            (touch_operation(key, fence=fence, **life), touch_result) for key in self._keys
        ]
        condition = {"if_absent": True} if old is None else {"if_mod_revision": old.mod_revision}
        new = set_operation(self._key, manifest.encode(), MANIFEST_TYPE, **condition, **options)
        operations.append((new, set_result))
        before = manifest_of(old)
        for key in before.keys(self._key) if before is not None else ():
            if is_gentle:
                operations.append((touch_operation(key, ttl=GRACE_S, fence=fence), touch_result))
            else:
                operations.append((delete_operation(key, fence=fence), delete_result))
        outcomes = await self._client._send_batch(operations, True, self._timeout_s)
        result: SetResult = outcomes[manifest.parts]
        return result


def _longer(life: Duration | None) -> float | None:
    return None if life is None else parse_seconds(life, "ttl") + GRACE_S


def _check(
    old: Entry | None, if_version: int | None, if_mod_revision: int | None, nx: bool, xx: bool
) -> None:
    """The caller's conditions, on what is there now; the commit checks that nothing has changed since."""
    if nx and old is not None:
        raise ConditionFailed("the key exists")
    if xx and old is None:
        raise ConditionFailed("the key is missing")
    check_versions(old, if_version, if_mod_revision)


def check_versions(old: Entry | None, if_version: int | None, if_mod_revision: int | None) -> None:
    """Raises ConditionFailed, as the cluster would of this entry."""
    version, revision = (0, 0) if old is None else (old.version, old.mod_revision)
    if if_version is not None and if_version != version:
        raise ConditionFailed(f"the version is {version}, not {if_version}")
    if if_mod_revision is not None and if_mod_revision != revision:
        raise ConditionFailed(f"the last change is of revision {revision}, not {if_mod_revision}")


def _check_options(**options: object) -> None:
    """What can't be kept of a value in parts is refused rather than done halfway."""
    for name, value in options.items():
        # Of if_value every value means something, also None, 0 and "".
        if value is not UNSET and (value or name == "if_value"):
            raise InvalidRequest(f"{name} is not possible for values stored in parts", field=name)


async def _some_at_once(
    call: Callable[[int], Coroutine[Any, Any, bool]], numbers: Iterable[int], limit: int
) -> list[bool]:
    """call(number) for all numbers, `limit` at a time; the first error cancels the others and is raised."""
    places = asyncio.Semaphore(limit)

    async def run(number: int) -> bool:
        async with places:
            return await call(number)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(number)) for number in numbers]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
