"""A rolling upgrade and the way back under load: nodes of an earlier build and of this one in one cluster.

There is one release only, so the earlier build is a revision of this repository from before eviction by all
nodes' digests, tracing and the corrections to membership. Skipped where the repository's history is missing.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.test_plain_load import hashes_at_one_index
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until
from tests.mission.test_row44_rolling_restarts import WRITERS, Load

ROOT = Path(__file__).resolve().parents[2]
EARLIER = "e446a4f"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The source of the earlier build."""
    packed = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"revision {EARLIER} is not here: {packed.stderr.decode(errors='replace').strip()}")
    tree = tmp_path / "earlier"
    tree.mkdir()
    subprocess.run(["tar", "x"], cwd=tree, input=packed.stdout, check=True)
    return tree


class Builds:
    """Nodes of a cluster, each from a source tree of its own choice."""

    def __init__(self, cluster: ProcessCluster) -> None:
        self._cluster = cluster
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, tree: Path) -> None:
        layout = self._cluster.local.layout(name)
        command = [sys.executable, "-m", "replcache.cli.main", "serve", "--config", str(layout.config)]
        with layout.log.open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, stdout=log, stderr=log
            )

    def replace(self, name: str, tree: Path) -> None:
        """As an operator does: stop, start, wait until it is ready."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        self.start(name, tree)
        self._cluster.wait_ready(name)

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait(10)


@pytest.mark.timeout(240)
def test_row68_rolling_upgrade_and_back_under_load(cluster: ProcessCluster, earlier: Path) -> None:
    builds = Builds(cluster)
    load = [Load(cluster.url, number) for number in range(WRITERS)]
    try:
        for name in cluster.names:
            builds.start(name, earlier)
        cluster.wait_ready()
        for writer in load:
            writer.start()
        for tree in (ROOT, earlier):
            for name in cluster.names:
                calls = sum(writer.calls for writer in load)
                builds.replace(name, tree)
                wait_until(
                    lambda calls=calls: sum(writer.calls for writer in load) > calls + 200, 30, "writes go on"
                )
        for writer in load:
            writer.stop()
        errors = [error for writer in load for error in writer.errors]
        assert not errors, errors[:5]
        with cluster.client("20s") as client:
            acknowledged = {key: value for writer in load for key, value in writer.acknowledged.items()}
            assert [key for key, value in acknowledged.items() if client.get_value(key) != value] == []
            digests = wait_until(lambda: hashes_at_one_index(client, cluster), 20, "all nodes at one index")
            assert isinstance(digests, set)
            assert len(digests) == 1, "old and new nodes have come to the same state"
        longest = max(writer.gap_s for writer in load)
        print(f"{sum(writer.calls for writer in load)} writes, longest wait {longest * 1000:.0f} ms")
    finally:
        builds.stop()
