"""Same entries, same state: on two machines, over snapshots, under another hash seed."""

import os
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.statemachine import codec
from replcache.statemachine.commands import Group
from replcache.statemachine.events import expand
from replcache.statemachine.machine import StateMachine
from tests.helpers.machine import replay
from tests.property.strategies import groups

entries = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 3, 64, 100, 2000, 700_000]), st.lists(groups(), max_size=2)),
    max_size=14,
)


def encode(script: list[tuple[int, list[Group]]]) -> list[bytes]:
    clock_ms = 0
    payloads = []
    for step_ms, entry_groups in script:
        clock_ms += step_ms
        payloads.append(codec.encode_entry(clock_ms, [codec.encode_group(group) for group in entry_groups]))
    return payloads


def outcome(machine: StateMachine, index: int, payload: bytes) -> tuple[object, list[object]]:
    applied = machine.apply(index, payload)
    machine.check_invariants()
    return applied.group_results, list(expand(applied.events))


@settings(max_examples=150, deadline=None)
@given(entries, st.data())
def test_a_restored_machine_goes_on_like_the_original(script: list, data: st.DataObject) -> None:
    """Results, events and digest are equal behind any cut; so is next_due_ms up to its allowed earliness."""
    payloads = encode(script)
    cut = data.draw(st.integers(0, len(payloads)))
    original = replay(payloads[:cut])
    chunks = list(original.begin_snapshot().chunks())
    restored = StateMachine.restore(chunks)
    restored.check_invariants()
    assert list(restored.begin_snapshot().chunks()) == chunks
    assert restored.digest() == original.digest()
    assert (restored.revision, restored.clock_ms, restored.applied_index, restored.chain) == (
        original.revision,
        original.clock_ms,
        original.applied_index,
        original.chain,
    )
    for index, payload in enumerate(payloads[cut:], cut + 1):
        assert outcome(restored, index, payload) == outcome(original, index, payload)
        assert restored.digest() == original.digest()
        assert restored.chain == original.chain


@settings(max_examples=100, deadline=None)
@given(entries, st.data())
def test_a_snapshot_is_what_was_there_when_it_began(script: list, data: st.DataObject) -> None:
    """Entries are applied while the stream is read, a part at a time."""
    payloads = encode(script)
    cut = data.draw(st.integers(0, len(payloads)))
    machine = replay(payloads[:cut])
    expected = machine.digest()
    view = machine.begin_snapshot()
    chunks = view.chunks()
    collected = []
    for index, payload in enumerate(payloads[cut:], cut + 1):
        machine.apply(index, payload)
        if data.draw(st.booleans()):
            collected += [chunk for chunk in [next(chunks, None)] if chunk is not None]
    collected += list(chunks)
    assert StateMachine.restore(collected).digest() == expected


SCRIPT = """
import random, hashlib
from replcache.statemachine.commands import *
from replcache.statemachine.events import expand
from tests.helpers.machine import Driver
source = random.Random(20)
driver = Driver()
trace = hashlib.sha256()
opened = 0
for step in range(400):
    driver.clock_ms += source.choice([0, 1, 40, 300])
    key = b"k%d" % source.randrange(40)
    name, owner = "l%d" % source.randrange(3), b"o%d" % source.randrange(5)
    ops = [
        Set(key, b"1", ttl_ms=source.choice([0, 100, 1000]), tags=("t%d" % source.randrange(4),)),
        Increment(key, source.randrange(5)),
        Delete(b"k%d" % source.randrange(40), want_previous=True),
        LockAcquire(name, owner, 200, source.choice([0, 500]), source.random() < 0.5),
        LockRelease(name, b"o%d" % source.randrange(5)),
        Update(key, merge_json=b'{"x":{"y":1.50}}'),
        Update(key, add_decimal="0.1"),
        SessionOpen(1000),
    ]
    session = source.randrange(opened + 1)
    results = driver.run(
        Command(ops=tuple(ops)),
        Command(ops=tuple(ops[:2]), session_id=session, session_sequence=source.randrange(1, 9)),
        Command(set_many=SetMany([b"k%d" % source.randrange(40) for _ in range(5)], [b"v"] * 5, "", 90)),
    )
    opened = results[0][-1].session_id
    trace.update(repr((results, driver.events)).encode())
driver.machine.check_invariants()
print(driver.machine.digest().hex(), trace.hexdigest(), driver.machine.revision)
"""


def test_the_hash_seed_changes_nothing() -> None:
    outputs = []
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == outputs[2]
    assert int(outputs[0].split()[2]) > 1000
