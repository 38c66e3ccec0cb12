"""The snapshot store: writing, serving, receiving, loading, and what happens to damaged files."""

import errno
import random
from collections.abc import Iterator

import pytest

from replcache.errors import CorruptSnapshot, StorageError
from replcache.raft.disk import DiskFull, OutOfFiles
from replcache.raft.snapshots import KEPT_SNAPSHOTS, SnapshotInfo, SnapshotStore, snapshot_name
from tests.helpers.sim_disk import SimDisk

CLUSTER = b"cluster-a"
DIRECTORY = "/data/snapshots"
CHUNKS = [b"first" * 200, b"second", b"\0" * 3000]


def open_store(disk: SimDisk, cluster_id: bytes = CLUSTER) -> SnapshotStore:
    return SnapshotStore.open(disk, DIRECTORY, cluster_id)


def write(store: SnapshotStore, index: int, term: int = 1, chunks: list[bytes] = CHUNKS) -> SnapshotInfo:
    info = store.writer(index, term, b"members", chunks).run()
    assert info is not None
    return info


def raw(store: SnapshotStore, info: SnapshotInfo) -> bytes:
    file = store.open_raw(info)
    try:
        return file.read(0, file.size)
    finally:
        file.close()


def send(store: SnapshotStore, info: SnapshotInfo, data: bytes, step: int = 700) -> SnapshotInfo | None:
    receiver = store.receiver(info.index, info.term, len(data))
    assert receiver is not None
    while not receiver.is_whole:
        offset = receiver.offset
        assert receiver.write(offset, data[offset : offset + step]) == min(offset + step, len(data))
    return receiver.install()


def names(disk: SimDisk) -> list[str]:
    return disk.listdir(DIRECTORY)


def test_empty_store() -> None:
    assert open_store(SimDisk()).latest() is None


def test_written_snapshot_survives_a_power_cut_and_reads_back() -> None:
    disk = SimDisk()
    info = write(open_store(disk), 7, 3)
    disk.power_cut_with([False] * disk.unsynced())
    store = open_store(disk)
    latest = store.latest()
    assert latest == info
    assert (latest.index, latest.term, latest.configuration) == (7, 3, b"members")
    loaded = store.load(latest)
    assert list(loaded.chunks()) == CHUNKS
    loaded.close()


def test_state_without_chunks_is_a_snapshot_too() -> None:
    store = open_store(SimDisk())
    info = write(store, 1, 1, [])
    assert list(store.load(info).chunks()) == []


def test_older_or_equal_snapshot_is_refused() -> None:
    """H12: an older one that finishes late replaces nothing."""
    disk = SimDisk()
    store = open_store(disk)
    write(store, 5)

    def chunks_while_a_newer_one_is_written() -> Iterator[bytes]:
        yield b"x"
        write(store, 9)

    assert store.writer(7, 1, b"", chunks_while_a_newer_one_is_written()).run() is None
    assert store.writer(9, 1, b"", CHUNKS).run() is None
    assert store.writer(8, 1, b"", CHUNKS).run() is None
    assert store.receiver(9, 1, 100) is None
    assert names(disk) == [snapshot_name(5, 1), snapshot_name(9, 1)]


def test_two_newest_are_kept_and_open_files_stay_readable() -> None:
    disk = SimDisk()
    store = open_store(disk)
    first = write(store, 1)
    whole = raw(store, first)
    served = store.open_raw(first)
    half = served.read(0, 100)
    for index in range(2, 6):
        write(store, index)
    assert names(disk) == [snapshot_name(4, 1), snapshot_name(5, 1)]
    assert len(names(disk)) == KEPT_SNAPSHOTS
    assert half + served.read(100, served.size) == whole
    served.close()


def write_elsewhere(index: int) -> tuple[SnapshotStore, SnapshotInfo]:
    store = open_store(SimDisk())
    return store, write(store, index)


def test_failed_writer_leaves_nothing_behind() -> None:
    disk = SimDisk()
    store = open_store(disk)

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise RuntimeError("the state machine is broken")

    with pytest.raises(RuntimeError):
        store.writer(3, 1, b"", broken()).run()
    assert names(disk) == []


