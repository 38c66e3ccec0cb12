"""Who leads, from what the nodes say: only a leader that a majority follows counts."""

from replcache.cli.nodes import NodeView, agreed_leader


def view(name: str, role: str, leader: str, quorum: bool = True) -> NodeView:
    return NodeView(endpoint=name, name=name, role=role, leader=leader, has_quorum=quorum)


DOWN = NodeView("x", problem="not reachable")


def test_leader_that_all_follow() -> None:
    nodes = [view("n1", "follower", "n2"), view("n2", "leader", "n2"), view("n3", "follower", "n2")]
    assert agreed_leader(nodes) == "n2"


def test_one_node_down_leaves_a_majority() -> None:
    assert agreed_leader([DOWN, view("n2", "leader", "n2"), view("n3", "follower", "n2")]) == "n2"


def test_cut_off_leader_does_not_count() -> None:
    assert agreed_leader([DOWN, view("n2", "leader", "n2", quorum=False), view("n3", "follower", "n2")]) == ""
    assert agreed_leader([DOWN, DOWN, view("n2", "leader", "n2")]) == ""


def test_old_leader_beside_the_new_one_does_not_count() -> None:
    nodes = [view("n1", "leader", "n1"), view("n2", "leader", "n2"), view("n3", "follower", "n2")]
    assert agreed_leader(nodes) == "n2"


def test_no_nodes_no_leader() -> None:
    assert agreed_leader([]) == ""
    assert agreed_leader([DOWN]) == ""
