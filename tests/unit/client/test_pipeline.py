"""The pipeline alone, on a loop of its own but without gRPC: what is sent where, and the account of it."""

import asyncio
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from replcache import errors
from replcache.client.batches import Batch, GetBatch
from replcache.client.codec import AutoCodec
from replcache.client.convert import ReplyContext
from replcache.client.endpoints import Endpoint, Router
from replcache.client.pipeline import Pipeline
from replcache.client.retry import Backoff
from replcache.client.sessions import Session
from replcache.client.statistics import Counters
from replcache.client.url import Route
from replcache.constants import CLIENT_ATTEMPT_TIMEOUT_S, CLIENT_MESSAGES_IN_FLIGHT_MAX
from replcache.pb.v1 import cache_pb2, common_pb2
from tests.helpers.fake_state import to_status


class FakeLink:
    """Keeps what was sent; tests answer by hand."""

    def __init__(self, endpoint: Endpoint, owner: Pipeline) -> None:
        self.endpoint = endpoint
        self.heard_at = 0.0
        self.sent: list[cache_pb2.BatchRequest] = []
        self._owner = owner

    def send(self, batch: Batch, message: cache_pb2.BatchRequest) -> None:
        batch.written = True
        self.sent.append(message)

    def break_off(self, error: errors.ReplcacheError) -> None:
        self._owner.on_broken(self, error)  # type: ignore[arg-type]  # the methods that are used


class FakeCore:
    """What the pipeline needs of the client."""

    def __init__(self) -> None:
        self.time = 100.0
        self.tracing = None
        self.counters = Counters()
        self.context = ReplyContext(AutoCodec(), self.counters)
        self.router = Router(["a:1", "b:1"], Route.LEADER, random.Random(1))
        self.revision = 0
        self.session: Session | None = Session(7, 600.0, 0.0)
        self.proofs: list[tuple[float, int]] = []
        self.links: dict[str, FakeLink] = {}
        self.pipeline = Pipeline(self, asyncio.get_running_loop(), lambda: self.time, random.Random(1))  # type: ignore[arg-type]
        # Pauses are not what is looked at here.
        self.pipeline.backoff = Backoff(0.0, 0.0)

    def usable_session(self) -> Session | None:
        return self.session

    def drop_session(self, session: Session | None) -> None:
        self.session = Session(8, 600.0, 0.0)

    def link(self, endpoint: Endpoint) -> FakeLink:
        return self.links.setdefault(endpoint.address, FakeLink(endpoint, self.pipeline))

    def note_broken(self, link: FakeLink) -> None:
        self.links.pop(link.endpoint.address, None)
        self.router.note_failure(link.endpoint, self.time)

    def note_header(self, endpoint: Endpoint, header: Any) -> None:
        self.router.note_header(endpoint, header)

    def note_proof(self, sent_at: float, revision: int) -> None:
        self.proofs.append((sent_at, revision))

    def write(self) -> "asyncio.Future[Any]":
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pipeline.writes.join_set(b"k", b"v", "", 0, 10.0, waiter)
        return waiter


@pytest.fixture
async def core() -> Iterator[FakeCore]:
    return FakeCore()


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def answer(request: cache_pb2.BatchRequest, error: errors.ReplcacheError | None = None) -> Any:
    response = cache_pb2.BatchResponse(id=request.id)
    if error is not None:
        response.error.CopyFrom(to_status(error))
    elif request.HasField("set_columns"):
        response.set_columns.versions.extend([1] * len(request.set_columns.keys))
        response.set_columns.first_revision = 5
    return response


def check_account(core: FakeCore) -> None:
    """Invariant: in_flight is what was sent and is neither answered nor queued for another try."""
    for lane in core.pipeline.lanes:
        under_way = [b for b in core.pipeline.sent.values() if b.lane is lane and b.link is not None]
        assert lane.in_flight == len(under_way)
        assert all(batch.is_queued != (batch.link is not None) for batch in core.pipeline.sent.values())


