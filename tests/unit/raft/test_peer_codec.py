"""Goal: every peer message survives the wire, and no input but a message gets through the decoder.

Method: Hypothesis builds messages of every kind from their field types; damaged and random bytes are decoded,
and anything but a message or PeerProtocolError fails the test.
"""

import dataclasses
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache.constants import APPEND_ENTRIES_MAX
from replcache.pb.internal import log_pb2, peer_pb2
from replcache.raft import messages as m
from replcache.raft.peer_codec import (
    PeerProtocolError,
    decode,
    decode_configuration,
    encode,
    encode_configuration,
)
from replcache.raft.port import Member

U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MEMBER = st.builds(Member, TEXT, TEXT, TEXT, U64, st.booleans(), st.booleans())
ENTRY = st.builds(m.WireEntry, U64, st.integers(0, 2), st.binary(max_size=50))
STRATEGIES = {
    int: U64,
    bool: st.booleans(),
    bytes: st.binary(max_size=100),
    str: TEXT,
    tuple[m.WireEntry, ...]: st.lists(ENTRY, max_size=8).map(tuple),
    Member | None: st.none() | MEMBER,
    tuple[Member, ...] | None: st.none() | st.lists(MEMBER, max_size=5).map(tuple),
}
KINDS = get_args(m.Message)


def messages_of(kind: type) -> st.SearchStrategy:
    """Any message of this class; `protocol` alone is 32 bits wide."""
    fields = {field.name: STRATEGIES[field.type] for field in dataclasses.fields(kind)}
    if kind is m.Hello:
        fields["protocol"] = st.integers(0, 2**32 - 1)
    return st.builds(kind, **fields)


MESSAGES = st.one_of([messages_of(kind) for kind in KINDS])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=60)
def test_message_encoded_and_decoded_is_equal(kind: type, data: st.DataObject) -> None:
    message = data.draw(messages_of(kind))
    body = encode(message)
    again = decode(body)
    assert again == message
    assert type(again) is kind
    assert encode(again) == body


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_message_of_defaults_keeps_its_kind(kind: type) -> None:
    """A message without any field set is still told apart from all others."""
    assert decode(encode(kind())) == kind()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_message_fields_equal_the_proto(kind: type) -> None:
    """Same names in the same order as in peer.proto, so that nothing is forgotten on either side."""
    proto = getattr(peer_pb2, kind.__name__).DESCRIPTOR
    assert [field.name for field in dataclasses.fields(kind)] == [field.name for field in proto.fields]


def test_presence_of_bootstrap_and_member_is_kept() -> None:
    assert decode(encode(m.Hello(bootstrap=None))).bootstrap is None
    assert decode(encode(m.Hello(bootstrap=()))).bootstrap == ()
    empty = Member("", "", "", 0, False, False)
    assert decode(encode(m.AdminRequest(member=empty))).member == empty
    assert decode(encode(m.AdminRequest(member=None))).member is None


def decode_or_refuse(body: bytes) -> None:
    try:
        message = decode(body)
    except PeerProtocolError:
        return
    assert type(message) in KINDS


@given(st.binary(max_size=300))
@settings(max_examples=1000)
def test_random_bytes_are_refused_with_one_error(body: bytes) -> None:
    decode_or_refuse(body)


@given(message=MESSAGES, data=st.data())
@settings(max_examples=500)
def test_damaged_messages_are_refused_or_still_messages(message: m.Message, data: st.DataObject) -> None:
    """Truncated, with a flipped byte, with bytes inserted, doubled."""
    body = encode(message)
    cut = data.draw(st.integers(0, len(body)))
    decode_or_refuse(body[:cut])
    decode_or_refuse(body[cut:])
    decode_or_refuse(body + body)
    decode_or_refuse(body[:cut] + data.draw(st.binary(min_size=1, max_size=9)) + body[cut:])
    if body:
        place = data.draw(st.integers(0, len(body) - 1))
        flipped = bytearray(body)
        flipped[place] ^= data.draw(st.integers(1, 255))
        decode_or_refuse(bytes(flipped))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        b"\xff" * 64,
        # An unknown kind: field 99.
        b"\x9a\x06\x00",
        # A string that is not UTF-8, in Hello.node.
        b"\x0a\x03\x1a\x01\xff",
        # A group that never ends.
        b"\x0b" * 200,
        b"cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_known_bad_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        decode(body)


def test_entry_of_unknown_kind_is_refused() -> None:
    frame = peer_pb2.Frame()
    frame.append.entries.add(term=1, kind=3)
    with pytest.raises(PeerProtocolError, match="kind 3"):
        decode(frame.SerializeToString())


def test_append_with_too_many_entries_is_refused_on_both_sides() -> None:
    """Empty entries cost two bytes on the wire and a hundred in memory."""
    entry = m.WireEntry(1, 0, b"")
    at_limit = m.Append(entries=(entry,) * APPEND_ENTRIES_MAX)
    body = encode(at_limit)
    assert len(decode(body).entries) == APPEND_ENTRIES_MAX
    with pytest.raises(ValueError, match=str(APPEND_ENTRIES_MAX)):
        encode(m.Append(entries=(*at_limit.entries, entry)))
    frame = peer_pb2.Frame()
    frame.ParseFromString(body)
    frame.append.entries.add(term=1)
    with pytest.raises(PeerProtocolError, match=str(APPEND_ENTRIES_MAX)):
        decode(frame.SerializeToString())


@pytest.mark.parametrize("message", [m.Heartbeat(term=-1), m.Heartbeat(term=2**64), m.Hello(protocol=2**32)])
def test_number_out_of_range_is_a_programmer_error(message: m.Message) -> None:
    with pytest.raises(ValueError):
        encode(message)


@given(st.lists(MEMBER, max_size=5).map(tuple))
def test_configuration_round_trip(members: tuple[Member, ...]) -> None:
    payload = encode_configuration(members)
    assert decode_configuration(payload) == members
    assert encode_configuration(decode_configuration(payload)) == payload


def test_configuration_of_unknown_version_or_damaged_is_refused() -> None:
    for payload in (b"", b"\xff\xff", log_pb2.Configuration(version=2).SerializeToString()):
        with pytest.raises(PeerProtocolError):
            decode_configuration(payload)
    hello = peer_pb2.Frame()
    hello.hello.bootstrap.version = 7
    with pytest.raises(PeerProtocolError, match="version 7"):
        decode(hello.SerializeToString())
