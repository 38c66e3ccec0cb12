"""Cache.Pipeline: a stream of batches, answered as each is done, under flow control.

One task a batch, so that a slow batch (a read that waits for its round) delays no other. What is read and not
yet answered is bounded by PIPELINE_BATCHES_IN_FLIGHT_MAX and PIPELINE_BYTES_IN_FLIGHT_MAX: beyond either the
server stops reading, HTTP/2's window fills, and the client has to wait. A batch counts until its answer was
written, so that a client that does not read holds no more than that either. Overflow policy: backpressure,
nothing is dropped.
"""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from replcache import constants
from replcache.errors import Unavailable
from replcache.pb.v1 import cache_pb2
from replcache.server import deadlines, status_map, validate
from replcache.server.backend import Backend
from replcache.server.batches import Batches
from replcache.server.interceptors import (
    LEVEL_LABELS,
    CallBoundary,
    Undecodable,
    abort,
    undecodable_error,
)
from replcache.server.security.guard import STREAM_CALLER

OPERATION = "Cache.Pipeline"
Context = grpc.aio.ServicerContext[Any, Any]


class StreamBudget:
    """What one stream has under way. Invariant: both numbers are 0 when nothing is."""

    def __init__(self, batches_max: int, bytes_max: int) -> None:
        self.batches = 0
        self.bytes = 0
        self._batches_max = batches_max
        self._bytes_max = bytes_max
        self._room = asyncio.Event()
        self._room.set()
        self.idle = asyncio.Event()
        self.idle.set()

    async def room(self) -> None:
        """Returns when another batch may be read; its size is not known before, so the bound on bytes can
        be passed by one message."""
        await self._room.wait()

    def take(self, size: int) -> None:
        self.batches += 1
        self.bytes += size
        self.idle.clear()
        if self.batches >= self._batches_max or self.bytes >= self._bytes_max:
            self._room.clear()

    def give_back(self, size: int) -> None:
        self.batches -= 1
        self.bytes -= size
        assert self.batches >= 0
        assert self.bytes >= 0
        if self.batches < self._batches_max and self.bytes < self._bytes_max:
            self._room.set()
        if self.batches == 0:
            assert self.bytes == 0
            self.idle.set()


class _ClientGone(Exception):
    """Nobody is there any more to read answers."""


class _Drained(Exception):
    """All answers of a stream are out while the node is stopping."""


class Pipeline:
    """The stream's handler. `stopping`: set when the node takes no more work."""

    def __init__(
        self, backend: Backend, batches: Batches, boundary: CallBoundary, stopping: asyncio.Event
    ) -> None:
        self._backend = backend
        self._batches = batches
        self._boundary = boundary
        self._stopping = stopping

    def handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        """Raw bytes in and out: the size is needed, and a message that can't be parsed gets an answer."""
        return grpc.stream_stream_rpc_method_handler(self.run)

    async def run(self, _: object, context: Context) -> None:
        """One stream, until the client half-closes it (all answers are sent then), cancels it, or this node
        stops."""
        budget = StreamBudget(
            constants.PIPELINE_BATCHES_IN_FLIGHT_MAX, constants.PIPELINE_BYTES_IN_FLIGHT_MAX
        )
        metrics = self._backend.metrics
        drained = gone = False
        metrics.pipeline_streams += 1
        self._boundary.enter()
        try:
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._end_when_stopping(budget))
                await self._read(context, budget, group)
                ending.cancel()
        except* _Drained:
            drained = True
        except* _ClientGone:
            gone = True
        finally:
            metrics.pipeline_streams -= 1
            self._boundary.leave()
        if drained and not gone:
            await abort(context, status_map.to_status(_stopping_error()))

    async def _read(self, context: Context, budget: StreamBudget, group: asyncio.TaskGroup) -> None:
        writing = asyncio.Lock()
        while True:
            await budget.room()
            data = await context.read()
            if data is grpc.aio.EOF:
                return
            budget.take(len(data))
            group.create_task(self._serve(data, context, budget, writing))

    async def _serve(
        self, data: bytes, context: Context, budget: StreamBudget, writing: asyncio.Lock
    ) -> None:
        try:
            answer = await self.answer(data)
            message = answer.SerializeToString()
            caller = STREAM_CALLER.get()
            if caller is not None:
                caller.charge_answer(len(message))
            # gRPC takes one message at a time; this wait is where a client that does not read is felt.
            async with writing:
                await context.write(message)
        except grpc.aio.InternalError as err:
            # The connection broke under the answer; the client asks again elsewhere, under the same session.
            raise _ClientGone from err
        finally:
            budget.give_back(len(data))

    async def answer(self, data: bytes) -> cache_pb2.BatchResponse:
        """The response to one message; never raises but for cancellation."""
        request: cache_pb2.BatchRequest | Undecodable
        try:
            request = cache_pb2.BatchRequest.FromString(data)
            batch_id = request.id
        except DecodeError as err:
            # Without an id: a client that sends such bytes can't be told which of its batches it was.
            request, batch_id = Undecodable(str(err)), 0

        async def work() -> tuple[cache_pb2.BatchResponse, str]:
            if type(request) is Undecodable:
                raise undecodable_error("batch", request)
            assert isinstance(request, cache_pb2.BatchRequest)
            if self._stopping.is_set():
                raise _stopping_error()
            caller = STREAM_CALLER.get()
            if caller is not None:
                caller.admit_batch(request, len(data))
            remaining_s = None
            if request.HasField("timeout"):
                remaining_s = validate.duration_nanos(request.timeout, "timeout") / 1e9
            deadline = deadlines.from_remaining(self._backend.clock, remaining_s)
            response = await self._batches.execute(request, len(data), deadline)
            return response, LEVEL_LABELS[response.header.served_as]

        tracing = self._boundary.tracing
        if tracing is None:
            result = await self._boundary.guarded(OPERATION, work)
        else:
            parent = "" if isinstance(request, Undecodable) else request.trace_context
            with tracing.rpc(OPERATION, parent):
                result = await self._boundary.guarded(OPERATION, work)
        if isinstance(result, status_pb2.Status):
            return cache_pb2.BatchResponse(id=batch_id, error=result)
        assert isinstance(result, cache_pb2.BatchResponse)
        return result

    async def _end_when_stopping(self, budget: StreamBudget) -> None:
        """Batches that arrive while stopping are still answered (with UNAVAILABLE: certainly not executed);
        then the stream ends."""
        await self._stopping.wait()
        await budget.idle.wait()
        await asyncio.sleep(constants.STOP_STREAM_LINGER_S)
        await budget.idle.wait()
        raise _Drained


def _stopping_error() -> Unavailable:
    return Unavailable("this node is stopping; another one will answer")
