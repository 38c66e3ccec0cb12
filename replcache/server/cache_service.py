"""The Cache service: single operations, batches of reads, scans. Batches are executed in batches.py."""

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2, common_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend, KeyWrite
from replcache.server.batches import Batches, check_reply
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.server.reads import DEFAULT_PLAN, Fetched, Reader, read_plan
from replcache.statemachine.entries import Entry
from replcache.statemachine.results import (
    DeleteResult,
    IncrementResult,
    OpResult,
    SetResult,
    TouchResult,
    UpdateResult,
)

NAME = "replcache.v1.Cache"


class CacheService:
    def __init__(self, backend: Backend, reader: Reader, batches: Batches) -> None:
        self._backend = backend
        self._reader = reader
        self._batches = batches

    def methods(self) -> list[Method]:
        """All unary methods; Pipeline is added by the composition root."""
        return [
            Method("Get", cache_pb2.GetRequest, self.get, writes=False),
            Method("BatchGet", cache_pb2.BatchGetRequest, self.batch_get, writes=False),
            Method("Set", cache_pb2.SetRequest, self.set, writes=True),
            Method("Update", cache_pb2.UpdateRequest, self.update, writes=True),
            Method("Delete", cache_pb2.DeleteRequest, self.delete, writes=True),
            Method("Touch", cache_pb2.TouchRequest, self.touch, writes=True),
            Method("Increment", cache_pb2.IncrementRequest, self.increment, writes=True),
            Method("Scan", cache_pb2.ScanRequest, self.scan, writes=False),
            Method("Batch", cache_pb2.BatchRequest, self.batch, writes=True),
        ]

    async def get(self, request: cache_pb2.GetRequest, deadline: Deadline) -> cache_pb2.GetResponse:
        key = validate.key(request.key, "key")
        plan = read_plan(request.read) if request.HasField("read") else DEFAULT_PLAN
        fetched = await self._reader.fetch([key], plan, deadline)
        response = cache_pb2.GetResponse(header=self._read_header(fetched))
        stored = fetched.entries[0]
        if stored is not None:
            response.entry.CopyFrom(convert.entry(key, stored, fetched.clock_ms))
        return response

    async def batch_get(
        self, request: cache_pb2.BatchGetRequest, deadline: Deadline
    ) -> cache_pb2.BatchGetResponse:
        keys = list(request.keys)
        validate.count(keys, "keys")
        validate.keys(keys, "keys")
        plan = read_plan(request.read) if request.HasField("read") else DEFAULT_PLAN
        fetched = await self._reader.fetch(keys, plan, deadline)
        check_reply(fetched.entries, "keys")
        return cache_pb2.BatchGetResponse(
            header=self._read_header(fetched),
            entries=[
                convert.entry(key, stored, fetched.clock_ms)
                for key, stored in zip(keys, fetched.entries, strict=True)
                if stored is not None
            ],
        )

    async def set(self, request: cache_pb2.SetRequest, deadline: Deadline) -> cache_pb2.SetResponse:
        result = await self._write(convert.set_op(request), request, deadline)
        assert type(result) is SetResult
        return cache_pb2.SetResponse(
            header=self._backend.header(result.revision),
            version=result.version,
            previous=self._previous(request.key, result.previous),
        )

    async def update(self, request: cache_pb2.UpdateRequest, deadline: Deadline) -> cache_pb2.UpdateResponse:
        result = await self._write(convert.update_op(request), request, deadline)
        assert type(result) is UpdateResult
        return cache_pb2.UpdateResponse(
            header=self._backend.header(result.revision),
            entry=convert.entry(request.key, result.entry, self._backend.machine.clock_ms),
        )

    async def delete(self, request: cache_pb2.DeleteRequest, deadline: Deadline) -> cache_pb2.DeleteResponse:
        result = await self._write(convert.delete_op(request), request, deadline)
        assert type(result) is DeleteResult
        return cache_pb2.DeleteResponse(
            header=self._backend.header(result.revision),
            deleted=result.deleted,
            previous=self._previous(request.key, result.previous),
        )

    async def touch(self, request: cache_pb2.TouchRequest, deadline: Deadline) -> cache_pb2.TouchResponse:
        result = await self._write(convert.touch_op(request), request, deadline)
        assert type(result) is TouchResult
        return cache_pb2.TouchResponse(header=self._backend.header(result.revision), version=result.version)

    async def increment(
        self, request: cache_pb2.IncrementRequest, deadline: Deadline
    ) -> cache_pb2.IncrementResponse:
        result = await self._write(convert.increment_op(request), request, deadline)
        assert type(result) is IncrementResult
        return cache_pb2.IncrementResponse(
            header=self._backend.header(result.revision), value=result.value, version=result.version
        )

    async def scan(self, request: cache_pb2.ScanRequest, deadline: Deadline) -> cache_pb2.ScanResponse:
        """A page of keys in byte order. Scanning is no access: it counts no reads and lengthens no life."""
        prefix = validate.prefix(request.prefix, "prefix")
        limit = validate.at_most(request.page_size, constants.SCAN_PAGE_ENTRIES_MAX, "page_size")
        after = request.page_token
        if after and (not after.startswith(prefix) or len(after) > constants.KEY_BYTES_MAX):
            raise InvalidRequest("page_token: is not from a scan of this prefix", field="page_token")
        plan = read_plan(request.read) if request.HasField("read") else DEFAULT_PLAN
        served = await self._reader.prepare(plan, deadline)
        machine = self._backend.machine
        # A page may be short, even empty, and not be the last: looking at dead keys has to end in time too.
        found, next_after = machine.scan_page(prefix, after, limit or constants.SCAN_PAGE_ENTRIES_DEFAULT)
        response = cache_pb2.ScanResponse(
            header=self._backend.header(machine.revision, served.level, served.staleness_s)
        )
        convert.fill_page(response, found, next_after, machine.clock_ms, not request.keys_only)
        return response

    async def batch(self, request: cache_pb2.BatchRequest, deadline: Deadline) -> cache_pb2.BatchResponse:
        return await self._batches.execute(request, request.ByteSize(), deadline)

    async def _write(self, op: KeyWrite, request: convert.Writing, deadline: Deadline) -> OpResult:
        result = await self._backend.execute_one(convert.command(op, request), deadline)
        self._backend.wrote((op.key,))
        return result

    def _previous(self, key: bytes, previous: Entry | None) -> cache_pb2.Entry | None:
        return None if previous is None else convert.entry(key, previous, self._backend.machine.clock_ms)

    def _read_header(self, fetched: Fetched) -> common_pb2.ResponseHeader:
        return self._backend.header(fetched.revision, fetched.served.level, fetched.served.staleness_s)
