"""Comparing the cache with the database, and repairing what differs.

Order of the looks, so that live writes are no differences: the entry, then the queue of write-behind, then
the database. What differs is looked at again after `settle`, because a write that is half done differs for a
moment; only an entry that is still the same one, and still differs, counts. The repair removes exactly that
entry (on the condition of its version), which is always safe: the next read loads. With `refill` it is
loaded at once, by a fill that a newer write refuses. So a repair never overwrites anything newer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from replcache.client.aio import AsyncClient
from replcache.client.blocking import Client
from replcache.client.durations import Duration, parse_seconds
from replcache.client.requests import key_bytes
from replcache.client.types import Consistency, Entry
from replcache.errors import ConditionFailed, InvalidRequest, WrongType
from replcache.patterns.fill import is_placeholder
from replcache.patterns.rate import Pace, parse_rate
from replcache.patterns.source import call_source
from replcache.patterns.through import AsyncThrough, Through
from replcache.patterns.through_options import Mode
from replcache.patterns.through_steps import ABSENT_CONTENT_TYPE

_CHUNK = 200
_DIFFERENCES_KEPT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """kind: "value" (both have one, not the same), "no row" (the database has none), "row" (the cache says
    that there is none), "unreadable" (the entry can't be decoded)."""

    key: str
    kind: str


@dataclass(slots=True)
class ReconcileReport:
    """checked: keys with an entry. missing: without one, which is no difference. repaired: removed, and
    loaded
    again if that was asked for. differences: the first thousand."""

    checked: int = 0
    missing: int = 0
    different: int = 0
    repaired: int = 0
    differences: list[Difference] = field(default_factory=list)


async def reconcile_async(
    view: AsyncThrough,
    keys: Iterable[str] | None = None,
    *,
    repair: bool = True,
    refill: bool = True,
    rate: str | float | None = None,
    concurrency: int = 8,
    settle: Duration = "200ms",
) -> ReconcileReport:
    """Compares the view's entries with its loader.

    Args:
        keys: of the view; None: every key that the cache has under the view's prefix.
        repair: False: only count.
        refill: load what was removed.
        rate: keys a second, such as "500/s"; None: no limit.
        concurrency: loads at once.
        settle: how long a write may be half done.

    Raises:
        InvalidRequest: the view has no loader, or neither keys nor a prefix.
        what the loader raises.
    """
    if view.options.loader is None:
        raise InvalidRequest("the view has no loader to compare with", field="loader")
    if keys is None and not view.options.prefix:
        raise InvalidRequest("a view without a prefix needs keys", field="keys")
    work = _Reconcile(view, repair, refill, concurrency, parse_seconds(settle, "settle"))
    pace = Pace(parse_rate(rate), work.client._clock.now)
    async for chunk in work.chunks(keys):
        await pace.take(len(chunk))
        await work.chunk(chunk)
    return work.report


def reconcile(view: Through, keys: Iterable[str] | None = None, **options: Any) -> ReconcileReport:
    """reconcile_async for a view of the blocking client; the loader runs in worker threads."""
    client: Client = view._client
    client._ready()
    report: ReconcileReport = client._bridge.run(
        lambda: reconcile_async(view._through, keys, **options), None
    )
    return report


class _Reconcile:
    def __init__(
        self, view: AsyncThrough, repair: bool, refill: bool, concurrency: int, settle_s: float
    ) -> None:
        self.view = view
        self.client: AsyncClient = view._client
        self.report = ReconcileReport()
        self._repair = repair
        self._refill = refill
        self._settle_s = settle_s
        self._loading = asyncio.Semaphore(concurrency)

    async def chunks(self, keys: Iterable[str] | None) -> AsyncIterator[list[str]]:
        chunk: list[str] = []
        async for key in self._keys(keys):
            chunk.append(key)
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def _keys(self, keys: Iterable[str] | None) -> AsyncIterator[str]:
        if keys is not None:
            for key in keys:
                yield key
            return
        prefix = self.view.options.prefix
        async for entry in self.client.scan(
            prefix, page_size=1000, keys_only=True, read=Consistency.LINEARIZABLE
        ):
            yield entry.name.removeprefix(prefix)

    async def chunk(self, keys: list[str]) -> None:
        entries = await self._entries(keys)
        self.report.missing += sum(entry is None or is_placeholder(entry) for entry in entries.values())
        present = {key: e for key, e in entries.items() if e is not None and not is_placeholder(e)}
        self.report.checked += len(present)
        suspects = await self._compare(present)
        if not suspects:
            return
        await asyncio.sleep(self._settle_s)
        again = await self._entries(list(suspects))
        same = {
            key: entry
            for key, entry in again.items()
            if entry is not None and entry.mod_revision == present[key].mod_revision
        }
        for key, kind in (await self._compare(same)).items():
            self.report.different += 1
            if len(self.report.differences) < _DIFFERENCES_KEPT_MAX:
                self.report.differences.append(Difference(key, kind))
            if self._repair:
                await self._remove(key, same[key])

    async def _entries(self, keys: list[str]) -> dict[str, Entry | None]:
        names = {key: key_bytes(self.view.options.prefix + key) for key in keys}
        found = await self.client.get_many(names.values(), read=Consistency.LINEARIZABLE)
        return {key: found[name] for key, name in names.items()}

    async def _compare(self, entries: dict[str, Entry]) -> dict[str, str]:
        """key -> kind of the difference."""
        kinds = await asyncio.gather(*(self._difference(key, entry) for key, entry in entries.items()))
        return {key: kind for key, kind in zip(entries, kinds, strict=True) if kind}

    async def _difference(self, key: str, entry: Entry) -> str:
        view = self.view
        loader = view.options.loader
        assert loader is not None
        async with self._loading:
            if view.options.mode is Mode.WRITE_BEHIND and await view.steps.queue.pending(key) is not None:
                return ""
            row = await call_source(loader, key)
        if entry.content_type == ABSENT_CONTENT_TYPE:
            return "" if row is None else "row"
        if row is None:
            return "no row"
        data, content_type = self.client._encode(row)
        if data == entry.raw:
            return ""
        try:
            stored = entry.value
        except WrongType:
            return "unreadable"
        # The same document may be written in two ways.
        loaded = self.client._codec.decode(data, content_type)
        same = (
            type(stored) is type(loaded) and not hasattr(stored, "__array_interface__") and stored == loaded
        )
        return "" if same else "value"

    async def _remove(self, key: str, entry: Entry) -> None:
        try:
            await self.client.delete(entry.key, if_version=entry.version)
        except ConditionFailed:
            # Somebody has written it since: that is newer than what differed.
            return
        self.report.repaired += 1
        if self._refill:
            await self.view.get(key)
