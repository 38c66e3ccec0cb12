"""A cluster of node processes on this machine: started, watched, killed and restarted by name.

Used by `replcache cluster`, by the example programs and by tests. Knows processes and files only; it speaks
to no node and imports neither server nor client.
"""

from replcache.localcluster.cluster import LocalCluster, LocalClusterError
from replcache.localcluster.free_ports import free_ports
from replcache.localcluster.layout import NodeLayout, Ports

__all__ = ["LocalCluster", "LocalClusterError", "NodeLayout", "Ports", "free_ports"]
