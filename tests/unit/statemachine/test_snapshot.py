"""Snapshots: consistent while the machine goes on, bounded chunks, damage is always found."""

import random
import threading

import pytest

from replcache.constants import SNAPSHOT_CHUNK_BYTES, VALUE_BYTES_MAX
from replcache.errors import CorruptSnapshot
from replcache.statemachine.commands import (
    Command,
    Delete,
    Get,
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
    Op,
    SessionClose,
    SessionKeep,
    SessionOpen,
    Set,
    SetMany,
)
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import SessionResult
from tests.helpers.machine import Driver


def filled(rng: random.Random, keys: int = 3000) -> Driver:
    driver = Driver()
    for start in range(0, keys, 500):
        names = [b"key:%06d" % rng.randrange(10 * keys) for _ in range(500)]
        many = SetMany(
            names, [b"v" * rng.randrange(200) for _ in names], rng.choice(["", "a/b"]), start % 3 * 900
        )
        driver.run(Command(set_many=many))
    driver.do(
        Set(b"special", b"1", ttl_ms=50_000, idle_ttl_ms=5000, max_reads=3, tags=("a", "ü")),
        LockAcquire("l", b"o1", 5000, note="ü"),
        LockAcquire("l", b"o2", 5000, 7000),
        LockAcquire("s", b"o3", 5000, shared=True),
        LockAcquire("p", b"o4", 5000, permits=3),
    )
    opened = driver.one(SessionOpen(60_000))
    assert isinstance(opened, SessionResult)
    for sequence, op in enumerate(
        (Get(b"special"), Delete(b"special", want_previous=True), Increment(b"special", 1))
    ):
        driver.run(Command((op,), None, False, opened.session_id, sequence + 1, 0))
    driver.run(Command((Increment(b"n", -5),), request_id=b"r"))
    return driver


def test_chunks_are_bounded_and_the_largest_value_fits() -> None:
    driver = Driver()
    driver.do(*(Set(b"k%d" % number, b"x" * VALUE_BYTES_MAX) for number in range(3)))
    chunks = list(driver.machine.begin_snapshot().chunks())
    assert len(chunks) >= 6
    assert max(map(len, chunks)) == SNAPSHOT_CHUNK_BYTES
    assert StateMachine.restore(chunks).digest() == driver.machine.digest()


def test_chunk_borders_mean_nothing(rng: random.Random) -> None:
    machine = filled(rng).machine
    data = b"".join(machine.begin_snapshot().chunks())
    assert data == b"".join(machine.begin_snapshot().chunks(1000))
    pieces = []
    while data:
        size = rng.randrange(1, 20_000)
        pieces.append(data[:size])
        data = data[size:]
    restored = StateMachine.restore(pieces)
    restored.check_invariants()
    assert restored.digest() == machine.digest()


def change_a_lot(driver: Driver, rng: random.Random) -> None:
    """Everything that a snapshot holds: rows, locks, leases, sessions, request ids, settings."""
    existing = [key for key, _ in driver.machine.scan(b"", b"", 4000)[0]]
    keys = [rng.choice(existing) for _ in range(50)] + [b"new:%d" % rng.randrange(1000) for _ in range(50)]
    driver.run(Command(set_many=SetMany(keys, [b"changed"] * 100)))
    driver.do(
        *(Delete(rng.choice(existing)) for _ in range(50)),
        Set(b"aaa", b"first"),
        InvalidateTags(("a",)),
        GuardSet(b"guarded/", f"l{rng.randrange(9)}"),
        LeaseGrant(700),
        *(LeaseKeep(lease_id) for lease_id in list(driver.machine.leases.leases)[:3]),
    )
    for _ in range(8):
        name, owner = rng.choice("lspxyz"), rng.choice([b"o1", b"o2", b"o3", b"o4"])
        token = driver.machine.held_token(name, owner)
        driver.do(
            LockAcquire(name, owner, 300, 500, rng.random() < 0.5),
            LockNote(name, owner, token, "changed"),
            LockRelease(rng.choice("lspxyz"), owner),
        )
    sessions = list(driver.machine.replies.sessions)
    for _ in range(8):
        session = rng.choice(sessions) if sessions else 0
        sequence = rng.randrange(1, 30)
        driver.run(
            Command((Increment(b"n", 1),), None, False, session, sequence, rng.randrange(sequence)),
            Command((SessionOpen(rng.choice([500, 60_000])),)),
            Command((Get(b"n"),), request_id=b"%d" % rng.randrange(50)),
        )
    driver.atomic(Set(rng.choice(existing), b"atomic"), Delete(rng.choice(existing)))
    driver.pass_ms(rng.choice([300, 300, 700_000]))


def test_the_stream_is_the_state_at_its_beginning(rng: random.Random) -> None:
    """Changes of every kind between every two small chunks."""
    driver = filled(rng)
    driver.run(*(Command((SessionOpen(60_000),)) for _ in range(5)))
    for session in driver.machine.replies.sessions:
        driver.run(
            *(Command((Increment(b"n", 1),), None, False, session, number, 0) for number in range(1, 9))
        )
    driver.do(*(LeaseGrant(1000) for _ in range(5)))
    expected = b"".join(driver.machine.begin_snapshot().chunks())
    view = driver.machine.begin_snapshot()
    index = driver.machine.applied_index
    collected = bytearray()
    for chunk in view.chunks(10_000):
        collected += chunk
        change_a_lot(driver, rng)
    assert bytes(collected) == expected
    assert view.index == index < driver.machine.applied_index
    assert view.finished
    driver.pass_ms(1)
    assert driver.machine.statistics().snapshots_being_read == 0


