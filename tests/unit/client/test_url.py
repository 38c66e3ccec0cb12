"""URL + arguments -> settings."""

from typing import Any

import pytest

from replcache.client.types import Consistency
from replcache.client.url import ClientSettings, Route, parse_settings
from replcache.errors import InvalidRequest


def parse(url: str | None, environment: dict[str, str] | None = None, **arguments: Any) -> ClientSettings:
    return parse_settings(url, arguments, environment or {})


def test_all_parameters() -> None:
    settings = parse(
        "replcache://a:1,b:2/?timeout=2s&read=one&max_staleness=50ms&route=any&session_ttl=1h&codec=msgpack"
    )
    assert settings == ClientSettings(
        endpoints=("a:1", "b:2"),
        timeout_s=2.0,
        read=Consistency.ONE,
        max_staleness_ms=50,
        route=Route.ANY,
        session_ttl_ms=3_600_000,
        codec="msgpack",
    )


def test_plain_addresses_default_port_and_ipv6() -> None:
    assert parse("a:1, b").endpoints == ("a:1", "b:7401")
    assert parse("[::1]:7,[::2]").endpoints == ("[::1]:7", "[::2]:7401")
    assert parse("a:1,a:1").endpoints == ("a:1",)


def test_environment_is_used_without_an_argument() -> None:
    assert parse(None, {"REPLCACHE_URL": "replcache://a:1/?read=session"}).read is Consistency.SESSION
    assert parse("b:2", {"REPLCACHE_URL": "a:1"}).endpoints == ("b:2",)


def test_arguments_win_over_the_url() -> None:
    settings = parse("replcache://a:1/?timeout=2s&read=one", timeout=7, read=Consistency.LINEARIZABLE)
    assert settings.timeout_s == 7.0
    assert settings.read is Consistency.LINEARIZABLE


def test_tls() -> None:
    assert not parse("replcache://a:1").tls
    assert parse("replcaches://a:1").tls
    assert parse("replcache://a:1/?tls=true").tls
    assert parse("a:1", ca="ca.pem").tls
    settings = parse("replcaches://a:1/?ca=/x/ca.pem&cert=c.pem&key=k.pem&server_name=n")
    assert (settings.ca, settings.cert, settings.key, settings.server_name) == (
        "/x/ca.pem", "c.pem", "k.pem", "n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "field"),
    [
        (None, "url"),
        ("", "url"),
        ("http://a:1", "url"),
        ("replcache://", "url"),
        ("replcache://a:1/app", "url"),
        ("replcache://user@a:1", "url"),
        ("a:0", "url"),
        ("a:99999", "url"),
        ("a:b", "url"),
        (":7401", "url"),
        ("replcache://a:1/?tmeout=2s", "tmeout"),
        ("replcache://a:1/?timeout=0", "timeout"),
        ("replcache://a:1/?timeout=fast", "timeout"),
        ("replcache://a:1/?read=some", "read"),
        ("replcache://a:1/?route=here", "route"),
        ("replcache://a:1/?tls=maybe", "tls"),
        ("replcache://a:1/?tls=false&ca=x", "tls"),
        ("replcaches://a:1/?cert=x", "cert"),
        ("replcache://a:1/?session_ttl=1ms", "session_ttl"),
        ("replcache://a:1/?codec=yaml", "codec"),
        ("replcache://a:1/?max_staleness=0", "max_staleness"),
    ],
)
def test_refused_with_the_field_named(url: str | None, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(url)
    assert caught.value.field == field
