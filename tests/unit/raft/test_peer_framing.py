"""Goal: a byte stream is cut into the same bodies however it arrives, and bad streams end at once.

Method: Hypothesis cuts a stream of frames at random places; limits are tested at limit and limit + 1.
"""

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.constants import PEER_FRAME_BYTES_MAX, PEER_HANDSHAKE_FRAME_BYTES_MAX
from replcache.raft.peer_framing import (
    PING_FRAME,
    FrameParser,
    PeerProtocolError,
    frame_header,
)


def framed(body: bytes) -> bytes:
    return frame_header(body) + body


def drain(parser: FrameParser) -> list[bytes]:
    bodies = []
    while (body := parser.next_frame()) is not None:
        bodies.append(body)
    return bodies


@given(bodies=st.lists(st.binary(max_size=40), max_size=8), cuts=st.lists(st.integers(1, 30)))
@settings(max_examples=500)
def test_frames_come_out_whole_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(framed(body) for body in bodies)
    parser = FrameParser(100)
    received = []
    position = 0
    for cut in [*cuts, len(stream)]:
        parser.feed(stream[position : position + cut])
        received += drain(parser)
        position += cut
    assert received == bodies
    assert parser.buffered_bytes == 0


@given(bodies=st.lists(st.binary(max_size=40), min_size=2, max_size=8), taken=st.integers(0, 2))
def test_chunk_fed_before_the_last_was_consumed_keeps_the_order(bodies: list[bytes], taken: int) -> None:
    stream = b"".join(framed(body) for body in bodies)
    half = len(stream) // 2
    parser = FrameParser(100)
    parser.feed(stream[:half])
    received = []
    for _ in range(taken):
        body = parser.next_frame()
        if body is not None:
            received.append(body)
    parser.feed(stream[half:])
    assert received + drain(parser) == bodies


def test_ping_is_an_empty_body() -> None:
    parser = FrameParser(0)
    parser.feed(PING_FRAME * 2)
    assert drain(parser) == [b"", b""]


@pytest.mark.parametrize("limit", [PEER_HANDSHAKE_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX])
def test_length_at_limit_passes_and_above_is_refused(limit: int) -> None:
    parser = FrameParser(limit)
    parser.feed(framed(bytes(limit)))
    assert [len(body) for body in drain(parser)] == [limit]
    for length in (limit + 1, limit * 100, 2**32 - 1):
        parser = FrameParser(limit)
        parser.feed(struct.pack("<I", length))
        with pytest.raises(PeerProtocolError, match=str(limit)) as caught:
            parser.next_frame()
        assert caught.value.cause == "too_long"


def test_bad_length_is_refused_after_four_bytes_also_when_they_drip() -> None:
    parser = FrameParser(1000)
    for byte in struct.pack("<I", 2**32 - 1)[:3]:
        parser.feed(bytes([byte]))
        assert parser.next_frame() is None
    parser.feed(b"\xff")
    with pytest.raises(PeerProtocolError):
        parser.next_frame()


@given(body=st.binary(min_size=1, max_size=60), data=st.data())
def test_flipped_bit_never_gives_a_body(body: bytes, data: st.DataObject) -> None:
    """A flip in body or checksum is found at once; one in the length gives a refusal or an endless wait."""
    stream = bytearray(framed(body))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= 1 << data.draw(st.integers(0, 7))
    parser = FrameParser(100)
    parser.feed(bytes(stream))
    if place >= 4:
        with pytest.raises(PeerProtocolError, match="checksum"):
            parser.next_frame()
        return
    try:
        body_or_wait = parser.next_frame()
    except PeerProtocolError:
        return
    assert body_or_wait is None


def test_memory_is_one_frame_and_work_is_linear() -> None:
    """An 8 MiB frame in 1 KiB pieces: what is held never exceeds the frame, and the whole takes well under
    the minutes that re-copying the buffer for each piece (8,192 times 4 MiB on average) would take."""
    stream = framed(bytes(PEER_FRAME_BYTES_MAX))
    parser = FrameParser(PEER_FRAME_BYTES_MAX)
    begin = time.perf_counter()
    bodies = []
    for position in range(0, len(stream), 1024):
        parser.feed(stream[position : position + 1024])
        bodies += drain(parser)
        assert parser.buffered_bytes <= len(stream)
    assert [len(body) for body in bodies] == [PEER_FRAME_BYTES_MAX]
    assert parser.buffered_bytes == 0
    assert time.perf_counter() - begin < 2.0


def test_clear_forgets_a_started_frame() -> None:
    parser = FrameParser(100)
    parser.feed(framed(b"abc")[:9])
    assert parser.next_frame() is None
    parser.clear()
    assert parser.buffered_bytes == 0
    parser.feed(framed(b"new"))
    assert drain(parser) == [b"new"]
