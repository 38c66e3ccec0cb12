"""replcache: a replicated cache that never loses an acknowledged write.

    from replcache import Client

    with Client("replcache://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403/") as cache:
        cache.set("user:1", {"name": "Ada"}, ttl="10m")
        cache.get_value("user:1")

Names are imported when first used, so that `import replcache` loads neither gRPC nor protobuf.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from replcache.client.aio import AsyncClient as AsyncClient
    from replcache.client.blocking import Client as Client
    from replcache.client.codec import Typed as Typed
    from replcache.client.holds import Lock as Lock
    from replcache.client.lock import AsyncLock as AsyncLock
    from replcache.client.near import AsyncNear as AsyncNear
    from replcache.client.near_calls import Near as Near
    from replcache.client.types import ClientStatistics as ClientStatistics
    from replcache.client.types import Consistency as Consistency
    from replcache.client.types import DeleteResult as DeleteResult
    from replcache.client.types import Entry as Entry
    from replcache.client.types import SetResult as SetResult
    from replcache.client.watch import WatchEvent as WatchEvent
    from replcache.client.watch import WatchKind as WatchKind
    from replcache.errors import ReplcacheError as ReplcacheError
    from replcache.patterns.through import AsyncThrough as AsyncThrough
    from replcache.patterns.through import Through as Through

_EXPORTS = {
    "AsyncClient": "replcache.client.aio",
    "AsyncLock": "replcache.client.lock",
    "AsyncNear": "replcache.client.near",
    "AsyncThrough": "replcache.patterns.through",
    "Client": "replcache.client.blocking",
    "ClientStatistics": "replcache.client.types",
    "Consistency": "replcache.client.types",
    "DeleteResult": "replcache.client.types",
    "Entry": "replcache.client.types",
    "Lock": "replcache.client.holds",
    "Near": "replcache.client.near_calls",
    "ReplcacheError": "replcache.errors",
    "SetResult": "replcache.client.types",
    "Through": "replcache.patterns.through",
    "Typed": "replcache.client.codec",
    "WatchEvent": "replcache.client.watch",
    "WatchKind": "replcache.client.watch",
    "errors": "replcache.errors",
}

__all__ = ["__version__", *_EXPORTS]


# Not for type checkers: they would take every name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module = _EXPORTS.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        loaded = importlib.import_module(module)
        return loaded if module == f"{__name__}.{name}" else getattr(loaded, name)


def __dir__() -> list[str]:
    return sorted(__all__)
