"""Writes the samples of log entries and snapshots that later versions must still read.

    python -m tests.unit.statemachine.make_samples

A sample of a released format is never written anew: a changed format gets a new number and its own sample.
"""

from pathlib import Path

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
from tests.helpers.machine import Driver

DATA = Path(__file__).parent / "data"
LOG = DATA / "log_v1.bin"
SNAPSHOT = DATA / "snapshot_v1.bin"

OPERATIONS: tuple[Op, ...] = (
    SessionOpen(60_000),
    SessionOpen(60_000),
    LeaseGrant(50_000),
    LeaseGrant(50_000),
    Set(b"full", b"1", "text/plain", 60_000, 5000, 3, ("a", "ü"), 3, False, Condition(True), None, True),
    Set(b"json", b'{"a":1.50}', keep_ttl=True),
    Update(b"json", merge_json=b'{"b":null,"c":[2]}', ttl_ms=9000, content_type="application/json"),
    Update(b"full", append=b"2"),
    Update(b"full", replace=b"1.5", condition=Condition(if_present=True, if_version=2, if_value=b"12")),
    Update(b"full", add_decimal="0.1"),
    Update(b"full", add_integer=-1),
    Increment(b"n", 5, -7, 4000, None, -10, 10),
    Get(b"full"),
    Touch(b"n", 1000, 500),
    Delete(b"json", want_previous=True),
    LockAcquire("door", b"one", 5000, 0, False, 1, "note", 7, 3),
    LockAcquire("door", b"two", 5000, 60_000, True),
    LockAcquire("pool", b"three", 5000, 0, False, 4),
    LockNote("pool", b"three", 17, "ü"),
    LockRenew("pool", b"three", 17, 9000),
    LockRelease("door", b"two", 0, 3),
    Set(b"fenced", b"", fence=Fence("pool", 17)),
    GuardSet(b"guarded/", "pool*"),
    GuardSet(b"gone/", "pool"),
    GuardRemove(b"gone/"),
    NamespaceSet("n", b"n/", 100_000, 2),
    NamespaceSet("gone", b"x/", 0),
    NamespaceRemove("gone"),
    Set(b"n/1", b"value", tags=("a",)),
    Set(b"t", b"", tags=("t",)),
    InvalidateTags(("t",)),
    Accessed((b"full", b"n")),
    Evict((b"n/1", b"n"), (1, 2), "quota"),
    DeleteRange(b"x", b"y", 10, Fence("pool", 17)),
    Txn(
        (Compare(b"n", Condition(if_version=1)),),
        (Fence("pool", 17),),
        (Set(b"then", b"1"), Get(b"then")),
        (Delete(b"n"),),
    ),
    LeaseKeep(3),
    LeaseRevoke(4),
    SessionKeep(1),
    SessionClose(2),
)


def sample() -> Driver:
    """A machine and a log with something of everything."""
    driver = Driver()
    for op in OPERATIONS:
        driver.clock_ms += 7
        driver.one(op)
    driver.run(
        Command(set_many=SetMany([b"a", b"b"], [b"1", b"2"], "x/y", 7000), request_id=b"request"),
        Command((Get(b"full"), Delete(b"missing")), None, False, 1, 2, 1),
        Command((Increment(b"n", 1), Update(b"missing", append=b"")), None, True, 1, 3, 1),
        Command(OPERATIONS[-5:-4], None, False, 1, 4, 1),
    )
    driver.pass_ms(100)
    return driver


def main() -> None:
    driver = sample()
    DATA.mkdir(exist_ok=True)
    LOG.write_bytes(b"".join(len(payload).to_bytes(4, "little") + payload for payload in driver.payloads))
    SNAPSHOT.write_bytes(b"".join(driver.machine.begin_snapshot().chunks()))


if __name__ == "__main__":
    main()
