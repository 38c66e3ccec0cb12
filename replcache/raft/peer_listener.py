"""The listening socket of the peer link, and the options of its sockets.

We accept by ourselves instead of by loop.create_server(): the number of connections is bounded before any
TLS work is done for them, and a process out of file descriptors pauses accepting and goes on afterwards.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from replcache.constants import PEER_PONG_TIMEOUT_S
from replcache.errors import ConfigError

BACKLOG = 128
# Connections taken per readiness event: a flood does not hold the loop.
ACCEPTS_PER_TURN = 16
# No descriptors or memory: connections wait in the backlog meanwhile.
ACCEPT_PAUSE_S = 0.1
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# What the kernel takes of one connection before it is sent: bounds how long a heartbeat waits behind bulk.
NOT_SENT_BYTES_MAX = 512 * 1024


def parse_address(address: str) -> tuple[str, int]:
    """ "host:port" or "[v6]:port" -> (host, port).

    Raises:
        ConfigError: not of that form, or the port is not 0 to 65535.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"address {address!r} is not host:port (IPv6 hosts in brackets)")
    return host, int(port)


def set_options(sock: socket.socket) -> None:
    """Options of both ends: small messages leave at once, dead connections are noticed."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux: bytes that nobody acknowledges for this long end the connection (default: some 15 minutes).
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, user_timeout, int(PEER_PONG_TIMEOUT_S * 1000))
    not_sent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if not_sent is not None:
        sock.setsockopt(socket.IPPROTO_TCP, not_sent, NOT_SENT_BYTES_MAX)


async def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Addresses of `host`. Numeric ones take no thread: a slow name server elsewhere must not delay them.

    Raises:
        OSError: the name has no address, or is none.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as err:
        # An empty or too long part between dots. It may be in the log of the whole cluster by now.
        raise OSError(f"{host} is no host name: {err}") from err


async def connect(host: str, port: int) -> socket.socket:
    """A connected TCP socket to the first address of `host` that takes one.

    Raises:
        OSError: none does (the last error), or the name has no address.
    Cancellation: nothing stays open.
    """
    loop = asyncio.get_running_loop()
    found = await _resolve(host, port)
    last_error = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        connected = False
        try:
            set_options(sock)
            await loop.sock_connect(sock, address)
            connected = True
            return sock
        except OSError as err:
            last_error = err
        finally:
            if not connected:
                sock.close()
    raise last_error


class PeerListener:
    """Accepts connections and hands over their sockets.

    Args:
        address: "host:port"; port 0 lets the system choose (see bound_address).
        on_socket: takes the ownership of an accepted, non-blocking socket; must not raise.
        on_error: told of failures to accept; accepting goes on.
    """

    def __init__(
        self,
        address: str,
        on_socket: Callable[[socket.socket, object], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._address = address
        self._on_socket = on_socket
        self._on_error = on_error
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused: asyncio.TimerHandle | None = None

    @property
    def bound_address(self) -> str:
        """ "host:port" with the real port; only while listening."""
        assert self._socket is not None, "not listening"
        name: tuple[Any, ...] = self._socket.getsockname()
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{host}:{name[1]}"

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            ConfigError: the address can't be used; says why.
        """
        host, port = parse_address(self._address)
        self._loop = asyncio.get_running_loop()
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                # A restarted node must not wait for the connections of its former life to time out.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
                sock.listen(BACKLOG)
            except OSError:
                sock.close()
                raise
        except (OSError, UnicodeError) as err:
            raise ConfigError(f"can't listen for peers on {self._address}: {err}") from err
        self._socket = sock
        self._loop.add_reader(sock, self._acceptable)

    def close(self) -> None:
        """Stops listening; connections in the backlog are refused by the system. Harmless when repeated."""
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _acceptable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._socket is None:
                return
            try:
                sock, remote = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as err:
                self._on_error(err)
                if err.errno in _EXHAUSTED:
                    self._pause()
                    return
                # The other side gave up while it waited (ECONNABORTED and the like): the next one.
                continue
            self._hand_over(sock, remote)

    def _hand_over(self, sock: socket.socket, remote: object) -> None:
        try:
            set_options(sock)
        except OSError as err:
            sock.close()
            self._on_error(err)
            return
        self._on_socket(sock, remote)

    def _pause(self) -> None:
        assert self._loop is not None
        assert self._socket is not None
        self._loop.remove_reader(self._socket)
        self._paused = self._loop.call_later(ACCEPT_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._paused = None
        if self._socket is not None and self._loop is not None:
            self._loop.add_reader(self._socket, self._acceptable)
