"""THE table: what each rpc needs. A path that is not in it is refused to everybody.

`tests/unit/server/test_security_rules.py` fails for every rpc of the proto without a row, and for every key,
prefix, tag and lock name in a request that its row does not look at.

What returns or reveals content needs the right to read beside the right to write: Update and Increment (their
answers hold the value), want_previous, and conditions on a value. Every lock that a request names, as a fence
too, needs the right to that lock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from replcache.errors import PermissionDenied
from replcache.pb.v1 import cache_pb2
from replcache.server.security.rights import Rights

Check = Callable[[Rights, Any], None]


class Kind(Enum):
    # Anybody, without a name.
    OPEN = 1
    # Whoever has a name.
    KNOWN = 2
    # Whoever has the rights that `check` asks for.
    CHECKED = 3
    # Whoever has the right to this administrative call; audited.
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Rule:
    """operations: how many operations a request counts for the rate limit."""

    kind: Kind
    check: Check | None = None
    operations: Callable[[Any], int] | None = None


PACKAGE = "replcache.v1."


# --- operations on keys ---


def _condition(rights: Rights, key: bytes, request: Any) -> None:
    if request.HasField("condition") and request.condition.HasField("if_value"):
        rights.need_read(key)


def _fence(rights: Rights, request: Any) -> None:
    if request.HasField("fence"):
        rights.need_lock(request.fence.name)


def _get(rights: Rights, request: Any) -> None:
    rights.need_read(request.key)


def _set(rights: Rights, request: Any) -> None:
    _delete(rights, request)
    if request.lease_id:
        rights.need_leases()


def _delete(rights: Rights, request: Any) -> None:
    key = request.key
    rights.need_write(key)
    if request.want_previous:
        rights.need_read(key)
    _condition(rights, key, request)
    _fence(rights, request)


def _update(rights: Rights, request: Any) -> None:
    rights.need_write(request.key)
    rights.need_read(request.key)
    _fence(rights, request)


def _touch(rights: Rights, request: Any) -> None:
    rights.need_write(request.key)
    _condition(rights, request.key, request)
    _fence(rights, request)


OPERATIONS: dict[str, Check] = {
    "set": _set,
    "update": _update,
    "delete": _delete,
    "touch": _touch,
    "increment": _update,
    "get": _get,
}


def _operations(rights: Rights, operations: Iterable[Any]) -> None:
    for operation in operations:
        kind = operation.WhichOneof("kind")
        # None: an empty operation, which the service refuses.
        if kind is not None:
            check = OPERATIONS.get(kind)
            if check is None:
                raise PermissionDenied(f"no rule for an operation of kind {kind}")
            check(rights, getattr(operation, kind))


def check_batch(rights: Rights, request: cache_pb2.BatchRequest) -> None:
    """Of Cache.Batch, and of each message of Cache.Pipeline."""
    if request.HasField("set_columns"):
        rights.need_write_all(request.set_columns.keys)
    if request.HasField("get_columns"):
        rights.need_read_all(request.get_columns.keys)
    if request.operations:
        _operations(rights, request.operations)


def batch_operations(request: cache_pb2.BatchRequest) -> int:
    return len(request.operations) + len(request.set_columns.keys) + len(request.get_columns.keys)


def _txn(rights: Rights, request: cache_pb2.TxnRequest) -> None:
    for compare in request.compares:
        rights.need_read(compare.key)
    for held in request.held:
        rights.need_lock(held.name)
    _operations(rights, request.then)
    _operations(rights, request.otherwise)


def _txn_operations(request: cache_pb2.TxnRequest) -> int:
    return len(request.compares) + len(request.then) + len(request.otherwise)


def _delete_range(rights: Rights, request: cache_pb2.DeleteRangeRequest) -> None:
    wanted = request.WhichOneof("range")
    if wanted == "prefix":
        rights.need_write(request.prefix)
    elif wanted == "keys":
        rights.need_write_range(request.keys.start, request.keys.end)
    _fence(rights, request)


def _watch(rights: Rights, request: Any) -> None:
    wanted = request.WhichOneof("range")
    if wanted == "tag":
        rights.need_read_tags([request.tag])
    else:
        # Neither key nor prefix: all keys.
        rights.need_read(request.key if wanted == "key" else request.prefix)


def _lock(rights: Rights, request: Any) -> None:
    """Also for lists: an empty name is all locks, so only the right to all of them holds it."""
    rights.need_lock(request.name)


def _acquire(rights: Rights, request: Any) -> None:
    rights.need_lock(request.name)
    if request.lease_id:
        rights.need_leases()


_OPEN = Rule(Kind.OPEN)
_KNOWN = Rule(Kind.KNOWN)
_ADMIN = Rule(Kind.ADMIN)
_LOCK = Rule(Kind.CHECKED, _lock)
_LEASE = Rule(Kind.CHECKED, lambda rights, _: rights.need_leases())


def _on_tags(check: Callable[[Rights, Iterable[str]], None]) -> Rule:
    return Rule(Kind.CHECKED, lambda rights, request: check(rights, request.tags))


_SERVED = {
    "Cache.Get": Rule(Kind.CHECKED, _get),
    "Cache.BatchGet": Rule(
        Kind.CHECKED, lambda rights, request: rights.need_read_all(request.keys), lambda r: len(r.keys)
    ),
    "Cache.Set": Rule(Kind.CHECKED, _set),
    "Cache.Update": Rule(Kind.CHECKED, _update),
    "Cache.Delete": Rule(Kind.CHECKED, _delete),
    "Cache.Touch": Rule(Kind.CHECKED, _touch),
    "Cache.Increment": Rule(Kind.CHECKED, _update),
    # A prefix inside of a prefix that may be read.
    "Cache.Scan": Rule(Kind.CHECKED, lambda rights, request: rights.need_read(request.prefix)),
    "Cache.Batch": Rule(Kind.CHECKED, check_batch, batch_operations),
    # Whoever has a name may open the stream; each of its batches is checked as it comes (guard.py).
    "Cache.Pipeline": _KNOWN,
    "Cache.Txn": Rule(Kind.CHECKED, _txn, _txn_operations),
    "Cache.InvalidateTags": _on_tags(Rights.need_write_tags),
    "Cache.Find": _on_tags(Rights.need_read_tags),
    "Cache.DeleteRange": Rule(Kind.CHECKED, _delete_range),
    "Watch.Watch": Rule(Kind.CHECKED, _watch),
    "Lock.Acquire": Rule(Kind.CHECKED, _acquire),
    "Lock.Renew": _LOCK,
    "Lock.Release": _LOCK,
    "Lock.Describe": _LOCK,
    "Election.Campaign": _LOCK,
    "Election.Renew": _LOCK,
    "Election.Proclaim": _LOCK,
    "Election.Resign": _LOCK,
    "Election.Leader": _LOCK,
    "Election.Observe": _LOCK,
    "Lease.Grant": _LEASE,
    "Lease.KeepAlive": _LEASE,
    "Lease.Revoke": _LEASE,
    "Lease.Describe": _LEASE,
    # A session is only a memory of what its owner has sent.
    "Session.Open": _KNOWN,
    "Session.KeepAlive": _KNOWN,
    "Session.Close": _KNOWN,
    # Clients find the leader with these two.
    "Cluster.Status": _KNOWN,
    "Cluster.Members": _KNOWN,
    "Cluster.AddMember": _ADMIN,
    "Cluster.PromoteMember": _ADMIN,
    "Cluster.RemoveMember": _ADMIN,
    "Cluster.TransferLeadership": _ADMIN,
    "Cluster.Hash": _ADMIN,
    "Cluster.Snapshot": _ADMIN,
    "Keyspace.SetNamespace": _ADMIN,
    "Keyspace.RemoveNamespace": _ADMIN,
    "Keyspace.ListNamespaces": _ADMIN,
    "Keyspace.SetGuard": _ADMIN,
    "Keyspace.RemoveGuard": _ADMIN,
    "Keyspace.ListGuards": _ADMIN,
    # Shows the most frequent keys, whoever's they are.
    "Keyspace.Statistics": _ADMIN,
}
_OTHERS = {
    "/grpc.health.v1.Health/Check": _OPEN,
    "/grpc.health.v1.Health/Watch": _OPEN,
    "/grpc.health.v1.Health/List": _OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _KNOWN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _KNOWN,
}


def path_of(call: str) -> str:
    """Cache.Get -> /replcache.v1.Cache/Get"""
    service, _, method = call.partition(".")
    return f"/{PACKAGE}{service}/{method}"


def call_of(path: str) -> str:
    """/replcache.v1.Cache/Get -> Cache.Get"""
    return path.removeprefix(f"/{PACKAGE}").replace("/", ".")


RULES: dict[str, Rule] = {**{path_of(call): rule for call, rule in _SERVED.items()}, **_OTHERS}
# The right to the pages of the HTTP port that show more than metrics and health.
PAGES = "Http.Pages"
ADMIN_CALLS = frozenset({PAGES, *(call for call, rule in _SERVED.items() if rule.kind is Kind.ADMIN)})
