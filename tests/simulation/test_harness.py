"""The simulation keeps its own promises: what it records is what the caller saw, what it sends can happen."""

import random
from dataclasses import replace

from replcache.raft.messages import Forward, Heartbeat
from replcache.statemachine.commands import Command, LockAcquire, LockRelease
from replcache.verify.history import Operation, Outcome
from tests.simulation.clients import TRY_TIMEOUT_S, Client, _Try
from tests.simulation.network import Network
from tests.simulation.operations import Call, LockState
from tests.simulation.schedule import Options
from tests.simulation.stage import Stage


class Receiver:
    """An end of a connection that remembers what arrived."""

    incarnation = 1

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[object] = []

    def receive(self, peer: str, message: object) -> None:
        self.received.append(message)

    def on_peer_up(self, peer: str, incarnation: int) -> None: ...

    def on_peer_down(self, peer: str) -> None: ...

    def on_accepted(self, peer: str) -> None: ...

    def knows(self, peer: str) -> bool:
        return True


def test_datagrams_arrive_twice_but_no_sending_of_a_group() -> None:
    """A refused sending is certainly in no log: true as long as no other copy of it is on its way."""
    ends = {name: Receiver(name) for name in ("n1", "n2")}
    events: list[tuple[object, tuple[object, ...]]] = []
    network = Network(
        Options(is_datagram=True, duplicate_share=1.0),
        random.Random(1),
        lambda: 0.0,
        lambda _at, function, *arguments: events.append((function, arguments)),
        ends.get,
    )
    network.on_started("n1", ["n1", "n2"])
    heartbeats = [Heartbeat(term=1, round=number) for number in range(20)]
    groups = [Forward(sequence=number, group=b"", boot=1, attempt=1) for number in range(20)]
    for function, arguments in [*events]:
        function(*arguments)  # type: ignore[operator]
    events.clear()
    for message in [*heartbeats, *groups]:
        assert network.send("n1", "n2", message)
    for function, arguments in [*events]:
        function(*arguments)  # type: ignore[operator]
    assert all(ends["n2"].received.count(message) == 2 for message in heartbeats)
    assert all(ends["n2"].received.count(message) == 1 for message in groups)


def _client(stage: Stage) -> Client:
    """Asks n1, and does nothing more after the call that it is given."""
    client = Client(stage.world, 0, random.Random(1))
    client.target = "n1"
    client.is_finishing = True
    return client


def _call(client: Client, call: Call, protection: str) -> None:
    client._trying = _Try(client, call, protection)
    client._trying.start()


def _record(stage: Stage) -> list[Operation]:
    """All calls; each has ended at most once."""
    ledger = stage.world.ledger
    assert sum(ledger.ended.values()) <= len(ledger._recorder.history().operations), ledger.ended
    return list(stage.world.ledger._recorder.history().operations)


def test_waiting_for_a_lock_is_one_try() -> None:
    """It outlasts the time for an answer: that came at once, as a place in the queue."""
    stage = Stage(3)
    stage.elect("n1")
    stage.run(0.3)
    held = stage.command("n1", Command(ops=(LockAcquire("l0", b"holder", 60_000),)))
    stage.run(0.1)
    client = _client(stage)
    call = replace(
        client.operations._acquire("l0", LockState()), ops=(LockAcquire("l0", b"owner0", 500, 1500),)
    )
    _call(client, call, "request")
    stage.run(TRY_TIMEOUT_S + 0.3)
    stage.command("n1", Command(ops=(LockRelease("l0", b"holder", held[0][0].token),)))
    stage.run(4.0)
    assert client.is_done
    (operation,) = _record(stage)
    assert operation.outcome is Outcome.OK, operation


def test_time_for_an_answer_that_came_ends_without_effect() -> None:
    """Also when the client pauses for longer before its next call."""
    stage = Stage(3, operation_every_s=10.0)
    stage.elect("n1")
    stage.run(0.3)
    client = _client(stage)
    _call(client, client.operations.draw("set"), "none")
    stage.run(2 * TRY_TIMEOUT_S)
    assert not client.is_done, "the pause was too short for this test"
    (operation,) = _record(stage)
    assert operation.outcome is Outcome.OK, operation
