"""Cache methods on many keys at once: find and invalidate by tags, delete a range."""

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.server.reads import DEFAULT_PLAN, Reader, read_plan
from replcache.statemachine.commands import DeleteRange, InvalidateTags
from replcache.statemachine.manyops import prefix_end
from replcache.statemachine.results import CountResult


class ManyKeys:
    """Part of the Cache service."""

    def __init__(self, backend: Backend, reader: Reader) -> None:
        self._backend = backend
        self._reader = reader

    def methods(self) -> list[Method]:
        return [
            Method("InvalidateTags", cache_pb2.InvalidateTagsRequest, self.invalidate_tags, writes=True),
            Method("Find", cache_pb2.FindRequest, self.find, writes=False),
            Method("DeleteRange", cache_pb2.DeleteRangeRequest, self.delete_range, writes=True),
        ]

    async def invalidate_tags(
        self, request: cache_pb2.InvalidateTagsRequest, deadline: Deadline
    ) -> cache_pb2.InvalidateTagsResponse:
        """Everything with one of the tags is gone for every reader, however much it is."""
        op = InvalidateTags(validate.some_tags(request.tags, "tags"))
        result = await self._backend.execute_one(convert.command(op, request), deadline)
        assert type(result) is CountResult
        return cache_pb2.InvalidateTagsResponse(
            header=self._backend.header(result.revision), invalidated=result.count
        )

    async def find(self, request: cache_pb2.FindRequest, deadline: Deadline) -> cache_pb2.FindResponse:
        """A page of the entries that carry all the tags, in byte order. Finding is no access."""
        tags = validate.some_tags(request.tags, "tags")
        limit = validate.at_most(request.page_size, constants.SCAN_PAGE_ENTRIES_MAX, "page_size")
        after = validate.prefix(request.page_token, "page_token")
        plan = read_plan(request.read) if request.HasField("read") else DEFAULT_PLAN
        served = await self._reader.prepare(plan, deadline)
        machine = self._backend.machine
        found, next_after = machine.find_page(tags, after, limit or constants.SCAN_PAGE_ENTRIES_DEFAULT)
        response = cache_pb2.FindResponse(
            header=self._backend.header(machine.revision, served.level, served.staleness_s)
        )
        convert.fill_page(response, found, next_after, machine.clock_ms, not request.keys_only)
        return response

    async def delete_range(
        self, request: cache_pb2.DeleteRangeRequest, deadline: Deadline
    ) -> cache_pb2.DeleteRangeResponse:
        """Deletes up to `limit` keys of a range, in byte order and under one revision."""
        op = delete_range_op(request)
        result = await self._backend.execute_one(convert.command(op, request), deadline)
        assert type(result) is CountResult
        self._backend.metrics.keys_written += result.count
        return cache_pb2.DeleteRangeResponse(
            header=self._backend.header(result.revision), deleted=result.count, more=result.more
        )


def delete_range_op(request: cache_pb2.DeleteRangeRequest) -> DeleteRange:
    """An explicitly given empty prefix means all keys; a range that was left out means nothing."""
    kind = request.WhichOneof("range")
    if kind is None:
        raise InvalidRequest("range: prefix or keys must be given", field="range")
    if kind == "prefix":
        start = validate.prefix(request.prefix, "prefix")
        end = prefix_end(start)
    else:
        start = validate.prefix(request.keys.start, "keys.start")
        end = validate.prefix(request.keys.end, "keys.end")
        if end and end <= start:
            raise InvalidRequest("keys.end: must be above keys.start", field="keys.end")
    return DeleteRange(
        start,
        end,
        validate.at_most(request.limit, constants.DELETE_RANGE_KEYS_MAX, "limit"),
        validate.fence(request.fence, "fence") if request.HasField("fence") else None,
    )