def test_full_disk_leaves_nothing_behind_and_can_be_tried_again() -> None:
    disk = SimDisk()
    store = open_store(disk)
    disk.capacity_bytes = 2000
    with pytest.raises(DiskFull):
        write(store, 3)
    assert names(disk) == []
    disk.capacity_bytes = None
    write(store, 3)


@pytest.mark.parametrize("operation", ["create", "write", "fdatasync", "rename", "fsync_dir"])
def test_disk_error_is_a_storage_error(operation: str) -> None:
    disk = SimDisk()
    store = open_store(disk)

    def fail(happening: str, _: str) -> None:
        if happening == operation:
            raise OSError(errno.EIO, "injected")

    disk.fault = fail
    with pytest.raises(StorageError) as caught:
        write(store, 3)
    assert not isinstance(caught.value, DiskFull)
    disk.fault = None
    assert not [name for name in names(disk) if name.endswith(".tmp")]


@pytest.mark.parametrize("operation", ["create", "fsync_dir"])
def test_out_of_files_leaves_nothing_behind_and_can_be_tried_again(operation: str) -> None:
    """Above all no name that is not durable: it would count as a snapshot that the log may rely on."""
    sender, info = write_elsewhere(3)
    data = raw(sender, info)
    disk = SimDisk()
    store = open_store(disk)

    def fail(happening: str, _: str) -> None:
        if happening == operation:
            raise OSError(errno.EMFILE, "injected")

    for attempt in (lambda: write(store, 3), lambda: send(store, info, data)):
        disk.fault = fail
        with pytest.raises(OutOfFiles):
            attempt()
        assert names(disk) == []
    disk.fault = None
    assert send(store, info, data) is not None
    assert store.latest() is not None


def test_stale_temporary_files_are_removed_at_start() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, 3)
    receiver = store.receiver(9, 1, 100)
    assert receiver is not None
    receiver.write(0, b"part")
    assert len(names(disk)) == 2
    disk.kill()
    open_store(disk)
    assert names(disk) == [snapshot_name(3, 1)]


def test_receiving_in_pieces_with_gaps_duplicates_and_resume() -> None:
    sender, info = write_elsewhere(50)
    data = raw(sender, info)
    disk = SimDisk()
    store = open_store(disk)
    receiver = store.receiver(50, 1, len(data))
    assert receiver is not None
    assert receiver.write(100, data[100:200]) == 0, "a gap"
    assert receiver.write(0, data[:100]) == 100
    assert receiver.write(0, data[:100]) == 100, "a duplicate"
    assert receiver.write(50, data[50:150]) == 100, "an overlap"
    again = store.receiver(50, 1, len(data))
    assert again is receiver, "resumed"
    assert again.write(100, data[100:]) == len(data)
    assert store.latest() is None
    installed = again.install()
    assert installed is not None
    assert (installed.index, installed.configuration, installed.size) == (50, b"members", len(data))
    assert not again.usable
    disk.power_cut_with([False] * disk.unsynced())
    reopened = open_store(disk)
    assert reopened.latest() == installed
    assert list(reopened.load(installed).chunks()) == CHUNKS


def test_another_snapshot_abandons_the_unfinished_one() -> None:
    disk = SimDisk()
    store = open_store(disk)
    first = store.receiver(50, 1, 100)
    assert first is not None
    first.write(0, b"part")
    second = store.receiver(60, 1, 100)
    assert second is not None
    assert second.offset == 0
    assert not first.usable
    assert names(disk) == []
    third = store.receiver(60, 1, 101)
    assert third is not second, "another size is another file"


def test_received_snapshot_that_was_overtaken_is_dropped() -> None:
    sender, info = write_elsewhere(50)
    data = raw(sender, info)
    disk = SimDisk()
    store = open_store(disk)
    receiver = store.receiver(50, 1, len(data))
    assert receiver is not None
    receiver.write(0, data)
    write(store, 55)
    assert receiver.install() is None
    assert names(disk) == [snapshot_name(55, 1)]


