"""Getting each batch answered: sending, retrying, deadlines. lane.py packs them.

Three lanes, so that none waits for another: writes, reads that the leader serves best, reads that any node
may answer. No order is promised between concurrent calls; a caller that awaits its calls has their order.

Cancellation: a cancelled caller just stops waiting. Its request may still be executed.
"""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from replcache.client.batches import Batch, GetBatch
from replcache.client.durations import to_proto
from replcache.client.lane import Lane
from replcache.client.retry import Action, Backoff, after_deadline, decide, unknown
from replcache.client.status import from_status
from replcache.constants import CLIENT_ATTEMPT_TIMEOUT_S
from replcache.errors import ClientClosed, InvalidRequest, OutcomeUnknown, ReplcacheError, Unavailable
from replcache.pb.v1 import cache_pb2, common_pb2

if TYPE_CHECKING:
    from replcache.client.core import ClientCore
    from replcache.client.link import Link


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
        message = cache_pb2.BatchRequest()
        try:
            batch.fill(message)
        except Exception as error:  # noqa: BLE001
            # Out of a callback of the loop no caller would hear of it: all would wait for their deadlines.
            self._refuse(batch, error)
            return
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
        message.id = batch.id
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

    def _refuse(self, batch: Batch, cause: Exception) -> None:
        """What was asked for fits into no message; others in the batch are not to suffer from it."""
        error = InvalidRequest(f"the request can't be written into a message: {cause!r}")
        if batch.can_split and len(batch) > 1 and not batch.maybe_executed:
            self._split(batch, error)
        else:
            self.fail(batch, unknown(str(error)) if batch.maybe_executed else error)

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
        try:
            batch.resolve(response, self.core.context)
        except Exception as err:  # noqa: BLE001  # an answer that makes no sense is for its callers alone
            batch.fail(OutcomeUnknown(f"the server's answer is malformed: {err!r}"))
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
