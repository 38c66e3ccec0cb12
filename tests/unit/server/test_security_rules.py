"""Every rpc of the proto has a rule, and no rule overlooks a key, prefix, tag or lock of its request.

Requests are filled by reflection: a field that is added to a request later is found here, and has to be
looked at by the rule, before anybody can reach data through it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import replcache.pb.v1
from replcache.errors import PermissionDenied
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import watch_pb2
from replcache.server.security.rights import NOTHING, Rights
from replcache.server.security.rules import ADMIN_CALLS, RULES, Kind, check_batch

ALLOWED, FORBIDDEN = "mine:", "theirs:"
MINE = Rights(
    read=(ALLOWED.encode(),),
    write=(ALLOWED.encode(),),
    locks=(ALLOWED,),
    read_tags=(ALLOWED,),
    write_tags=(ALLOWED,),
    leases=True,
)
# Where a request says what it is about.
KEY_FIELDS = {"key", "keys", "prefix", "start", "end"}
NAME_FIELDS = {"name", "tag", "tags"}
# Tags of an entry that is written are its content; whoever has the right to the tag may find it by them.
CONTENT = {"SetRequest.tags"}


def rpcs() -> dict[str, MethodDescriptor]:
    """Path -> descriptor of every rpc of every service."""
    found = {}
    for module in pkgutil.iter_modules(replcache.pb.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"replcache.pb.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                for method in service.methods:
                    found[f"/{service.full_name}/{method.name}"] = method
    return found


RPCS = rpcs()
CHECKED = sorted(path for path, rule in RULES.items() if rule.kind is Kind.CHECKED and path in RPCS)


def test_every_rpc_has_a_rule_and_every_rule_an_rpc() -> None:
    assert len(RPCS) > 30
    assert set(RPCS) - set(RULES) == set(), "add a row to replcache/server/security/rules.py"
    assert {path for path in RULES if path.startswith("/replcache.")} - set(RPCS) == set()


def test_only_probes_are_open_and_every_administrative_call_can_be_granted() -> None:
    opened = {path for path, rule in RULES.items() if rule.kind is Kind.OPEN}
    assert opened == {f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List")}
    granted = {f"/replcache.v1.{call.replace('.', '/')}" for call in ADMIN_CALLS - {"Http.Pages"}}
    assert granted == {path for path, rule in RULES.items() if rule.kind is Kind.ADMIN}
    assert all(rule.check is not None for path, rule in RULES.items() if rule.kind is Kind.CHECKED)


Place = tuple[str, ...]


def filled(message: Message, choice: dict[str, str], place: Place, visit: Callable[..., Any]) -> None:
    """Sets every field that may be set at once; `choice`: which member of each oneof."""
    for field in message.DESCRIPTOR.fields:
        group = field.containing_oneof
        if group is not None and len(group.fields) > 1 and choice.get(group.full_name) != field.name:
            continue
        here = (*place, field.name)
        if field.message_type is not None:
            target = getattr(message, field.name)
            if field.is_repeated:
                filled(target.add(), choice, here, visit)
            else:
                target.SetInParent()
                if field.message_type.full_name != "google.protobuf.Duration":
                    filled(target, choice, here, visit)
            continue
        value = visit(message.DESCRIPTOR.name, field, here)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def is_name(owner: str, field: FieldDescriptor) -> bool:
    """Whether the field says what a request is about."""
    if f"{owner}.{field.name}" in CONTENT:
        return False
    if field.type == FieldDescriptor.TYPE_BYTES:
        return field.name in KEY_FIELDS
    return field.type == FieldDescriptor.TYPE_STRING and field.name in NAME_FIELDS


def plain(field: FieldDescriptor) -> Any:
    """A value that is not the default."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"v"
    if field.type == FieldDescriptor.TYPE_STRING:
        return "v"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    return 1


def choices(descriptor: Any) -> Iterator[dict[str, str]]:
    """One after the other every member of every oneof, below too."""
    groups: dict[str, list[str]] = {}

    def collect(found: Any, seen: tuple[str, ...]) -> None:
        for group in found.oneofs:
            if len(group.fields) > 1:
                groups[group.full_name] = [field.name for field in group.fields]
        for field in found.fields:
            if field.message_type is not None and field.message_type.full_name not in seen:
                collect(field.message_type, (*seen, field.message_type.full_name))

    collect(descriptor, (descriptor.full_name,))
    usual = {group: members[0] for group, members in groups.items()}
    yield usual
    for group, members in groups.items():
        for member in members[1:]:
            yield {**usual, group: member}


def request(path: str, choice: dict[str, str], forbidden: Place | None = None) -> tuple[Any, list[Place]]:
    """A full request within MINE but for the field at `forbidden`; and all places that name something."""
    message = GetMessageClass(RPCS[path].input_type)()
    places: list[Place] = []

    def visit(owner: str, field: FieldDescriptor, place: Place) -> Any:
        if not is_name(owner, field):
            return plain(field)
        places.append(place)
        text = (FORBIDDEN if place == forbidden else ALLOWED) + ("z" if field.name == "end" else "a")
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text

    filled(message, choice, (), visit)
    return message, places


