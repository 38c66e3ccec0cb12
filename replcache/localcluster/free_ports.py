"""Port numbers that nobody uses at the moment and that no other caller of this module is given.

A look alone is not enough where clusters start beside each other (pytest-xdist): the ports of a node that was
killed look free, so that a second cluster would take them before the node is started again. Each range is
therefore claimed with a UDP socket on its first number: the kernel gives it to one process only and takes it
back when that process ends, and no TCP listener ever meets it.
"""

import random
import socket
from collections import deque

from replcache.localcluster.layout import HOST, Ports

# Below the range from which Linux draws ports for outgoing connections (32768 on), so that none of those
# takes one between the look and the start.
LOWEST = 20_000
HIGHEST = 32_000
ATTEMPTS = 200
# Ranges begin at multiples of this: one claim keeps two of them apart.
RANGE_PORTS = 32
# A process keeps its last claims only: a long test run makes hundreds of clusters, a few of them at a time.
CLAIMS_MAX = 64

_claims: deque[socket.socket] = deque()


def free_ports(nodes: int, rng: random.Random) -> Ports:
    """First ports of three free ranges, claimed against every other caller on this machine.

    A program that does not ask here may still take one before it is used.

    Raises:
        OSError: no free range was found.
    """
    wanted = 3 * nodes
    for _ in range(ATTEMPTS):
        first = rng.randrange(LOWEST, HIGHEST - wanted, RANGE_PORTS)
        claims = _claim(range(first, first + wanted, RANGE_PORTS))
        if claims and all(is_free(port) for port in range(first, first + wanted)):
            _keep(claims)
            return Ports(grpc=first, peer=first + nodes, http=first + 2 * nodes)
        _release(claims)
    raise OSError(f"no {wanted} free ports in a row between {LOWEST} and {HIGHEST}")


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


def _claim(ports: range) -> list[socket.socket]:
    """Sockets that hold all of them; empty: somebody has one."""
    claims: list[socket.socket] = []
    for port in ports:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        claims.append(claim)
        try:
            claim.bind((HOST, port))
        except OSError:
            _release(claims)
            return []
    return claims


def _keep(claims: list[socket.socket]) -> None:
    _claims.extend(claims)
    while len(_claims) > CLAIMS_MAX:
        _claims.popleft().close()


def _release(claims: list[socket.socket]) -> None:
    for claim in claims:
        claim.close()