async def test_late_error_of_an_earlier_try_is_ignored(core: FakeCore) -> None:
    waiter = core.write()
    await turns()
    first = core.links["a:1"]
    core.time += CLIENT_ATTEMPT_TIMEOUT_S
    first.heard_at = core.time
    core.pipeline._on_timer()
    await turns()
    second = core.links["b:1"]
    assert len(second.sent) == 1
    assert second.sent[0].idempotency.sequence == first.sent[0].idempotency.sequence == 1
    core.pipeline.on_response(first, answer(first.sent[0], errors.NoLeader("late")))  # type: ignore[arg-type]
    check_account(core)
    await turns()
    assert (len(first.sent), len(second.sent)) == (1, 1)
    core.pipeline.on_response(second, answer(second.sent[0]))  # type: ignore[arg-type]
    assert (await waiter).version == 1
    check_account(core)


async def test_late_answer_while_queued_for_another_try_counts_once(core: FakeCore) -> None:
    waiter = core.write()
    await turns()
    first = core.links["a:1"]
    core.time += CLIENT_ATTEMPT_TIMEOUT_S
    first.heard_at = core.time
    core.pipeline._on_timer()
    # Queued, not sent yet.
    core.pipeline.on_response(first, answer(first.sent[0]))  # type: ignore[arg-type]
    check_account(core)
    await turns()
    assert core.links.keys() == {"a:1"}
    assert (await waiter).version == 1
    core.pipeline.on_response(first, answer(first.sent[0]))  # type: ignore[arg-type]
    check_account(core)
    assert core.pipeline.writes.in_flight == 0
    assert not core.pipeline.writes.queue


async def test_proof_of_a_read_counts_from_its_first_try(core: FakeCore) -> None:
    """The answer may be that of the first try: it knows nothing of what came between the tries."""
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    from replcache.client.batches import GetBatch

    core.pipeline.reads.join_get(GetBatch, b"k", 1, 0, 10.0, waiter)  # type: ignore[arg-type]
    await turns()
    sent_at, first = core.time, core.links["a:1"]
    core.time += 1.0
    first.break_off(errors.Unavailable("broken"))
    await turns()
    second = core.links["b:1"]
    response = cache_pb2.BatchResponse(id=second.sent[0].id)
    response.header.revision = 9
    response.get_columns.values.append(b"v")
    response.get_columns.versions.append(1)
    response.get_columns.mod_revisions.append(3)
    core.pipeline.on_response(second, response)  # type: ignore[arg-type]
    assert (await waiter).raw == b"v"
    assert core.proofs == [(sent_at, 9)]


async def test_random_schedules_answer_every_caller_and_keep_the_account(seed: int) -> None:
    """Answers, errors, breaks, silence and time in any order: nobody waits for ever, nothing is sent under
    two sequences while its fate is open, and the window is never passed."""
    for round_ in range(60):
        rng = random.Random(seed + round_)
        core = FakeCore()
        waiters: list[asyncio.Future[Any]] = []
        for _ in range(120):
            match rng.choice(["write", "write", "answer", "answer", "error", "break", "time"]):
                case "write":
                    waiters.append(core.write())
                case "answer":
                    _answer_one(core, rng, None)
                case "error":
                    error = rng.choice([errors.NoLeader, errors.OutcomeUnknown, errors.SessionExpired])
                    _answer_one(core, rng, error("scripted"))
                case "break" if core.links:
                    rng.choice(list(core.links.values())).break_off(errors.Unavailable("broken"))
                case "time":
                    core.time += rng.choice([0.01, 1.0])
                    core.pipeline._on_timer()
            await turns(rng.randrange(3))
            check_account(core)
            assert core.pipeline.writes.in_flight <= CLIENT_MESSAGES_IN_FLIGHT_MAX
        for _ in range(12):
            core.time += 1.0
            core.pipeline._on_timer()
            await turns()
        assert all(waiter.done() for waiter in waiters)
        check_account(core)
        assert core.pipeline.writes.in_flight == 0
        assert not core.pipeline.sent
        for waiter in waiters:
            error = waiter.exception()
            assert error is None or isinstance(error, errors.ReplcacheError)
        core.pipeline.close()


