"""URL + arguments -> settings."""

from pathlib import Path
from typing import Any

import pytest

from replcache.client.channel import authorization
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


TOKEN = "aaaaaaaaaaaa.not-to-be-seen"


def test_token_comes_from_argument_url_environment_or_file() -> None:
    environment = {"REPLCACHE_TOKEN": "c", "REPLCACHE_TOKEN_FILE": "d"}
    assert parse("127.0.0.1:1", environment, token="a").token == "a"
    assert parse("replcache://127.0.0.1:1/?token=b", environment).token == "b"
    settings = parse("127.0.0.1:1", environment)
    assert (settings.token, settings.token_file) == ("c", "")
    assert parse("127.0.0.1:1", {"REPLCACHE_TOKEN_FILE": "d"}).token_file == "d"
    settings = parse("127.0.0.1:1", environment, token_file="e")
    assert (settings.token, settings.token_file) == ("", "e")
    with pytest.raises(InvalidRequest, match="exclude each other"):
        parse("127.0.0.1:1", token="a", token_file="b")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.9.9.9:1"])
def test_token_goes_over_loopback_without_tls(address: str) -> None:
    assert parse(address, token="a").token == "a"


@pytest.mark.parametrize(
    "address", ["cache-1:7401", "10.0.0.1:1", "localhost.example.org:1", "127.0.0.1:1,b:2"]
)
def test_token_goes_elsewhere_only_with_tls_or_when_it_is_said(address: str) -> None:
    for arguments in ({"token": TOKEN}, {"token_file": "f"}):
        with pytest.raises(InvalidRequest, match="clear text") as caught:
            parse(address, **arguments)
        assert TOKEN not in str(caught.value)
        assert parse(address, **arguments, insecure=True).insecure
        assert parse(address, **arguments, tls=True).tls


@pytest.mark.parametrize(
    "url",
    [
        f"replcache://a:1/x?token={TOKEN}",
        f"replcache://a:1/?token={TOKEN}",
        f"http://a:1/?token={TOKEN}",
        f"replcache://{TOKEN}@a:1/",
        f"replcache://[a:1/?token={TOKEN}",
        f"{TOKEN}@a:1",
        f"replcache://127.0.0.1:1/?Token={TOKEN}",
        f"replcache://127.0.0.1:1/?token={TOKEN}%20x",
    ],
)
def test_token_is_in_no_error(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(url)
    shown = f"{caught.value} {caught.value.metadata} {caught.value.__context__}"
    assert "not-to-be-seen" not in shown


def test_token_is_in_no_repr() -> None:
    settings = parse("127.0.0.1:1", token=TOKEN)
    assert "not-to-be-seen" not in repr(settings) + str(settings)


def test_header_is_not_made_for_an_address_that_was_learned_and_has_no_tls(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    for arguments in ({"token": TOKEN}, {"token_file": str(tmp_path / "token")}):
        settings = parse("127.0.0.1:1", **arguments)
        assert authorization("127.0.0.1:2", settings) == (("authorization", f"Bearer {TOKEN}"),)
        assert authorization("10.0.0.1:2", settings) == ()
    assert authorization("127.0.0.1:2", parse("127.0.0.1:1")) == ()
    (tmp_path / "token").unlink()
    assert authorization("127.0.0.1:2", settings) == ()
