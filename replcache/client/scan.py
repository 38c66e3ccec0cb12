"""Reading a range of keys page by page."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from replcache.client.convert import LEVELS
from replcache.client.core import ClientCore
from replcache.client.durations import to_proto
from replcache.client.requests import Key, prefix_bytes
from replcache.client.types import Consistency, Entry
from replcache.constants import SCAN_PAGE_ENTRIES_MAX
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2, common_pb2


@dataclass(frozen=True, slots=True)
class ScanQuery:
    """What to read, checked."""

    prefix: bytes
    limit: int | None
    page_size: int
    keys_only: bool
    level: Consistency
    max_staleness_ms: int
    timeout_s: float

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
        if not 0 <= page_size <= SCAN_PAGE_ENTRIES_MAX:
            raise InvalidRequest(f"page_size={page_size}: 0 to {SCAN_PAGE_ENTRIES_MAX}", field="page_size")
        if limit is not None and limit < 0:
            raise InvalidRequest(f"limit={limit} is negative", field="limit")
        return cls(prefix_bytes(prefix), limit, page_size, keys_only, *level, timeout_s)


def read_options(core: ClientCore, level: Consistency, max_staleness_ms: int) -> common_pb2.ReadOptions:
    options = common_pb2.ReadOptions(level=LEVELS[level])
    if level is Consistency.SESSION:
        options.min_revision = core.revision
    if max_staleness_ms:
        options.max_staleness.CopyFrom(to_proto(max_staleness_ms))
    return options


async def scan_pages(core: ClientCore, query: ScanQuery) -> AsyncGenerator[list[Entry], None]:
    """Each page from one state; no page is empty."""
    token, left = b"", query.limit
    while left is None or left > 0:
        page_size = query.page_size
        if left is not None:
            page_size = min(page_size or left, left, SCAN_PAGE_ENTRIES_MAX)
        request = cache_pb2.ScanRequest(
            prefix=query.prefix,
            page_size=page_size,
            page_token=token,
            keys_only=query.keys_only,
            read=read_options(core, query.level, query.max_staleness_ms),
        )
        response = await core.unary(
            "cache",
            "Scan",
            request,
            query.timeout_s,
            is_write=False,
            to_leader=query.level is Consistency.LINEARIZABLE,
        )
        if response.entries:
            yield [core.context.entry(entry, response.header) for entry in response.entries]
        token = response.next_page_token
        if not token:
            return
        if left is not None:
            left -= len(response.entries)
