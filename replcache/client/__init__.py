"""The Python client: `Client` (blocking) and `AsyncClient`, the same methods in two colours.

Imports neither the server nor the state machine: only the generated messages, errors and constants. Read
aio.py (what there is), pipeline.py (how calls become messages), retry.py (what is sent again), sessions.py
(why that is safe), bridge.py (how threads take part) in this order. Names are loaded when first used.
"""

import os
from typing import TYPE_CHECKING, Any

from replcache import grpc_settings as grpc_settings

# Read by gRPC when it is loaded. Its fork handlers crash about one in twenty children of a process with an
# open connection (measured with 1.85); a client does not survive a fork anyway, and says so in the child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Otherwise each restart of a node prints lines like "Got goaway" on the application's stderr.
is_quiet_by_default = "GRPC_VERBOSITY" not in os.environ
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

if TYPE_CHECKING:
    from replcache.client.aio import AsyncClient as AsyncClient
    from replcache.client.blocking import Client as Client


# Not for type checkers: they would take every name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "AsyncClient":
            from replcache.client.aio import AsyncClient

            return AsyncClient
        if name == "Client":
            from replcache.client.blocking import Client

            return Client
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
