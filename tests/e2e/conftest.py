"""A cluster started by the command line, as a user would, and a way to run commands against it."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replcache.localcluster import LocalCluster, free_ports

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    def json(self) -> Any:
        return json.loads(self.out)

    def error(self) -> Any:
        return json.loads(self.err.strip().splitlines()[-1])["error"]


class Shell:
    """Runs `replcache ...` in a directory; REPLCACHE_URL points to the cluster."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("REPLCACHE_")
        }
        self.environment["PYTHONPATH"] = str(ROOT)
        if url:
            self.environment["REPLCACHE_URL"] = url

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "replcache.cli.main", *arguments]

    def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Result:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            env={**self.environment, **environment},
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )


def port_flags(cluster: LocalCluster) -> list[str]:
    ports = cluster.ports
    numbers = {"--grpc-port": ports.grpc, "--peer-port": ports.peer, "--http-port": ports.http}
    return [str(part) for pair in numbers.items() for part in pair]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes on free ports, shared by the tests of one module."""
    folder = tmp_path_factory.mktemp("cluster")
    made = LocalCluster(folder / ".cluster", 3, free_ports(3, random.Random()))
    shell = Shell(folder)
    try:
        up = shell("cluster", "up", *port_flags(made))
        assert up.code == 0, up.err
        yield LocalCluster(folder / ".cluster")
    finally:
        made.stop(grace_s=5)


@pytest.fixture
def shell(cluster: LocalCluster, tmp_path: Path) -> Shell:
    return Shell(tmp_path, cluster.url)
