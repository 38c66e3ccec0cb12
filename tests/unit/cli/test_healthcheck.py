"""The container's health check asks the right url, and believes only a 200."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from replcache.cli.healthcheck import is_ready, readiness_url
from replcache.config import ServerConfig


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_ready_node_is_healthy(address: str) -> None:
    assert is_ready(f"http://{address}/readyz")


def test_other_answers_and_silence_are_not(address: str) -> None:
    assert not is_ready(f"http://{address}/other")
    assert not is_ready("http://127.0.0.1:1/readyz")


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:7421", "http://127.0.0.1:7421/readyz"),
        ("0.0.0.0:7421", "http://127.0.0.1:7421/readyz"),
        ("[::]:7421", "http://[::1]:7421/readyz"),
        ("", None),
    ],
)
def test_url_follows_the_settings(listen: str, expected: str | None) -> None:
    config = ServerConfig.model_validate({"http_listen": listen, "insecure": True})
    assert readiness_url(config) == expected


def test_certificate_means_https() -> None:
    settings = {"http_listen": "0.0.0.0:7421", "tls_cert": "c.pem", "tls_key": "c.key"}
    assert readiness_url(ServerConfig.model_validate(settings)) == "https://127.0.0.1:7421/readyz"
    plain = ServerConfig.model_validate({**settings, "http_tls": False})
    assert readiness_url(plain) == "http://127.0.0.1:7421/readyz"
