"""A data directory with damaged files: opened as it was, as an exact prefix of its log, or refused.

Method: a real directory (identity, snapshot, log in several segments) is made once through the product's own
code on the simulated disk; in each example files of a copy are damaged, lost, or swapped, and the copy is
opened as a starting node opens it. Only the StorageError family may come out.
"""

import random

from hypothesis import given
from hypothesis import strategies as st

from replcache.errors import CorruptSnapshot, StorageError
from replcache.raft.membership import encode_configuration
from replcache.raft.port import Member
from replcache.raft.storage_open import OpenedStorage, open_storage
from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group, LockAcquire, SessionOpen, Set
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat
from replcache.statemachine.machine import StateMachine
from tests.fuzz.inputs import damaged, fuzz
from tests.helpers.sim_disk import SimDisk

DATA = "/data"
MEMBERS = (Member("n1", "127.0.0.1:1", "127.0.0.1:2", 7),)
BOOTSTRAP = encode_configuration(MEMBERS)
SEGMENT_BYTES = 2048
SNAPSHOT_INDEX = 40
LAST_INDEX = 60


def opened(disk: SimDisk) -> OpenedStorage:
    return open_storage(
        disk,
        DATA,
        cluster_id=b"fuzzed cluster..",
        name="n1",
        members=MEMBERS,
        rng=random.Random(1),
        segment_bytes=SEGMENT_BYTES,
        allocate_bytes=SEGMENT_BYTES,
    )


def payload(number: int) -> bytes:
    operations = [Set(b"key%d" % (number % 9), bytes([number]) * number, ttl_ms=1000 * (number % 3))]
    if number % 7 == 0:
        operations = [LockAcquire(f"lock{number % 3}", b"owner%d" % number, 5000)]
    elif number % 11 == 0:
        operations = [SessionOpen(60_000)]
    group = Group("n1", 1, number, 0, (Command(tuple(operations)),))
    return codec.encode_entry(1000 * number, [codec.encode_group(group)])


def made() -> tuple[SimDisk, list[tuple[int, int, int, bytes]], StateMachine]:
    """(disk, all log entries, state at the snapshot)."""
    disk = SimDisk()
    storage = opened(disk)
    storage.identity.set_bootstrap(BOOTSTRAP)
    machine = StateMachine()
    entries = [(number, 1 + number // 20, 0, payload(number)) for number in range(1, LAST_INDEX + 1)]
    for entry in entries:
        storage.wal.set_hard_state(entry[1], "n1")
        storage.wal.append([entry])
        storage.wal.sync()
        if entry[0] <= SNAPSHOT_INDEX:
            machine.apply(entry[0], entry[3])
        if entry[0] == SNAPSHOT_INDEX:
            view = machine.begin_snapshot()
            writer = storage.snapshots.writer(SNAPSHOT_INDEX, entry[1], BOOTSTRAP, view.chunks())
            assert writer.run() is not None
    storage.wal.compact_to(SNAPSHOT_INDEX - 5)
    storage.wal.sync()
    storage.close()
    disk.kill()
    return disk, entries, machine


DISK, ENTRIES, MACHINE = made()
DIGEST = MACHINE.digest()
FILES = [path for path in DISK.files() if path.startswith(DATA) and not path.endswith("lock")]
IDENTITY = opened(DISK.clone()).identity


def check(disk: SimDisk) -> None:
    """Opens the directory: an equal state and a prefix of the log, or a refusal that names a file."""
    refusal = ""
    try:
        storage = opened(disk)
    except StorageError as error:
        refusal = str(error)
    if refusal:
        assert DATA in refusal, "a refusal says which file it is about"
        return
    try:
        identity = storage.identity
        assert (identity.incarnation, identity.boot) == (IDENTITY.incarnation, IDENTITY.boot)
        assert identity.bootstrap == BOOTSTRAP
        assert storage.applied_index == SNAPSHOT_INDEX
        assert storage.machine.digest() == DIGEST
        wal = storage.wal
        assert wal.first_index <= SNAPSHOT_INDEX + 1 and wal.last_index <= LAST_INDEX
        for index in range(wal.first_index, wal.last_index + 1):
            assert tuple(wal.entry(index)) == ENTRIES[index - 1]
    finally:
        storage.close()


def test_the_directory_has_all_kinds_of_files() -> None:
    assert {path.split("/")[2] for path in FILES} == {"identity", "snapshots", "wal"}
    assert sum("/wal/" in path for path in FILES) >= 2
    storage = opened(DISK.clone())
    assert (storage.wal.last_index, storage.applied_index) == (LAST_INDEX, SNAPSHOT_INDEX)
    storage.close()
    check(DISK.clone())


@fuzz(600)
@given(st.sampled_from(FILES), st.data())
def test_one_damaged_file(path: str, data: st.DataObject) -> None:
    disk = DISK.clone()
    disk.put(path, data.draw(damaged(DISK.contents(path))))
    check(disk)


@fuzz(60)
@given(st.sampled_from(FILES), st.sampled_from(FILES), st.data())
def test_two_damaged_files(one: str, other: str, data: st.DataObject) -> None:
    disk = DISK.clone()
    for path in (one, other):
        disk.put(path, data.draw(damaged(DISK.contents(path))))
    check(disk)


@fuzz(60)
@given(st.sampled_from(FILES), st.sampled_from(FILES))
def test_one_file_in_the_place_of_another(source: str, target: str) -> None:
    disk = DISK.clone()
    disk.put(target, DISK.contents(source))
    check(disk)


@fuzz(60)
@given(st.sampled_from([path for path in FILES if "/wal/" in path or "/snapshots/" in path]))
def test_a_lost_file(path: str) -> None:
    """All but one: without the newest snapshot and with the log behind it nothing is left that is wrong."""
    disk = DISK.clone()
    disk.unlink(path)
    check(disk)


SNAPSHOT = b"".join(MACHINE.begin_snapshot().chunks())


@fuzz(300)
@given(damaged(SNAPSHOT), st.integers(1, 900))
def test_damaged_contents_of_a_snapshot(content: bytes, chunk_bytes: int) -> None:
    """The state machine's own check, behind the file's checksums."""
    chunks = [content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes)]
    try:
        machine = StateMachine.restore(chunks)
    except (CorruptSnapshot, UnknownFormat, InvariantBroken):
        return
    assert machine.digest() == DIGEST
