"""A node is added to a running cluster by its name, becomes a voter, and a dead one is taken out."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from replcache.localcluster.free_ports import free_ports
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fourth(cluster: ProcessCluster, tmp_path: Path, rng: random.Random) -> Iterator[dict[str, str]]:
    """A fourth node that knows the three others and was told to join them."""
    ports = free_ports(1, random.Random(rng.random()))  # the cluster drew with the same seed
    addresses = {"grpc": f"127.0.0.1:{ports.grpc}", "peer": f"127.0.0.1:{ports.peer}"}
    members = ",".join(
        f"{layout.name}={layout.peer_address}/{layout.grpc_address}" for layout in cluster.local.layouts
    )
    command = [sys.executable, "-m", "replcache.cli.main", "serve", "--name", "n4", "--join"]
    command += ["--cluster-name", "local", "--data-dir", str(tmp_path / "n4"), "--members", members]
    command += ["--grpc-listen", addresses["grpc"], "--peer-listen", addresses["peer"]]
    command += ["--http-listen", f"127.0.0.1:{ports.http}"]
    with (tmp_path / "n4.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield addresses
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.timeout(120)
def test_a_node_is_added_by_name_becomes_a_voter_and_a_dead_one_is_removed(
    cluster: ProcessCluster, fourth: dict[str, str]
) -> None:
    cluster.start()
    cluster.wait_ready()
    with cluster.client("20s") as client:
        client.set_many({f"k{number}": number for number in range(500)})
        client.add_member("n4", fourth["peer"], fourth["grpc"], promote=True)

        def is_voter() -> bool:
            return any(member.name == "n4" and member.voter for member in client.members())

        wait_until(is_voter, 30, "n4 votes", client.members)
        dead = next(name for name in cluster.names if name != cluster.leader(client))
        cluster.kill(dead)
        client.remove_member(dead)
        assert {member.name for member in client.members()} == {"n4", *cluster.names} - {dead}
        client.set("after", 1)
        wait_until(
            lambda: client.status("n4").applied_index >= client.status().applied_index, 10, "n4 follows"
        )
        assert client.hash("n4").digest == client.hash(cluster.leader(client)).digest
