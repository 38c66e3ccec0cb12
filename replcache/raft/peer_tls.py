"""TLS of the peer link: both sides show a certificate of the cluster's CA that carries their node name.

Identity is the node name in the certificate (subjectAltName DNS, or common name), not the address: a node may
move, and a valid certificate of node A must not speak for node B. Files are looked at again for each new
connection, so rotation needs no restart; a broken set of files (half copied, key of another certificate)
keeps the last good one in use.
"""

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from replcache.errors import ConfigError

# Size, time of change and inode of the three files.
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files: CA certificate(s) that sign the nodes, this node's certificate chain, its private key."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def files(self) -> tuple[Path, Path, Path]:
        return (self.ca_file, self.cert_file, self.key_file)


class TlsContexts:
    """Contexts for new connections, made anew when the files changed.

    Args:
        config: the files.
        on_reload: called after each reload with None, or with the error that kept the old contexts in use.
    """

    def __init__(self, config: TlsConfig, on_reload: Callable[[Exception | None], None]) -> None:
        self._config = config
        self._on_reload = on_reload
        self._stamp: _Stamp = ()
        self._failed_stamp: _Stamp = ()
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None

    def load(self) -> None:
        """Reads the files for the first time.

        Raises:
            ConfigError: a file is missing, or they can't be used together.
        """
        try:
            self._stamp = self._look()
            self._make()
        except (OSError, ValueError) as err:
            names = ", ".join(str(file) for file in self._config.files())
            raise ConfigError(f"peer TLS files can't be used ({names}): {err}") from err

    def server(self) -> ssl.SSLContext:
        """Context for the next accepted connection."""
        self._refresh()
        assert self._server is not None, "load() comes first"
        return self._server

    def client(self) -> ssl.SSLContext:
        """Context for the next dialled connection."""
        self._refresh()
        assert self._client is not None, "load() comes first"
        return self._client

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp in (self._stamp, self._failed_stamp):
                return
            # Remembered before the attempt: a broken set is tried once, not for each connection.
            self._failed_stamp = stamp
            self._make()
        except (OSError, ValueError) as err:
            self._on_reload(err)
            return
        self._stamp = stamp
        self._failed_stamp = ()
        self._on_reload(None)

    def _look(self) -> _Stamp:
        found = [os.stat(file) for file in self._config.files()]
        return tuple((stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in found)

    def _make(self) -> None:
        """Both contexts or none. ssl.SSLError is an OSError."""
        server = _context(ssl.PROTOCOL_TLS_SERVER, self._config)
        client = _context(ssl.PROTOCOL_TLS_CLIENT, self._config)
        self._server, self._client = server, client


def _context(protocol: int, config: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    # The node name is checked against the certificate by us, in both directions (certificate_names).
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # No resumption: each connection shows its certificate anew.
        context.num_tickets = 0
    context.load_verify_locations(cafile=config.ca_file)
    context.load_cert_chain(config.cert_file, config.key_file)
    return context


def certificate_names(certificate: Mapping[str, object]) -> frozenset[str]:
    """The node names that a verified certificate, as SSLSocket.getpeercert() gives it, may speak for."""
    names = set()
    alternatives = certificate.get("subjectAltName", ())
    assert isinstance(alternatives, tuple)
    for kind, value in alternatives:
        if kind == "DNS":
            names.add(value)
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    for part in subject:
        for kind, value in part:
            if kind == "commonName":
                names.add(value)
    return frozenset(names)
