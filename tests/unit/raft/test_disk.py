"""The Disk protocol: one suite for the system's files and for the simulated disk; simulated faults."""

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from replcache.raft.disk import BUFFERS_PER_WRITE_MAX, Disk, OpenMode, OsDisk
from tests.helpers.sim_disk import PowerCut, SimDisk


@pytest.fixture(params=["os", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    """A disk and a directory on it."""
    disk: Disk = OsDisk() if request.param == "os" else SimDisk()
    directory = f"{tmp_path}/a/b"
    disk.mkdir(directory)
    return disk, directory


def test_write_read_truncate(place: tuple[Disk, str]) -> None:
    disk, directory = place
    file = disk.open(f"{directory}/f", "create")
    file.write(0, [b"hello ", b"", b"world"])
    file.write(20, [b"far"])
    assert file.size() == 23
    assert file.read(0, 100) == b"hello world" + bytes(9) + b"far"
    assert file.read(6, 5) == b"world"
    assert file.read(23, 5) == b""
    file.truncate(8)
    file.truncate(10)
    assert file.read(0, 100) == b"hello wo\0\0"
    file.fdatasync()
    file.forget_cache()
    assert file.read(0, 100) == b"hello wo\0\0"
    file.close()
    file.close()


def test_write_of_more_buffers_than_one_call_takes(place: tuple[Disk, str]) -> None:
    disk, directory = place
    file = disk.open(f"{directory}/f", "create")
    buffers = [str(number).encode() for number in range(3 * BUFFERS_PER_WRITE_MAX + 5)]
    file.write(3, buffers)
    assert file.read(3, 1 << 20) == b"".join(buffers)


def test_allocate_grows_with_zeros_and_keeps_contents(place: tuple[Disk, str]) -> None:
    disk, directory = place
    file = disk.open(f"{directory}/f", "create")
    file.write(0, [b"abc"])
    file.allocate(0, 4096)
    assert file.size() == 4096
    assert file.read(0, 5000) == b"abc" + bytes(4093)
    file.allocate(0, 100)
    assert file.size() == 4096


def test_open_modes(place: tuple[Disk, str]) -> None:
    disk, directory = place
    path = f"{directory}/f"
    modes: list[OpenMode] = ["read", "append"]
    for mode in modes:
        with pytest.raises(FileNotFoundError):
            disk.open(path, mode)
    disk.open(path, "create").write(0, [b"old"])
    with pytest.raises(OSError):
        disk.open(path, "read").write(0, [b"x"])
    assert disk.open(path, "append").size() == 3
    assert disk.open(path, "create").size() == 0


def test_names(place: tuple[Disk, str]) -> None:
    disk, directory = place
    for name in "cab":
        disk.open(f"{directory}/{name}", "create").write(0, [name.encode()])
    assert disk.listdir(directory) == ["a", "b", "c"]
    disk.rename(f"{directory}/a", f"{directory}/b")
    disk.unlink(f"{directory}/c")
    disk.fsync_dir(directory)
    assert disk.listdir(directory) == ["b"]
    assert disk.open(f"{directory}/b", "read").read(0, 9) == b"a"
    assert disk.exists(f"{directory}/b")
    assert not disk.exists(f"{directory}/a")
    for missing in (lambda: disk.unlink(f"{directory}/x"), lambda: disk.listdir(f"{directory}/x")):
        with pytest.raises(FileNotFoundError):
            missing()
    with pytest.raises(FileNotFoundError):
        disk.rename(f"{directory}/x", f"{directory}/y")
    disk.mkdir(directory)
    assert disk.listdir(directory.rpartition("/")[0]) == ["b"]


def test_open_file_survives_unlink_and_replacement(place: tuple[Disk, str]) -> None:
    disk, directory = place
    disk.open(f"{directory}/f", "create").write(0, [b"old"])
    disk.open(f"{directory}/g", "create").write(0, [b"new"])
    file = disk.open(f"{directory}/f", "read")
    disk.rename(f"{directory}/g", f"{directory}/f")
    assert file.read(0, 9) == b"old"
    disk.unlink(f"{directory}/f")
    assert file.read(0, 9) == b"old"


def test_lock_is_exclusive_until_closed(place: tuple[Disk, str]) -> None:
    disk, directory = place
    lock = disk.lock(f"{directory}/lock")
    with pytest.raises(BlockingIOError):
        disk.lock(f"{directory}/lock")
    lock.close()
    lock.close()
    disk.lock(f"{directory}/lock").close()


# --- the simulated disk's faults ---


def sim_file(disk: SimDisk, synced: bytes = b"") -> str:
    disk.mkdir("/d")
    path = "/d/f"
    file = disk.open(path, "create")
    file.write(0, [synced])
    file.fdatasync()
    disk.fsync_dir("/d")
    return path


def test_power_cut_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    seen: set[bytes] = set()
    for seed in range(60):
        disk = SimDisk()
        path = sim_file(disk, b"a" * 1500)
        disk.open(path, "append").write(1000, [b"b" * 1000])
        disk.power_cut(random.Random(seed))
        data = disk.contents(path)
        assert data[:1000] == b"a" * 1000
        # Sectors end at 1024, 1536 and 2048.
        assert set(data[1000:1024]) in ({ord("a")}, {ord("b")})
        seen.add(bytes(sorted(set(data[1000:1024]))) + bytes(sorted(set(data[1536:]))))
    assert len(seen) >= 4, "first and last sector are lost independently"


def test_power_cut_may_lose_names_that_were_not_synced() -> None:
    outcomes = set()
    for seed in range(60):
        disk = SimDisk()
        path = sim_file(disk, b"old")
        file = disk.open("/d/g", "create")
        file.write(0, [b"new"])
        file.fdatasync()
        disk.rename("/d/g", path)
        disk.power_cut(random.Random(seed))
        outcomes.add(tuple((name, disk.contents(name)) for name in disk.files()))
    assert (("/d/f", b"old"),) in outcomes, "the creation of g and the rename are both lost"
    assert (("/d/f", b"new"),) in outcomes
    assert (("/d/f", b"old"), ("/d/g", b"new")) in outcomes


def test_kill_keeps_the_page_cache_and_ends_files_and_locks() -> None:
    disk = SimDisk()
    path = sim_file(disk)
    file = disk.open(path, "append")
    file.write(0, [b"x"])
    lock = disk.lock("/d/lock")
    disk.kill()
    with pytest.raises(OSError):
        file.write(0, [b"y"])
    lock.close()
    second = disk.lock("/d/lock")
    lock.close()
    with pytest.raises(BlockingIOError):
        disk.lock("/d/lock")
    second.close()
    assert disk.contents(path) == b"x"
    disk.power_cut_with([False] * disk.unsynced())
    assert disk.contents(path) == b""


def test_failed_sync_lies_afterwards() -> None:
    """As Linux does: the page cache shows the data, the next sync says OK, the medium never had it."""
    disk = SimDisk()
    path = sim_file(disk, b"old")
    file = disk.open(path, "append")

    def fail(operation: str, _: str) -> None:
        if operation == "fdatasync":
            raise OSError(errno.EIO, "injected")

    file.write(0, [b"new"])
    disk.fault = fail
    with pytest.raises(OSError):
        file.fdatasync()
    disk.fault = None
    file.fdatasync()
    assert disk.contents(path) == b"new"
    file.forget_cache()
    assert disk.contents(path) == b"old"


def test_full_disk_takes_a_part() -> None:
    disk = SimDisk()
    path = sim_file(disk, b"abc")
    disk.capacity_bytes = 10
    file = disk.open(path, "append")
    with pytest.raises(OSError) as caught:
        file.write(0, [b"x" * 20])
    assert caught.value.errno == errno.ENOSPC
    assert disk.contents(path) == b"x" * 10
    with pytest.raises(OSError):
        file.allocate(0, 11)
    file.write(0, [b"y" * 10])
    disk.unlink(path)
    disk.open(path, "create").write(0, [b"z" * 10])


def test_stop_before_stops_for_good() -> None:
    disk = SimDisk()
    path = sim_file(disk)
    disk.stop_before = disk.operations + 2
    file = disk.open(path, "append")
    file.write(0, [b"1"])
    rest: list[Callable[[], None]] = [
        lambda: file.write(1, [b"2"]),
        file.fdatasync,
        lambda: disk.unlink(path),
    ]
    for operation in rest:
        with pytest.raises(PowerCut):
            operation()
    assert disk.contents(path) == b"1"


def test_flipped_bit_is_on_the_medium() -> None:
    disk = SimDisk()
    path = sim_file(disk, b"\0\0")
    disk.flip_bit(path, 9)
    assert disk.contents(path) == b"\0\2"
    disk.power_cut_with([])
    assert disk.contents(path) == b"\0\2"


def test_clone_is_independent_and_keeps_what_is_unsynced() -> None:
    disk = SimDisk()
    path = sim_file(disk, b"old")
    disk.open(path, "append").write(0, [b"new"])
    copies = [disk.clone(), disk.clone()]
    copies[0].power_cut_with([False])
    copies[1].power_cut_with([True])
    assert [copy.contents(path) for copy in copies] == [b"old", b"new"]
    assert disk.contents(path) == b"new"
    assert disk.unsynced() == 1
