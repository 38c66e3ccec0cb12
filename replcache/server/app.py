"""The composition root: one node as a process. Built, served until told to stop or until it fails, ended.

Exit codes (the command line's, cli/exits.py): 0 stopped on request, 2 wrong configuration or environment, 7
the node failed, halted, or can't trust its data directory: starting it again does not help.
"""

import asyncio
import random
import signal
import sys
from contextlib import suppress

from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.errors import ConfigError, StorageError
from replcache.observability.logs import get_logger, setup_logs
from replcache.observability.metrics import Metrics
from replcache.observability.recent import RecentEvents
from replcache.observability.tracing import Tracing, otlp_provider
from replcache.raft.disk import OsDisk
from replcache.raft.engine_config import EngineConfig
from replcache.raft.fault_disk import DiskFaults, FaultyDisk
from replcache.raft.node import RaftNode
from replcache.raft.node_config import RaftConfig
from replcache.raft.peer_tls import TlsConfig
from replcache.raft.port import Member
from replcache.server.fault_page import FaultPage
from replcache.server.node_server import Server
from replcache.server.notify import READY, STOPPING, notify

_log = get_logger(__name__)
EXIT_STOPPED = 0
EXIT_CONFIGURATION = 2
EXIT_FAILED = 7


def raft_config(config: ServerConfig) -> RaftConfig:
    """What of the settings is consensus's business."""
    me = Member(config.name, config.peer_advertised, config.grpc_advertised)
    members = tuple(
        Member(member.name, member.peer_address, member.client_address) for member in config.members
    )
    if all(member.name != config.name for member in members):
        members = (*members, me)
    peer_tls = None
    if config.peer_tls_cert is not None:
        assert config.peer_tls_key is not None
        assert config.peer_tls_ca is not None
        peer_tls = TlsConfig(config.peer_tls_ca, config.peer_tls_cert, config.peer_tls_key)
    return RaftConfig(
        name=config.name,
        cluster_id=config.cluster_id,
        data_dir=str(config.data_dir),
        peer_listen=config.peer_listen,
        members=members,
        client_address=config.grpc_advertised,
        join=config.join,
        peer_tls=peer_tls,
        durability_fsync=config.durability == "fsync",
        staleness_probe_s=config.staleness_probe_s,
        fault_injection=config.fault_injection,
        engine=EngineConfig(
            heartbeat_s=config.heartbeat_s,
            election_min_s=config.election_min_s,
            election_max_s=config.election_max_s,
            snapshot_after_entries=config.snapshot_after_entries,
            snapshot_after_bytes=config.snapshot_after_bytes,
            log_kept_entries=config.log_kept_entries,
        ),
    )


async def serve(config: ServerConfig, recent: RecentEvents | None = None) -> int:
    """Runs one node until SIGTERM or SIGINT, or until it fails.

    Raises:
        ConfigError, StorageError: it could not start.
    """
    loop = asyncio.get_running_loop()
    stop_asked = asyncio.Event()
    halted: asyncio.Future[str] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_asked.set)

    def on_halt(reason: str) -> None:
        if not halted.done():
            halted.set_result(reason)

    clock = SystemClock()
    rng = random.SystemRandom()
    faults = DiskFaults()
    disk = FaultyDisk(faults) if config.fault_injection else OsDisk()
    node = RaftNode(raft_config(config), on_halt=on_halt, disk=disk, clock=clock, rng=rng)
    actions = {"/fault": FaultPage(node, faults)} if config.fault_injection else {}
    provider = otlp_provider(config.name) if config.tracing == "otlp" else None
    tracing = None if provider is None else Tracing(provider, clock.now, config.tracing_keys)
    server = Server(config, node, clock, Metrics(), rng, actions, recent, tracing)
    try:
        try:
            await node.start()
        except OSError as err:
            raise ConfigError(f"peer_listen = {config.peer_listen}: {err.strerror or err}") from err
        try:
            await server.start()
            notify(READY)
            return await _until_the_end(server, stop_asked, halted)
        finally:
            notify(STOPPING)
            await server.stop()
    finally:
        await node.close()
        if provider is not None:
            # Sends what is left, in vain for some seconds when nobody takes it.
            await asyncio.to_thread(provider.shutdown)


async def _until_the_end(server: Server, stop_asked: asyncio.Event, halted: asyncio.Future[str]) -> int:
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(stop_asked.wait())
        await asyncio.wait((asked, server.failed, halted), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
    for failure in (halted, server.failed):
        if failure.done():
            _log.critical("node_failed", reason=failure.result())
            return EXIT_FAILED
    return EXIT_STOPPED


def run(config: ServerConfig) -> int:
    """The whole life of a node's process; returns its exit code. What is wrong is said on stderr."""
    if sys.flags.optimize:
        # Assertions guard the state on disk and in memory; without them a bug would be replicated.
        print("replcache: refuses to run under python -O: assertions are part of its safety", file=sys.stderr)
        return EXIT_CONFIGURATION
    recent = RecentEvents()
    setup_logs(config.log_level, config.log_format, recent=recent)
    try:
        with suppress(KeyboardInterrupt):
            return _run_on_loop(config, recent)
    except (ConfigError, StorageError) as err:
        print(f"replcache: {err}", file=sys.stderr)
        return EXIT_CONFIGURATION if isinstance(err, ConfigError) else EXIT_FAILED
    return EXIT_STOPPED


def _run_on_loop(config: ServerConfig, recent: RecentEvents) -> int:
    try:
        import uvloop
    except ImportError:
        # Not made for every platform; the same node, only slower.
        return asyncio.run(serve(config, recent))
    code: int = uvloop.run(serve(config, recent))
    return code
