"""Cached functions of the blocking client: threads, and what differs from tasks."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replcache import Client
from replcache.errors import InvalidRequest, ReplcacheError
from replcache.patterns.cached_flight import Flights, is_inside_a_load, loading, waiting_for
from replcache.patterns.cached_stored import Outcome
from tests.helpers.client_driver import ClusterThread
from tests.helpers.wait import scaled, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterThread]:
    thread = ClusterThread()
    yield thread
    thread.close()


@pytest.fixture
def client(cluster: ClusterThread) -> Iterator[Client]:
    cluster.state.entries.clear()
    with Client(cluster.url) as client:
        yield client


def in_threads(number: int, work: Callable[[int], object]) -> list[Any]:
    """The results, or the errors, of work(0), work(1), ..."""
    results: list[Any] = [None] * number

    def run(index: int) -> None:
        try:
            results[index] = work(index)
        except BaseException as err:  # noqa: BLE001  # looked at by the caller
            results[index] = err

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(30))
        assert not thread.is_alive(), "deadlock"
    return results


@pytest.mark.parametrize("mode", ["process", "cluster"])
def test_a_hundred_threads_and_a_cold_key_load_once(client: Client, mode: Any) -> None:
    loads = []
    everybody = threading.Barrier(100)
    waiting = threading.Event()

    @client.cached(ttl="1m", key=f"{mode}:{{key}}", single_flight=mode)
    def load(key: int) -> dict[str, int]:
        loads.append(key)
        waiting.wait(scaled(10))
        return {"key": key}

    def work(_: int) -> object:
        everybody.wait()
        return load(7)

    let_go = threading.Thread(
        target=lambda: (wait_until(lambda: load.cache_info().waits == 99, 20, "99 wait"), waiting.set())
    )
    let_go.start()
    assert in_threads(100, work) == [{"key": 7}] * 100
    let_go.join()
    assert loads == [7]
    info = load.cache_info()
    assert (info.hits, info.misses, info.waits) == (99, 1, 99)
    assert client.get_value(load.key_for(7)) == {"key": 7}


def test_attached_functions_and_methods(client: Client) -> None:
    class Prices:
        def __init__(self, currency: str) -> None:
            self.currency = currency

        @client.cached(ttl="1m", key="price:{self.currency}:{item}", tags=["item:{item}"])
        def of(self, item: str) -> list[str]:
            """In a currency."""
            return [self.currency, item]

    euro = Prices("EUR")
    assert euro.of("pen") == euro.of("pen") == ["EUR", "pen"]
    assert euro.of.key_for("pen") == "price:EUR:pen"
    assert euro.of.tags_for("pen") == ("item:pen",)
    entry = client.get("price:EUR:pen", full=True)
    assert entry is not None and entry.tags == ("item:pen",)
    assert euro.of.peek("pen") is not None
    assert euro.of.refresh("pen") == ["EUR", "pen"]
    assert euro.of.set(["EUR", "given"], "pen").version == 5
    assert euro.of("pen") == ["EUR", "given"]
    assert euro.of.invalidate("pen") and euro.of.peek("pen") is None
    assert Prices.of.__doc__ == "In a currency."
    assert Prices.of.cache_info().hits == 2


def test_coroutine_functions_belong_to_the_other_client(client: Client) -> None:
    async def load(key: int) -> int:
        return key

    with pytest.raises(InvalidRequest, match="AsyncClient"):
        client.cached(ttl=1)(load)


@pytest.mark.parametrize("mode", ["process", "cluster"])
def test_threads_that_load_crosswise_do_not_deadlock(client: Client, mode: Any) -> None:
    both = threading.Barrier(2)

    @client.cached(ttl="1m", key=f"a-{mode}", single_flight=mode, wait="1h")
    def a(inner: bool = False) -> str:
        if not inner:
            both.wait(scaled(10))
        return "a" if inner else "a" + b(True)

    @client.cached(ttl="1m", key=f"b-{mode}", single_flight=mode, wait="1h")
    def b(inner: bool = False) -> str:
        if not inner:
            both.wait(scaled(10))
        return "b" if inner else "b" + a(True)

    results = in_threads(2, lambda index: (a, b)[index]())
    # One may wait for the other; who would close the circle loads for himself.
    assert results[0] in ("ab", "aba") and results[1] in ("ba", "bab")


def test_recursion(client: Client) -> None:
    @client.cached(ttl="1m", key="fib:{n}", single_flight="cluster", ignore_errors=True)
    def fib(n: int) -> int:
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(12) == 144
    assert fib.cache_info().loads == 13


def test_errors_reach_those_who_wait_and_are_not_kept(client: Client) -> None:
    waits = threading.Event()
    loads = []

    @client.cached(ttl="1m", single_flight="process")
    def load() -> int:
        loads.append(1)
        waits.wait(scaled(10))
        raise OSError("down")

    let_go = threading.Thread(
        target=lambda: (wait_until(lambda: load.cache_info().waits == 9, 20, "9 wait"), waits.set())
    )
    let_go.start()
    assert all(isinstance(result, OSError) for result in in_threads(10, lambda _: load()))
    let_go.join()
    assert loads == [1]
    assert client.get(load.key_for()) is None


def test_an_interrupted_load_leaves_no_placeholder(client: Client) -> None:
    @client.cached(ttl="1m", single_flight="process")
    def load() -> int:
        assert client.get(load.key_for()) is not None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load()
    assert client.get(load.key_for()) is None


def test_without_nodes_calls_go_to_the_source() -> None:
    with Client("127.0.0.1:1", timeout="200ms") as client:
        loads = []

        @client.cached(ttl="1m", ignore_errors=True, single_flight="cluster")
        def lenient(key: int) -> int:
            loads.append(key)
            return key

        @client.cached(ttl="1m")
        def strict(key: int) -> int:
            return key

        assert [lenient(key) for key in (1, 1, 2)] == [1, 1, 2]
        assert loads == [1, 1, 2]
        assert lenient.cache_info().errors == 1
        with pytest.raises(ReplcacheError):
            strict(1)


# --- flights -----------------------------------------------------------------------------------------------


def test_a_sealed_flight_is_waited_for_but_not_shared() -> None:
    flights = Flights()
    flight, leads, _ = flights.join("k", False)
    assert leads
    assert flights.join("k", False) == (flight, False, True)
    flight.seal()
    assert flights.join("k", False) == (flight, False, False)
    called: list[int] = []
    flight.when_done(lambda: called.append(1))
    flights.finish("k", flight, Outcome("v"))
    flight.when_done(lambda: called.append(2))
    assert called == [1, 2]
    assert flights.join("k", False)[1]


def test_nobody_waits_in_a_circle() -> None:
    flights = Flights()
    one, two, three = (flights.join(key, False)[0] for key in "abc")
    with loading(one):
        assert is_inside_a_load()
        with waiting_for(one) as allowed:
            assert not allowed
        with waiting_for(two) as allowed:
            assert allowed
            other = threading.Thread(target=lambda: seen.extend(_may_wait(two, [one, three])))
            seen: list[bool] = []
            other.start()
            other.join()
            assert seen == [False, True]
        three.is_queueing = True
        with waiting_for(three) as allowed:
            assert not allowed
    with waiting_for(three) as allowed:
        assert allowed


def _may_wait(inside: Any, targets: list[Any]) -> list[bool]:
    answers = []
    with loading(inside):
        for target in targets:
            with waiting_for(target) as allowed:
                answers.append(allowed)
    return answers