def test_received_snapshot_must_be_what_was_announced() -> None:
    sender, info = write_elsewhere(50)
    data = raw(sender, info)
    disk = SimDisk()
    store = open_store(disk)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    with pytest.raises(CorruptSnapshot, match="checksum"):
        send(store, info, bytes(damaged))
    with pytest.raises(CorruptSnapshot, match="renamed or copied"):
        send(store, SnapshotInfo(51, 1, b"", b"", 0, ""), data)
    with pytest.raises(CorruptSnapshot, match="cut off"):
        send(store, info, data[:-60])
    with pytest.raises(CorruptSnapshot, match="an empty file"):
        send(store, info, b"")
    other = open_store(SimDisk(), b"cluster-b")
    with pytest.raises(StorageError, match=r"cluster-a.*cluster-b"):
        send(other, info, data)
    receiver = store.receiver(50, 1, 10)
    assert receiver is not None
    with pytest.raises(CorruptSnapshot, match="announced"):
        receiver.write(0, data[:11])
    assert store.latest() is None
    assert names(disk) == []
    assert send(store, info, data) is not None, "a good one is taken afterwards"


def test_failed_sync_while_receiving_installs_nothing() -> None:
    sender, info = write_elsewhere(50)
    data = raw(sender, info)
    disk = SimDisk()
    store = open_store(disk)

    def fail(happening: str, _: str) -> None:
        if happening == "fdatasync":
            raise OSError(errno.EIO, "injected")

    disk.fault = fail
    with pytest.raises(StorageError):
        send(store, info, data)
    disk.fault = None
    assert store.latest() is None
    assert names(disk) == []


def test_damaged_newest_snapshot_is_refused_although_an_older_one_is_there() -> None:
    """H30: the log may be compacted behind the older one; never start from it, and never from nothing."""
    disk = SimDisk()
    store = open_store(disk)
    write(store, 3)
    info = write(store, 5)
    disk.flip_bit(info.path, 100)
    with pytest.raises(CorruptSnapshot) as caught:
        open_store(disk).latest()
    for fact in (info.path, "offset 0", "learner"):
        assert fact in str(caught.value)


def test_snapshot_of_another_cluster_or_under_another_name_is_refused() -> None:
    disk = SimDisk()
    write(open_store(disk), 5)
    with pytest.raises(StorageError, match=r"cluster-a.*cluster-b"):
        open_store(disk, b"cluster-b").latest()
    disk.rename(f"{DIRECTORY}/{snapshot_name(5, 1)}", f"{DIRECTORY}/{snapshot_name(6, 1)}")
    with pytest.raises(CorruptSnapshot, match="renamed or copied"):
        open_store(disk).latest()


def test_every_flip_and_every_truncation_is_refused() -> None:
    disk = SimDisk()
    store = open_store(disk)
    info = write(store, 5, 2, [b"abc" * 100, b"\0" * 80, b"z"])
    good = raw(store, info)
    damaged = [good[:size] for size in range(len(good))] + [good + b"\0", good + good]
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        disk.put(info.path, data)
        with pytest.raises(StorageError):
            store.load(info)
    disk.put(info.path, good)
    assert list(store.load(info).chunks()) == [b"abc" * 100, b"\0" * 80, b"z"]


def test_good_header_before_the_chunks_of_another_snapshot_is_refused() -> None:
    """Every part has a good checksum of its own; only the one over the whole tells."""
    disk = SimDisk()
    store = open_store(disk)
    first, second = write(store, 5), write(store, 6)
    header_bytes = raw(store, first).index(b"members") + len(b"members") + 4
    mixed = raw(store, second)[:header_bytes] + raw(store, first)[header_bytes:]
    disk.put(second.path, mixed)
    assert store.latest() == second
    with pytest.raises(CorruptSnapshot, match="footer"):
        store.load(second)


def test_random_states_round_trip() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        chunks = [rng.randbytes(rng.choice((1, 7, 512, 5000))) for _ in range(rng.randrange(20))]
        store = open_store(SimDisk())
        info = store.writer(rng.getrandbits(63), rng.getrandbits(63), rng.randbytes(50), chunks).run()
        assert info is not None
        assert list(store.load(info).chunks()) == chunks, f"seed {seed}"
        other = open_store(SimDisk())
        received = send(other, info, raw(store, info), rng.choice((1000, 4096, 10**6)))
        assert received is not None
        assert received.configuration == info.configuration
