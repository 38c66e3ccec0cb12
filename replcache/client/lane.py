"""A queue of one kind of calls: callers join its open batches, and it decides when those are sent.

What callers ask for within one loop turn, or while earlier messages are under way, is packed into one
message. When nothing is under way a message leaves in the same turn, so an idle client adds no latency and
there is nothing to configure. Backpressure: a bounded number of messages of each lane is under way; what
comes meanwhile waits in the (open) next message, and its callers with it.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from replcache.client.batches import (
    Batch,
    Converter,
    GetBatch,
    OperationBatch,
    SetBatch,
    Waiter,
    plain_size,
)
from replcache.client.retry import unknown
from replcache.constants import (
    CLIENT_HALVED_READS_MIN,
    CLIENT_JOIN_FRACTION,
    CLIENT_MESSAGES_IN_FLIGHT_MAX,
)
from replcache.errors import ReplcacheError
from replcache.pb.v1 import cache_pb2, common_pb2

if TYPE_CHECKING:
    from replcache.client.pipeline import Pipeline

# Messages under way that keep the client and the node both busy.
_ENOUGH_UNDER_WAY = 2


class Lane:
    """A queue of batches to one kind of destination."""

    def __init__(self, pipeline: "Pipeline", *, is_write: bool, to_leader: bool) -> None:
        self.is_write = is_write
        self.to_leader = to_leader
        self.queue: deque[Batch] = deque()
        self.in_flight = 0
        self._pipeline = pipeline
        # Batches in the queue that still take callers, by what their callers must share.
        self._open: dict[object, Batch] = {}
        self._flush_scheduled = False
        self._failures = 0
        self._paused: asyncio.TimerHandle | None = None
        # So many callers in its first batch, and it waits no longer; 0: it does not wait.
        self._callers_wanted = 0

    # --- callers ---

    def join_set(
        self, key: bytes, value: bytes, content_type: str, ttl_ms: int, timeout_s: float, waiter: Waiter
    ) -> None:
        bucket = (content_type, ttl_ms, timeout_s)
        batch = self._open.get(bucket)
        size = len(key) + len(value) + 16
        now = self._pipeline.now()
        if batch is None or now > batch.join_until or not batch.has_room(size):
            batch = SetBatch(content_type, ttl_ms, timeout_s, now)
            self._open_new(batch, bucket)
        assert isinstance(batch, SetBatch)
        batch.keys.append(key)
        batch.values.append(value)
        self._admit(batch, waiter, size)

    def join_get(
        self,
        form: type[GetBatch],
        key: bytes,
        level: common_pb2.ReadLevel,
        max_staleness_ms: int,
        timeout_s: float,
        waiter: Waiter,
    ) -> None:
        bucket = (form, level, max_staleness_ms, timeout_s)
        batch = self._open.get(bucket)
        size = plain_size(key, b"")
        now = self._pipeline.now()
        if batch is None or now > batch.join_until or not batch.has_room(size):
            batch = form(level, max_staleness_ms, timeout_s, now)
            self._open_new(batch, bucket)
        assert isinstance(batch, GetBatch)
        batch.keys.append(key)
        self._admit(batch, waiter, size)

    def join_operation(
        self, operation: cache_pb2.Operation, convert: Converter, timeout_s: float, waiter: Waiter
    ) -> None:
        bucket = timeout_s
        batch = self._open.get(bucket)
        size = operation.ByteSize() + 16
        now = self._pipeline.now()
        if batch is None or now > batch.join_until or not batch.has_room(size):
            batch = OperationBatch(timeout_s, now)
            self._open_new(batch, bucket)
        assert isinstance(batch, OperationBatch)
        batch.operations.append(operation)
        batch.converters.append(convert)
        self._admit(batch, waiter, size)

    def _admit(self, batch: Batch, waiter: Waiter, size_bytes: int) -> None:
        """The request is in the batch; its caller waits for the answer from now on."""
        batch.waiters.append(waiter)
        batch.size_bytes += size_bytes
        if len(batch.waiters) == self._callers_wanted:
            self.schedule_flush()

    def _open_new(self, batch: Batch, bucket: object) -> None:
        batch.bucket = bucket
        batch.join_until = batch.deadline - batch.timeout_s * (1 - CLIENT_JOIN_FRACTION)
        self._open[bucket] = batch
        self.enqueue(batch)

    def enqueue(self, batch: Batch) -> None:
        """Adds a batch behind the others."""
        batch.lane = self
        batch.is_queued = True
        self.queue.append(batch)
        self._pipeline.watch_deadline(batch.deadline)
        self.schedule_flush()

    # --- sending ---

    def schedule_flush(self) -> None:
        if not self._flush_scheduled and self._paused is None:
            self._flush_scheduled = True
            self._pipeline.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._pipeline.is_gathering:
            return
        while self.queue and self.in_flight < CLIENT_MESSAGES_IN_FLIGHT_MAX and self._paused is None:
            batch = self.queue[0]
            if batch.is_done or (not batch.attempts and batch.is_abandoned):
                self._remove_first(batch)
                self._pipeline.finish(batch)
                continue
            if self._is_worth_waiting(batch):
                return
            if self.is_write and batch.session is None:
                session = self._pipeline.core.usable_session()
                if session is None:
                    return
                batch.session = session
                batch.sequence = session.take()
            link = self._pipeline.link_for(self)
            if link is None:
                return
            self._remove_first(batch)
            if self._is_worth_halving(batch):
                batch, second = batch.halves(self._pipeline.now())
                batch.lane = second.lane = self
                second.is_queued = True
                self.queue.appendleft(second)
            self._pipeline.send(batch, link)

    def _is_worth_halving(self, batch: Batch) -> bool:
        """Many reads, and nothing is under way: in one message the node and this client would wait for each
        other by turns. In two, each works on one while the other has the second. (Not so for writes: each
        message would be an entry of the log for itself.)"""
        return (
            not self.is_write
            and not self.in_flight
            and not self.queue
            and not batch.attempts
            and batch.can_split
            and len(batch) >= CLIENT_HALVED_READS_MIN
        )

    def _is_worth_waiting(self, batch: Batch) -> bool:
        """A third message that is much smaller than those under way goes with the callers who are about to be
        answered: any answer sends it, or more callers. Otherwise they would scatter over ever more messages.
        """
        self._callers_wanted = 0
        if self.in_flight < _ENOUGH_UNDER_WAY or batch.attempts:
            return False
        callers = sum(len(other.waiters) for other in self._pipeline.sent.values() if other.lane is self)
        # All that wait: those with other options have a message of their own, behind this one.
        missing = -(-callers // _ENOUGH_UNDER_WAY) - sum(len(other.waiters) for other in self.queue)
        if missing <= 0:
            return False
        self._callers_wanted = len(batch.waiters) + missing
        return True

    def _remove_first(self, batch: Batch) -> None:
        self.queue.popleft()
        batch.is_queued = False
        if self._open.get(batch.bucket) is batch:
            del self._open[batch.bucket]

    def pause(self, delay_s: float) -> None:
        """Sends nothing for a while."""
        if self._paused is not None:
            self._paused.cancel()
        self._paused = self._pipeline.loop.call_later(delay_s, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self.schedule_flush()

    # --- answers ---

    def succeeded(self) -> None:
        self._failures = 0

    def send_again(self, batches: list[Batch], error: ReplcacheError, at_once: bool) -> None:
        """Puts batches back in front, in their order, and waits as long as the failures in a row suggest."""
        for batch in sorted(batches, key=lambda b: b.id, reverse=True):
            if batch.span is not None:
                self._pipeline.end_span(batch, error)
            batch.link = None
            batch.last_error = error
            batch.is_queued = True
            self.queue.appendleft(batch)
        self._failures += 1
        if at_once and self._failures == 1:
            self.schedule_flush()
            return
        pipeline = self._pipeline
        self.pause(pipeline.backoff.delay_s(self._failures, pipeline.rng, error.retry_after_s))

    def fail_queued(self, error: ReplcacheError) -> None:
        """Nothing in the queue can be sent; for example the session was refused for good."""
        queued, self.queue = list(self.queue), deque()
        self._open.clear()
        for batch in queued:
            batch.is_queued = False
            if not batch.is_done:
                self._pipeline.fail(batch, unknown(str(error)) if batch.maybe_executed else error)

    def expire(self, now: float) -> float:
        """Ends queued batches whose time is up; returns the earliest deadline that is left."""
        earliest = float("inf")
        expired = [batch for batch in self.queue if batch.deadline <= now]
        for batch in expired:
            self.queue.remove(batch)
            batch.is_queued = False
            if self._open.get(batch.bucket) is batch:
                del self._open[batch.bucket]
            if not batch.is_done:
                self._pipeline.time_out(batch)
        for batch in self.queue:
            earliest = min(earliest, batch.deadline)
        return earliest

    def close(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
