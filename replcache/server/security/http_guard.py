"""Who may see which page of the HTTP port.

| page | who |
|---|---|
| /healthz, /readyz | everybody: probes have no tokens, and the answers hold no data |
| /metrics | everybody, unless metrics_open is off |
| the rest | loopback, or a token with the right Http.Pages; everybody with pages_open |

A browser asks for user and password and sends them as Basic; the password is the token. What comes from
loopback counts as such only when the Host header says so too: a page of the web that was made to point at
127.0.0.1 (DNS rebinding) sends its own name. An action (POST) is refused when another site's page sends it.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from replcache.config import ServerConfig, is_loopback
from replcache.errors import RateLimited, ReplcacheError, Unauthenticated
from replcache.hosts import is_loopback_host
from replcache.server.security.callers import Callers
from replcache.server.security.refusals import RefusalLog
from replcache.server.security.rules import PAGES

PROBES = frozenset({"/healthz", "/readyz"})
METRICS = "/metrics"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="replcache: the token is the password", charset="UTF-8"'}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpGuard:
    """An aiohttp middleware."""

    def __init__(self, config: ServerConfig, callers: Callers, refusals: RefusalLog) -> None:
        self._config = config
        self._callers = callers
        self._refusals = refusals
        address = config.http_listen
        self._has_tls = config.http_tls and config.tls_cert is not None
        # A token must not travel in clear text.
        self._takes_tokens = config.auth_file is not None and (
            self._has_tls or config.insecure or (address is not None and is_loopback(address))
        )

    def middleware(self) -> Callable[[web.Request, _Handler], Awaitable[web.StreamResponse]]:
        @web.middleware
        async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
            refused = await self._refused(request)
            return await handler(request) if refused is None else refused

        return guard

    async def _refused(self, request: web.Request) -> web.Response | None:
        """None: he may."""
        if request.path in PROBES or (request.path == METRICS and self._config.metrics_open):
            return None
        if request.method != "GET" and not _is_same_site(request):
            return self._refusal(request, 403, "another site's page sent this")
        if self._config.pages_open or is_local(request):
            return None
        header = _bearer(request.headers.get("Authorization", ""))
        if not self._takes_tokens:
            return self._refusal(request, 403, "only from loopback (or see auth_file and pages_open)")
        if not header:
            # A browser's first try: not worth a line.
            return web.json_response({"error": "a token is needed"}, status=401, headers=_CHALLENGE)
        try:
            caller = await self._callers.of_header(header, f"http:{request.remote}")
            caller.rights.need_admin(PAGES)
        except Unauthenticated as err:
            return self._refusal(request, 401, str(err), _CHALLENGE)
        except RateLimited as err:
            return self._refusal(request, 429, str(err))
        except ReplcacheError as err:
            return self._refusal(request, 403, str(err))
        return None

    def _refusal(
        self, request: web.Request, status: int, why: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        self._refusals.note(f"http:{request.remote}", f"HTTP {status}", why=why)
        return web.json_response({"error": why}, status=status, headers=headers)


def is_local(request: web.Request) -> bool:
    """Whether the request comes from this machine and means this machine."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    return is_loopback_host(request.remote or "") and is_loopback_host(_host_of(request.host))


def _host_of(netloc: str) -> str:
    """Of a Host header: `[::1]:7421` -> `::1`."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_same_site(request: web.Request) -> bool:
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def _bearer(header: str) -> str:
    """An Authorization header as `Bearer <token>`; Basic is taken apart; "" when there is none."""
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return header
    try:
        password = base64.b64decode(text, validate=True).decode("ascii").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return "Basic"
    return f"Bearer {password}"
