"""A state as a file and back: equal to the last byte, or refused."""

import random
from pathlib import Path

import pytest

from replcache.errors import CorruptSnapshot, StorageError
from replcache.raft.backup import BackupInfo, encoded, read_backup, restore_backup
from replcache.raft.disk import OsDisk
from replcache.raft.membership import encode_configuration
from replcache.raft.port import Member
from replcache.raft.snapshot_format import FOOTER_BYTES, SnapshotHeader, encode_header
from replcache.raft.storage_open import open_storage
from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group, LockAcquire, Set
from replcache.statemachine.machine import StateMachine

OLD, NEW = b"the old cluster!", b"the new cluster!"
OLD_MEMBERS = (Member("a", "h:1", "h:2", 7),)
MEMBERS = tuple(Member(name, f"{name}:1", f"{name}:2") for name in ("n1", "n2", "n3"))
INDEX, TERM = 41, 9
DISK = OsDisk()


def machine_with_data() -> StateMachine:
    machine = StateMachine()
    ops = [Set(b"key %d" % i, b"value %d" % i * 50) for i in range(200)]
    commands = (Command(ops=tuple(ops)), Command(ops=(LockAcquire("lock", b"me", 60_000),)))
    machine.apply(INDEX - 1, codec.encode_entry(5, [codec.encode_group(Group("a", 3, 1, 1, commands))]))
    return machine


def save(path: Path, machine: StateMachine) -> bytes:
    header = SnapshotHeader(OLD, INDEX, TERM, encode_configuration(OLD_MEMBERS))
    path.write_bytes(b"".join(encoded(header, machine.begin_snapshot().chunks(4096))))
    return path.read_bytes()


def restore(file: Path, directory: Path, name: str, cluster_id: bytes = NEW) -> BackupInfo:
    return restore_backup(DISK, str(file), str(directory), cluster_id=cluster_id, name=name, members=MEMBERS)


def test_three_nodes_restored_apart_have_the_state_and_agree_on_the_founders(tmp_path: Path) -> None:
    machine = machine_with_data()
    save(tmp_path / "file", machine)
    founders = set()
    for name in ("n1", "n2", "n3"):
        info = restore(tmp_path / "file", tmp_path / name / "data", name)
        assert (info.index, info.term, info.keys, info.digest) == (INDEX, TERM, 200, machine.digest())
        storage = open_storage(
            DISK,
            str(tmp_path / name / "data"),
            cluster_id=NEW,
            name=name,
            members=MEMBERS,
            rng=random.Random(1),
        )
        try:
            assert storage.machine.digest() == machine.digest()
            assert (storage.applied_index, storage.wal.term, storage.wal.last_index) == (INDEX, TERM, INDEX)
            assert storage.identity.boot == 1
            assert (
                storage.identity.incarnation == {m.name: m.incarnation for m in storage.configuration}[name]
            )
            founders.add(storage.configuration)
        finally:
            storage.close()
    assert len(founders) == 1
    assert len({member.incarnation for member in founders.pop()}) == 3
    # Another new cluster from the same file is another one.
    restore(tmp_path / "file", tmp_path / "other", "n1", b"a third cluster!")


def test_damage_is_found_in_every_part_of_the_file_and_nothing_is_left_behind(tmp_path: Path) -> None:
    data = save(tmp_path / "file", machine_with_data())
    head = len(encode_header(SnapshotHeader(OLD, INDEX, TERM, encode_configuration(OLD_MEMBERS))))
    rng = random.Random(4)
    places = {
        "header": range(head),
        "first chunk's frame": range(head, head + 8),
        "chunks": rng.sample(range(head + 8, len(data) - FOOTER_BYTES), 150),
        "footer": range(len(data) - FOOTER_BYTES, len(data)),
    }
    bad = tmp_path / "bad"
    for part, offsets in places.items():
        for offset in offsets:
            flipped = bytearray(data)
            flipped[offset] ^= 1 << rng.randrange(8)
            bad.write_bytes(flipped)
            with pytest.raises((CorruptSnapshot, StorageError)):
                read_backup(DISK, str(bad))
                pytest.fail(f"a flipped bit at {offset}, {part}, was not noticed")
    for cut in (0, 5, head, head + 7, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:cut])
        with pytest.raises(CorruptSnapshot):
            restore(bad, tmp_path / "data", "n1")
    bad.write_bytes(data + b"x")
    with pytest.raises(CorruptSnapshot):
        restore(bad, tmp_path / "data", "n1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "file"]


def test_a_restore_overwrites_nothing_and_never_continues_the_old_cluster(tmp_path: Path) -> None:
    save(tmp_path / "file", machine_with_data())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "something").write_text("")
    with pytest.raises(StorageError, match="not empty"):
        restore(tmp_path / "file", tmp_path / "data", "n1")
    (tmp_path / "data" / "something").unlink()
    with pytest.raises(StorageError, match="another cluster_name"):
        restore(tmp_path / "file", tmp_path / "data", "n1", OLD)
    with pytest.raises(StorageError, match="n9 is not among"):
        restore(tmp_path / "file", tmp_path / "data", "n9")
    with pytest.raises(StorageError, match="can't be read"):
        restore(tmp_path / "missing", tmp_path / "data", "n1")
    restore(tmp_path / "file", tmp_path / "data", "n1")
    with pytest.raises(StorageError, match="not empty"):
        restore(tmp_path / "file", tmp_path / "data", "n1")
