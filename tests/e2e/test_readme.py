"""README.md: every command and every line of code in it works as written."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from replcache.localcluster import LocalCluster
from tests.e2e.conftest import ROOT, Shell

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.S | re.M)


def shell_lines() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    return [shlex.split(line, comments=True) for line in lines]


COMMANDS = [line for line in shell_lines() if line[0] == "replcache"]
TARGETS = [line[1] for line in shell_lines() if line[0] == "make"]


def test_readme_has_what_is_tested_here() -> None:
    assert len(COMMANDS) >= 5
    assert {"cluster", "cluster-down", "test"} <= set(TARGETS)
    assert len(blocks("python")) >= 1


def test_commands_work_in_their_order(shell: Shell) -> None:
    for _, *arguments in COMMANDS:
        result = shell(*arguments)
        assert result.code == 0, (arguments, result)


def test_python_works(shell: Shell, cluster: LocalCluster) -> None:
    local = "replcache://127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403"
    for block in blocks("python"):
        assert local in block
        done = subprocess.run(
            [sys.executable, "-c", block.replace(local, cluster.url)],
            capture_output=True,
            text=True,
            timeout=60,
            env=shell.environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_exist(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_make_cluster_starts_takes_the_tour_and_stops(tmp_path: "os.PathLike[str]") -> None:
    """With the python that runs this test, on free ports, in another directory."""
    import random

    from replcache.localcluster import free_ports

    ports = free_ports(3, random.Random())
    variables = [
        f"PY={sys.executable}",
        f"CLUSTER_DIR={tmp_path}/cluster",
        f"GRPC_PORT={ports.grpc}",
        f"PEER_PORT={ports.peer}",
        f"HTTP_PORT={ports.http}",
    ]

    def make(target: str) -> str:
        done = subprocess.run(
            ["make", target, *variables], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        tour = make("cluster")
        assert "LEADER" in tour
        assert "the new leader is" in tour
        assert "CRASHED" not in make("cluster-status")
    finally:
        make("cluster-down")
