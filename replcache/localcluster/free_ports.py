"""Port numbers that nobody uses at the moment."""

import random
import socket

from replcache.localcluster.layout import HOST, Ports

# Below the range from which Linux draws ports for outgoing connections (32768 on), so that none of those
# takes one between the look and the start.
LOWEST = 20_000
HIGHEST = 32_000
ATTEMPTS = 200


def free_ports(nodes: int, rng: random.Random) -> Ports:
    """First ports of three free ranges; another process may still take one before they are used.

    Raises:
        OSError: no free range was found.
    """
    for _ in range(ATTEMPTS):
        first = rng.randrange(LOWEST, HIGHEST - 3 * nodes)
        if all(is_free(port) for port in range(first, first + 3 * nodes)):
            return Ports(grpc=first, peer=first + nodes, http=first + 2 * nodes)
    raise OSError(f"no {3 * nodes} free ports in a row between {LOWEST} and {HIGHEST}")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections only wait for their end is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
