"""Hypothesis strategies for commands: a few keys and names, so that operations meet."""

from hypothesis import strategies as st

from replcache.statemachine.commands import (
    Accessed,
    Command,
    Compare,
    Condition,
    Delete,
    DeleteRange,
    Evict,
    Fence,
    Get,
    Group,
    GuardRemove,
    GuardSet,
    Increment,
    InvalidateTags,
    LeaseGrant,
    LeaseKeep,
    LeaseRevoke,
    LockAcquire,
    LockNote,
    LockRelease,
    LockRenew,
    NamespaceRemove,
    NamespaceSet,
    Op,
    SessionClose,
    SessionKeep,
    SessionOpen,
    Set,
    SetMany,
    Touch,
    Txn,
    Update,
)

KEYS = [b"a", b"aa", b"ab", b"b", b"b\x00", b"\xff", b"c"]
NAMES = ["lock", "other"]
OWNERS = [b"o1", b"o2", b"o3"]

# The first one often: so that several operations meet on one key.
keys = st.one_of(st.just(KEYS[0]), st.sampled_from(KEYS))
values = st.one_of(
    st.sampled_from(
        [b"", b"0", b"1", b"-5", b"9223372036854775807", b"1.5", b'{"a":1,"b":{"c":null}}', b"x"]
    ),
    st.binary(max_size=6),
)
ttls = st.sampled_from([0, 0, 0, 1, 5, 70, 1000])
versions = st.one_of(st.none(), st.integers(0, 3))
conditions = st.one_of(
    st.none(),
    st.builds(
        Condition,
        st.booleans(),
        st.booleans(),
        versions,
        st.one_of(st.none(), st.sampled_from([b"", b"1"])),
        st.one_of(st.none(), st.none(), st.integers(1, 9)),
    ),
)
fences = st.one_of(st.none(), st.none(), st.builds(Fence, st.sampled_from(NAMES), st.integers(0, 12)))
tags = st.lists(st.sampled_from(["t1", "t2", "ü"]), max_size=2, unique=True).map(tuple)
content_types = st.sampled_from(["", "", "text/plain", "application/json"])

sets = st.builds(
    Set,
    keys,
    values,
    content_type=content_types,
    ttl_ms=ttls,
    idle_ttl_ms=ttls,
    max_reads=st.sampled_from([0, 0, 3]),
    tags=tags,
    keep_ttl=st.booleans(),
    condition=conditions,
    fence=fences,
    want_previous=st.booleans(),
)
changes = st.one_of(
    st.builds(lambda value: {"replace": value}, values),
    st.builds(lambda value: {"append": value}, values),
    st.builds(lambda number: {"add_integer": number}, st.integers(-(2**63), 2**63 - 1)),
    st.builds(
        lambda number: {"add_decimal": number}, st.sampled_from(["1", "0.1", "-2.5e3", "1e308", "nan", "x"])
    ),
    st.builds(
        lambda patch: {"merge_json": patch},
        st.sampled_from([b'{"a":null,"z":[1,2.50]}', b'{"b":{"d":"\xc3\xa9"}}', b"[1]", b"{"]),
    ),
)
updates = st.builds(
    lambda key, change, content_type, ttl, condition, fence: Update(
        key, content_type=content_type, ttl_ms=ttl, condition=condition, fence=fence, **change
    ),
    keys,
    changes,
    content_types,
    st.one_of(st.none(), ttls),
    conditions,
    fences,
)
deletes = st.builds(Delete, keys, conditions, fences, st.booleans())
touches = st.builds(Touch, keys, ttls, ttls, conditions, fences)
small_integers = st.integers(-3, 3)
increments = st.builds(
    Increment,
    keys,
    st.one_of(small_integers, st.integers(-(2**63), 2**63 - 1)),
    small_integers,
    ttls,
    fences,
    st.one_of(st.none(), small_integers),
    st.one_of(st.none(), small_integers),
)
gets = st.builds(Get, keys)
invalidations = st.builds(InvalidateTags, tags)
key_ops = st.one_of(sets, updates, deletes, touches, increments, gets, invalidations)

