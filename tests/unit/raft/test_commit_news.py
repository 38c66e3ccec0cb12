"""A follower's clients are answered when it has applied: news of a commit do not wait for a heartbeat."""

import pathlib

from tests.helpers.engine_net import EngineNet


def test_write_through_a_follower_does_not_wait_for_a_heartbeat(tmp_path: pathlib.Path) -> None:
    net = EngineNet(str(tmp_path))
    net.elect("a")
    net.advance(0.3)
    outcome = net.propose("b", b"key", b"value")
    net.deliver_all()  # no time passes, so no heartbeat is due
    assert outcome
