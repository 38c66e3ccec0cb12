"""Threads that are answered together: each lets the next one go, and none waits for one that doesn't come."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replcache.client import bridge as bridge_module
from replcache.client import turnstile
from replcache.client.bridge import Bridge, BridgeWaiter
from replcache.client.turnstile import Turnstile
from tests.helpers.wait import async_wait_until, scaled, wait_until

THREADS = 12
ROUNDS = 40


class Walker:
    """Passes on when the test says so."""

    def __init__(self) -> None:
        self.times_let_go = 0
        self.turnstile: Turnstile | None = None
        self.place = -1

    def stand_in(self, turnstile: Turnstile, place: int) -> None:
        self.turnstile, self.place = turnstile, place

    def waits_in(self, turnstile: Turnstile) -> bool:
        return self.turnstile is turnstile

    def let_go(self) -> None:
        self.times_let_go += 1

    def go(self) -> None:
        assert self.turnstile is not None
        left, self.turnstile = self.turnstile, None
        left.pass_on(self.place)


def opened(count: int) -> tuple[list[Walker], list[str]]:
    walkers = [Walker() for _ in range(count)]
    passed: list[str] = []
    Turnstile(asyncio.get_running_loop(), walkers, lambda _: passed.append("all")).open()
    return walkers, passed


async def test_each_lets_the_next_one_go_and_the_last_tells_the_loop() -> None:
    walkers, passed = opened(3)
    assert [one.times_let_go for one in walkers] == [1, 0, 0]
    walkers[0].go()
    assert [one.times_let_go for one in walkers] == [1, 1, 0]
    walkers[1].go()
    walkers[2].go()
    assert [one.times_let_go for one in walkers] == [1, 1, 1]
    assert passed == []
    await async_wait_until(lambda: passed, what="the loop is told")
    assert passed == ["all"]


async def test_the_others_go_on_when_one_does_not_come() -> None:
    walkers, passed = opened(4)
    walkers[0].go()
    await async_wait_until(lambda: passed, what="the turnstile is overdue")
    # The first is through already and is not woken for nothing.
    assert [one.times_let_go for one in walkers] == [1, 2, 1, 1]
    for late in walkers[1:]:
        late.go()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert passed == ["all"]


async def test_the_last_one_may_come_before_others() -> None:
    walkers, passed = opened(3)
    walkers[2].go()
    await async_wait_until(lambda: passed, what="the loop is told")
    # The first one has not come, so that nobody else could let the second one go.
    assert [one.times_let_go for one in walkers] == [2, 1, 0]


class Answers:
    """Stands for the pipeline: answers all calls that came until the bridge lets messages go."""

    def __init__(self, bridge: Bridge) -> None:
        self.groups: list[int] = []
        self._waiting: list[tuple[object, Any]] = []
        self._is_gathering = False
        bridge.on_gathering = self._on_gathering

    def ask(self, what: object, waiter: Any) -> None:
        self._waiting.append((what, waiter))
        asyncio.get_event_loop().call_soon(self._flush)

    def _on_gathering(self, is_gathering: bool) -> None:
        self._is_gathering = is_gathering
        if not is_gathering:
            asyncio.get_event_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._waiting and not self._is_gathering:
            waiting, self._waiting = self._waiting, []
            self.groups.append(len(waiting))
            for what, waiter in waiting:
                waiter.set_result(what)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    one = Bridge()
    one.start(lambda: None)
    yield one
    one.close(None)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(30))
        assert not thread.is_alive()
    assert errors == []


def test_every_thread_gets_its_own_answers(bridge: Bridge) -> None:
    answers = Answers(bridge)

    def work(number: int) -> None:
        for count in range(ROUNDS):
            assert bridge.call(answers.ask, ((number, count),), scaled(20)) == (number, count)

    in_threads(THREADS, work)
    assert sum(answers.groups) == THREADS * ROUNDS


def test_new_calls_leave_together_when_all_are_through(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "OVERDUE_S", scaled(60))
    answers = Answers(bridge)
    waiters = [BridgeWaiter(bridge) for _ in range(2)]

    def answer(asker: Any) -> None:
        for waiter in waiters:
            waiter.set_result(None)
        asker.set_exception(KeyError("opened"))

    with pytest.raises(KeyError):
        bridge.call(answer, (), scaled(20))

    def others() -> None:
        in_threads(3, lambda number: bridge.call(answers.ask, (number,), scaled(20)))

    thread = threading.Thread(target=others)
    assert waiters[0].wait(scaled(20))
    thread.start()
    wait_until(lambda: len(bridge._calls) == 3, what="the calls of the others")
    turned = threading.Event()
    assert bridge._loop is not None
    bridge._loop.call_soon_threadsafe(bridge._drain)
    bridge._loop.call_soon_threadsafe(turned.set)
    assert turned.wait(scaled(20))
    assert answers.groups == []
    assert waiters[1].wait(scaled(20))
    thread.join(scaled(20))
    assert answers.groups == [3]


def test_a_thread_that_went_away_keeps_nobody(bridge: Bridge) -> None:
    gone, waits = BridgeWaiter(bridge), BridgeWaiter(bridge)

    def both(waiter: Any) -> None:
        gone.set_result("nobody takes it")
        waits.set_result("mine")
        waiter.set_result(None)

    bridge.call(both, (), scaled(20))
    assert waits.wait(scaled(20))
    assert waits.take_or_raise() == "mine"


def test_a_waiter_that_is_let_go_twice_waits_for_its_next_answer(bridge: Bridge) -> None:
    waiter = BridgeWaiter(bridge)
    waiter.let_go()
    waiter.let_go()
    assert not waiter.wait(0.01)
    found: list[object] = []

    def wait() -> None:
        assert waiter.wait(scaled(20))
        found.append(waiter.take_or_raise())

    thread = threading.Thread(target=wait)
    waiter.let_go()
    thread.start()

    def answer(asker: Any) -> None:
        waiter.set_result("late")
        asker.set_result(None)

    bridge.call(answer, (), scaled(20))
    wait_until(lambda: found, what="the answer", timeout_s=20)
    thread.join()
    assert found == ["late"]


def test_an_error_for_a_waiter_that_was_let_go_for_nothing(bridge: Bridge) -> None:
    waiter = BridgeWaiter(bridge)
    waiter.let_go()
    waiter.set_exception(KeyError("mine"))
    assert waiter.wait(scaled(20))
    with pytest.raises(KeyError, match="mine"):
        waiter.take_or_raise()


@pytest.mark.parametrize("turns", [0, 3])
def test_what_is_answered_as_the_loop_ends_is_let_go(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop ends before the turnstile is opened, and while it is open."""
    # uvloop runs what is due after stop(), asyncio's loop does not.
    monkeypatch.setattr(bridge_module, "_new_loop", asyncio.new_event_loop)
    monkeypatch.setattr(turnstile, "OVERDUE_S", scaled(60))
    bridge = Bridge()
    bridge.start(lambda: None)
    waiters = [BridgeWaiter(bridge) for _ in range(3)]

    def stop_in(left: int) -> None:
        loop = asyncio.get_event_loop()
        if left:
            loop.call_soon(stop_in, left - 1)
        else:
            loop.stop()

    def answer_and_stop(asker: Any) -> None:
        for number, waiter in enumerate(waiters):
            waiter.set_result(number)
        stop_in(turns)
        asker.set_exception(KeyError("stopped"))

    with pytest.raises(KeyError):
        bridge.call(answer_and_stop, (), scaled(20))
    # The first one's thread never comes.
    for number, waiter in enumerate(waiters[1:], 1):
        assert waiter.wait(scaled(20))
        assert waiter.take_or_raise() == number


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["before the loop is woken", "after it is woken", "with the answer"])
def test_calls_after_an_interrupted_one_get_their_own_answers(
    bridge: Bridge, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(what: str, waiter: Any) -> None:
        waiter.set_result(what)

    assert bridge.call(echo, ("first",), scaled(20)) == "first"
    wake, wait = Bridge._wake_loop, BridgeWaiter.wait
    with monkeypatch.context() as patch:
        if where == "before the loop is woken":
            patch.setattr(bridge, "_wake_loop", interrupt)
        elif where == "after it is woken":
            patch.setattr(bridge, "_wake_loop", lambda: (wake(bridge), interrupt()))
        else:
            patch.setattr(BridgeWaiter, "wait", lambda self, timeout_s: (wait(self, timeout_s), interrupt()))
        with pytest.raises(KeyboardInterrupt):
            bridge.call(echo, ("interrupted",), scaled(20))
    for number in range(3):
        assert bridge.call(echo, (str(number),), scaled(20)) == str(number)
