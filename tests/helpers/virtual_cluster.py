"""AsyncClient over the real server logic and state machine, on virtual time, without gRPC.

    async def work(clock): cluster = VirtualCluster(clock, seed); client = cluster.client(); ...
    run_virtually(work)

Each call takes effect after a random delay and its answer arrives after another, so seeds are interleavings:
thousands of them in seconds. Locks, expiry and conditions are the real ones. Faults: `drop_answers` and
`lose_requests` are probabilities; those calls end with OutcomeUnknown.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from replcache import AsyncClient
from replcache.client import status
from replcache.client.batches import Batch, FullGetBatch, GetBatch, OperationBatch, SeenGetBatch, SetBatch
from replcache.client.convert import LEVELS
from replcache.client.core import ClientCore
from replcache.client.types import Consistency
from replcache.config import ServerConfig
from replcache.errors import ClientClosed, OutcomeUnknown, ReplcacheError
from replcache.observability.metrics import Metrics
from replcache.patterns.fill import FILL_CONTENT_TYPE
from replcache.pb.v1 import cache_pb2
from replcache.server import cache_service, lock_service
from replcache.server.accesses import Accesses
from replcache.server.backend import Backend
from replcache.server.batches import Batches
from replcache.server.deadlines import Deadline
from replcache.server.lock_queue import LockQueue
from replcache.server.lock_waits import LockWaits
from replcache.server.reads import Reader
from replcache.server.status_map import to_status
from replcache.tasks import Supervisor
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.virtual_loop import VirtualClock


def puts_placeholder(request: Any) -> bool:
    """Whether a Batch begins with the placeholder of somebody who is about to load or write."""
    operations = request.operations
    return bool(operations) and operations[0].set.content_type == FILL_CONTENT_TYPE


class VirtualCluster:
    """One cluster for any number of clients; `after_write(request)` sees each executed write."""

    def __init__(self, clock: VirtualClock, seed: int = 0, delay_s: float = 0.01) -> None:
        self.clock = clock
        self.rng = random.Random(seed)
        self.delay_s = delay_s
        self.drop_answers = 0.0
        self.lose_requests = 0.0
        self.raft = FakeRaft(clock=clock)
        self.failures: list[str] = []
        self._supervisor = Supervisor(lambda name, error: self.failures.append(f"{name}: {error}"))
        backend = Backend(self.raft, clock, Metrics(), ServerConfig().proposals_in_flight)
        waits = LockWaits()
        self.raft.add_applied_listener(waits.on_applied)
        reader = Reader(backend, Accesses(backend))
        batches = Batches(backend, reader)
        cache = cache_service.CacheService(backend, reader, batches)
        queue = LockQueue(backend, waits, self._supervisor, self.rng)
        lock = lock_service.LockService(backend, reader, queue)
        self.handlers = {
            (service, method.name): method.handler
            for service, methods in (("cache", cache.methods()), ("lock", lock.methods()))
            for method in methods
        }
        self._ticker: asyncio.Task[None] | None = None
        self._clients: list[AsyncClient] = []

    def client(self, **settings: Any) -> AsyncClient:
        """A client of its own, as another process would have."""
        settings.setdefault("timeout", "5s")
        client = AsyncClient("127.0.0.1:1", clock=self.clock, rng=self.rng, **settings)
        client._core = VirtualCore(self, client._core)
        self._clients.append(client)
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._tick())
        return client

    async def _tick(self) -> None:
        """As the leader does: what is due expires also when nobody writes."""
        while True:
            await asyncio.sleep(0.05)
            self.raft.advance_ms(0)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        if self._ticker is not None:
            self._ticker.cancel()
        await self._supervisor.close()

    def withhold_answer(self, is_it: Callable[[Any], bool], *, is_unknown: bool) -> asyncio.Event:
        """Of the first Batch of which `is_it(request)` says yes once it is executed: its caller is told that
        the outcome is unknown, or never hears of it. The event: that Batch was executed."""
        execute = self.handlers["cache", "Batch"]
        executed = asyncio.Event()

        async def execute_and_say_nothing(request: Any, deadline: Any) -> Any:
            answer = await execute(request, deadline)
            if is_it(request):
                self.handlers["cache", "Batch"] = execute
                executed.set()
                if is_unknown:
                    raise OutcomeUnknown("lost on purpose")
                await asyncio.Event().wait()
            return answer

        self.handlers["cache", "Batch"] = execute_and_say_nothing
        return executed

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.random() * self.delay_s)

    async def call(self, service: str, method: str, request: Any, timeout_s: float) -> Any:
        """The answer of the service, as it would arrive.

        Raises:
            ReplcacheError: as the client makes it from the status on the wire.
        """
        await self.pause()
        if self.lose_requests and self.rng.random() < self.lose_requests:
            raise OutcomeUnknown("the request was lost on purpose")
        end = self.clock.now() + timeout_s
        try:
            answer = await self.handlers[service, method](request, Deadline(end, end))
        except ReplcacheError as err:
            raise status.from_status(to_status(err)) from err
        await self.pause()
        if self.drop_answers and self.rng.random() < self.drop_answers:
            raise OutcomeUnknown("the answer was lost on purpose")
        return answer


class VirtualCore(ClientCore):
    """Everything that would go through links goes to the services."""

    def __init__(self, cluster: VirtualCluster, other: ClientCore) -> None:
        super().__init__(other.settings, cluster.clock, cluster.rng, other.codec)
        self._cluster = cluster

    def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_started = True

    async def close(self) -> None:
        """Also the end of a process: whatever was under way stays so."""
        self.is_closed = True
        await self.tasks.close()
        # Tasks that are cancelled may start others, which find the client closed.
        await self.tasks.close()

    def _send(self, batch: Batch) -> None:
        if self.is_closed:
            batch.fail(ClientClosed("the client is closed"))
            return
        request = cache_pb2.BatchRequest()
        batch.fill(request)
        self.tasks.start(self._exchange(batch, request), "virtual batch")

    async def _exchange(self, batch: Batch, request: cache_pb2.BatchRequest) -> None:
        try:
            response = await self._cluster.call("cache", "Batch", request, batch.timeout_s)
        except ReplcacheError as err:
            batch.fail(err)
        except asyncio.CancelledError:
            batch.fail(OutcomeUnknown("the client was closed"))
            raise
        else:
            batch.resolve(response, self.context)

    def set_plain(
        self, key: bytes, value: bytes, content_type: str, ttl_ms: int, timeout_s: float, waiter: Any
    ) -> None:
        batch = SetBatch(content_type, ttl_ms, timeout_s, self.clock.now())
        batch.keys, batch.values = [key], [value]
        batch.waiters.append(waiter)
        self._send(batch)

    def _get(
        self,
        kind: type[GetBatch],
        key: bytes,
        level: Consistency,
        bound_ms: int,
        timeout_s: float,
        waiter: Any,
    ) -> None:
        batch = kind(LEVELS[level], bound_ms, timeout_s, self.clock.now())
        batch.keys = [key]
        batch.waiters.append(waiter)
        self._send(batch)

    def get_plain(
        self, key: bytes, level: Consistency, max_staleness_ms: int, timeout_s: float, waiter: Any
    ) -> None:
        self._get(GetBatch, key, level, max_staleness_ms, timeout_s, waiter)

    def get_full(
        self, key: bytes, level: Consistency, max_staleness_ms: int, timeout_s: float, waiter: Any
    ) -> None:
        self._get(FullGetBatch, key, level, max_staleness_ms, timeout_s, waiter)

    def get_seen(self, key: bytes, timeout_s: float, waiter: Any) -> None:
        self._get(SeenGetBatch, key, Consistency.LINEARIZABLE, 0, timeout_s, waiter)

    def operate(self, operation: Any, convert: Any, timeout_s: float, waiter: Any) -> None:
        batch = OperationBatch(timeout_s, self.clock.now())
        batch.operations, batch.converters = [operation], [convert]
        batch.waiters.append(waiter)
        self._send(batch)

    def submit_write(self, batch: Batch) -> None:
        self._send(batch)

    def submit_read(self, batch: Batch, level: Consistency) -> None:
        self._send(batch)

    async def unary(self, service: str, method: str, request: Any, timeout_s: float, **options: Any) -> Any:
        if self.is_closed:
            raise ClientClosed("the client is closed")
        on_send = options.get("on_send")
        if on_send is not None:
            on_send(self.clock.now(), None)
        return await self._cluster.call(service, method, request, timeout_s)
