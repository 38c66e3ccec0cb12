"""A node as a process: it starts, serves, and ends in order with the right exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import cache_pb2_grpc
from tests.helpers.wait import scaled, wait_until

CODE = """
import sys
from pathlib import Path
from replcache.config import load_config
from replcache.server.app import run
sys.exit(run(load_config(Path(sys.argv[1]), environment={}).config))
"""
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def node(tmp_path: Path, *python_flags: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a configuration of its own; killed at the end if it still runs."""
    given = {
        "data_dir": str(tmp_path / "data"),
        "grpc_listen": "127.0.0.1:0",
        "peer_listen": "127.0.0.1:0",
        "http_listen": "127.0.0.1:0",
        "log_format": "json",
        **settings,
    }
    tmp_path.mkdir(exist_ok=True)
    file = tmp_path / "replcache.toml"
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()))
    process = subprocess.Popen(
        [sys.executable, *python_flags, "-c", CODE, str(file)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stderr=(tmp_path / "stderr").open("w"),
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stderr(tmp_path: Path) -> str:
    return (tmp_path / "stderr").read_text()


def address(tmp_path: Path) -> str:
    """Where the node serves, out of its log."""

    def find() -> str:
        for line in stderr(tmp_path).splitlines():
            if line.startswith("{") and (record := json.loads(line)).get("event") == "serving":
                return str(record["grpc"])
        return ""

    return str(wait_until(find, timeout_s=15, what="serving", describe=lambda: stderr(tmp_path)))


def write(target: str, key: bytes, value: bytes) -> int:
    with grpc.insecure_channel(target) as channel:
        stub = cache_pb2_grpc.CacheStub(channel)  # type: ignore[no-untyped-call]
        return int(stub.Set(pb.SetRequest(key=key, value=value), timeout=scaled(10)).version)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_node_ends_with_0_when_told_and_keeps_its_data(tmp_path: Path, number: signal.Signals) -> None:
    for version in (1, 2):
        with node(tmp_path) as process:
            assert write(address(tmp_path), b"k", b"v") == version
            process.send_signal(number)
            assert process.wait(scaled(15)) == 0, stderr(tmp_path)
            assert '"event": "stopped"' in stderr(tmp_path)


def test_node_refuses_to_run_without_assertions(tmp_path: Path) -> None:
    with node(tmp_path, "-O") as process:
        assert process.wait(scaled(15)) == 2
        assert "python -O" in stderr(tmp_path)


def test_second_node_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with node(tmp_path):
        address(tmp_path)
        with node(tmp_path / "second", data_dir=str(tmp_path / "data")) as process:
            assert process.wait(scaled(15)) == 7
            assert "replcache:" in stderr(tmp_path / "second")
            assert "another process is using" in stderr(tmp_path / "second")


def test_address_in_use_ends_with_2_and_names_the_setting(tmp_path: Path) -> None:
    with node(tmp_path):
        taken = address(tmp_path)
        with node(tmp_path / "second", grpc_listen=taken) as process:
            assert process.wait(scaled(15)) == 2
            assert f"grpc_listen = {taken}" in stderr(tmp_path / "second")
