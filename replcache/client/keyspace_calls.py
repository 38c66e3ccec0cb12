"""Settings of parts of the key space, and figures about them: namespaces, guards, statistics of a node."""

from replcache.client import convert
from replcache.client.cluster import AsyncClusterCalls
from replcache.client.durations import Duration
from replcache.client.part import BlockingPart
from replcache.client.requests import Key, prefix_bytes
from replcache.client.types import EvictionPolicy, Guard, Namespace, NodeStatistics
from replcache.constants import HOT_KEYS_MAX, LOCK_NAME_BYTES_MAX, NAMESPACE_NAME_BYTES_MAX
from replcache.errors import InvalidRequest
from replcache.pb.v1 import keyspace_pb2


class AsyncKeyspaceCalls(AsyncClusterCalls):
    """Part of AsyncClient."""

    async def set_namespace(
        self,
        name: str,
        prefix: Key,
        *,
        max_bytes: int = 0,
        policy: EvictionPolicy | str = EvictionPolicy.NONE,
        timeout: Duration | None = None,
    ) -> bool:
        """Makes or changes a namespace: a named prefix with a quota. False: it was so already.

        Args:
            prefix: "": the quota of everything.
            max_bytes: of keys and values together; 0: no quota.
            policy: what happens above the quota: "none" (writes are refused: QuotaExceeded), "lru" or "lfu".
        """
        if max_bytes < 0:
            raise InvalidRequest(f"max_bytes={max_bytes} is negative", field="max_bytes")
        try:
            chosen = EvictionPolicy(policy)
        except ValueError:
            known = ", ".join(EvictionPolicy)
            raise InvalidRequest(f"policy={policy!r}: one of {known}", field="policy") from None
        namespace = keyspace_pb2.Namespace(
            name=_namespace_name(name),
            prefix=prefix_bytes(prefix),
            max_bytes=max_bytes,
            policy=convert.POLICIES[chosen],
        )
        request = keyspace_pb2.SetNamespaceRequest(namespace=namespace)
        response = await self._write("keyspace", "SetNamespace", request, self._timeout_s(timeout))
        return bool(response.changed)

    async def remove_namespace(self, name: str, *, timeout: Duration | None = None) -> bool:
        """Removes the quota; the keys stay. False: there is no such namespace."""
        request = keyspace_pb2.RemoveNamespaceRequest(name=_namespace_name(name))
        response = await self._write("keyspace", "RemoveNamespace", request, self._timeout_s(timeout))
        return bool(response.removed)

    async def namespaces(self, *, timeout: Duration | None = None) -> tuple[Namespace, ...]:
        """All namespaces and how much of them is used."""
        self._waiter()
        response = await self._core.unary(
            "keyspace",
            "ListNamespaces",
            keyspace_pb2.ListNamespacesRequest(),
            self._timeout_s(timeout),
            is_write=False,
        )
        return tuple(convert.namespace(use) for use in response.namespaces)

    async def guard(self, prefix: Key, *, by: str, timeout: Duration | None = None) -> bool:
        """From now on every write below `prefix` needs `fence=` of a lock: FenceRejected without it, or when
        the lock is not held under its token. False: it was so already.

        Args:
            by: the lock's name, or "beginning*": any lock whose name begins so.
        """
        if not isinstance(by, str) or not 0 < len(by.encode()) <= LOCK_NAME_BYTES_MAX:
            raise InvalidRequest(f"by={by!r}: the name of a lock", field="by")
        found = keyspace_pb2.Guard(prefix=_guarded(prefix), lock=by)
        request = keyspace_pb2.SetGuardRequest(guard=found)
        response = await self._write("keyspace", "SetGuard", request, self._timeout_s(timeout))
        return bool(response.changed)

    async def unguard(self, prefix: Key, *, timeout: Duration | None = None) -> bool:
        """Takes a guard away. False: there is none of exactly this prefix."""
        request = keyspace_pb2.RemoveGuardRequest(prefix=_guarded(prefix))
        response = await self._write("keyspace", "RemoveGuard", request, self._timeout_s(timeout))
        return bool(response.removed)

    async def guards(self, *, timeout: Duration | None = None) -> tuple[Guard, ...]:
        """All guards."""
        self._waiter()
        request = keyspace_pb2.ListGuardsRequest()
        response = await self._core.unary(
            "keyspace", "ListGuards", request, self._timeout_s(timeout), is_write=False
        )
        return tuple(convert.guard(found) for found in response.guards)

    async def statistics(
        self, node: str = "", *, hot_keys: int = 10, timeout: Duration | None = None
    ) -> NodeStatistics:
        """What one node has seen: hits, misses and removals by namespace, and its most frequent keys.

        Args:
            node: its name or address; "": the node that is asked first.
            hot_keys: how many of the most frequent keys, 1 to 100.
        """
        self._waiter()
        if not 1 <= hot_keys <= HOT_KEYS_MAX:
            raise InvalidRequest(f"hot_keys={hot_keys}: 1 to {HOT_KEYS_MAX}", field="hot_keys")
        timeout_s = self._timeout_s(timeout)
        response = await self._core.unary(
            "keyspace",
            "Statistics",
            keyspace_pb2.StatisticsRequest(hot_keys=hot_keys),
            timeout_s,
            endpoint=await self._endpoint(node, timeout_s),
            to_leader=False,
            is_write=False,
        )
        return convert.node_statistics(response)


