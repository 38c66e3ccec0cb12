"""Which node is asked."""

import random

import pytest

from replcache.client.endpoints import Router
from replcache.client.url import Route
from replcache.pb.v1 import common_pb2


@pytest.fixture
def router(rng: random.Random) -> Router:
    return Router(["a:1", "b:1", "c:1"], Route.LEADER, rng)


def header(node: str, leader: str = "") -> common_pb2.ResponseHeader:
    return common_pb2.ResponseHeader(node=node, leader=leader)


def test_leader_is_preferred_for_what_it_serves_best(router: Router) -> None:
    first = router.pick(True, 0.0)
    assert first.address == "a:1"
    router.note_header(first, header("n1", "n3"))
    assert router.is_leader_unknown
    router.note_members([("n1", "a:1"), ("n2", "b:1"), ("n3", "c:1")])
    assert not router.is_leader_unknown
    assert router.pick(True, 0.0).address == "c:1"
    local = router.pick(False, 0.0)
    assert router.pick(False, 0.0) is local


def test_failed_leader_is_avoided_and_its_name_forgotten(router: Router) -> None:
    router.note_members([("n1", "a:1"), ("n2", "b:1"), ("n3", "c:1")])
    router.note_header(router.endpoints[0], header("n1", "n3"))
    leader = router.pick(True, 0.0)
    router.note_failure(leader, 0.0)
    assert router.leader == ""
    assert router.pick(True, 0.0) is not leader


def test_all_get_their_turn_however_often_each_has_failed(router: Router) -> None:
    """A node that was dead for long and comes back must not wait until the others have failed as often."""
    now = 0.0
    dead = router.endpoints[0]
    for _ in range(20):
        router.note_failure(dead, now)
        now += 1.0
    asked = []
    for _ in range(6):
        endpoint = router.pick(True, now)
        asked.append(endpoint.address)
        router.note_failure(endpoint, now)
        now += 1.0
    assert sorted(asked[:3]) == ["a:1", "b:1", "c:1"]
    assert asked[:3] == asked[3:]


def test_when_all_are_down_the_first_to_be_up_again_is_picked(router: Router) -> None:
    for number, endpoint in enumerate(router.endpoints):
        endpoint.failures = 1
        endpoint.down_until = 10.0 - number
    assert router.pick(True, 0.0).address == "c:1"
    assert router.pick(False, 0.0).address == "c:1"


def test_answer_makes_an_endpoint_healthy_again(router: Router) -> None:
    endpoint = router.pick(True, 0.0)
    router.note_failure(endpoint, 0.0)
    router.note_header(endpoint, header("n1"))
    assert endpoint.failures == 0
    assert router.pick(True, 0.0).down_until == 0.0


def test_unknown_members_become_endpoints_and_known_ones_get_names(router: Router) -> None:
    router.note_members([("n2", "b:1"), ("n4", "d:1"), ("n5", "")])
    assert [(e.address, e.node, e.learned) for e in router.endpoints] == [
        ("a:1", "", False),
        ("b:1", "n2", False),
        ("c:1", "", False),
        ("d:1", "n4", True),
    ]
    assert router.find("n4") is router.find("d:1")
    assert router.find("n9") is None


def test_name_moves_to_the_address_that_answers(router: Router) -> None:
    """localhost:1 in the settings, 127.0.0.1:1 in the members: the same node."""
    router.note_members([("n1", "x:1")])
    router.note_header(router.endpoints[0], header("n1", "n1"))
    assert [e.node for e in router.endpoints] == ["n1", "", "", ""]
    assert router.pick(True, 0.0).address == "a:1"


def test_clients_start_local_reads_at_different_nodes() -> None:
    starts = {
        Router(["a:1", "b:1", "c:1"], Route.ANY, random.Random(seed)).pick(False, 0.0).address
        for seed in range(50)
    }
    assert starts == {"a:1", "b:1", "c:1"}
