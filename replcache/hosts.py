"""Which hosts are this machine: one rule for whoever decides what may go over a connection without TLS."""

import ipaddress


def is_loopback_host(host: str) -> bool:
    """Whether only this machine can reach the host. A name other than localhost counts as reachable.

    Args:
        host: a name or an address, IPv6 without brackets.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
