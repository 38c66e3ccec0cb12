"""gRPC channels: options, credentials, stubs. The only place of the client that creates channels."""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from replcache.client.url import ClientSettings, is_loopback
from replcache.constants import CLIENT_KEEPALIVE_S, CLIENT_KEEPALIVE_TIMEOUT_S
from replcache.errors import InvalidRequest
from replcache.pb.v1.cache_pb2_grpc import CacheStub
from replcache.pb.v1.cluster_pb2_grpc import ClusterStub
from replcache.pb.v1.election_pb2_grpc import ElectionStub
from replcache.pb.v1.keyspace_pb2_grpc import KeyspaceStub
from replcache.pb.v1.lease_pb2_grpc import LeaseStub
from replcache.pb.v1.lock_pb2_grpc import LockStub
from replcache.pb.v1.session_pb2_grpc import SessionStub
from replcache.pb.v1.watch_pb2_grpc import WatchStub

_RECEIVE_BYTES_MAX = 64 * 1024 * 1024
# How long one attempt to connect may take, and how long the next one waits at most. grpcio's own defaults
# (20 s and 120 s) keep a client away from a node long after it is back.
_CONNECT_MS = 1000
_RECONNECT_MIN_MS = 50
_RECONNECT_MAX_MS = 1000


def channel_options(settings: ClientSettings) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _RECEIVE_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", int(CLIENT_KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", int(CLIENT_KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
        # A connection of its own for each client object: closing one never disturbs another.
        ("grpc.use_local_subchannel_pool", 1),
        # Retries are ours: they keep the session sequence. gRPC's would hide tries from the accounting.
        ("grpc.enable_retries", 0),
        # Proxies from the environment are for the web, not for a cache beside the application.
        ("grpc.enable_http_proxy", 0),
    ]
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return options


def credentials(settings: ClientSettings) -> grpc.ChannelCredentials | None:
    """TLS credentials from the files of the settings; None without TLS.

    Raises:
        InvalidRequest: a file can't be used, that of the token included.
    """
    in_file = _read(settings.token_file, "token_file") or b""
    if not _is_sendable(settings.token or in_file.decode("ascii", "replace").strip()):
        where = f"token_file={settings.token_file!r}" if settings.token_file else "token"
        raise InvalidRequest(f"{where}: a token has printable ASCII characters only", field="token")
    if not settings.tls:
        return None
    ca, key, cert = _read(settings.ca, "ca"), _read(settings.key, "key"), _read(settings.cert, "cert")
    _check_files(settings)
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


def _read(path: str, field: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as err:
        raise InvalidRequest(f"{field}={path!r} can't be read: {err}", field=field) from err


def _check_files(settings: ClientSettings) -> None:
    """gRPC takes any bytes, and each handshake fails without a word about them. ssl says what is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # How strong keys have to be is not asked here.
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        if settings.ca:
            context.load_verify_locations(settings.ca)
        if settings.cert:
            # A key under a password is of no use to gRPC, and ssl must not ask the terminal for it.
            context.load_cert_chain(settings.cert, settings.key, password="")
    except (OSError, ValueError) as err:
        names = ", ".join(filter(None, (settings.ca, settings.cert, settings.key)))
        raise InvalidRequest(f"TLS files can't be used ({names}): {err}", field="tls") from err


def _is_sendable(token: str) -> bool:
    return token.isascii() and (not token or token.isprintable())


def authorization(address: str, settings: ClientSettings) -> tuple[tuple[str, str], ...]:
    """The headers that say who calls; none without a token.

    The token's file is read again for each connection, so that a new token needs no restart. To an address
    that the token must not go to in clear text (one that was learned from the members, too) it is not sent.

    A file that has gone away or holds no token meanwhile counts as none: the node then asks for a token.
    """
    token = settings.token
    if not token and settings.token_file:
        try:
            token = Path(settings.token_file).read_text("ascii", "replace").strip()
        except OSError:
            return ()
    is_private = settings.tls or settings.insecure or is_loopback(address)
    if not token or not is_private or not _is_sendable(token):
        return ()
    return (("authorization", f"Bearer {token}"),)


class Authorized:
    """A channel, blocking or not, for stubs only: each of its calls carries the headers.

    Not an interceptor: those change what a call object can do, and cost on every message of a stream.
    """

    def __init__(self, channel: Any, headers: tuple[tuple[str, str], ...]) -> None:
        self._channel = channel
        self._headers = headers

    def __getattr__(self, name: str) -> Any:
        make = getattr(self._channel, name)
        if name not in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            return make

        def made(*arguments: Any, **options: Any) -> Callable[..., Any]:
            return partial(make(*arguments, **options), metadata=self._headers)

        return made


class Connection:
    """One channel and its stubs."""

    def __init__(self, address: str, settings: ClientSettings, tls: grpc.ChannelCredentials | None) -> None:
        options = channel_options(settings)
        if tls is None:
            self.channel = grpc.aio.insecure_channel(address, options=options)
        else:
            self.channel = grpc.aio.secure_channel(address, tls, options=options)
        self.headers = authorization(address, settings)
        calls: Any = Authorized(self.channel, self.headers) if self.headers else self.channel
        # The generated stubs are typed for the blocking API only.
        self.cache = CacheStub(calls)  # type: ignore[no-untyped-call]
        self.lock = LockStub(calls)  # type: ignore[no-untyped-call]
        self.lease = LeaseStub(calls)  # type: ignore[no-untyped-call]
        self.election = ElectionStub(calls)  # type: ignore[no-untyped-call]
        self.keyspace = KeyspaceStub(calls)  # type: ignore[no-untyped-call]
        self.session = SessionStub(calls)  # type: ignore[no-untyped-call]
        self.cluster = ClusterStub(calls)  # type: ignore[no-untyped-call]
        self.watch = WatchStub(calls)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self.channel.close(None)
