"""How gRPC is told to read its sockets, by the environment, which it looks at when it is loaded.

Import this before `grpc`, as the packages that use gRPC do; afterwards it changes nothing in this process. A
GRPC_EXPERIMENTS that is set already stays. The processes that this one starts inherit it.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path

# Since grpcio 1.80 its "event engine" reads and writes the sockets in threads of its own, and each message of
# a Python process passes through two threads more. One stream between two processes, 1.80 to 1.85: a round
# trip takes 200 to 230 us instead of 90 to 120, and each side twice the processor time. Without it gRPC works
# as it did up to 1.78 (docs/performance.md).
WITHOUT_EVENT_ENGINE = "-event_engine_client,-event_engine_listener"
# The releases that were measured and know these names; others would complain about them on stderr.
KNOWN_RELEASES = ((1, 76), (1, 85))


def grpc_release() -> tuple[int, int] | None:
    """(major, minor) of the grpcio that would be imported, without importing it; None: it doesn't say."""
    try:
        spec = find_spec("grpc")
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            path = Path(folder, "_grpcio_metadata.py")
            if path.is_file() and (found := re.search(r'"""(\d+)\.(\d+)', path.read_text(encoding="utf-8"))):
                return int(found[1]), int(found[2])
    except (ImportError, OSError, ValueError):
        return None  # something else under that name, as in tests of applications
    return None


def _apply() -> None:
    release = grpc_release()
    if release is not None and KNOWN_RELEASES[0] <= release <= KNOWN_RELEASES[1]:
        os.environ.setdefault("GRPC_EXPERIMENTS", WITHOUT_EVENT_ENGINE)


_apply()
