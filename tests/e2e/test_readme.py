"""README.md: what a newcomer needs is there and can be made; test_doc_examples.py runs the rest."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT

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
