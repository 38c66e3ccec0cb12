"""A peer connection's bytes: frames in any pieces, damaged streams, arbitrary messages, strangers' Hellos.

Only PeerProtocolError and PeerRefused may come out; what was whole before the damage is delivered unchanged;
no announced length makes the parser keep more than one frame.
"""

from itertools import pairwise
from typing import get_args

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from replcache.pb.internal import peer_pb2
from replcache.raft import messages as m
from replcache.raft.peer_codec import decode, decode_configuration, encode
from replcache.raft.peer_framing import HEADER_BYTES, FrameParser, PeerProtocolError, frame_header
from replcache.raft.peer_handshake import Identity, PeerRefused
from tests.fuzz.inputs import damaged, fuzz, messages

FRAME_BYTES_MAX = 600
KINDS = get_args(m.Message)
BODIES = st.lists(st.one_of(st.binary(max_size=20), st.integers(0, 600).map(bytes)), max_size=6)
CLUSTER = b"sixteen bytes id"


def parsed(data: bytes, cuts: list[int]) -> tuple[list[bytes], PeerProtocolError | None]:
    """All bodies of a stream that arrives in pieces, and what ended it."""
    parser = FrameParser(FRAME_BYTES_MAX)
    bodies = []
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in pairwise(places):
            parser.feed(data[start:end])
            while (body := parser.next_frame()) is not None:
                bodies.append(body)
            assert parser.buffered_bytes <= FRAME_BYTES_MAX + HEADER_BYTES
    except PeerProtocolError as error:
        return bodies, error
    return bodies, None


def expected_of(data: bytes) -> tuple[list[bytes], str]:
    """The rule, written down plainly for a stream that is there as a whole: its bodies, and why it ends."""
    bodies = []
    while len(data) >= 4:
        length = int.from_bytes(data[:4], "little")
        if length > FRAME_BYTES_MAX:
            return bodies, "too_long"
        if len(data) < HEADER_BYTES + length:
            break
        body = data[HEADER_BYTES : HEADER_BYTES + length]
        if data[4:HEADER_BYTES] != google_crc32c.value(body).to_bytes(4, "little"):
            return bodies, "checksum"
        bodies.append(body)
        data = data[HEADER_BYTES + length :]
    return bodies, ""


@fuzz(200)
@given(BODIES, st.lists(st.integers(0, 5000), max_size=12))
def test_frames_in_any_pieces_are_the_same_frames(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame_header(body) + body for body in bodies)
    assert parsed(stream, cuts) == (bodies, None)


@fuzz(300)
@given(BODIES, st.lists(st.integers(0, 5000), max_size=6), st.data())
def test_a_damaged_stream_ends_where_it_was_damaged(
    bodies: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    stream = b"".join(frame_header(body) + body for body in bodies)
    broken = data.draw(damaged(stream))
    bodies, cause = expected_of(broken)
    for pieces in (cuts, []):
        found, error = parsed(broken, pieces)
        assert (found, error.cause if error else "") == (bodies, cause)


@fuzz(300)
@given(messages(peer_pb2.Frame))
def test_any_frame_is_a_message_or_refused(frame: peer_pb2.Frame) -> None:
    body = frame.SerializeToString()
    try:
        message = decode(body)
    except PeerProtocolError:
        return
    assert type(message) in KINDS
    assert decode(encode(message)) == message


@fuzz(200)
@given(messages(peer_pb2.Frame), st.data())
def test_any_damaged_frame_is_a_message_or_refused(frame: peer_pb2.Frame, data: st.DataObject) -> None:
    body = data.draw(damaged(frame.SerializeToString()))
    for read in (decode, decode_configuration):
        try:
            read(body)
        except PeerProtocolError:
            pass


HELLOS = messages(
    peer_pb2.Hello,
    protocol=st.just(m.PEER_PROTOCOL_VERSION),
    cluster_id=st.just(CLUSTER),
    node=st.sampled_from(["n1", "n2", "n3"]),
    to_node=st.sampled_from(["n1", "n2"]),
    incarnation=st.sampled_from([1, 2]),
)


@fuzz(300)
@given(HELLOS, st.sampled_from([None, "n2", "n3"]))
def test_a_hello_is_accepted_only_from_a_member_that_means_us(
    part: peer_pb2.Hello, expected: str | None
) -> None:
    identity = Identity(
        node="n1",
        cluster_id=CLUSTER,
        incarnation=1,
        hello_factory=m.Hello,
        is_member=lambda name, incarnation: (name, incarnation) == ("n2", 2),
        uses_tls=False,
    )
    try:
        hello = decode(peer_pb2.Frame(hello=part).SerializeToString())
    except PeerProtocolError:
        return
    assert isinstance(hello, m.Hello)
    is_right = (hello.protocol, hello.cluster_id) == (m.PEER_PROTOCOL_VERSION, CLUSTER)
    is_right &= (hello.node, hello.incarnation, hello.to_node) == ("n2", 2, "n1") and expected in (None, "n2")
    try:
        identity.check_hello(hello, expected)
    except PeerRefused:
        assert not is_right
    else:
        assert is_right
