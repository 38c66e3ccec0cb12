"""Real clusters for the tests of programs that use replcache: docs/testing.md.

    from replcache.testing import Cluster

    with Cluster(n=3) as cluster, cluster.client() as cache:
        cache.set("greeting", "hello")
        cluster.kill(cluster.leader())
        assert cache.get_value("greeting") == "hello"

With pytest there is nothing to import: the fixtures of plugin.py are there once replcache is installed.
"""

from replcache.testing.cluster import Cluster, ClusterError

__all__ = ["Cluster", "ClusterError"]
