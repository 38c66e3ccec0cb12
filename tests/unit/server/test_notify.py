"""sd_notify: the service manager hears the state, and a missing one is no problem."""

import socket
from pathlib import Path

import pytest

from replcache.server.notify import READY, notify


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_state_reaches_the_socket(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path / "notify") if kind == "file" else f"@replcache-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if kind == "abstract" else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert notify(READY)
        assert manager.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify(READY)
