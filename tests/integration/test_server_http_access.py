"""Who sees which page of the HTTP port."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from structlog.testing import capture_logs

from replcache.pb.v1 import cache_pb2 as pb
from replcache.server.security import http_guard
from tests.helpers.auth import AuthFile
from tests.helpers.serving import Serving, serving

PAGE, STATE = "/", "/status/state"


async def ask(
    one: Serving, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session:
        async with session.request(
            method, f"http://{one.server.http_address}{path}", headers=named
        ) as answer:
            return answer.status, dict(answer.headers), await answer.text()


async def status(one: Serving, path: str, method: str = "GET", **headers: str) -> int:
    return (await ask(one, path, method, **headers))[0]


@pytest.fixture
def from_afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as loopback, as for a caller on another machine."""
    monkeypatch.setattr(http_guard, "is_local", lambda _: False)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Serving, AuthFile]]:
    file = AuthFile(tmp_path)
    for user in ("any", "shop"):
        file.token(user)
    async with serving(auth_file=file.path, metrics_open=False) as one:
        yield one, file


async def test_loopback_sees_all_and_others_only_probes_and_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as one:
        assert [await status(one, path) for path in (PAGE, STATE, "/metrics", "/readyz")] == [200] * 4
        monkeypatch.setattr(http_guard, "is_local", lambda _: False)
        assert [await status(one, path) for path in ("/metrics", "/healthz", "/readyz")] == [200] * 3
        assert [await status(one, path) for path in (PAGE, STATE, "/nothing")] == [403] * 3


async def test_pages_can_be_opened_to_everybody(from_afar: None) -> None:
    async with serving(pages_open=True) as one:
        assert await status(one, STATE) == 200


@pytest.mark.usefixtures("from_afar")
async def test_token_with_the_right_sees_the_pages(guarded: tuple[Serving, AuthFile]) -> None:
    one, file = guarded
    assert await status(one, "/healthz") == 200
    for path in (PAGE, STATE, "/metrics"):
        code, headers, _ = await ask(one, path)
        assert code == 401
        assert headers["WWW-Authenticate"].startswith("Basic ")
        assert await status(one, path, Authorization=f"Bearer {file.token('any')}") == 200
        assert await status(one, path, Authorization=f"Bearer {file.token('shop')}") == 403
        wrong = "Bearer aaaaaaaaaaaa." + "x" * 43
        assert await status(one, path, Authorization=wrong) == 401
    # As a browser sends what was typed into its box.
    typed = base64.b64encode(f"me:{file.token('any')}".encode()).decode()
    assert await status(one, PAGE, Authorization=f"Basic {typed}") == 200
    for nonsense in ("Basic !!", "Basic", "Negotiate abc", "Basic /w=="):
        assert await status(one, PAGE, Authorization=nonsense) == 401


async def test_page_of_the_web_does_not_count_as_loopback(guarded: tuple[Serving, AuthFile]) -> None:
    one, _ = guarded
    assert await status(one, STATE) == 200
    assert await status(one, STATE, Host="evil.example.org") in (401, 403)
    assert await status(one, STATE, X_Forwarded_For="10.1.2.3") == 401
    assert await status(one, "/metrics", "POST", Origin="http://evil.example.org") == 403


@pytest.mark.usefixtures("from_afar")
async def test_tokens_are_not_taken_in_clear_text_beyond_loopback(tmp_path: Path) -> None:
    file = AuthFile(tmp_path)
    token = file.token("any")
    listen = {"http_listen": "0.0.0.0:0", "http_tls": False}
    async with serving(auth_file=file.path, **listen) as one:
        code, _, text = await ask(one, STATE, Authorization=f"Bearer {token}")
        assert code == 403
        assert "loopback" in json.loads(text)["error"]


@pytest.mark.usefixtures("from_afar")
async def test_refusals_are_logged_once_without_the_token(guarded: tuple[Serving, AuthFile]) -> None:
    one, file = guarded
    with capture_logs() as lines:
        for _ in range(5):
            await ask(one, STATE, Authorization=f"Bearer {file.token('shop')}")
    assert [line["cause"] for line in lines if line["event"] == "refused"] == ["HTTP 403"]
    assert file.token("shop").partition(".")[2] not in repr(lines)


async def test_connections_are_capped() -> None:
    async with serving(connections=3) as one:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        channels = [grpc.aio.insecure_channel(one.server.grpc_address, options) for _ in range(5)]
        codes = []
        for channel in channels:
            call: Any = channel.unary_unary("/replcache.v1.Cache/Get")(
                pb.GetRequest(key=b"k").SerializeToString(), timeout=5
            )
            codes.append(await call.code())
        for channel in channels:
            await channel.close()
        assert codes.count(grpc.StatusCode.OK) == 3
        assert codes.count(grpc.StatusCode.UNAVAILABLE) == 2
