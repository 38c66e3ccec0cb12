"""Anomalies of transactions: one small history for each, and none where there is none."""

import pytest

from replcache.verify.graph import Graph
from replcache.verify.history import INFINITY_NS, History, Operation, Outcome, freeze
from replcache.verify.transactions import check_list_append, check_rw_register

Part = list[object]


def txn(
    number: int, parts: list[Part], start: int = 0, end: int = 100, outcome: Outcome = Outcome.OK
) -> Operation:
    done = freeze(parts)
    unknown = outcome is Outcome.UNKNOWN
    return Operation(number, number, "txn", "", done, done, start, INFINITY_NS if unknown else end, outcome)


def names(history: list[Operation], *, register: bool = False, realtime: bool = True) -> set[str]:
    check = check_rw_register if register else check_list_append
    return {anomaly.name for anomaly in check(History(tuple(history)), realtime=realtime)}


A = "append"


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (
            [txn(0, [[A, "x", 1]]), txn(1, [["r", "x", [1]], [A, "x", 2]]), txn(2, [["r", "x", [1, 2]]])],
            set(),
        ),
        (
            # x says 0 before 1, y says 1 before 0
            [
                txn(0, [[A, "x", 1], [A, "y", 1]]),
                txn(1, [[A, "x", 2], [A, "y", 2]]),
                txn(2, [["r", "x", [1, 2]], ["r", "y", [2, 1]]]),
            ],
            {"G0"},
        ),
        ([txn(0, [[A, "x", 1], ["r", "y", [1]]]), txn(1, [[A, "y", 1], ["r", "x", [1]]])], {"G1c"}),
        (
            # 0 sees 1's append to x, but not that to y
            [txn(0, [["r", "x", [1]], ["r", "y", []]]), txn(1, [[A, "x", 1], [A, "y", 1]])],
            {"G-single"},
        ),
        (
            [txn(0, [["r", "x", []], [A, "y", 1]]), txn(1, [["r", "y", []], [A, "x", 1]])],
            {"G2"},
        ),
        ([txn(0, [[A, "x", 1]], 0, 10), txn(1, [["r", "x", []]], 20, 30)], {"G-single-realtime"}),
        ([txn(0, [[A, "x", 1]], outcome=Outcome.FAIL), txn(1, [["r", "x", [1]]])], {"G1a"}),
        ([txn(0, [[A, "x", 1], [A, "x", 2]]), txn(1, [["r", "x", [1]]])], {"G1b", "G-single"}),
        (
            [
                txn(0, [[A, "x", 1]]),
                txn(1, [[A, "x", 2]]),
                txn(2, [["r", "x", [1]]]),
                txn(3, [["r", "x", [2, 1]]]),
            ],
            {"incompatible-order"},
        ),
        ([txn(0, [[A, "x", 1]]), txn(1, [["r", "x", [1, 1]]])], {"duplicate"}),
        ([txn(0, [["r", "x", [9]]])], {"unknown-value"}),
        ([txn(0, [[A, "x", 1], ["r", "x", []]])], {"internal"}),
        ([txn(0, [["r", "x", []], ["r", "x", [1]]]), txn(1, [[A, "x", 1]])], {"internal", "G-single"}),
        ([txn(0, [[A, "x", 1]], outcome=Outcome.UNKNOWN), txn(1, [["r", "x", [1]]], 5)], set()),
    ],
    ids=lambda value: "+".join(sorted(value)) or "none" if isinstance(value, set) else "",
)
def test_check_list_append_names_the_anomaly(history: list[Operation], expected: set[str]) -> None:
    found = names(history)
    assert expected <= found if expected else not found
    if expected and not {"internal", "incompatible-order", "duplicate", "unknown-value"} & expected:
        assert found == expected


def test_check_list_append_without_realtime_asks_for_less() -> None:
    history = [txn(0, [[A, "x", 1]], 0, 10), txn(1, [["r", "x", []]], 20, 30)]
    assert names(history, realtime=False) == set()


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([txn(0, [["w", "x", 1]]), txn(1, [["r", "x", 1], ["w", "x", 2]]), txn(2, [["r", "x", 2]])], set()),
        (
            [
                txn(0, [["w", "x", 1]], 0, 1),
                txn(1, [["r", "x", 1], ["w", "x", 2]]),
                txn(2, [["r", "x", 1], ["w", "x", 3]]),
            ],
            {"lost-update", "G2"},
        ),
        ([txn(0, [["w", "x", 1], ["r", "y", 1]]), txn(1, [["w", "y", 1], ["r", "x", 1]])], {"G1c"}),
        ([txn(0, [["r", "x", None], ["r", "y", 1]]), txn(1, [["w", "x", 1], ["w", "y", 1]])], {"G-single"}),
        ([txn(0, [["w", "x", 1]], outcome=Outcome.FAIL), txn(1, [["r", "x", 1]])], {"G1a"}),
        ([txn(0, [["w", "x", 1], ["w", "x", 2]]), txn(1, [["r", "x", 1]])], {"G1b", "G-single"}),
        ([txn(0, [["w", "x", 1], ["r", "x", 2]]), txn(1, [["w", "x", 2]])], {"internal"}),
        ([txn(0, [["r", "x", 9]])], {"unknown-value"}),
        ([txn(0, [["w", "x", 1]]), txn(1, [["w", "x", 1]])], {"not-unique"}),
        (
            [txn(0, [["r", "x", 1], ["w", "x", 2]]), txn(1, [["r", "x", 2], ["w", "x", 1]])],
            {"cyclic-versions", "G0"},
        ),
        ([txn(0, [["w", "x", 1]], 0, 1), txn(1, [["r", "x", None]], 2, 3)], {"G-single-realtime"}),
    ],
    ids=lambda value: "+".join(sorted(value)) or "none" if isinstance(value, set) else "",
)
def test_check_rw_register_names_the_anomaly(history: list[Operation], expected: set[str]) -> None:
    assert names(history, register=True) == expected


def test_check_rw_register_may_allow_values_from_before() -> None:
    history = History((txn(0, [["r", "x", 9]]),))
    assert check_rw_register(history, all_writes_recorded=False) == []


def test_components_of_a_long_circle_need_no_recursion() -> None:
    graph = Graph()
    for node in range(50_000):
        graph.add(node, (node + 1) % 50_000, "ww")
    graph.add(60_000, 0, "ww")
    (component,) = graph.components(("ww",))
    assert sorted(component) == list(range(50_000))
