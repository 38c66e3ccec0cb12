"""Data directories of every format that a release has written are still opened, and hold the same.

tests/data/formats has one sample a format (docs/upgrade.md); tests/helpers/format_sample.py made them.
"""

import json
import random
import tarfile
import typing
from pathlib import Path

import pytest

from replcache.raft.disk import OsDisk
from replcache.raft.messages import ENTRY_COMMAND
from replcache.raft.storage_open import open_storage
from replcache.statemachine import commands
from replcache.statemachine.machine import StateMachine
from tests.helpers import format_sample
from tests.helpers.raft_cluster import RaftCluster

SAMPLES = sorted(format_sample.FOLDER.iterdir())


@pytest.fixture(params=SAMPLES, ids=lambda folder: folder.name)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, typing.Any]:
    """What the sample held; its data directory is tmp_path/n1."""
    with tarfile.open(request.param / "data.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected: dict[str, typing.Any] = json.loads((request.param / "expected.json").read_text("utf-8"))
    return expected


def values_of(machine: StateMachine) -> dict[str, str]:
    return {key.decode(): entry.value.hex() for key, entry in machine.scan(b"", b"", 1000)[0]}


def test_snapshot_and_log_of_the_sample_give_its_state(sample: dict[str, typing.Any], tmp_path: Path) -> None:
    opened = open_storage(
        OsDisk(),
        str(tmp_path / format_sample.NODE),
        cluster_id=format_sample.CLUSTER_ID,
        name=format_sample.NODE,
        members=(),
        rng=random.Random(1),
    )
    try:
        assert opened.applied_index == sample["snapshot_index"]
        assert [member.name for member in opened.configuration] == [format_sample.NODE]
        for index in range(opened.applied_index + 1, sample["applied_index"] + 1):
            _, _, kind, payload = opened.wal.entry(index)
            if kind == ENTRY_COMMAND:
                opened.machine.apply(index, payload)
        assert opened.machine.revision == sample["revision"]
        assert values_of(opened.machine) == sample["values"]
        assert opened.machine.digest().hex() == sample["digest"]
    finally:
        opened.close()


async def test_a_node_of_today_goes_on_with_the_sample(sample: dict[str, typing.Any], tmp_path: Path) -> None:
    cluster = RaftCluster(tmp_path, (format_sample.NODE,))
    await cluster.start()
    try:
        node = await cluster.wait_leader()
        await cluster.set(node, b"new", b"one")
        assert values_of(node.machine) == sample["values"] | {"new": b"one".hex()}
        assert node.machine.held_token("keeper", b"me")
    finally:
        await cluster.stop()


def test_samples_have_every_kind_of_operation() -> None:
    ops = (*format_sample.FIRST, *format_sample.second(1, [1, 2], [1, 2]))
    missing = {kind.__name__ for kind in typing.get_args(commands.Op)} - {type(op).__name__ for op in ops}
    assert not missing, f"make a new sample with these: {missing}"