names = st.sampled_from(NAMES)
owners = st.sampled_from(OWNERS)
lock_ttls = st.sampled_from([0, 1, 50, 64, 1000])
lease_ids = st.sampled_from([0, 0, 0, 1, 2, 3, 5])
lease_ops = st.one_of(
    st.builds(LeaseGrant, st.sampled_from([1, 70, 1000])),
    st.builds(LeaseGrant, st.sampled_from([1, 70, 1000])),
    st.builds(LeaseKeep, lease_ids),
    st.builds(LeaseRevoke, lease_ids),
)
leased_sets = st.builds(Set, keys, values, tags=tags, ttl_ms=ttls, lease_id=lease_ids)
notes = st.builds(LockNote, names, owners, st.integers(0, 12), st.sampled_from(["", "ü"]))
acquires = st.builds(
    LockAcquire,
    names,
    owners,
    lock_ttls,
    st.sampled_from([0, 3, 100, 5000]),
    st.booleans(),
    st.sampled_from([1, 1, 1, 2, 3]),
    st.sampled_from(["", "note"]),
    st.integers(0, 2),
    lease_ids,
)
renews = st.builds(LockRenew, names, owners, st.integers(0, 12), lock_ttls)
releases = st.builds(LockRelease, names, owners, st.integers(0, 12), st.integers(0, 2))
session_ids = st.integers(0, 8)
session_ops = st.one_of(
    st.builds(
        SessionOpen, st.sampled_from([1, 100, 10_000]), st.sampled_from([0, 0, 3, 2**52 + 1, 2**52 + 2])
    ),
    st.builds(SessionKeep, session_ids),
    st.builds(SessionClose, session_ids),
)
ranges = st.builds(DeleteRange, keys, st.one_of(st.just(b""), keys), st.sampled_from([0, 0, 1, 2]), fences)
accesses = st.builds(Accessed, st.lists(keys, max_size=4).map(tuple))
evictions = st.one_of(
    st.builds(Evict, st.lists(keys, max_size=3).map(tuple), reason=st.sampled_from(["", "lru"])),
    st.builds(lambda key, revision: Evict((key,), (revision,), "lfu"), keys, st.integers(0, 20)),
)
prefixes = st.sampled_from([b"", b"a", b"aa", b"b", b"\xff"])
settings_ops = st.one_of(
    st.builds(GuardSet, prefixes, st.sampled_from(["", "lock", "o*"])),
    st.builds(GuardRemove, prefixes),
    st.builds(
        NamespaceSet,
        st.sampled_from(["", "n", "m"]),
        prefixes,
        st.sampled_from([0, 300, 600, 2000]),
        st.integers(0, 3),
    ),
    st.builds(NamespaceRemove, st.sampled_from(["n", "m"])),
)
compares = st.builds(Compare, keys, conditions.map(lambda condition: condition or Condition()))
branch = st.lists(st.one_of(key_ops, ranges, leased_sets), max_size=3).map(tuple)
modelled_branch = st.lists(st.one_of(key_ops, ranges), max_size=3).map(tuple)
modelled_txns = st.builds(
    Txn, st.lists(compares, max_size=2).map(tuple), st.just(()), modelled_branch, modelled_branch
)
# What the naive model knows.
modelled_ops = st.one_of(key_ops, ranges, accesses, evictions, modelled_txns)
txns = st.builds(
    Txn,
    st.lists(compares, max_size=2).map(tuple),
    st.lists(st.builds(Fence, names, st.integers(0, 12)), max_size=1).map(tuple),
    branch,
    branch,
)
ops: st.SearchStrategy[Op] = st.one_of(
    ranges,
    accesses,
    evictions,
    settings_ops,
    txns,
    key_ops,
    leased_sets,
    acquires,
    renews,
    releases,
    notes,
    lease_ops,
    session_ops,
)


@st.composite
def columns(draw: st.DrawFn) -> SetMany:
    many_keys = draw(st.lists(keys, max_size=5))
    many_values = draw(st.lists(values, min_size=len(many_keys), max_size=len(many_keys)))
    return SetMany(many_keys, many_values, draw(content_types), draw(ttls))


exactly_once = st.one_of(
    st.just((0, 0, 0, b"")),
    st.tuples(session_ids, st.integers(0, 6), st.integers(0, 5), st.just(b"")),
    st.tuples(st.just(0), st.just(0), st.just(0), st.sampled_from([b"r1", b"r2"])),
)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    protection = draw(exactly_once)
    atomic = draw(st.booleans())
    if draw(st.booleans()):
        return Command((), draw(columns()), atomic, *protection)
    chosen = key_ops if atomic and draw(st.booleans()) else ops
    return Command(tuple(draw(st.lists(chosen, max_size=4))), None, atomic, *protection)


@st.composite
def groups(draw: st.DrawFn) -> Group:
    return Group(
        draw(st.sampled_from(["n1", "n2"])),
        draw(st.integers(1, 2)),
        draw(st.integers(0, 20)),
        draw(st.integers(0, 20)),
        tuple(draw(st.lists(commands(), max_size=3))),
    )
