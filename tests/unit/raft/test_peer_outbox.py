"""Goal: what is queued comes out once, in its class's order, and never more is held than allowed."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from replcache.raft.peer_framing import HEADER_BYTES, FrameParser
from replcache.raft.peer_outbox import Outbox

FRAMES_MAX = 2**20


def bodies_in(pieces: list[bytes]) -> list[bytes]:
    parser = FrameParser(FRAMES_MAX)
    parser.feed(b"".join(pieces))
    bodies = []
    while (body := parser.next_frame()) is not None:
        bodies.append(body)
    assert parser.buffered_bytes == 0
    return bodies


def test_control_comes_first_and_bulk_follows_by_amount() -> None:
    outbox = Outbox()
    for number in range(5):
        assert outbox.put(struct.pack("<I", number) * 1000, bulk=True)
    assert outbox.put(b"beat", bulk=False)
    assert outbox.put(b"", bulk=False)
    pieces, size, count = outbox.take(5000)
    bodies = bodies_in(pieces)
    assert bodies[:2] == [b"beat", b""]
    # The ping is no message; bulk goes on until 5,000 bytes are reached.
    assert count == 3
    assert size == sum(len(piece) for piece in pieces)
    assert [body[:4] for body in bodies[2:]] == [struct.pack("<I", number) for number in range(2)]
    assert len(outbox) == 3


def test_bulk_moves_even_when_one_frame_is_larger_than_what_is_wanted() -> None:
    outbox = Outbox()
    outbox.put(bytes(100_000), bulk=True)
    pieces, _, count = outbox.take(1)
    assert count == 1
    assert bodies_in(pieces) == [bytes(100_000)]
    assert outbox.take(1) == ([], 0, 0)


def test_limits_are_exact_and_apart() -> None:
    outbox = Outbox(bulk_bytes_max=100, control_bytes_max=50)
    assert not outbox.put(bytes(100 - HEADER_BYTES + 1), bulk=True)
    assert outbox.put(bytes(100 - HEADER_BYTES), bulk=True)
    assert not outbox.put(b"", bulk=True)
    assert not outbox.put(bytes(50 - HEADER_BYTES + 1), bulk=False)
    assert outbox.put(bytes(50 - HEADER_BYTES), bulk=False)
    assert not outbox.put(b"", bulk=False)
    assert outbox.queued_bytes == 150
    assert outbox.clear() == 2
    assert outbox.queued_bytes == 0
    assert outbox.put(b"x", bulk=True)


PUT = st.tuples(st.booleans(), st.binary(min_size=1, max_size=60))
STEPS = st.lists(PUT | st.integers(0, 200) | st.just("clear"), max_size=40)


@given(STEPS)
def test_any_sequence_keeps_order_and_count(steps: list[object]) -> None:
    """Against two plain lists as the model."""
    outbox = Outbox(bulk_bytes_max=300, control_bytes_max=150)
    waiting: dict[bool, list[bytes]] = {True: [], False: []}
    for step in steps:
        if isinstance(step, tuple):
            bulk, body = step
            limit = 300 if bulk else 150
            fits = sum(len(other) + HEADER_BYTES for other in [*waiting[bulk], body]) <= limit
            assert outbox.put(body, bulk=bulk) == fits
            if fits:
                waiting[bulk].append(body)
        elif isinstance(step, int):
            pieces, size, count = outbox.take(step)
            bodies = bodies_in(pieces)
            control = waiting[False]
            assert bodies[: len(control)] == control
            taken = bodies[len(control) :]
            assert taken == waiting[True][: len(taken)]
            assert (size, count) == (sum(len(piece) for piece in pieces), len(bodies))
            waiting = {True: waiting[True][len(taken) :], False: []}
            assert not waiting[True] or size >= step
        else:
            assert outbox.clear() == len(waiting[True]) + len(waiting[False])
            waiting = {True: [], False: []}
        held = [*waiting[True], *waiting[False]]
        assert len(outbox) == len(held)
        assert outbox.queued_bytes == sum(len(body) + HEADER_BYTES for body in held)
