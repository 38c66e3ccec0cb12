"""Batches: the one way in for many operations, shared by Cache.Batch and the Pipeline.

The hot path is set_columns and get_columns: per key only what C code does for us (list(), map(len, ...)).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.reads import DEFAULT_PLAN, Fetched, Reader, read_plan
from replcache.statemachine.commands import Command, Get, SetMany
from replcache.statemachine.entries import CONTENT_TYPE, META, MOD, VALUE, VERSION, Entry
from replcache.statemachine.results import SetManyResult

T = TypeVar("T")

# Column values of a missing key.
_MISSING = (b"", 0, 0, 0, None)


class Batches:
    """Executes BatchRequests; knows nothing of streams."""

    def __init__(self, backend: Backend, reader: Reader) -> None:
        self._backend = backend
        self._reader = reader

    async def execute(
        self, request: cache_pb2.BatchRequest, size: int, deadline: Deadline
    ) -> cache_pb2.BatchResponse:
        """Runs one batch.

        Args:
            size: bytes of the request's message, which is what is limited.
        Raises:
            ReplcacheError: the batch failed as a whole. Operations of a batch that is not atomic fail each
                for itself, inside the response.
        """
        validate.batch_bytes(size, "batch")
        has_sets = request.HasField("set_columns")
        has_gets = request.HasField("get_columns")
        if has_sets + has_gets + bool(request.operations) != 1:
            raise InvalidRequest(
                "exactly one of operations, set_columns and get_columns must be given", field="operations"
            )
        if has_sets:
            return await self._set_columns(request, deadline)
        if has_gets:
            return await self._get_columns(request, deadline)
        return await self._operations(request, deadline)

    async def _set_columns(
        self, request: cache_pb2.BatchRequest, deadline: Deadline
    ) -> cache_pb2.BatchResponse:
        columns = request.set_columns
        keys = list(columns.keys)
        values = list(columns.values)
        validate.count(keys, "set_columns.keys")
        if len(keys) != len(values):
            raise InvalidRequest(
                f"set_columns.values: {len(values)} values for {len(keys)} keys", field="set_columns.values"
            )
        validate.keys(keys, "set_columns.keys")
        validate.values(values, "set_columns.values")
        ttl_ms = validate.ttl_ms(columns.ttl, "set_columns.ttl") if columns.HasField("ttl") else 0
        content_type = validate.content_type(columns.content_type, "set_columns.content_type")
        command = Command(
            (),
            SetMany(keys, values, content_type, ttl_ms),
            request.atomic,
            *convert.identity_of(request),
        )
        result = await self._backend.execute(command, deadline)
        assert type(result) is SetManyResult
        revision = result.first_revision if request.atomic else result.first_revision + len(keys) - 1
        self._backend.wrote(keys)
        self._backend.metrics.batch_operations.observe(len(keys))
        return cache_pb2.BatchResponse(
            header=self._backend.header(revision),
            id=request.id,
            set_columns=cache_pb2.SetColumnsResult(
                versions=result.versions, first_revision=result.first_revision
            ),
        )

    async def _get_columns(
        self, request: cache_pb2.BatchRequest, deadline: Deadline
    ) -> cache_pb2.BatchResponse:
        keys = list(request.get_columns.keys)
        validate.count(keys, "get_columns.keys")
        validate.keys(keys, "get_columns.keys")
        plan = read_plan(request.read) if request.HasField("read") else DEFAULT_PLAN
        fetched = await self._reader.fetch(keys, plan, deadline)
        self._backend.metrics.batch_operations.observe(len(keys))
        return cache_pb2.BatchResponse(
            header=self._backend.header(fetched.revision, fetched.served.level, fetched.served.staleness_s),
            id=request.id,
            get_columns=_columns(fetched),
        )

    async def _operations(
        self, request: cache_pb2.BatchRequest, deadline: Deadline
    ) -> cache_pb2.BatchResponse:
        validate.count(request.operations, "operations")
        operation = convert.operation
        ops = tuple([operation(message, index) async for index, message in sliced(request.operations)])
        self._backend.metrics.batch_operations.observe(len(ops))
        keys = [op.key for op in ops if type(op) is Get]
        if len(keys) == len(ops):
            return await self._gets(request, keys, deadline)
        identity = convert.identity_of(request)
        results = await self._backend.execute(Command(ops, None, request.atomic, *identity), deadline)
        assert type(results) is tuple
        convert.check_carried(results, "operations")
        self._backend.count(ops, results)
        machine = self._backend.machine
        clock_ms = machine.clock_ms
        revision = convert.newest_revision(results) or machine.revision
        return cache_pb2.BatchResponse(
            header=self._backend.header(revision),
            id=request.id,
            results=[
                convert.operation_result(ops[index], result, clock_ms)
                async for index, result in sliced(results)
            ],
        )

    async def _gets(
        self, request: cache_pb2.BatchRequest, keys: list[bytes], deadline: Deadline
    ) -> cache_pb2.BatchResponse:
        plan = read_plan(request.read) if request.HasField("read") else DEFAULT_PLAN
        fetched = await self._reader.fetch(keys, plan, deadline)
        check_reply(fetched.entries, "operations")
        results = []
        async for index, entry in sliced(fetched.entries):
            answer = cache_pb2.OperationResult()
            answer.get.header.revision = fetched.revision
            if entry is not None:
                answer.get.entry.CopyFrom(convert.entry(keys[index], entry, fetched.clock_ms))
            results.append(answer)
        return cache_pb2.BatchResponse(
            header=self._backend.header(fetched.revision, fetched.served.level, fetched.served.staleness_s),
            id=request.id,
            results=results,
        )


async def sliced(items: Sequence[T]) -> AsyncIterator[tuple[int, T]]:
    """Like enumerate, but lets others have the loop now and then."""
    for index, item in enumerate(items):
        if index and index % constants.BATCH_SLICE_OPERATIONS == 0:
            await asyncio.sleep(0)
        yield index, item


def check_reply(entries: list[Entry | None], field: str) -> None:
    """Raises TooLarge when the entries can't go into one reply."""
    size = sum(len(entry.row[VALUE]) for entry in entries if entry is not None)
    validate.reply_bytes(size, field)


def _columns(fetched: Fetched) -> cache_pb2.GetColumnsResult:
    rows = [_MISSING if entry is None else entry.row for entry in fetched.entries]
    values = [row[VALUE] for row in rows]
    validate.reply_bytes(sum(map(len, values)), "get_columns")
    columns = cache_pb2.GetColumnsResult(
        values=values,
        versions=[row[VERSION] for row in rows],
        mod_revisions=[row[MOD] for row in rows],
    )
    metas = [row[META] for row in rows]
    if any(metas):
        types = ["" if meta is None else meta[CONTENT_TYPE] for meta in metas]
        if any(types):
            columns.content_types.extend(types)
        due = [0 if entry is None else entry.expires_at_ms for entry in fetched.entries]
        if any(due):
            clock_ms = fetched.clock_ms
            columns.expires_in_ms.extend([max(at - clock_ms, 1) if at else 0 for at in due])
    return columns
