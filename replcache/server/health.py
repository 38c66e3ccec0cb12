"""grpc.health.v1: the service "" says whether the process lives, the others whether they can serve.

"replcache.v1.Cache" and its like are SERVING while this node knows a leader that has a quorum. Kubernetes and
client-side health checking read this; it follows the node's state every HEALTH_POLL_INTERVAL_S.
"""

import asyncio
from collections.abc import Callable, Iterable

from grpc_health.v1 import health, health_pb2

from replcache import constants
from replcache.observability.logs import get_logger
from replcache.raft.port import RaftPort, Role

_log = get_logger(__name__)
LIVE = ""


def can_serve(port: RaftPort) -> bool:
    """Whether linearizable requests have a chance on this node now."""
    status = port.status()
    return bool(status.leader and status.has_quorum and not status.halted and status.role is not Role.JOINING)


class Health:
    """Keeps the health service up to date; halted nodes are reported to `on_halt` once."""

    def __init__(self, port: RaftPort, services: Iterable[str], on_halt: Callable[[str], None]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._port = port
        self._services = tuple(services)
        self._on_halt = on_halt
        self._serving: bool | None = None
        self._halted = False
        self._leader = ""

    async def update(self) -> None:
        """Looks at the node once."""
        halted = self._port.status().halted
        if halted and not self._halted:
            self._halted = True
            await self.servicer.set(LIVE, health_pb2.HealthCheckResponse.NOT_SERVING)
            self._on_halt(halted)
        elif self._serving is None:
            await self.servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        status = self._port.status()
        if status.leader != self._leader:
            was, now = self._leader or "none", status.leader or "none"
            _log.info("leader_changed", leader=now, was=was, term=status.term)
            self._leader = status.leader
        serving = can_serve(self._port)
        if serving is not self._serving:
            self._serving = serving
            _log.info("serving_changed", serving=serving)
            answer = (
                health_pb2.HealthCheckResponse.SERVING
                if serving
                else health_pb2.HealthCheckResponse.NOT_SERVING
            )
            for name in self._services:
                await self.servicer.set(name, answer)

    async def run(self) -> None:
        """The background task."""
        while True:
            await self.update()
            await asyncio.sleep(constants.HEALTH_POLL_INTERVAL_S)

    async def stop_serving(self) -> None:
        """NOT_SERVING for everything, for good."""
        await self.servicer.enter_graceful_shutdown()
