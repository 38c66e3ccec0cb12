"""Reading a range of keys, or the entries with some tags, page by page."""

from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from replcache.client.convert import LEVELS
from replcache.client.core import ClientCore
from replcache.client.durations import to_proto
from replcache.client.parts import PART_MARK, parent_of
from replcache.client.requests import Key, prefix_bytes, tag_list
from replcache.client.types import Consistency, Entry
from replcache.constants import SCAN_PAGE_ENTRIES_MAX, TAGS_PER_REQUEST_MAX
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2, common_pb2


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What both have in common, checked."""

    limit: int | None
    page_size: int
    keys_only: bool
    level: Consistency
    max_staleness_ms: int
    timeout_s: float

    @classmethod
    def checked_pages(
        cls,
        limit: int | None,
        page_size: int,
        keys_only: bool,
        level: tuple[Consistency, int],
        timeout_s: float,
        **rest: Any,
    ) -> Any:
        if not 0 <= page_size <= SCAN_PAGE_ENTRIES_MAX:
            raise InvalidRequest(f"page_size={page_size}: 0 to {SCAN_PAGE_ENTRIES_MAX}", field="page_size")
        if limit is not None and limit < 0:
            raise InvalidRequest(f"limit={limit} is negative", field="limit")
        return cls(limit, page_size, keys_only, *level, timeout_s, **rest)


@dataclass(frozen=True, slots=True)
class ScanQuery(PageQuery):
    """Keys with a prefix."""

    prefix: bytes

    @classmethod
    def checked(
        cls,
        prefix: Key,
        limit: int | None,
        page_size: int,
        keys_only: bool,
        level: tuple[Consistency, int],
        timeout_s: float,
    ) -> "ScanQuery":
        name = prefix_bytes(prefix)
        query: ScanQuery = cls.checked_pages(limit, page_size, keys_only, level, timeout_s, prefix=name)
        return query


@dataclass(frozen=True, slots=True)
class FindQuery(PageQuery):
    """Entries with all of the tags."""

    tags: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        tags: Iterable[str],
        limit: int | None,
        page_size: int,
        keys_only: bool,
        level: tuple[Consistency, int],
        timeout_s: float,
    ) -> "FindQuery":
        found = tuple(tag_list(tags, TAGS_PER_REQUEST_MAX))
        if not found:
            raise InvalidRequest("no tag is given", field="tags")
        query: FindQuery = cls.checked_pages(limit, page_size, keys_only, level, timeout_s, tags=found)
        return query


def read_options(core: ClientCore, level: Consistency, max_staleness_ms: int) -> common_pb2.ReadOptions:
    options = common_pb2.ReadOptions(level=LEVELS[level])
    if level is Consistency.SESSION:
        options.min_revision = core.revision
    if max_staleness_ms:
        options.max_staleness.CopyFrom(to_proto(max_staleness_ms))
    return options


def scan_pages(
    core: ClientCore, query: ScanQuery, with_parts: bool = False
) -> AsyncGenerator[list[Entry], None]:
    """Each page from one state; no page is empty. with_parts: also the parts of large values."""
    is_part = None if with_parts or PART_MARK in query.prefix else parent_of
    return _pages(core, query, "Scan", cache_pb2.ScanRequest(prefix=query.prefix), is_part)


def find_pages(core: ClientCore, query: FindQuery) -> AsyncGenerator[list[Entry], None]:
    """As scan_pages."""
    return _pages(core, query, "Find", cache_pb2.FindRequest(tags=query.tags))


async def _pages(
    core: ClientCore,
    query: PageQuery,
    method: str,
    request: Any,
    is_left_out: Callable[[bytes], object] | None = None,
) -> AsyncGenerator[list[Entry], None]:
    left = query.limit
    request.keys_only = query.keys_only
    while left is None or left > 0:
        page_size = query.page_size
        if left is not None:
            page_size = min(page_size or left, left, SCAN_PAGE_ENTRIES_MAX)
        request.page_size = page_size
        request.read.CopyFrom(read_options(core, query.level, query.max_staleness_ms))
        response = await core.unary(
            "cache",
            method,
            request,
            query.timeout_s,
            is_write=False,
            to_leader=query.level is Consistency.LINEARIZABLE,
        )
        entries = [
            core.context.entry(entry, response.header)
            for entry in response.entries
            if is_left_out is None or not is_left_out(entry.key)
        ]
        if entries:
            yield entries
        request.page_token = response.next_page_token
        if not request.page_token:
            return
        if left is not None:
            left -= len(entries)