def test_the_stream_may_be_read_in_a_thread(rng: random.Random) -> None:
    driver = filled(rng, 20_000)
    expected = driver.machine.digest()
    view = driver.machine.begin_snapshot()
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(view.digest()))
    reader.start()
    while reader.is_alive():
        change_a_lot(driver, rng)
    reader.join()
    assert found == [expected]


def test_two_views_at_once_each_see_their_own_state(rng: random.Random) -> None:
    driver = filled(rng)
    first_digest, first = driver.machine.digest(), driver.machine.begin_snapshot()
    change_a_lot(driver, rng)
    second_digest, second = driver.machine.digest(), driver.machine.begin_snapshot()
    change_a_lot(driver, rng)
    assert first_digest != second_digest
    assert second.digest() == second_digest
    assert first.digest() == first_digest


def test_a_closed_view_keeps_nothing_and_can_not_be_read(rng: random.Random) -> None:
    driver = filled(rng)
    view = driver.machine.begin_snapshot()
    view.close()
    view.close()
    change_a_lot(driver, rng)
    assert view.saved == {}
    with pytest.raises(InvariantBroken, match="read once"):
        list(view.chunks())


def test_damage_is_found_wherever_it_is(rng: random.Random) -> None:
    data = b"".join(filled(rng).machine.begin_snapshot().chunks())
    for _ in range(60):
        position = rng.randrange(len(data))
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.randrange(8)
        with pytest.raises((CorruptSnapshot, UnknownFormat, InvariantBroken)):
            StateMachine.restore([bytes(damaged)])
    for _ in range(20):
        with pytest.raises(CorruptSnapshot):
            StateMachine.restore([data[: rng.randrange(len(data))]])
    with pytest.raises(CorruptSnapshot, match="behind its end"):
        StateMachine.restore([data, b"x"])


def test_a_later_version_is_refused() -> None:
    data = b"".join(StateMachine().begin_snapshot().chunks())
    with pytest.raises(UnknownFormat, match="version 77"):
        StateMachine.restore([data[:19] + b"\x4d" + data[20:]])


def test_an_empty_machine_has_a_snapshot() -> None:
    machine = StateMachine()
    restored = StateMachine.restore(machine.begin_snapshot().chunks())
    assert restored.digest() == machine.digest()
    assert restored.next_due_ms() is None


def test_the_history_of_a_restored_machine_starts_behind_its_revision(rng: random.Random) -> None:
    machine = filled(rng).machine
    restored = StateMachine.restore(machine.begin_snapshot().chunks())
    assert restored.oldest_revision() == machine.revision + 1
    assert restored.events_since(machine.revision, 10) is None
    assert restored.events_since(machine.revision + 1, 10) == []


SINGLE_CHANGES: list[tuple[str, Op | int]] = [
    ("a waiter comes", LockAcquire("l", b"new", 50, 50)),
    ("a waiter asks again", LockAcquire("l", b"o2", 50, 50)),
    ("a waiter goes", LockRelease("l", b"o2")),
    ("a waiter's time is over", 7000),
    ("a holder asks again", LockAcquire("p", b"o4", 77, permits=3)),
    ("a holder renews", LockRenew("p", b"o4", 5, 77)),
    ("a holder changes its note", LockNote("p", b"o4", 5, "x")),
    ("a holder releases", LockRelease("p", b"o4")),
    ("a holder releases to a waiter", LockRelease("l", b"o1")),
    ("a holder comes", LockAcquire("p", b"new", 50, permits=3)),
    ("a holder's time is over", 9000),
    ("a lease is kept", LeaseKeep(1)),
    ("a lease ends", LeaseRevoke(1)),
    ("a lease comes", LeaseGrant(5)),
    ("a session is kept", SessionKeep(2)),
    ("a session is closed", SessionClose(2)),
    ("a session comes", SessionOpen(5)),
    ("everything's time is over", 10_000_000),
]


@pytest.mark.parametrize(("name", "change"), SINGLE_CHANGES, ids=[name for name, _ in SINGLE_CHANGES])
def test_a_single_change_is_not_in_a_snapshot_that_began_before(name: str, change: Op | int) -> None:
    driver = Driver()
    driver.do(
        LeaseGrant(100_000),
        SessionOpen(100_000),
        LockAcquire("l", b"o1", 9000),
        LockAcquire("l", b"o2", 9000, 7000),
        LockAcquire("p", b"o4", 9000, permits=3),
        LockAcquire("m", b"o5", 0, lease_id=1),
        Set(b"k", b"", lease_id=1, tags=("t",)),
    )
    driver.run(Command((Get(b"k"),), None, False, 2, 1, 0), Command((Get(b"k"),), request_id=b"r"))
    driver.pass_ms(10)
    expected, view = driver.machine.digest(), driver.machine.begin_snapshot()
    if isinstance(change, int):
        driver.pass_ms(change)
    else:
        driver.one(change)
    driver.run(Command((Get(b"k"),), None, False, 2, 5, 3))
    assert view.digest() == expected
    assert driver.machine.digest() != expected
