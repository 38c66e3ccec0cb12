"""The status page over HTTP: its files, and the stream of states (server-sent events).

Nothing comes from outside and nothing runs that is not one of these files (Content-Security-Policy). Who may
look at all is decided before (server/security/http_guard.py).
"""

import asyncio
import contextlib
from importlib import resources

from aiohttp import web

from replcache.errors import Overloaded
from replcache.server.http import Page
from replcache.server.status.feed import Feed

FILES = {
    "/": ("index.html", "text/html"),
    "/status/style.css": ("style.css", "text/css"),
    "/status/page.js": ("page.js", "text/javascript"),
    "/status/charts.js": ("charts.js", "text/javascript"),
    "/status/tables.js": ("tables.js", "text/javascript"),
    "/status/icon.svg": ("icon.svg", "image/svg+xml"),
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
# A viewer that takes nothing for so long is gone.
WRITE_TIMEOUT_S = 10.0


class StatusPages:
    """The GET pages of the HTTP port."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        folder = resources.files("replcache.server.status") / "web"
        self._files = {path: (folder / name).read_bytes() for path, (name, _) in FILES.items()}

    def pages(self) -> dict[str, Page]:
        found: dict[str, Page] = dict.fromkeys(FILES, self._file)
        found["/status/events"] = self._events
        found["/status/state"] = self._state
        return found

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=self._files[request.path],
            content_type=FILES[request.path][1],
            charset="utf-8",
            headers=SECURITY_HEADERS,
        )

    async def _state(self, _: web.Request) -> web.StreamResponse:
        """One state as JSON, for scripts."""
        return web.json_response(await self._feed.snapshot(), headers=SECURITY_HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        frames = self._feed.frames()
        try:
            first = await anext(frames)
        except Overloaded as error:
            return web.Response(status=503, text=f"{error}\n", headers={"Retry-After": "5"})
        response = web.StreamResponse(headers={**SECURITY_HEADERS, "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        async with contextlib.aclosing(frames):
            # The other side may go at any time; then there is nobody to tell.
            with contextlib.suppress(ConnectionError, TimeoutError):
                await response.prepare(request)
                await self._write(response, b"retry: 1000\ndata: " + first + b"\n\n")
                async for frame in frames:
                    await self._write(response, b"data: " + frame + b"\n\n")
        return response

    @staticmethod
    async def _write(response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