class KeyspaceCalls(BlockingPart):
    """Part of Client."""

    def set_namespace(
        self,
        name: str,
        prefix: Key,
        *,
        max_bytes: int = 0,
        policy: EvictionPolicy | str = EvictionPolicy.NONE,
        timeout: Duration | None = None,
    ) -> bool:
        changed: bool = self._run(
            lambda: self._aio.set_namespace(
                name, prefix, max_bytes=max_bytes, policy=policy, timeout=timeout
            ),
            timeout,
        )
        return changed

    def remove_namespace(self, name: str, *, timeout: Duration | None = None) -> bool:
        removed: bool = self._run(lambda: self._aio.remove_namespace(name, timeout=timeout), timeout)
        return removed

    def namespaces(self, *, timeout: Duration | None = None) -> tuple[Namespace, ...]:
        found: tuple[Namespace, ...] = self._run(lambda: self._aio.namespaces(timeout=timeout), timeout)
        return found

    def guard(self, prefix: Key, *, by: str, timeout: Duration | None = None) -> bool:
        changed: bool = self._run(lambda: self._aio.guard(prefix, by=by, timeout=timeout), timeout)
        return changed

    def unguard(self, prefix: Key, *, timeout: Duration | None = None) -> bool:
        removed: bool = self._run(lambda: self._aio.unguard(prefix, timeout=timeout), timeout)
        return removed

    def guards(self, *, timeout: Duration | None = None) -> tuple[Guard, ...]:
        found: tuple[Guard, ...] = self._run(lambda: self._aio.guards(timeout=timeout), timeout)
        return found

    def statistics(
        self, node: str = "", *, hot_keys: int = 10, timeout: Duration | None = None
    ) -> NodeStatistics:
        found: NodeStatistics = self._run(
            lambda: self._aio.statistics(node, hot_keys=hot_keys, timeout=timeout), timeout
        )
        return found


def _namespace_name(name: str) -> str:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= NAMESPACE_NAME_BYTES_MAX:
        raise InvalidRequest(f"name={name!r}: 1 to {NAMESPACE_NAME_BYTES_MAX} bytes of text", field="name")
    return name


def _guarded(prefix: Key) -> bytes:
    name = prefix_bytes(prefix)
    if not name:
        raise InvalidRequest("a guard needs a prefix", field="prefix")
    return name
