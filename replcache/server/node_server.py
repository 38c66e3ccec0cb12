"""A node's services on its gRPC and HTTP ports, and their orderly end.

Server takes a RaftPort, so the same code serves the real node, the tests' fake, and one day a gateway process
that reaches the node over a socket. The process around it is in app.py.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from replcache import constants
from replcache.clock import Clock
from replcache.config import ServerConfig
from replcache.errors import ReplcacheError
from replcache.observability.logs import get_logger
from replcache.observability.metrics import Metrics
from replcache.observability.recent import RecentEvents
from replcache.observability.tracing import Tracing
from replcache.raft.port import RaftPort, Role
from replcache.server import (
    cache_service,
    cluster_service,
    election_service,
    keyspace_service,
    lease_service,
    lock_service,
    session_service,
    state_hash,
    watch_service,
)
from replcache.server.accesses import Accesses
from replcache.server.backend import Backend
from replcache.server.backups import Backups
from replcache.server.batches import Batches
from replcache.server.eviction import Evictor
from replcache.server.gateway_calls import Registry
from replcache.server.gateway_port import GatewayPort
from replcache.server.grpc_port import grpc_options, listen, tls_files
from replcache.server.health import Health
from replcache.server.http import HttpPort, Page, reload_certificates
from replcache.server.interceptors import CallBoundary
from replcache.server.leader_watches import LeaderWatches
from replcache.server.lock_queue import LockQueue
from replcache.server.lock_waits import LockWaits
from replcache.server.many_keys import ManyKeys
from replcache.server.pipeline import Pipeline
from replcache.server.reads import Reader
from replcache.server.security.setup import build as build_security
from replcache.server.state_hash import StateCheck, StateHasher
from replcache.server.status import report as status_report
from replcache.server.status.feed import Feed
from replcache.server.status.pages import StatusPages
from replcache.server.status.report import Reporter
from replcache.server.tls import HttpCertificates, TlsFiles
from replcache.server.txns import Txns
from replcache.server.watch_hub import WatchHub
from replcache.tasks import Supervisor

_log = get_logger(__name__)

SERVICES = (
    cache_service.NAME,
    lock_service.NAME,
    session_service.NAME,
    cluster_service.NAME,
    watch_service.NAME,
    lease_service.NAME,
    election_service.NAME,
    keyspace_service.NAME,
)


class Server:
    """One node's face. Nothing happens before start(); stop() may be called twice.

    Attributes:
        feed: what the status page shows.
        failed: done when this node can't go on, with the reason.
        grpc_address, http_address: where it listens, known after start().
    """

    def __init__(
        self,
        config: ServerConfig,
        port: RaftPort,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
        actions: Mapping[str, Page] | None = None,
        recent: RecentEvents | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """actions: more POST pages of the HTTP port. recent: what the status page shows of the log."""
        self._tracing = tracing
        self._config = config
        self._port = port
        self._clock = clock
        self.metrics = metrics
        self._rng = rng
        self._stopping = asyncio.Event()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._supervisor = Supervisor(lambda name, error: self._fail(f"{name}: {error}"))
        self._waits = LockWaits()
        self._watches = WatchHub(port)
        self._leaders = LeaderWatches(port)
        self._boundary = CallBoundary(clock, metrics, tracing)
        self._health = Health(port, SERVICES, lambda reason: self._fail(f"the node halted: {reason}"))
        self._hasher = StateHasher(port, clock)
        self._check = StateCheck(port, self._hasher, metrics, clock, config.state_check_s)
        self._reporter = Reporter(
            config, port, metrics, self._watches, recent or RecentEvents(), clock, self._check
        )
        self.feed = Feed(port, self._reporter, clock, config.cluster_name)
        pages = {}
        if config.http_listen and config.status_page:
            pages = StatusPages(self.feed).pages()
        self._http = HttpPort(port, metrics, self._stopping, pages, actions)
        # One of the two has the gRPC port, once it is open.
        self._grpc: grpc.aio.Server | None = None
        self._gateways: GatewayPort | None = None
        self.grpc_address = ""
        self.http_address = ""

    async def start(self) -> None:
        """Opens the ports.

        Raises:
            ConfigError: an address or a certificate can't be used; whatever was opened is closed again.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop(0.0)
            raise

    async def _start(self) -> None:
        config, port, clock = self._config, self._port, self._clock
        started_at = clock.now()
        self.metrics.observe_node(port, lambda: clock.now() - started_at)
        port.add_applied_listener(self._waits.on_applied)
        self._watches.start()
        self._leaders.start()
        security = build_security(config, clock, self.metrics)
        registry = security.guard.protect(self._services(started_at))
        self._http.protect(security.http.middleware())
        if security.store is not None:
            self._supervisor.background("auth_file", security.store.follow())
        tls = tls_files(config)
        await self._health.update()
        if config.gateways:
            self._gateways = GatewayPort(
                config, registry, self._boundary.writing, security.guard.paths, clock, self._supervisor
            )
            self.grpc_address = await self._gateways.start()
        else:
            server = self._grpc = grpc.aio.server(options=grpc_options(config))
            server.add_generic_rpc_handlers(registry.generic_handlers())
            self.grpc_address = listen(server, config.grpc_listen, tls)
            await server.start()
        self._supervisor.background("health", self._health.run())
        self._supervisor.background("loop_lag", self._measure_lag())
        self._supervisor.background("status_feed", self.feed.run())
        self._supervisor.background("state_check", self._check.run())
        port.answer(status_report.QUESTION, self._reporter.answer)
        port.answer(state_hash.QUESTION, self._hasher.answer)
        if config.http_listen:
            await self._start_http(config.http_listen, tls if config.http_tls else None)
        _log.info("serving", node=config.name, grpc=self.grpc_address, http=self.http_address or None)

    def _services(self, started_at: float) -> Registry:
        in_flight = self._config.proposals_in_flight
        backend = Backend(self._port, self._clock, self.metrics, in_flight, self._tracing)
        accesses = Accesses(backend)
        accesses.start(self._supervisor)
        backend.activity.start(self._supervisor)
        self._reporter.activity = backend.activity
        Evictor(backend, backend.activity, self._rng).start(self._supervisor)
        self.metrics.observe_activity(backend.activity.counts)
        reader = Reader(backend, accesses)
        batches = Batches(backend, reader)
        boundary = self._boundary
        pipeline = Pipeline(backend, batches, boundary, self._stopping)
        cache = cache_service.CacheService(backend, reader, batches)
        many, txns = ManyKeys(backend, reader), Txns(backend)
        queue = LockQueue(backend, self._waits, self._supervisor, self._rng)
        lock = lock_service.LockService(backend, reader, queue)
        lease = lease_service.LeaseService(backend, reader)
        election = election_service.ElectionService(backend, reader, queue, self._leaders)
        keyspace = keyspace_service.KeyspaceService(backend, reader)
        secrets = self._rng if self._config.auth_file is not None else None
        session = session_service.SessionService(backend, int(self._config.session_ttl_s * 1000), secrets)
        cluster = cluster_service.ClusterService(backend, started_at, self._watches, self._hasher)
        backups = Backups(backend, boundary)
        watch = watch_service.WatchService(backend, reader, self._watches, boundary)
        registry = Registry()
        on_keys = [*cache.methods(), *many.methods(), *txns.methods()]
        for name, methods, streams in (
            (cache_service.NAME, on_keys, {"Pipeline": pipeline.handler()}),
            (lock_service.NAME, lock.methods(), {}),
            (session_service.NAME, session.methods(), {}),
            (lease_service.NAME, lease.methods(), {}),
            (keyspace_service.NAME, keyspace.methods(), {}),
        ):
            registry.add_registered_method_handlers(name, boundary.methods(name, methods, streams))
        registry.add_registered_method_handlers(watch_service.NAME, {"Watch": watch.handler()})
        saving = {"Snapshot": backups.handler()}
        registry.add_registered_method_handlers(
            cluster_service.NAME, boundary.methods(cluster_service.NAME, cluster.methods()) | saving
        )
        observing = {"Observe": election.observe_handler()}
        registry.add_registered_method_handlers(
            election_service.NAME, boundary.methods(election_service.NAME, election.methods()) | observing
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, registry)
        if self._config.reflection:
            names = (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            servicer = reflection.aio.ReflectionServicer((*names, reflection.SERVICE_NAME))
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, registry)
        return registry

    async def _start_http(self, address: str, tls: TlsFiles | None) -> None:
        context = None
        if tls is not None:
            certificates = HttpCertificates(tls)
            context = certificates.context
            self._supervisor.background(
                "http_certificate", reload_certificates(certificates.reload_when_changed)
            )
        await self._http.start(address, context)
        assert self._http.bound is not None
        self.http_address = "{}:{}".format(*self._http.bound)
        if self._config.status_page:
            self._reporter.listening(*self._http.bound)

    async def _measure_lag(self) -> None:
        """How late timers fire is how long something held the loop."""
        interval_s = constants.LOOP_LAG_PROBE_INTERVAL_S
        while True:
            before = self._clock.now()
            await asyncio.sleep(interval_s)
            self.metrics.loop_lag_seconds.observe(max(0.0, self._clock.now() - before - interval_s))

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def stop(self, grace_s: float | None = None) -> None:
        """Says NOT_SERVING, gives leadership away, takes no more calls, lets those under way finish.

        Args:
            grace_s: how long calls may take; None: as configured. What is left then is cancelled: such
                writes may still be executed by the cluster.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        grace_s = self._config.stop_grace_s if grace_s is None else grace_s
        _log.info("stopping", node=self._config.name, grace_s=grace_s)
        await self._health.stop_serving()
        await self._give_leadership_away()
        self._waits.stop()
        self._watches.stop()
        self.feed.close()
        self._leaders.stop()
        if self._grpc is not None:
            await self._drain(self._grpc.stop, grace_s)
        if self._gateways is not None:
            await self._drain(self._gateways.stop, grace_s)
        self._port.remove_applied_listener(self._waits.on_applied)
        await self._http.close()
        await self._supervisor.close(short_timeout_s=grace_s)
        _log.info("stopped", node=self._config.name)

    async def _drain(self, stop: Callable[[float], Coroutine[Any, Any, None]], grace_s: float) -> None:
        """stop() alone waits for every stream, also for somebody's health watch; so when all of our
        own calls are done, the grace ends early."""
        async with asyncio.TaskGroup() as group:
            full = group.create_task(stop(grace_s))
            idle = group.create_task(self._boundary.idle.wait())
            await asyncio.wait((full, idle), return_when=asyncio.FIRST_COMPLETED)
            if not full.done():
                await stop(constants.STOP_STREAM_LINGER_S)
            idle.cancel()

    async def _give_leadership_away(self) -> None:
        status = self._port.status()
        if status.role is not Role.LEADER or sum(member.voter for member in status.members) < 2:
            return
        try:
            leader = await self._port.transfer_leadership(
                "", self._clock.now() + constants.STOP_TRANSFER_TIMEOUT_S
            )
        except ReplcacheError as err:
            # The others elect one after an election timeout; nothing is lost but that time.
            _log.warning("leadership_not_transferred", reason=err.reason, error=str(err))
        else:
            _log.info("leadership_transferred", to=leader)

    def _fail(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_result(reason)
