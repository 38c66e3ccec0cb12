"""The core's side of its gateways: starts them, keeps them alive, hands their calls to the services.

With gateways the core does not listen for gRPC: they share the port (SO_REUSEPORT) and the kernel spreads
connections over them. The core holds the address with a socket that is bound but never listens, which
resolves port 0, and looks before whether anybody else is there: with SO_REUSEPORT two nodes on one port
would not notice each other. A gateway that dies is started again; its connections are gone, the clients'
retries go to the others, and what it had under way is cancelled like the calls of a client that went away.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Iterable

from replcache import constants
from replcache.clock import Clock
from replcache.config import ServerConfig, parse_address
from replcache.errors import ConfigError
from replcache.observability.logs import get_logger
from replcache.server.gateway_calls import GatewayCalls, Registry, routes_of
from replcache.server.gateway_wire import Kind, Link, pack_grace
from replcache.server.grpc_port import grpc_options, tls_files
from replcache.tasks import Supervisor

_log = get_logger(__name__)
# -P: the working directory is not to be searched unless our own path has it.
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    " from replcache.server.gateway import main; sys.exit(main())"
)


class GatewayFailed(Exception):
    """A gateway does not come up any more."""


def reserve(address: str) -> tuple[socket.socket, str]:
    """Holds the address for the gateways; returns the socket and the address with the real port.

    Raises:
        ConfigError: it can't be bound, or somebody listens there.
    """
    host, port = parse_address(address)
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
        held = socket.socket(family, kind)
        # Connections that are still winding down from the last run are no obstacle.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind(where)
        except OSError:
            held.close()
            raise
    except OSError as err:
        raise ConfigError(f"grpc_listen = {address}: can't listen there ({err.strerror or err})") from err
    return held, f"{address.rpartition(':')[0]}:{held.getsockname()[1]}"


def _settle(future: asyncio.Future[str], outcome: str) -> None:
    if not future.done():
        future.set_result(outcome)


class _Worker:
    """One running gateway. ready: done with "" when it listens, or with why it can't."""

    def __init__(self, welcome: bytes) -> None:
        self._welcome = welcome
        self._calls: GatewayCalls | None = None
        self.link = Link(self._on_frame)
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def _on_frame(self, kind: int, call: int, body: bytes) -> None:
        if kind == Kind.READY:
            if not self.ready.done():
                self.ready.set_result(body.decode(errors="replace"))
            return
        assert self._calls is not None
        self._calls.on_frame(kind, call, body)

    async def serve(self, connection: socket.socket, port: "GatewayPort") -> None:
        """Until the connection is gone. Its calls end with it."""
        async with asyncio.TaskGroup() as group:
            self._calls = GatewayCalls(self.link, port.routes, port.clock, group)
            await asyncio.get_running_loop().create_unix_connection(lambda: self.link, sock=connection)
            try:
                self.link.send(Kind.WELCOME, body=self._welcome)
                await self.link.closed.wait()
            finally:
                self._calls.cancel_all()
                self.link.close()


class GatewayPort:
    """All gateways of a node. Nothing happens before start()."""

    def __init__(
        self,
        config: ServerConfig,
        registry: Registry,
        writing: Iterable[str],
        identified: Iterable[str],
        clock: Clock,
        supervisor: Supervisor,
    ) -> None:
        """writing: paths of the methods that write; identified: of those whose caller has to be known."""
        self.routes = routes_of(registry, frozenset(writing), frozenset(identified))
        self.clock = clock
        self._config = config
        self._supervisor = supervisor
        self._workers: dict[int, _Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._held: socket.socket | None = None
        self._first_ready: list[asyncio.Future[str]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> str:
        """Returns the address when all gateways listen on it.

        Raises:
            ConfigError: they can't; stop() ends those that run.
        """
        self._held, address = reserve(self._config.grpc_listen)
        welcome = self._welcome(address)
        loop = asyncio.get_running_loop()
        for number in range(self._config.gateways):
            self._first_ready.append(loop.create_future())
            keeper = self._supervisor.short(f"gateway_{number}", self._keep(number, welcome))
            self._keepers.append(keeper)
        await asyncio.wait(self._first_ready, timeout=constants.GATEWAY_START_TIMEOUT_S)
        for first in self._first_ready:
            fault = first.result() if first.done() else "a gateway does not come up"
            if fault:
                raise ConfigError(fault)
        return address

    def _welcome(self, address: str) -> bytes:
        config = self._config
        tls = tls_files(config)
        options = dict(grpc_options(config)) | {
            "grpc.so_reuseport": 1,
            "grpc.max_allowed_incoming_connections": max(1, config.connections // config.gateways),
        }
        return json.dumps(
            {
                "listen": address,
                "tls": tls and [str(tls.cert), str(tls.key), tls.client_ca and str(tls.client_ca)],
                "options": list(options.items()),
                "routes": [
                    (route.path, route.is_stream, route.writes, route.is_identified) for route in self.routes
                ],
                "log_level": config.log_level,
                "log_format": config.log_format,
            }
        ).encode()

    async def _keep(self, number: int, welcome: bytes) -> None:
        """Runs one gateway, again and again until stop()."""
        in_vain = 0
        while not self._stopping.is_set():
            worker = self._workers[number] = _Worker(welcome)
            code = await self._run(number, worker)
            if self._stopping.is_set():
                return
            came_up = worker.ready.done() and not worker.ready.result()
            in_vain = 0 if came_up else in_vain + 1
            if in_vain >= constants.GATEWAY_STARTS_MAX:
                raise GatewayFailed(f"gateway {number} ended {in_vain} times before it listened")
            _log.error("gateway_ended", gateway=number, code=code, fault=worker.link.fault or None)
            delay_s = min(constants.GATEWAY_RESTART_S * 2**in_vain, constants.GATEWAY_RESTART_MAX_S)
            try:
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run(self, number: int, worker: _Worker) -> int | None:
        """One life of a gateway; returns its exit code. It is dead when this ends, however it ends."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = (sys.executable, "-P", "-c", _START, json.dumps(sys.path), f"{self._config.name}/{number}")
        with theirs:
            # Its own session: a Ctrl-C in the terminal is the core's business alone.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=theirs.fileno(), start_new_session=True
            )
        _log.info("gateway_started", gateway=number, pid=process.pid)
        first = self._first_ready[number]
        worker.ready.add_done_callback(lambda done: _settle(first, done.result()))
        try:
            await worker.serve(ours, self)
            async with asyncio.timeout(constants.STOP_GRACE_S):
                await process.wait()
        except TimeoutError:
            _log.error("gateway_killed", gateway=number, pid=process.pid)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        _settle(first, f"a gateway ended with code {process.returncode} before it listened")
        return process.returncode

    async def stop(self, grace_s: float) -> None:
        """Lets calls under way finish and ends all gateways; may be called again with a shorter grace."""
        self._stopping.set()
        for worker in self._workers.values():
            worker.link.send(Kind.DRAIN, body=pack_grace(grace_s))
        if self._keepers:
            late_s = grace_s + constants.STOP_GRACE_S
            _, left = await asyncio.wait(self._keepers, timeout=late_s)
            for keeper in left:
                self._supervisor.cancel(keeper)
            if left:
                await asyncio.wait(left)
        if self._held is not None:
            self._held.close()
            self._held = None
