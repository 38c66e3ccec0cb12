"""Hashes at one index, and who has diverged."""

import asyncio
import json

import pytest

from replcache.clock import SystemClock
from replcache.errors import DeadlineExceeded, OutOfRange
from replcache.observability.metrics import Metrics
from replcache.server import state_hash
from replcache.server.state_hash import StateCheck, StateHasher, compared
from replcache.statemachine.commands import Command, Set
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.wait import scaled

CLOCK = SystemClock()


def said(digest: str, index: int = 7) -> bytes:
    return json.dumps({"index": index, "digest": digest}).encode()


def soon() -> float:
    return CLOCK.now() + scaled(10)


async def put(raft: FakeRaft, value: bytes) -> None:
    await raft.propose(Command(ops=(Set(b"key", value),)), soon())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"a": said("x"), "b": said("x"), "c": said("x")}, (7, ("a", "b", "c"), ())),
        ({"a": said("x"), "b": said("y"), "c": said("x")}, (7, ("a", "c"), ("b",))),
        ({"a": said("x"), "b": said("y")}, (7, (), ("a", "b"))),
        ({"a": said("x"), "b": b"", "c": said("x")}, (7, ("a", "c"), ())),
        ({"a": said("x"), "b": said("y", 8), "c": said("x")}, (7, ("a", "c"), ())),
        ({"a": said("x"), "b": b""}, None),
        ({"a": said("x"), "b": said("y", 8)}, None),
        ({}, None),
    ],
)
def test_the_minority_has_diverged(answers: dict[str, bytes], expected: object) -> None:
    assert compared(answers) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff", b"[]", b"7", b"{}", b"[" * 100_000, b"9" * 5000, b'{"index": 7}',
        b'{"index": [7], "digest": "x"}', b'{"index": 7, "digest": ["x"]}', b'{"index": 7.0, "digest": "y"}',
        b'{"index": Infinity, "digest": "x"}', b'{"index": true, "digest": "x"}',
        b'{"index": 1' + b"0" * 4000 + b', "digest": "x"}', b'{"index": -1, "digest": "x"}',
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_left_out(answer: bytes) -> None:
    """An error out of it would stop the leader that asked."""
    assert compared({"a": said("x"), "b": answer, "c": said("x")}) == (7, ("a", "c"), ())


async def test_hash_is_that_of_exactly_the_index() -> None:
    raft = FakeRaft()
    hasher = StateHasher(raft, CLOCK)
    await put(raft, b"1")
    wanted = asyncio.ensure_future(hasher.at(3, soon()))
    await asyncio.sleep(0)
    await put(raft, b"2")
    await put(raft, b"3")
    expected = raft.machine.digest()
    await put(raft, b"4")
    assert await wanted == (3, expected)
    assert await hasher.at(0, soon()) == (4, raft.machine.digest())
    assert await hasher.at(4, soon()) == (4, raft.machine.digest())
    with pytest.raises(OutOfRange):
        await hasher.at(3, soon())
    with pytest.raises(DeadlineExceeded):
        await hasher.at(99, CLOCK.now() + 0.05)
    await put(raft, b"5")
    assert raft.machine.statistics().snapshots_being_read == 0


@pytest.mark.parametrize("question", [b"", b"\xff", b"[]", b"{}", b'{"index": Infinity}', b"[" * 100_000])
async def test_a_question_that_is_none_is_answered_with_nothing(question: bytes) -> None:
    """An error out of it would stop the node that was asked."""
    assert await StateHasher(FakeRaft(), CLOCK).answer(question) == b""


async def test_a_divergence_is_counted_and_stays_visible_until_it_is_gone() -> None:
    raft, metrics = FakeRaft(), Metrics()
    await put(raft, b"1")
    check = StateCheck(raft, StateHasher(raft, CLOCK), metrics, CLOCK, 0.0)
    assert await check.compare() is None
    mine, index = raft.machine.digest().hex(), raft.machine.applied_index
    raft.peer_answers[state_hash.QUESTION] = {"n2": said(mine, index), "n3": said("00" * 32, index)}
    found = await check.compare()
    assert found is not None
    assert (found.equal, found.diverged) == (("n1", "n2"), ("n3",))
    text = metrics.exposition().decode()
    assert "replcache_state_divergences_total 1.0" in text
    assert "replcache_state_diverged_nodes 1.0" in text
    raft.peer_answers[state_hash.QUESTION] = {"n2": said(mine, index), "n3": said(mine, index)}
    await check.compare()
    text = metrics.exposition().decode()
    assert "replcache_state_divergences_total 1.0" in text
    assert "replcache_state_diverged_nodes 0.0" in text
    assert "replcache_state_checks_total 2.0" in text
