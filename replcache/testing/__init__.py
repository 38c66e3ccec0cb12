"""Real clusters for the tests of programs that use replcache: docs/testing.md.

    from replcache.testing import Cluster

    with Cluster(n=3) as cluster, cluster.client() as cache:
        cache.set("greeting", "hello")
        cluster.kill(cluster.leader())
        assert cache.get_value("greeting") == "hello"

With pytest there is nothing to import: the fixtures of plugin.py are there once replcache is installed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replcache.testing.cluster import Cluster as Cluster
    from replcache.testing.cluster import ClusterError as ClusterError

__all__ = ["Cluster", "ClusterError"]


# Not for type checkers: they would take every name for one of ours.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """When first used: the plugin is loaded in every pytest run, and gRPC takes a while."""
        if name in __all__:
            from replcache.testing import cluster

            return getattr(cluster, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
