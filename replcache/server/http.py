"""The HTTP port: /metrics for Prometheus, /healthz and /readyz for probes, on the node's own loop.

More pages can be added through `pages` (GET) and `actions` (POST); nothing here changes data. Who may see
what is decided before a handler runs (security/http_guard.py).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from replcache import constants
from replcache.config import parse_address
from replcache.errors import ConfigError
from replcache.observability.metrics import Metrics
from replcache.raft.port import RaftPort
from replcache.server.health import can_serve

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Requests have no body worth reading here.
BODY_BYTES_MAX = 16 * 1024


class HttpPort:
    """Nothing is opened before start(). `stopping`: set when the node takes no more work."""

    def __init__(
        self,
        port: RaftPort,
        metrics: Metrics,
        stopping: asyncio.Event,
        pages: Mapping[str, Page] | None = None,
        actions: Mapping[str, Page] | None = None,
    ) -> None:
        self._port = port
        self._metrics = metrics
        self._stopping = stopping
        self._pages = dict(pages or {})
        self._actions = dict(actions or {})
        self._middlewares: tuple[Any, ...] = ()
        self._runner: web.AppRunner | None = None
        self.bound: tuple[str, int] | None = None

    def protect(self, guard: Any) -> None:
        """guard: an aiohttp middleware that decides who may see a page; to be given before start()."""
        self._middlewares = (guard,)

    async def start(self, address: str, tls: ssl.SSLContext | None) -> None:
        """Raises ConfigError when the address can't be listened on."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=self._middlewares)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/healthz", self._show_health)
        app.router.add_get("/readyz", self._show_readiness)
        for path, page in self._pages.items():
            app.router.add_get(path, page)
        for path, action in self._actions.items():
            app.router.add_post(path, action)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0, keepalive_timeout=30.0
        )
        await self._runner.setup()
        host, port_number = parse_address(address)
        site = web.TCPSite(self._runner, host, port_number, ssl_context=tls)
        try:
            await site.start()
        except OSError as err:
            raise ConfigError(f"http_listen = {address}: {err.strerror or err}") from err
        self.bound = self._runner.addresses[0][:2]

    async def close(self) -> None:
        """May be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _show_health(self, _: web.Request) -> web.Response:
        halted = self._port.status().halted
        if halted:
            return web.json_response({"live": False, "reason": halted}, status=503)
        return web.json_response({"live": True})

    async def _show_readiness(self, _: web.Request) -> web.Response:
        status = self._port.status()
        ready = can_serve(self._port) and not self._stopping.is_set()
        answer = {
            "ready": ready,
            "node": status.node,
            "role": status.role.name.lower(),
            "leader": status.leader,
            "has_quorum": status.has_quorum,
            "stopping": self._stopping.is_set(),
            "halted": status.halted,
        }
        return web.json_response(answer, status=200 if ready else 503)


async def reload_certificates(reload: Callable[[], None]) -> None:
    """The background task of the HTTP port's certificate."""
    while True:
        await asyncio.sleep(constants.TLS_RELOAD_INTERVAL_S)
        await asyncio.to_thread(reload)
