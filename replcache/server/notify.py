"""Tells a service manager how far the node is: the sd_notify(3) protocol, one datagram to $NOTIFY_SOCKET."""

import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> bool:
    """Sends a state; False: nobody asked to be told, or the socket is gone (the node serves all the same)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        # An abstract socket's name begins with a zero byte.
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return False
    return True