@pytest.mark.parametrize("path", CHECKED)
def test_rule_looks_at_all_that_a_request_names(path: str) -> None:
    rule = RULES[path]
    assert rule.check is not None
    seen: set[Place] = set()
    for choice in choices(RPCS[path].input_type):
        message, places = request(path, choice)
        rule.check(MINE, message)
        if path.startswith("/replcache.v1.Lease/"):
            assert not places, "leases have no names: need_leases() is all there is"
        with pytest.raises(PermissionDenied):
            rule.check(NOTHING, message)
        for place in places:
            seen.add(place)
            foreign, _ = request(path, choice, forbidden=place)
            with pytest.raises(PermissionDenied):
                rule.check(MINE, foreign)
    assert seen or path.startswith("/replcache.v1.Lease/"), path


def test_messages_of_a_pipeline_are_checked_like_a_batch() -> None:
    """Pipeline's row lets whoever has a name open the stream; this is what holds for its messages."""
    assert RULES["/replcache.v1.Cache/Pipeline"].kind is Kind.KNOWN
    assert RULES["/replcache.v1.Cache/Batch"].check is check_batch
    assert RPCS["/replcache.v1.Cache/Pipeline"].input_type is RPCS["/replcache.v1.Cache/Batch"].input_type


WRITE_ONLY = Rights(write=(b"k",))
READ_ONLY = Rights(read=(b"k",))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Cache/Set", pb.SetRequest(key=b"k", want_previous=True)),
        ("Cache/Set", pb.SetRequest(key=b"k", condition=pb.Condition(if_value=b"guess"))),
        ("Cache/Delete", pb.DeleteRequest(key=b"k", want_previous=True)),
        ("Cache/Touch", pb.TouchRequest(key=b"k", condition=pb.Condition(if_value=b"guess"))),
        ("Cache/Update", pb.UpdateRequest(key=b"k", append=b"x")),
        ("Cache/Increment", pb.IncrementRequest(key=b"k", delta=0)),
        ("Cache/Txn", pb.TxnRequest(compares=[pb.Compare(key=b"k")])),
        ("Cache/Get", pb.GetRequest(key=b"k")),
        ("Cache/Scan", pb.ScanRequest(prefix=b"k")),
        ("Watch/Watch", watch_pb2.WatchRequest(key=b"k")),
        ("Watch/Watch", watch_pb2.WatchRequest()),
        ("Cache/Set", pb.SetRequest(key=b"k", lease_id=7)),
    ],
)
def test_who_may_only_write_learns_nothing(path: str, message: Message) -> None:
    check = RULES[f"/replcache.v1.{path}"].check
    assert check is not None
    with pytest.raises(PermissionDenied):
        check(WRITE_ONLY, message)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Cache/Set", pb.SetRequest(key=b"k")),
        ("Cache/Delete", pb.DeleteRequest(key=b"k")),
        ("Cache/Touch", pb.TouchRequest(key=b"k")),
        ("Cache/DeleteRange", pb.DeleteRangeRequest(prefix=b"k")),
        ("Cache/Batch", pb.BatchRequest(set_columns=pb.SetColumns(keys=[b"k1", b"k2"]))),
    ],
)
def test_who_may_only_write_writes_and_who_may_only_read_does_not(path: str, message: Message) -> None:
    check = RULES[f"/replcache.v1.{path}"].check
    assert check is not None
    check(WRITE_ONLY, message)
    with pytest.raises(PermissionDenied):
        check(READ_ONLY, message)


def test_scans_and_watches_stay_inside_of_the_prefix() -> None:
    rights = Rights(read=(b"app:",))
    scan, watch = (RULES[f"/replcache.v1.{path}"].check for path in ("Cache/Scan", "Watch/Watch"))
    assert scan is not None
    assert watch is not None
    for inside in (b"app:", b"app:users:"):
        scan(rights, pb.ScanRequest(prefix=inside))
        watch(rights, watch_pb2.WatchRequest(prefix=inside))
    for outside in (b"", b"a", b"app", b"b"):
        with pytest.raises(PermissionDenied):
            scan(rights, pb.ScanRequest(prefix=outside))
        with pytest.raises(PermissionDenied):
            watch(rights, watch_pb2.WatchRequest(prefix=outside))


@pytest.mark.parametrize(
    ("start", "end", "inside"),
    [
        (b"app:", b"app;", True),
        (b"app:a", b"app:b", True),
        (b"app:a", b"app;", True),
        (b"app:a", b"app;0", False),
        (b"app:a", b"", False),
        (b"", b"app;", False),
        (b"ap", b"app:z", False),
        (b"\xff\xffa", b"", True),
    ],
)
def test_ranges_to_delete_stay_inside_of_the_prefix(start: bytes, end: bytes, inside: bool) -> None:
    check = RULES["/replcache.v1.Cache/DeleteRange"].check
    assert check is not None
    rights = Rights(write=(b"app:", b"\xff\xff"))
    message = pb.DeleteRangeRequest(keys=pb.KeyRange(start=start, end=end))
    if inside:
        check(rights, message)
    else:
        with pytest.raises(PermissionDenied):
            check(rights, message)
