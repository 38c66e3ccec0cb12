"""`make cluster-up` shows three healthy nodes in under 15 s, `make cluster-down` leaves no process."""

import random
import subprocess
import sys
import time
from pathlib import Path

from replcache.localcluster import LocalCluster, free_ports
from tests.helpers.wait import scaled
from tests.tidy.sources import ROOT

LIMIT_S = 15.0


def make(target: str, *variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", target, f"PY={sys.executable}", *variables],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(120),
        check=False,
    )


def lives(pid: int) -> bool:
    """One that has ended may be listed until whoever adopted it looks."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_row52_up_and_down(tmp_path: Path) -> None:
    ports = free_ports(3, random.Random())
    variables = (
        f"CLUSTER_DIR={tmp_path / 'c'}",
        f"GRPC_PORT={ports.grpc}",
        f"PEER_PORT={ports.peer}",
        f"HTTP_PORT={ports.http}",
    )
    started = time.monotonic()
    try:
        up = make("cluster-up", *variables)
        took_s = time.monotonic() - started
        print(f"three nodes after {took_s:.1f} s")
        assert up.returncode == 0, up.stderr
        assert all(name in up.stdout for name in ("n1", "n2", "n3", "LEADER"))
        assert took_s < scaled(LIMIT_S)
        pids = LocalCluster(tmp_path / "c").running()
        assert len(pids) == 3
    finally:
        down = make("cluster-down", *variables)
    assert down.returncode == 0, down.stderr
    assert LocalCluster(tmp_path / "c").running() == {}
    assert not [pid for pid in pids.values() if lives(pid)]
