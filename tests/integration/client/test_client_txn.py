"""Transactions of both clients, against a real server."""

from typing import Any

import pytest

from replcache import errors
from tests.helpers.client_driver import Driver, ServerThread


def test_then_is_executed_when_all_requirements_hold(served: Driver) -> None:
    version = served.set("a", 1).version
    revision = served.get("a").mod_revision

    def fill(t: Any) -> None:
        t.require(t["a"].version == version, t["a"].value == 1, t["a"].exists, t["b"].missing)
        t.require(t["a"].mod_revision == revision)
        t.set("a", 2)
        t.incr("n", 5)
        t.get("a")
        t.otherwise.set("a", "wrong")

    txn = served.run_txn(fill)
    assert txn.succeeded
    assert txn.results[0].version == version + 1
    assert txn.results[1] == 5
    assert txn.results[2].value == 2
    assert served.get_value("a") == 2
    with pytest.raises(errors.InvalidRequest, match="not executed"):
        txn.otherwise._pending[0].result()


@pytest.mark.parametrize(
    "requirement",
    [
        lambda t: t["a"].version == 7,
        lambda t: t["a"].value == "other",
        lambda t: t["a"].missing,
        lambda t: t["b"].exists,
        lambda t: t["a"].mod_revision == 1_000_000,
    ],
)
def test_otherwise_is_executed_when_one_does_not(served: Driver, requirement: Any) -> None:
    served.set("a", 1)

    def fill(t: Any) -> None:
        t.require(t["a"].exists, requirement(t))
        t.set("a", "wrong")
        t.otherwise.get("a")

    txn = served.run_txn(fill)
    assert not txn.succeeded
    assert [entry.value for entry in txn.results] == [1]
    assert served.get_value("a") == 1


def test_version_zero_and_stored_none_are_what_they_say(served: Driver) -> None:
    served.set("none", None)

    def fill(t: Any) -> None:
        t.require(t["none"].value == None, t["new"].version == 0)  # noqa: E711  # builds a comparison
        t.set("new", False)

    assert served.run_txn(fill).succeeded
    assert served.get_value("new") is False


def test_lock_that_is_held_is_a_requirement(served: Driver) -> None:
    lock = served.lock("orders/1")
    lock.acquire()

    def fill(t: Any) -> None:
        t.require(lock.held)
        t.set("state", "paid")

    assert served.run_txn(fill).succeeded
    held = lock.held
    lock.release()

    def again(t: Any) -> None:
        t.require(held)
        t.set("state", "twice")

    assert not served.run_txn(again).succeeded
    assert served.get_value("state") == "paid"
    with pytest.raises(errors.InvalidRequest):
        served.run_txn(lambda t: t.require(lock.held))


def test_refused_operation_undoes_its_list(served: Driver) -> None:
    served.set("text", "no number")

    def fill(t: Any) -> None:
        t.set("a", 1)
        t.incr("text")

    with pytest.raises(errors.BatchAborted):
        served.run_txn(fill)
    assert served.get("a") is None


def test_nothing_is_sent_when_the_block_raises(served: Driver) -> None:
    def fill(t: Any) -> None:
        t.set("a", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        served.run_txn(fill)
    assert served.get("a") is None


def test_mistakes(served: Driver) -> None:
    txn = served.client.txn()
    with pytest.raises(errors.InvalidRequest):
        _ = txn.succeeded
    with pytest.raises(errors.InvalidRequest):
        bool(txn["a"].version == 1)
    with pytest.raises(errors.InvalidRequest):
        _ = txn["a"].version != 1
    with pytest.raises(errors.InvalidRequest):
        _ = txn["a"].value != 1
    with pytest.raises(errors.InvalidRequest):
        txn.require("a")
    sent = served.run_txn(lambda t: t.set("a", 1))
    with pytest.raises(errors.InvalidRequest):
        sent.set("b", 1)


def test_lost_answer_is_asked_for_again_not_executed_again(served: Driver, server: ServerThread) -> None:
    """The node applies the transaction and says that it does not know: the repeat gets the stored answer."""

    def fill(t: Any) -> None:
        t.require(t["n"].missing)
        t.incr("n")

    server.raft.lose_outcomes = 1
    txn = served.run_txn(fill)
    assert txn.succeeded
    assert txn.results == [1]
    assert server.raft.lose_outcomes == 0
    assert served.get_value("n") == 1
