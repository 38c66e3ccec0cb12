"""The Keyspace service: namespaces, guards, and what this node has seen of its keys."""

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import keyspace_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.server.reads import DEFAULT_PLAN, Reader
from replcache.statemachine.commands import GuardRemove, GuardSet, NamespaceRemove, NamespaceSet, Op
from replcache.statemachine.namespaces import Policy
from replcache.statemachine.results import ChangeResult

NAME = "replcache.v1.Keyspace"
_POLICIES: dict[int, Policy] = {
    keyspace_pb2.EVICTION_POLICY_UNSPECIFIED: Policy.NONE,
    keyspace_pb2.EVICTION_POLICY_NONE: Policy.NONE,
    keyspace_pb2.EVICTION_POLICY_LRU: Policy.LRU,
    keyspace_pb2.EVICTION_POLICY_LFU: Policy.LFU,
}
_POLICY_NUMBERS: dict[Policy, keyspace_pb2.EvictionPolicy] = {
    Policy.NONE: keyspace_pb2.EVICTION_POLICY_NONE,
    Policy.LRU: keyspace_pb2.EVICTION_POLICY_LRU,
    Policy.LFU: keyspace_pb2.EVICTION_POLICY_LFU,
}


class KeyspaceService:
    def __init__(self, backend: Backend, reader: Reader) -> None:
        self._backend = backend
        self._reader = reader

    def methods(self) -> list[Method]:
        pb = keyspace_pb2
        return [
            Method("SetNamespace", pb.SetNamespaceRequest, self.set_namespace, writes=True),
            Method("RemoveNamespace", pb.RemoveNamespaceRequest, self.remove_namespace, writes=True),
            Method("ListNamespaces", pb.ListNamespacesRequest, self.list_namespaces, writes=False),
            Method("SetGuard", pb.SetGuardRequest, self.set_guard, writes=True),
            Method("RemoveGuard", pb.RemoveGuardRequest, self.remove_guard, writes=True),
            Method("ListGuards", pb.ListGuardsRequest, self.list_guards, writes=False),
            Method("Statistics", pb.StatisticsRequest, self.statistics, writes=False),
        ]

    # --- namespaces ---

    async def set_namespace(
        self, request: keyspace_pb2.SetNamespaceRequest, deadline: Deadline
    ) -> keyspace_pb2.SetNamespaceResponse:
        validate.present(request.HasField("namespace"), "namespace")
        given = request.namespace
        policy = validate.known_enum(given.policy, _POLICIES, "namespace.policy")
        op = NamespaceSet(
            validate.name(given.name, "namespace.name", constants.NAMESPACE_NAME_BYTES_MAX),
            validate.prefix(given.prefix, "namespace.prefix"),
            validate.at_most(given.max_bytes, constants.NAMESPACE_QUOTA_BYTES_MAX, "namespace.max_bytes"),
            int(_POLICIES[policy]),
        )
        if op.policy != Policy.NONE and not op.max_bytes:
            raise InvalidRequest(
                "namespace.max_bytes: a policy that evicts needs a quota", field="namespace.max_bytes"
            )
        result = await self._change(op, request, deadline)
        return keyspace_pb2.SetNamespaceResponse(
            header=self._backend.header(result.revision), changed=result.changed
        )

    async def remove_namespace(
        self, request: keyspace_pb2.RemoveNamespaceRequest, deadline: Deadline
    ) -> keyspace_pb2.RemoveNamespaceResponse:
        op = NamespaceRemove(validate.name(request.name, "name", constants.NAMESPACE_NAME_BYTES_MAX))
        result = await self._change(op, request, deadline)
        return keyspace_pb2.RemoveNamespaceResponse(
            header=self._backend.header(result.revision), removed=result.changed
        )

    async def list_namespaces(
        self, _: keyspace_pb2.ListNamespacesRequest, deadline: Deadline
    ) -> keyspace_pb2.ListNamespacesResponse:
        served = await self._reader.prepare(DEFAULT_PLAN, deadline)
        machine = self._backend.machine
        response = keyspace_pb2.ListNamespacesResponse(
            header=self._backend.header(machine.revision, served.level)
        )
        for view in machine.describe_namespaces():
            use = response.namespaces.add(keys=view.keys, bytes=view.used_bytes, complete=view.complete)
            use.namespace.name = view.name
            use.namespace.prefix = view.prefix
            use.namespace.max_bytes = view.max_bytes
            use.namespace.policy = _POLICY_NUMBERS[view.policy]
        return response

    # --- guards ---

    async def set_guard(
        self, request: keyspace_pb2.SetGuardRequest, deadline: Deadline
    ) -> keyspace_pb2.SetGuardResponse:
        validate.present(request.HasField("guard"), "guard")
        op = GuardSet(
            validate.key(request.guard.prefix, "guard.prefix"),
            validate.lock_name(request.guard.lock, "guard.lock"),
        )
        result = await self._change(op, request, deadline)
        return keyspace_pb2.SetGuardResponse(
            header=self._backend.header(result.revision), changed=result.changed
        )

    async def remove_guard(
        self, request: keyspace_pb2.RemoveGuardRequest, deadline: Deadline
    ) -> keyspace_pb2.RemoveGuardResponse:
        op = GuardRemove(validate.key(request.prefix, "prefix"))
        result = await self._change(op, request, deadline)
        return keyspace_pb2.RemoveGuardResponse(
            header=self._backend.header(result.revision), removed=result.changed
        )

    async def list_guards(
        self, _: keyspace_pb2.ListGuardsRequest, deadline: Deadline
    ) -> keyspace_pb2.ListGuardsResponse:
        served = await self._reader.prepare(DEFAULT_PLAN, deadline)
        machine = self._backend.machine
        response = keyspace_pb2.ListGuardsResponse(
            header=self._backend.header(machine.revision, served.level)
        )
        for prefix, lock in machine.describe_guards():
            response.guards.add(prefix=prefix, lock=lock)
        return response

    # --- figures ---

    async def statistics(
        self, request: keyspace_pb2.StatisticsRequest, _: Deadline
    ) -> keyspace_pb2.StatisticsResponse:
        """This node's own figures since it started; never waits."""
        number = validate.at_most(request.hot_keys, constants.HOT_KEYS_MAX, "hot_keys")
        number = number or constants.HOT_KEYS_DEFAULT
        activity = self._backend.activity
        response = keyspace_pb2.StatisticsResponse(
            header=self._backend.header(self._backend.machine.revision)
        )
        for key, count, error in activity.most_read(number):
            response.most_read.add(key=key, count=count, error=error)
        for key, count, error in activity.most_written(number):
            response.most_written.add(key=key, count=count, error=error)
        for name, counts in sorted(activity.counts.items()):
            response.namespaces.add(
                name=name,
                hits=counts.hits,
                misses=counts.misses,
                writes=counts.writes,
                expired=counts.expired,
                evicted=counts.evicted,
            )
        return response

    async def _change(self, op: Op, request: convert.Writing, deadline: Deadline) -> ChangeResult:
        result = await self._backend.execute_one(convert.command(op, request), deadline)
        assert type(result) is ChangeResult
        return result
