"""Auto-batching, and getting each batch answered: sending, retrying, deadlines.

What callers ask for within one loop turn, or while earlier messages are under way, is packed into one
message. When nothing is under way a message leaves in the same turn, so an idle client adds no latency and
there is nothing to configure. Backpressure: a bounded number of messages of each lane is under way; what
comes meanwhile waits in the (open) next message, and its callers with it.

Three lanes, so that none waits for another: writes, reads that the leader serves best, reads that any node
may answer. No order is promised between concurrent calls; a caller that awaits its calls has their order.

Cancellation: a cancelled caller just stops waiting. Its request may still be executed.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
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
from replcache.client.durations import to_proto
from replcache.client.retry import Action, Backoff, after_deadline, decide, unknown
from replcache.client.status import from_status
from replcache.constants import (
    CLIENT_ATTEMPT_TIMEOUT_S,
    CLIENT_HALVED_READS_MIN,
    CLIENT_JOIN_FRACTION,
    CLIENT_MESSAGES_IN_FLIGHT_MAX,
)
from replcache.errors import ClientClosed, OutcomeUnknown, ReplcacheError, Unavailable
from replcache.pb.v1 import cache_pb2, common_pb2

if TYPE_CHECKING:
    from replcache.client.core import ClientCore
    from replcache.client.link import Link

# Messages of reads that a client and a node need to be both busy.
_READS_UNDER_WAY = 2


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
        batch.waiters.append(waiter)
        batch.size_bytes += size

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
        batch.waiters.append(waiter)
        batch.size_bytes += size

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
        batch.waiters.append(waiter)
        batch.size_bytes += size

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
                batch.lane = self
                self.enqueue_first(second)
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
        """Two messages of reads keep both sides busy. A third one that is much smaller goes with the callers
        who are about to be answered; an answer to any of them sends it."""
        if self.is_write or self.in_flight < _READS_UNDER_WAY or batch.attempts:
            return False
        under_way = sum(len(other) for other in self._pipeline.sent.values() if other.lane is self)
        return len(batch) * _READS_UNDER_WAY < under_way

    def enqueue_first(self, batch: Batch) -> None:
        """Adds a batch before all others."""
        batch.lane = self
        batch.is_queued = True
        self.queue.appendleft(batch)

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


class Pipeline:
    """All lanes of one client, what is under way, and the one timer that watches over deadlines."""

    def __init__(
        self,
        core: "ClientCore",
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.core = core
        self.loop = loop
        self.now = now
        self.rng = rng
        self.backoff = Backoff()
        self.writes = Lane(self, is_write=True, to_leader=True)
        self.reads = Lane(self, is_write=False, to_leader=True)
        self.local_reads = Lane(self, is_write=False, to_leader=False)
        self.lanes = (self.writes, self.reads, self.local_reads)
        # Every batch that was sent and is not finished: under way, or queued for the next try.
        self.sent: dict[int, Batch] = {}
        self._next_id = 1
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self.is_gathering = False

    def gather(self, is_gathering: bool) -> None:
        """More calls are about to come: nothing is sent until this is called with False."""
        self.is_gathering = is_gathering
        if not is_gathering:
            for lane in self.lanes:
                if lane.queue:
                    lane.schedule_flush()

    # --- sending ---

    def link_for(self, lane: Lane) -> "Link | None":
        """The stream that the lane's next message goes to; None: the lane has been paused instead."""
        now = self.now()
        endpoint = self.core.router.pick(lane.to_leader, now)
        if endpoint.down_until > now:
            lane.pause(endpoint.down_until - now)
            return None
        return self.core.link(endpoint)

    def send(self, batch: Batch, link: "Link") -> None:
        lane = batch.lane
        assert lane is not None
        now = self.now()
        if not batch.id:
            batch.first_sent_at = now
            batch.id = self._next_id
            self._next_id += 1
            self.sent[batch.id] = batch
        else:
            self.core.counters.retries += 1
        batch.link = link
        batch.written = False
        batch.attempts += 1
        batch.sent_at = now
        batch.attempt_deadline = now + CLIENT_ATTEMPT_TIMEOUT_S
        lane.in_flight += 1
        message = cache_pb2.BatchRequest(id=batch.id)
        batch.fill(message)
        remaining_s = min(batch.deadline - now, CLIENT_ATTEMPT_TIMEOUT_S)
        message.timeout.CopyFrom(to_proto(max(1, int(remaining_s * 1000))))
        session = batch.session
        if session is not None:
            idempotency = message.idempotency
            idempotency.session_id = session.id
            idempotency.sequence = batch.sequence
            idempotency.acked_below = session.acked_below
            session.used_at = now
        elif isinstance(batch, GetBatch) and batch.level == common_pb2.READ_LEVEL_SESSION:
            message.read.min_revision = self.core.revision
        if self.core.tracing is not None:
            self.core.tracing.message(batch, message, link.endpoint.address)
        self.core.counters.messages += 1
        link.send(batch, message)
        self.watch_deadline(min(batch.deadline, batch.attempt_deadline))

    # --- answers ---

    def on_response(self, link: "Link", response: cache_pb2.BatchResponse) -> None:
        link.heard_at = self.now()
        batch = self.sent.get(response.id)
        if response.HasField("error"):
            # An error of an earlier try says nothing about the one that is under way.
            if batch is not None and batch.link is link:
                self._on_error(batch, from_status(response.error))
            return
        self.core.note_header(link.endpoint, response.header)
        if batch is None:
            return
        lane = batch.lane
        assert lane is not None
        if batch.link is not None:
            lane.in_flight -= 1
        lane.succeeded()
        if lane is self.reads:
            self.core.note_proof(batch.first_sent_at, response.header.revision)
        self.finish(batch)
        batch.resolve(response, self.core.context)
        if lane.queue:
            lane.schedule_flush()

    def _on_error(self, batch: Batch, error: ReplcacheError) -> None:
        lane, link = batch.lane, batch.link
        assert lane is not None
        assert link is not None
        lane.in_flight -= 1
        decision = decide(
            error,
            is_write=lane.is_write,
            maybe_executed=batch.maybe_executed,
            can_split=batch.can_split and len(batch) > 1,
        )
        if decision.action is not Action.NEW_SESSION:
            # A lost session says "may have" of earlier tries; that there were none has just been decided.
            batch.maybe_executed |= error.may_have_executed
        if decision.action is Action.FAIL:
            self.fail(batch, decision.error)
        elif decision.action is Action.SPLIT:
            self._split(batch, error)
        elif decision.action is Action.NEW_SESSION:
            self.core.drop_session(batch.session)
            batch.session = None
            batch.sequence = 0
            lane.send_again([batch], error, at_once=True)
        else:
            self.core.router.note_failure(link.endpoint, self.now())
            lane.send_again([batch], error, at_once=isinstance(error, OutcomeUnknown))
        lane.schedule_flush()

    def _split(self, batch: Batch, error: ReplcacheError) -> None:
        lane = batch.lane
        assert lane is not None
        now = self.now()
        self.finish(batch, error)
        for half in batch.halves(now):
            lane.enqueue(half)

    def on_broken(self, link: "Link", error: ReplcacheError) -> None:
        """The stream ended: every batch on it goes to another node."""
        self.core.note_broken(link)
        for lane in self.lanes:
            batches = [b for b in self.sent.values() if b.lane is lane and b.link is link]
            if batches:
                self._on_unanswered(lane, batches, error)

    def _on_unanswered(self, lane: Lane, batches: list[Batch], error: ReplcacheError) -> None:
        again = []
        for batch in batches:
            lane.in_flight -= 1
            batch.maybe_executed |= batch.written
            batch.link = None
            decision = decide(
                error, is_write=lane.is_write, maybe_executed=batch.maybe_executed, can_split=False
            )
            if decision.action is Action.RETRY:
                again.append(batch)
            else:
                self.fail(batch, decision.error)
        if again:
            lane.send_again(again, error, at_once=True)

    # --- endings ---

    def finish(self, batch: Batch, error: ReplcacheError | None = None) -> None:
        """The batch will never be sent again, and its answer will not be looked at."""
        if batch.span is not None:
            self.end_span(batch, error)
        batch.is_done = True
        self.sent.pop(batch.id, None)
        if batch.session is not None:
            batch.session.settle(batch.sequence)

    def end_span(self, batch: Batch, error: ReplcacheError | None) -> None:
        if self.core.tracing is not None:
            self.core.tracing.end_message(batch, error)

    def fail(self, batch: Batch, error: ReplcacheError) -> None:
        self.finish(batch, error)
        self.core.counters.failures += len(batch)
        batch.fail(error)

    def time_out(self, batch: Batch) -> None:
        lane = batch.lane
        assert lane is not None
        maybe_executed = batch.maybe_executed or (batch.link is not None and batch.written)
        error = after_deadline(
            batch.last_error,
            is_write=lane.is_write,
            maybe_executed=maybe_executed,
            timeout_s=batch.timeout_s,
        )
        self.fail(batch, error)

    def close(self) -> None:
        """Ends everything: what was sent is unknown, what was not is not executed."""
        for lane in self.lanes:
            lane.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        closed = ClientClosed("the client was closed")
        for batch in list(self.sent.values()):
            assert batch.lane is not None
            is_unknown = batch.lane.is_write and (batch.maybe_executed or batch.written)
            self.fail(batch, unknown("the client was closed") if is_unknown else closed)
        for lane in self.lanes:
            lane.fail_queued(closed)

    # --- time ---

    def watch_deadline(self, at: float) -> None:
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self.loop.call_later(max(0.0, at - self.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        now = self.now()
        earliest = float("inf")
        for batch in list(self.sent.values()):
            if batch.is_done or batch.link is None:
                continue
            if batch.deadline <= now:
                assert batch.lane is not None
                batch.lane.in_flight -= 1
                self.time_out(batch)
                batch.lane.schedule_flush()
            elif batch.attempt_deadline <= now:
                self._on_silence(batch, now)
            else:
                earliest = min(earliest, batch.deadline, batch.attempt_deadline)
        for lane in self.lanes:
            earliest = min(earliest, lane.expire(now))
        if earliest < float("inf"):
            self.watch_deadline(earliest)

    def _on_silence(self, batch: Batch, now: float) -> None:
        """No answer within the time of a try: the node hangs or is cut off. Another one is asked."""
        lane, link = batch.lane, batch.link
        assert lane is not None
        assert link is not None
        error = Unavailable(f"{link.endpoint.address} did not answer within {CLIENT_ATTEMPT_TIMEOUT_S:g} s")
        if link.heard_at < batch.sent_at:
            # Not a word since: this stream is dead, for all that is on it.
            link.break_off(error)
            return
        self.core.router.note_failure(link.endpoint, now)
        self._on_unanswered(lane, [batch], error)