def _answer_one(core: FakeCore, rng: random.Random, error: errors.ReplcacheError | None) -> None:
    """To any message that was ever sent, also a second time."""
    candidates = [(link, message) for link in core.links.values() for message in link.sent]
    if candidates:
        link, message = rng.choice(candidates)
        core.pipeline.on_response(link, answer(message, error))  # type: ignore[arg-type]


async def test_a_write_with_an_open_fate_never_changes_its_sequence(seed: int) -> None:
    rng = random.Random(seed)
    core = FakeCore()
    log: dict[int, list[tuple[int, int, bool]]] = {}
    waiters: list[asyncio.Future[Any]] = []
    send = FakeLink.send

    def recording(link: FakeLink, batch: Batch, message: cache_pb2.BatchRequest) -> None:
        identity = (message.idempotency.session_id, message.idempotency.sequence, batch.maybe_executed)
        log.setdefault(message.id, []).append(identity)
        send(link, batch, message)

    FakeLink.send = recording  # type: ignore[method-assign]
    try:
        # Longer with a seed under which hardly anything is sent twice: the test must have something to see.
        for turn in range(20_000):
            if turn >= 2000 and sum(len(tries) > 1 for tries in log.values()) > 5:
                break
            match rng.choice(["write", "error", "answer", "break", "time"]):
                case "write":
                    waiters.append(core.write())
                case "error":
                    kind = rng.choice([errors.NoLeader, errors.OutcomeUnknown, errors.SessionExpired])
                    _answer_one(core, rng, kind("scripted"))
                case "answer":
                    _answer_one(core, rng, None)
                case "break" if core.links:
                    rng.choice(list(core.links.values())).break_off(errors.Unavailable("broken"))
                case "time":
                    core.time += 0.1
                    core.pipeline._on_timer()
            await turns(2)
    finally:
        FakeLink.send = send  # type: ignore[method-assign]
        core.pipeline.close()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert sum(len(tries) > 1 for tries in log.values()) > 5
    for tries in log.values():
        for before, after in pairwise(tries):
            if after[2]:
                assert after[:2] == before[:2]


async def test_a_request_that_fits_into_no_message_fails_at_once_and_alone(core: FakeCore) -> None:
    """Its error went to the loop's handler, and every caller of the message waited for the deadline."""
    waiters = [core.write() for _ in range(5)]
    bad: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    core.pipeline.writes.join_set(b"k", [5], "", 0, 10.0, bad)  # type: ignore[arg-type]  # the mistake
    for _ in range(20):
        await turns()
        for link in core.links.values():
            sent, link.sent = link.sent, []
            for request in sent:
                core.pipeline.on_response(link, answer(request))  # type: ignore[arg-type]
    assert [waiter.done() for waiter in (*waiters, bad)] == [True] * 6
    assert all(waiter.exception() is None for waiter in waiters)
    assert isinstance(bad.exception(), errors.InvalidRequest)
    check_account(core)
    assert core.session is not None
    assert core.session.acked_below == core.session.take(), "a sequence was left open"


async def test_an_answer_that_makes_no_sense_ends_its_own_calls_and_no_others(core: FakeCore) -> None:
    """It ended the task that reads the stream, and all later calls waited for their deadlines."""
    loop = asyncio.get_running_loop()
    reads: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(2)]
    for waiter in reads:
        core.pipeline.reads.join_get(GetBatch, b"k", common_pb2.READ_LEVEL_LINEARIZABLE, 0, 10.0, waiter)
    await turns()
    (link,) = core.links.values()
    (request,) = link.sent
    columns = cache_pb2.GetColumnsResult(
        values=[b"", b""], versions=[1, 1], mod_revisions=[1, 1], content_types=["text/plain"]
    )
    core.pipeline.on_response(link, cache_pb2.BatchResponse(id=request.id, get_columns=columns))  # type: ignore[arg-type]
    for waiter in reads:
        assert isinstance(waiter.exception(), errors.OutcomeUnknown)
        assert "malformed" in str(waiter.exception())
    link.sent.clear()
    write = core.write()
    await turns()
    core.pipeline.on_response(link, answer(link.sent[0]))  # type: ignore[arg-type]
    assert write.exception() is None
    check_account(core)
