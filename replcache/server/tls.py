"""Certificates of the gRPC and HTTP ports, reloaded when the files change, without a restart.

A new file that can't be read or does not fit its key is reported and the old certificate stays in use: a
half-copied renewal must not take a node off the network.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from replcache.errors import ConfigError
from replcache.observability.logs import get_logger

_log = get_logger(__name__)
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. client_ca: None: clients need no certificate."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        return (self.cert, self.key) if self.client_ca is None else (self.cert, self.key, self.client_ca)

    def stamp(self) -> _Stamp:
        """Changes when a file does; raises OSError."""
        return tuple(
            (stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in (path.stat() for path in self.paths())
        )

    def check(self) -> None:
        """Raises ConfigError when the files can't be used; ssl says more about it than gRPC does."""
        try:
            make_ssl_context(self)
        except (OSError, ssl.SSLError) as err:
            names = ", ".join(map(str, self.paths()))
            raise ConfigError(f"TLS files can't be used ({names}): {err}") from err


def make_ssl_context(files: TlsFiles) -> ssl.SSLContext:
    """For the HTTP port; the same rules about client certificates as on the gRPC port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class GrpcCertificates:
    """Hands the current certificate to gRPC at each handshake; called on gRPC's own threads."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp: _Stamp = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Raises ConfigError when the files can't be used at the start."""
        self._files.check()
        self._stamp = self._files.stamp()
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._fetch,  # type: ignore[arg-type]  # None means unchanged, says grpcio; the stubs lack it
            require_client_authentication=self._files.client_ca is not None,
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        roots = None if self._files.client_ca is None else self._files.client_ca.read_bytes()
        pair = (self._files.key.read_bytes(), self._files.cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """None: no change. Never raises: gRPC would refuse the handshake."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            self._files.check()
            configuration = self._configuration()
        except (OSError, ConfigError) as err:
            _log.error("certificate_not_reloaded", port="grpc", error=str(err))
            return None
        self._stamp = stamp
        _log.info("certificate_reloaded", port="grpc")
        return configuration


class HttpCertificates:
    """A context whose new connections all get the newest files."""

    def __init__(self, files: TlsFiles) -> None:
        files.check()
        self._files = files
        self._stamp = files.stamp()
        self.context = _NewestContext(make_ssl_context(files))

    def reload_when_changed(self) -> None:
        """To be called now and then."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return
            self._files.check()
            newest = make_ssl_context(self._files)
        except (OSError, ConfigError) as err:
            _log.error("certificate_not_reloaded", port="http", error=str(err))
            return
        self.context.newest = newest
        self._stamp = stamp
        _log.info("certificate_reloaded", port="http")


class _NewestContext(ssl.SSLContext):
    """What a listener keeps: each of its connections is made from the newest context instead.

    A context can't be told to forget an authority, nor the sessions that it let in: load_verify_locations()
    only adds. So there is a new one for every change of the files. This one has no certificate: a handshake
    that would not go through wrap_bio (asyncio's and uvloop's do) fails.
    """

    newest: ssl.SSLContext

    def __new__(cls, newest: ssl.SSLContext) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context.newest = newest
        return context

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return self.newest.wrap_bio(*args, **options)
