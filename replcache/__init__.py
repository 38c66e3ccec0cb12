"""replcache: a replicated cache that never loses an acknowledged write."""

__version__ = "0.1.0"
