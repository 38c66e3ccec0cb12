"""Calls on many keys that are not named one by one: by tag, by range, by prefix."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from replcache.client.cluster import AsyncClusterCalls
from replcache.client.durations import Duration
from replcache.client.part import BlockingPart
from replcache.client.requests import Fence, Key, fence_proto, key_bytes, prefix_bytes, tag_list
from replcache.client.scan import FindQuery, PageQuery, ScanQuery, find_pages, scan_pages
from replcache.client.types import Consistency, Entry
from replcache.constants import TAGS_PER_REQUEST_MAX
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2

Pages = AsyncGenerator[list[Entry], None]


class AsyncRangeCalls(AsyncClusterCalls):
    """Part of AsyncClient."""

    async def scan(
        self,
        prefix: Key = "",
        *,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> AsyncIterator[Entry]:
        """Entries whose keys begin with `prefix`, in byte order. Each page is from one state.

        Args:
            limit: at most this many entries; None: all.
            page_size: entries asked for at once; 0: the server's choice.
            keys_only: leave the values out.
            timeout: for each page.
        """
        self._waiter()
        level = self._level(read, max_staleness)
        query = ScanQuery.checked(prefix, limit, page_size, keys_only, level, self._timeout_s(timeout))
        async for page in self._whole_pages(scan_pages(self._core, query), query):
            for entry in page:
                yield entry

    async def find(
        self,
        tags: Iterable[str],
        *,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> AsyncIterator[Entry]:
        """Entries that carry ALL of the tags (1 to 64), in the byte order of their keys; as scan."""
        self._waiter()
        level = self._level(read, max_staleness)
        query = FindQuery.checked(tags, limit, page_size, keys_only, level, self._timeout_s(timeout))
        async for page in self._whole_pages(find_pages(self._core, query), query):
            for entry in page:
                yield entry

    # Of AsyncClient: the same pages with large values in place of their manifests.
    _whole_pages: Callable[[Pages, PageQuery], Pages]

    async def invalidate_tags(self, *tags: str, timeout: Duration | None = None) -> int:
        """Removes every entry that carries at least one of the tags (1 to 64), in one moment, however many
        they are. Returns how many that were."""
        request = cache_pb2.InvalidateTagsRequest(tags=checked_tags(tags))
        response = await self._write("cache", "InvalidateTags", request, self._timeout_s(timeout))
        return int(response.invalidated)

    async def delete_prefix(
        self, prefix: Key, *, fence: Fence | None = None, timeout: Duration | None = None
    ) -> int:
        """Deletes all keys that begin with `prefix` (which must not be empty), up to 2,000 at a time, and
        returns how many that were. A key that is written meanwhile may stay.

        Args:
            fence: a lock that is checked at each step.
            timeout: for each step.
        """
        name = prefix_bytes(prefix)
        if not name:
            raise InvalidRequest("an empty prefix would delete everything", field="prefix")
        return await self._delete_all(cache_pb2.DeleteRangeRequest(prefix=name), fence, timeout)

    async def delete_range(
        self,
        start: Key,
        end: Key | None = None,
        *,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> int:
        """Deletes all keys from `start` (included) to `end` (not included; None: to the last key), as
        delete_prefix."""
        keys = cache_pb2.KeyRange(start=key_bytes(start), end=b"" if end is None else key_bytes(end))
        if keys.end and keys.end <= keys.start:
            raise InvalidRequest(f"the range ends at {end!r}, before it begins", field="end")
        return await self._delete_all(cache_pb2.DeleteRangeRequest(keys=keys), fence, timeout)

    async def _delete_all(
        self, request: cache_pb2.DeleteRangeRequest, fence: Fence | None, timeout: Duration | None
    ) -> int:
        if fence is not None:
            request.fence.CopyFrom(fence_proto(fence))
        deleted = 0
        while True:
            response = await self._write("cache", "DeleteRange", request, self._timeout_s(timeout))
            deleted += int(response.deleted)
            if not response.more:
                return deleted


class RangeCalls(BlockingPart):
    """Part of Client."""

    def scan(
        self,
        prefix: Key = "",
        *,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Iterator[Entry]:
        level = self._level(read, max_staleness)
        query = ScanQuery.checked(prefix, limit, page_size, keys_only, level, self._timeout_s(timeout))
        return self._flatten(scan_pages(self._core, query), query)

    def find(
        self,
        tags: Iterable[str],
        *,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        read: Consistency | str | None = None,
        max_staleness: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Iterator[Entry]:
        level = self._level(read, max_staleness)
        query = FindQuery.checked(tags, limit, page_size, keys_only, level, self._timeout_s(timeout))
        return self._flatten(find_pages(self._core, query), query)

    def _flatten(self, pages: Pages, query: PageQuery) -> Iterator[Entry]:
        for page in self._iterate(self._aio._whole_pages(pages, query)):
            yield from page

    def invalidate_tags(self, *tags: str, timeout: Duration | None = None) -> int:
        count: int = self._run(lambda: self._aio.invalidate_tags(*tags, timeout=timeout), timeout)
        return count

    def delete_prefix(
        self, prefix: Key, *, fence: Fence | None = None, timeout: Duration | None = None
    ) -> int:
        return self._stepwise(lambda: self._aio.delete_prefix(prefix, fence=fence, timeout=timeout))

    def delete_range(
        self,
        start: Key,
        end: Key | None = None,
        *,
        fence: Fence | None = None,
        timeout: Duration | None = None,
    ) -> int:
        return self._stepwise(lambda: self._aio.delete_range(start, end, fence=fence, timeout=timeout))

    def _stepwise(self, call: Any) -> int:
        """Any number of steps, each of which ends by itself."""
        count: int = self._run(call, None, float("inf"))
        return count


def checked_tags(tags: Iterable[str]) -> list[str]:
    found = tag_list(tags, TAGS_PER_REQUEST_MAX)
    if not found:
        raise InvalidRequest("no tag is given", field="tags")
    return found
