"""Goal: only the right Hello passes, each wrong one for its own reason; refusals are counted, not shouted."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.errors import ConfigError
from replcache.raft.messages import PEER_PROTOCOL_VERSION, Hello
from replcache.raft.peer_handshake import (
    CAUSES,
    COUNTERS,
    LOG_INTERVAL_S,
    Identity,
    PeerRefused,
    RefusalBook,
)
from replcache.raft.peer_listener import parse_address
from replcache.raft.peer_tls import certificate_names
from replcache.raft.port import Member

MEMBERS = {("n1", 11), ("n2", 22), ("n3", 33)}
GOOD = Hello(PEER_PROTOCOL_VERSION, b"cluster", "n1", 11, to_node="n2")


class VirtualClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def identity_of_n2(bootstrap: tuple[Member, ...] | None = None) -> Identity:
    return Identity(
        "n2",
        b"cluster",
        22,
        lambda: Hello(bootstrap=bootstrap, client_address="c2", peer_address="p2", node="not used"),
        lambda name, incarnation: (name, incarnation) in MEMBERS,
        uses_tls=False,
    )


def test_own_hello_is_filled_in() -> None:
    bootstrap = (Member("n1", "p1", "c1", 11),)
    assert identity_of_n2(bootstrap).hello("n3") == Hello(
        PEER_PROTOCOL_VERSION, b"cluster", "n2", 22, bootstrap, "c2", "p2", "n3"
    )


def test_good_hello_passes_in_both_directions() -> None:
    identity_of_n2().check_hello(GOOD, None)
    identity_of_n2().check_hello(GOOD, "n1")


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("protocol", {"protocol": PEER_PROTOCOL_VERSION + 1}),
        ("protocol", {"protocol": 0, "cluster_id": b"x", "node": "x"}),
        ("cluster", {"cluster_id": b"clusterx"}),
        ("cluster", {"cluster_id": b"", "node": "x"}),
        ("own_name", {"node": "n2", "incarnation": 22}),
        ("to_node", {"to_node": "n3"}),
        ("wrong_node", {"node": "n3", "incarnation": 33}),
        ("unknown_node", {"incarnation": 12}),
    ],
)
def test_wrong_hello_is_refused_for_its_reason(cause: str, changes: dict[str, object]) -> None:
    with pytest.raises(PeerRefused) as caught:
        identity_of_n2().check_hello(dataclasses.replace(GOOD, **changes), "n1")  # type: ignore[arg-type]
    assert caught.value.cause == cause


HELLO = st.builds(
    Hello,
    st.sampled_from([PEER_PROTOCOL_VERSION, 7]),
    st.sampled_from([b"cluster", b"other"]),
    st.sampled_from(["n1", "n2", "n3", "n4"]),
    st.sampled_from([11, 22, 33]),
    to_node=st.sampled_from(["n1", "n2"]),
)


@given(HELLO, st.sampled_from([None, "n1", "n3"]))
def test_hello_passes_only_when_everything_is_right(hello: Hello, expected: str | None) -> None:
    right = (
        hello.protocol == PEER_PROTOCOL_VERSION
        and hello.cluster_id == b"cluster"
        and hello.to_node == "n2"
        and hello.node != "n2"
        and (hello.node, hello.incarnation) in MEMBERS
        and expected in (None, hello.node)
    )
    if right:
        identity_of_n2().check_hello(hello, expected)
        return
    with pytest.raises(PeerRefused) as caught:
        identity_of_n2().check_hello(hello, expected)
    assert caught.value.cause in CAUSES


def test_without_tls_no_certificate_is_asked_and_with_tls_one_is() -> None:
    identity = identity_of_n2()
    identity.check_certificate("n1", None)
    with pytest.raises(PeerRefused) as caught:
        dataclasses.replace(identity, uses_tls=True).check_certificate("n1", None)
    assert caught.value.cause == "certificate"


def test_names_of_a_certificate_are_its_dns_names_and_common_names() -> None:
    certificate = {
        "subject": ((("organizationName", "o"),), (("commonName", "n1"),)),
        "subjectAltName": (("DNS", "n2"), ("IP Address", "10.0.0.1"), ("DNS", "n3"), ("URI", "n4")),
        "notAfter": "whenever",
    }
    assert certificate_names(certificate) == {"n1", "n2", "n3"}
    assert certificate_names({}) == frozenset()


def test_each_cause_is_logged_once_per_interval_and_always_counted() -> None:
    clock = VirtualClock()
    counters = dict.fromkeys(COUNTERS, 0)
    book = RefusalBook(clock, "n2", counters)
    for cause in CAUSES:
        for _ in range(3):
            book.refuse(cause, "detail", ("127.0.0.1", 1), "accepted")
        assert counters[f"refused_{cause}"] == 3
        # The first was logged, two were not.
        assert book.due(cause) is None
    clock.time = LOG_INTERVAL_S
    assert [book.due(cause) for cause in CAUSES] == [3] * len(CAUSES)
    assert book.due(CAUSES[0]) is None


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("replcache-0.replcache:7411", ("replcache-0.replcache", 7411)),
        ("[::1]:65535", ("::1", 65535)),
        ("host:0", ("host", 0)),
    ],
)
def test_address_is_split(address: str, parts: tuple[str, int]) -> None:
    assert parse_address(address) == parts


@given(st.text(max_size=12) | st.from_regex(r"[a\[\]:]{0,5}:[-+0-9 ]{0,6}", fullmatch=True))
def test_address_is_host_and_port_or_refused(address: str) -> None:
    try:
        host, port = parse_address(address)
    except ConfigError:
        return
    assert address in (f"{host}:{address.rpartition(':')[2]}", f"[{host}]:{address.rpartition(':')[2]}")
    assert int(address.rpartition(":")[2]) == port <= 65535
    assert host
