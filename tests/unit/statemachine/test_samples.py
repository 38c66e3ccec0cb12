"""What earlier versions wrote can still be read: committed samples of log entries and snapshots."""

from replcache.statemachine import codec
from replcache.statemachine.codec_ops import FILLERS
from replcache.statemachine.commands import Txn
from replcache.statemachine.machine import StateMachine
from tests.helpers.machine import replay
from tests.unit.statemachine.make_samples import LOG, OPERATIONS, SNAPSHOT, sample


def payloads() -> list[bytes]:
    data, found = LOG.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def test_log_entries_of_format_1_are_read_and_applied() -> None:
    machine = replay(payloads())
    machine.check_invariants()
    assert machine.applied_index == len(payloads())


def test_the_snapshot_of_version_1_is_restored() -> None:
    machine = StateMachine.restore([SNAPSHOT.read_bytes()])
    machine.check_invariants()
    entry = machine.peek(b"full")
    assert entry is not None
    assert (entry.value, entry.tags, entry.lease_id) == (b"1.6", ("a", "ü"), 3)
    assert machine.held_token("door", b"one") > 0
    assert [view.name for view in machine.describe_namespaces()] == ["n"]
    assert machine.describe_guards() == [(b"guarded/", "pool*")]
    assert len(machine.replies.sessions) == 1
    assert list(machine.replies.requests) == [b"request"]
    assert len(machine.leases.leases) == 1


def test_the_samples_have_every_kind_of_operation() -> None:
    """A new kind belongs into make_samples.py too, while its format is not released."""
    assert {type(op) for op in OPERATIONS} == set(FILLERS)


def test_what_is_written_today_is_what_the_samples_hold() -> None:
    """When this fails the format changed: before its release make new samples, after it give it a number."""
    driver = sample()
    assert [codec.decode_entry(payload) for payload in driver.payloads] == [
        codec.decode_entry(payload) for payload in payloads()
    ]
    assert b"".join(driver.machine.begin_snapshot().chunks()) == SNAPSHOT.read_bytes()


def test_the_sample_transaction_runs_its_then_branch() -> None:
    """Else the samples would not hold what they seem to."""
    machine = sample().machine
    assert machine.peek(b"then") is not None
    assert any(isinstance(op, Txn) for op in OPERATIONS)
