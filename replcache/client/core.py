"""The engine under both clients: endpoints, links, session, unary calls with retries. Lives on one loop."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc

from replcache.client import channel, status
from replcache.client.batches import Batch, Converter, FullGetBatch, GetBatch, SeenGetBatch, Waiter
from replcache.client.codec import AutoCodec, Codec
from replcache.client.convert import LEVELS, ReplyContext, set_result
from replcache.client.durations import from_proto, to_proto
from replcache.client.endpoints import Endpoint, Router
from replcache.client.link import Link
from replcache.client.pipeline import Pipeline
from replcache.client.retry import Action, Backoff, after_deadline, decide
from replcache.client.sessions import Session
from replcache.client.statistics import Counters
from replcache.client.tasks import TaskOwner, is_task_cancelled
from replcache.client.tracing import ClientTracing, traced
from replcache.client.types import ClientStatistics, Consistency
from replcache.client.url import ClientSettings
from replcache.clock import Clock
from replcache.constants import (
    CLIENT_ATTEMPT_TIMEOUT_S,
    CLIENT_CLOSE_TIMEOUT_S,
    CLIENT_LARGE_KEYS_MAX,
    CLIENT_MEMBERS_INTERVAL_S,
)
from replcache.errors import (
    ClientClosed,
    NotApplied,
    OutcomeUnknown,
    ReplcacheError,
    Unavailable,
)
from replcache.pb.v1 import cache_pb2, cluster_pb2, common_pb2, session_pb2

# How long close() waits for a node to end its stream, and for gRPC to tell the last of it.
_FINISH_TIMEOUT_S = 0.25
_LINGER_S = 0.01


class ClientCore:
    """Nothing happens before start(); after close() every call raises ClientClosed."""

    def __init__(
        self, settings: ClientSettings, clock: Clock, rng: random.Random, codec: Codec | None = None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.rng = rng
        self.codec: Codec = codec if codec is not None else AutoCodec(settings.codec)
        self.counters = Counters()
        self.context = ReplyContext(self.codec, self.counters)
        self.router = Router(settings.endpoints, settings.route, rng)
        self.tasks = TaskOwner()
        self.tracing: ClientTracing | None = None
        # The newest revision that any reply has shown: reads of Consistency.SESSION never go behind it.
        self.revision = 0
        # Large values that this client has written or read: key -> id of their parts. See operate.
        self.large: dict[bytes, str] = {}
        # Called on the loop with the parts (key, id) of a value that has just been replaced or deleted.
        self.on_parts_left: Callable[[bytes, str], None] | None = None
        # See note_proof; near caches are fresh because of it.
        self.proof = (float("-inf"), 0)
        self.is_started = False
        self.is_closed = False
        self._closing = asyncio.Event()
        self._tls: grpc.ChannelCredentials | None = None
        self._session: Session | None = None
        self._opening = False
        self._members_asked_at = float("-inf")
        self._backoff = Backoff()

    # --- life ---

    def start(self) -> None:
        """Binds to the running loop. No network yet: connections are made when first needed."""
        if self.is_closed:
            raise ClientClosed("the client is closed")
        assert not self.is_started
        self._tls = channel.credentials(self.settings)
        self.loop = asyncio.get_running_loop()
        self.pipeline = Pipeline(self, self.loop, self.clock.now, self.rng)
        self.is_started = True

    async def close(self) -> None:
        """Ends all calls, gives the session back if that is quick, closes the connections."""
        if self.is_closed:
            return
        self.is_closed = True
        self._closing.set()
        if not self.is_started:
            return
        self.pipeline.close()
        session, self._session = self._session, None
        if session is not None:
            await self._close_session(session)
        links = [endpoint.link for endpoint in self.router.endpoints if endpoint.link is not None]
        await asyncio.gather(*(link.finish(_FINISH_TIMEOUT_S) for link in links))
        await self.tasks.close()
        for endpoint in self.router.endpoints:
            if endpoint.connection is not None:
                await endpoint.connection.close()
        # gRPC delivers the ends of cancelled calls a moment later; a closed loop would make it complain.
        await asyncio.sleep(_LINGER_S)

    async def _close_session(self, session: Session) -> None:
        endpoint = self.router.pick(True, self.clock.now())
        if endpoint.connection is None:
            return
        request = session_pb2.CloseSessionRequest(session_id=session.id)
        try:
            await endpoint.connection.session.Close(request, timeout=CLIENT_CLOSE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            # Only a courtesy: the cluster forgets an idle session by itself.
            return

    # --- calls on the fast path ---

    def set_plain(
        self, key: bytes, value: bytes, content_type: str, ttl_ms: int, timeout_s: float, waiter: Waiter
    ) -> None:
        self.counters.calls += 1
        if self.large and key in self.large:
            operation = cache_pb2.Operation()
            operation.set.key, operation.set.value, operation.set.content_type = key, value, content_type
            if ttl_ms:
                operation.set.ttl.CopyFrom(to_proto(ttl_ms))
            self.operate(operation, set_result, timeout_s, waiter)
            return
        if self.tracing is not None:
            waiter = self.tracing.call("set", waiter)
        self.pipeline.writes.join_set(key, value, content_type, ttl_ms, timeout_s, waiter)

    def get_plain(
        self, key: bytes, level: Consistency, max_staleness_ms: int, timeout_s: float, waiter: Waiter
    ) -> None:
        self.counters.calls += 1
        if self.tracing is not None:
            waiter = self.tracing.call("get", waiter)
        pipeline = self.pipeline
        lane = pipeline.reads if level is Consistency.LINEARIZABLE else pipeline.local_reads
        lane.join_get(GetBatch, key, LEVELS[level], max_staleness_ms, timeout_s, waiter)

    def get_full(
        self, key: bytes, level: Consistency, max_staleness_ms: int, timeout_s: float, waiter: Waiter
    ) -> None:
        self.counters.calls += 1
        if self.tracing is not None:
            waiter = self.tracing.call("get", waiter)
        pipeline = self.pipeline
        lane = pipeline.reads if level is Consistency.LINEARIZABLE else pipeline.local_reads
        lane.join_get(FullGetBatch, key, LEVELS[level], max_staleness_ms, timeout_s, waiter)

    def get_seen(self, key: bytes, timeout_s: float, waiter: Waiter) -> None:
        """A linearizable read whose waiter gets (entry or None, revision that was seen)."""
        self.counters.calls += 1
        if self.tracing is not None:
            waiter = self.tracing.call("get", waiter)
        level = LEVELS[Consistency.LINEARIZABLE]
        self.pipeline.reads.join_get(SeenGetBatch, key, level, 0, timeout_s, waiter)

    def operate(
        self, operation: cache_pb2.Operation, convert: Converter, timeout_s: float, waiter: Waiter
    ) -> None:
        self.counters.calls += 1
        if self.large:
            convert = self._with_cleaning(operation, convert)
        if self.tracing is not None:
            waiter = self.tracing.call(operation.WhichOneof("kind") or "operation", waiter)
        self.pipeline.writes.join_operation(operation, convert, timeout_s, waiter)

    def _with_cleaning(self, operation: cache_pb2.Operation, convert: Converter) -> Converter:
        """A set, a replacement or a delete of a large value leaves its parts behind: they are deleted once it
        has been applied. Only those that were known before it was sent: another value may have come since."""
        kind = operation.WhichOneof("kind")
        if kind not in ("set", "delete") and not operation.update.HasField("replace"):
            return convert
        key: bytes = getattr(operation, kind).key
        part_id = self.large.get(key)
        if part_id is None:
            return convert

        def convert_and_clean(response: Any, context: ReplyContext) -> Any:
            if self.large.get(key) == part_id:
                del self.large[key]
            if self.on_parts_left is not None:
                self.on_parts_left(key, part_id)
            return convert(response, context)

        return convert_and_clean

    def note_large(self, key: bytes, part_id: str) -> None:
        self.large.pop(key, None)
        self.large[key] = part_id
        if len(self.large) > CLIENT_LARGE_KEYS_MAX:
            del self.large[next(iter(self.large))]

    def submit_write(self, batch: Batch) -> None:
        """A batch of one caller."""
        self.counters.calls += len(batch)
        if self.tracing is not None:
            self.tracing.calls("write many", batch)
        self.pipeline.writes.enqueue(batch)

    def submit_read(self, batch: Batch, level: Consistency) -> None:
        self.counters.calls += len(batch)
        if self.tracing is not None:
            self.tracing.calls("read many", batch)
        pipeline = self.pipeline
        lane = pipeline.reads if level is Consistency.LINEARIZABLE else pipeline.local_reads
        lane.enqueue(batch)

    def note_proof(self, sent_at: float, revision: int) -> None:
        """A linearizable read that was sent at `sent_at` saw `revision`: every write that was acknowledged
        before is at or below it."""
        if sent_at > self.proof[0]:
            self.proof = (sent_at, revision)

    # --- endpoints ---

    def connection(self, endpoint: Endpoint) -> channel.Connection:
        if endpoint.connection is None:
            endpoint.connection = channel.Connection(endpoint.address, self.settings, self._tls)
        return endpoint.connection

    def link(self, endpoint: Endpoint) -> Link:
        if endpoint.link is None:
            self.connection(endpoint)
            endpoint.link = Link(endpoint, self.pipeline, self.tasks)
            endpoint.link.start()
        return endpoint.link

    def note_broken(self, link: Link) -> None:
        if link.endpoint.link is link:
            link.endpoint.link = None
        self.counters.reconnects += 1
        self.router.note_failure(link.endpoint, self.clock.now())

    def note_header(self, endpoint: Endpoint, header: common_pb2.ResponseHeader) -> None:
        router = self.router
        router.note_header(endpoint, header)
        revision = header.revision
        if revision > self.revision:
            self.revision = revision
        if router.is_leader_unknown and not self.is_closed:
            now = self.clock.now()
            if now - self._members_asked_at >= CLIENT_MEMBERS_INTERVAL_S:
                self._members_asked_at = now
                self.tasks.start(self._learn_members(endpoint), "replcache members")

    async def _learn_members(self, endpoint: Endpoint) -> None:
        """Finds out where the leader is; failing is no harm, any node takes any request."""
        try:
            response = await self.connection(endpoint).cluster.Members(
                cluster_pb2.MembersRequest(), timeout=CLIENT_ATTEMPT_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return
        self.router.note_members([(member.name, member.client_address) for member in response.members])

    # --- session ---

    def usable_session(self) -> Session | None:
        """The session for a new write; None: it is being opened, or full; the write lane is told later."""
        session = self._session
        if session is None:
            if not self._opening and not self.is_closed:
                self._opening = True
                self.tasks.start(self._open_session(), "replcache session")
            return None
        if session.is_full:
            return None
        return session

    def drop_session(self, session: Session | None) -> None:
        """The cluster does not know it any more."""
        if session is not None and self._session is session:
            self._session = None

    async def _open_session(self) -> None:
        request = session_pb2.OpenSessionRequest(ttl=to_proto(self.settings.session_ttl_ms))
        writes = self.pipeline.writes
        try:
            # As long as somebody waits for it; each waiting batch has its own deadline.
            while writes.queue:
                sent_at = self.clock.now()
                try:
                    response = await self.unary("session", "Open", request, self.settings.timeout_s)
                except (NotApplied, OutcomeUnknown) as err:
                    # A session nobody got the id of is forgotten by the cluster: opening again is safe.
                    for batch in writes.queue:
                        batch.last_error = Unavailable(f"no session: {err}")
                    continue
                except ReplcacheError as err:
                    writes.fail_queued(err)
                    return
                ttl_s = from_proto(response.ttl) or self.settings.session_ttl_ms / 1000
                self._session = Session(response.session_id, ttl_s, sent_at)
                self.counters.sessions_opened += 1
                self.tasks.start(self._keep_alive(self._session), "replcache keep-alive")
                return
        finally:
            self._opening = False
            if not self.is_closed:
                writes.schedule_flush()

    async def _keep_alive(self, session: Session) -> None:
        """Tells the cluster ttl/3 after the last write that this client is still there."""
        request = session_pb2.KeepSessionRequest(session_id=session.id)
        while self._session is session:
            idle_s = self.clock.now() - session.used_at
            if idle_s < session.ttl_s / 3:
                await asyncio.sleep(session.ttl_s / 3 - idle_s)
                continue
            sent_at = self.clock.now()
            try:
                response = await self.unary("session", "KeepAlive", request, session.ttl_s / 3)
            except ReplcacheError:
                # The next write finds out; until then another try.
                await asyncio.sleep(self._backoff.maximum_s)
                continue
            session.used_at = max(session.used_at, sent_at)
            if not response.alive and not session.unsettled:
                self.drop_session(session)

    # --- unary calls ---

    @traced
    async def unary(
        self,
        service: str,
        method: str,
        request: Any,
        timeout_s: float,
        *,
        endpoint: Endpoint | None = None,
        attempt_s: float = CLIENT_ATTEMPT_TIMEOUT_S,
        to_leader: bool = True,
        is_write: bool = True,
        retry_unknown: bool = True,
        on_send: Callable[[float, Endpoint], None] | None = None,
    ) -> Any:
        """One call, on another node after a failure, until the time is up.

        Args:
            endpoint: this node only.
            attempt_s: seconds for one try; above what the server may rightly take.
            is_write: whether an unanswered try may have changed something (for the error that is raised).
            retry_unknown: the call may be sent again after an unknown outcome because doing it twice is
                the same as once.
            on_send: told the time and the node just before each try.
        """
        if self.is_closed:
            raise ClientClosed("the client is closed")
        clock, counters = self.clock, self.counters
        deadline = clock.now() + timeout_s
        maybe_executed = False
        failures = 0
        error: ReplcacheError | None = None
        while (now := clock.now()) < deadline:
            if self.is_closed:
                raise unknown_or_closed(is_write and maybe_executed)
            target = endpoint if endpoint is not None else self.router.pick(to_leader, now)
            if target.down_until > now and endpoint is None:
                await self._pause(min(target.down_until, deadline) - now)
            if on_send is not None:
                on_send(clock.now(), target)
            left_s = max(0.001, min(attempt_s, deadline - clock.now()))
            answer = await self._try(target, service, method, request, left_s, not retry_unknown)
            if not isinstance(answer, ReplcacheError):
                return answer
            error = answer
            decision = decide(error, is_write=is_write, maybe_executed=maybe_executed, can_split=False)
            maybe_executed |= error.may_have_executed
            is_unknown = isinstance(error, OutcomeUnknown)
            if decision.action is not Action.RETRY or (is_unknown and is_write and not retry_unknown):
                counters.failures += 1
                raise decision.error
            failures += 1
            counters.retries += 1
            # The first unknown outcome is mostly a broken connection: another node is asked at once.
            rank = failures - 1 if is_unknown else failures
            delay_s = self._backoff.delay_s(rank, self.rng, error.retry_after_s)
            await self._pause(min(delay_s, deadline - clock.now()))
        counters.failures += 1
        raise after_deadline(error, is_write=is_write, maybe_executed=maybe_executed, timeout_s=timeout_s)

    async def _pause(self, duration_s: float) -> None:
        """Sleeps, but not beyond close()."""
        try:
            async with asyncio.timeout(max(0.0, duration_s)):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _try(
        self, target: Endpoint, service: str, method: str, request: Any, timeout_s: float, connect_first: bool
    ) -> Any:
        """The response, or the error of this try as a value.

        connect_first: a failure to make a connection is then certain not to have had any effect.
        """
        connection = self.connection(target)
        try:
            if connect_first:
                async with asyncio.timeout(min(timeout_s, CLIENT_ATTEMPT_TIMEOUT_S)):
                    await connection.channel.channel_ready()
            stub = getattr(getattr(connection, service), method)
            if self.tracing is not None:
                stub = self.tracing.sending(stub, connection.headers)
            call = stub(request, timeout=timeout_s)
            if timeout_s > CLIENT_ATTEMPT_TIMEOUT_S:
                await self._watch_over(call, connection)
            response = await call
        except TimeoutError:
            self.router.note_failure(target, self.clock.now())
            return Unavailable(f"no connection to {target.address}")
        except asyncio.CancelledError:
            # grpc.aio says so too when the channel was closed under the call.
            if self.is_closed and not is_task_cancelled():
                return unknown_or_closed(True)
            raise
        except grpc.aio.UsageError:
            if self.is_closed:
                return unknown_or_closed(False)
            raise
        except grpc.aio.AioRpcError as err:
            error = status.from_rpc_error(err)
            if not status.is_from_server(err) or isinstance(error, NotApplied):
                self.router.note_failure(target, self.clock.now())
            return error
        self.note_header(target, response.header)
        return response

    async def _watch_over(self, call: Any, connection: channel.Connection) -> None:
        """Returns when the call is done; ends it when its node is silent.

        A call that may rightly take long (a lock's queue) can't be told from one to a node that hangs,
        except by asking that node something that never waits.
        """
        waiting = self.tasks.start(_until_done(call), "replcache long call")
        try:
            while True:
                done, _ = await asyncio.wait([waiting], timeout=CLIENT_ATTEMPT_TIMEOUT_S)
                if done:
                    return
                try:
                    await connection.cluster.Status(
                        cluster_pb2.StatusRequest(), timeout=CLIENT_ATTEMPT_TIMEOUT_S
                    )
                except grpc.aio.AioRpcError as err:
                    call.cancel()
                    raise grpc.aio.AioRpcError(
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.aio.Metadata(),
                        grpc.aio.Metadata(),
                        f"the node does not answer any more ({err.code().name})",
                    ) from err
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            waiting.cancel()

    # --- statistics ---

    def statistics(self) -> ClientStatistics:
        counters = self.counters
        lanes = self.pipeline.lanes if self.is_started else ()
        return ClientStatistics(
            hits=counters.hits,
            misses=counters.misses,
            calls=counters.calls,
            messages=counters.messages,
            retries=counters.retries,
            failures=counters.failures,
            reconnects=counters.reconnects,
            sessions_opened=counters.sessions_opened,
            in_flight=sum(lane.in_flight for lane in lanes),
            # Copied at once: threads call this while the loop works on the queues.
            queued=sum(len(batch) for lane in lanes for batch in list(lane.queue)),
        )


def unknown_or_closed(maybe_executed: bool) -> ReplcacheError:
    """What a call gets whose client is closed under it."""
    text = "the client was closed"
    return OutcomeUnknown(text) if maybe_executed else ClientClosed(text)


async def _until_done(call: Any) -> None:
    """Waits for a call without looking at its outcome."""
    await call.code()
