"""Power cut before every disk operation of the snapshot store and of the identity, with every legal outcome.

Promises: a snapshot that run() or install() has returned is there, whole; what was there before is there
until then, whole; a directory never holds a snapshot that does not load; the boot counter never repeats.
"""

import random
from collections.abc import Callable

import pytest

from replcache.errors import StorageError
from replcache.raft.identity import Identity
from replcache.raft.snapshots import SnapshotInfo, SnapshotStore
from tests.helpers.crash_outcomes import outcomes
from tests.helpers.sim_disk import PowerCut, SimDisk

DIRECTORY = "/data/snapshots"


def open_store(disk: SimDisk) -> SnapshotStore:
    return SnapshotStore.open(disk, DIRECTORY, b"c")


def chunks_of(index: int) -> list[bytes]:
    return [bytes([index]) * 700, b"%d" % index, bytes(600)]


def write(store: SnapshotStore, index: int) -> SnapshotInfo:
    info = store.writer(index, 1, b"members of %d" % index, chunks_of(index)).run()
    assert info is not None
    return info


def received_bytes(index: int) -> bytes:
    store = open_store(SimDisk())
    file = store.open_raw(write(store, index))
    return file.read(0, file.size)


def script(disk: SimDisk, done: list[int]) -> None:
    """Two written snapshots, one received in pieces, one more; `done` gets each that is promised."""
    store = open_store(disk)
    done.append(write(store, 3).index)
    done.append(write(store, 5).index)
    data = received_bytes(8)
    receiver = store.receiver(8, 1, len(data))
    assert receiver is not None
    for offset in range(0, len(data), 600):
        receiver.write(offset, data[offset : offset + 600])
    installed = receiver.install()
    assert installed is not None
    done.append(installed.index)
    done.append(write(store, 9).index)


def check_store(disk: SimDisk, promised: int, label: str) -> None:
    store = open_store(disk)
    latest = store.latest()
    index = latest.index if latest is not None else 0
    assert index >= promised, f"{label}: snapshot {promised} was promised, {index} is there"
    for name in disk.listdir(DIRECTORY):
        assert name.endswith(".snapshot"), f"{label}: {name} is left behind"
    if latest is not None:
        assert list(store.load(latest).chunks()) == chunks_of(latest.index), label
        assert latest.configuration == b"members of %d" % latest.index
    write(store, index + 1)
    disk.power_cut_with([False] * disk.unsynced())
    again = open_store(disk).latest()
    assert again is not None
    assert again.index == index + 1, label


def test_snapshots_survive_a_power_cut_before_every_operation() -> None:
    rng = random.Random(1)
    disk = SimDisk()
    script(disk, [])
    total = disk.operations
    assert total > 25
    for operation in range(1, total + 2):
        disk = SimDisk()
        disk.stop_before = operation
        done: list[int] = []
        stopped = False
        try:
            script(disk, done)
        except PowerCut:
            stopped = True
        assert stopped == (operation <= total)
        for kept in outcomes(disk.unsynced(), rng):
            after = disk.clone()
            after.power_cut_with(kept)
            check_store(after, max(done, default=0), f"stopped before operation {operation}, kept {kept}")


def start(disk: SimDisk, seed: int) -> Identity:
    return Identity.open(disk, "/data", b"c", "n1", random.Random(seed))


def identity_script(disk: SimDisk, seen: list[tuple[int, int, bytes | None]]) -> None:
    """Three starts, bootstrap set in the second; `seen` gets what was told to the caller."""
    for boot in range(3):
        identity = start(disk, boot)
        seen.append((identity.incarnation, identity.boot, identity.bootstrap))
        if boot == 1:
            identity.set_bootstrap(b"members" * 100)
            seen.append((identity.incarnation, identity.boot, identity.bootstrap))
        identity.close()


def test_identity_survives_a_power_cut_before_every_operation() -> None:
    rng = random.Random(1)
    disk = SimDisk()
    identity_script(disk, [])
    total = disk.operations
    for operation in range(1, total + 2):
        disk = SimDisk()
        disk.stop_before = operation
        seen: list[tuple[int, int, bytes | None]] = []
        try:
            identity_script(disk, seen)
        except PowerCut:
            pass
        for kept in outcomes(disk.unsynced(), rng):
            after = disk.clone()
            after.power_cut_with(kept)
            identity = start(after, 99)
            label = f"stopped before operation {operation}, kept {kept}"
            if seen:
                incarnation, boot, bootstrap = seen[-1]
                assert identity.incarnation == incarnation, label
                assert identity.boot > boot, f"{label}: a boot number would be used twice"
                assert bootstrap is None or identity.bootstrap == bootstrap, label


@pytest.mark.parametrize("seed", range(20))
def test_identity_with_failing_disk_never_claims_what_is_not_there(seed: int) -> None:
    """Random errors at random operations: what the caller was told is there after a power cut."""
    rng = random.Random(seed)
    disk = SimDisk()
    told: tuple[int, int] | None = None

    def fail(operation: str, path: str) -> None:
        if rng.random() < 0.15:
            raise OSError(5, f"injected into {operation} of {path}")

    for attempt in range(30):
        disk.fault = fail
        identity = _start_or_none(lambda attempt=attempt: start(disk, attempt))  # type: ignore[misc]
        disk.fault = None
        if identity is not None:
            if told is not None:
                assert identity.incarnation == told[0], f"seed {seed}"
                assert identity.boot > told[1], f"seed {seed}"
            told = (identity.incarnation, identity.boot)
        if rng.random() < 0.5:
            disk.power_cut(rng)
        else:
            disk.kill()
    assert told is not None


def _start_or_none(begin: Callable[[], Identity]) -> Identity | None:
    try:
        return begin()
    except StorageError:
        return None
