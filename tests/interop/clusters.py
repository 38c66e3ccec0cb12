"""The clusters that the programs talk to: three node processes, plain or with TLS and tokens."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.process_cluster import ProcessCluster

AUTH_FILE = "auth.toml"
RIGHTS = """
[roles.interop]
read = ["interop/"]
write = ["interop/"]
locks = ["interop/"]

[users.programs]
roles = ["interop"]
"""


@dataclass(frozen=True)
class Access:
    """What a client needs; None and "" on a plain cluster."""

    ca: Path | None = None
    token: str = ""


@contextmanager
def running_cluster(
    directory: Path, rng: random.Random, secure: bool = False
) -> Iterator[tuple[ProcessCluster, Access]]:
    """Three nodes that are ready; stopped in the end."""
    cluster = ProcessCluster(directory, rng)
    access = Access()
    if secure:
        access = make_access(cluster, directory / "access")
    try:
        start(cluster, access)
        yield cluster, access
    finally:
        cluster.stop()


def start(cluster: ProcessCluster, access: Access) -> None:
    """Starts the nodes that do not run, and returns when all are ready."""
    for name in cluster.names:
        settings = {}
        if access.ca is not None:
            certificate = access.ca.with_name(f"{name}.pem")
            for kind in ("TLS", "PEER_TLS"):
                settings[f"REPLCACHE_{kind}_CERT"] = str(certificate)
                settings[f"REPLCACHE_{kind}_KEY"] = str(certificate.with_suffix(".key"))
            # Certificates are what is tested; the health pages of the nodes are only polled.
            settings |= {"REPLCACHE_PEER_TLS_CA": str(access.ca), "REPLCACHE_HTTP_TLS": "false"}
            settings["REPLCACHE_AUTH_FILE"] = str(access.ca.with_name(AUTH_FILE))
        cluster.start(name, **settings)
    cluster.wait_ready()


def make_access(cluster: ProcessCluster, folder: Path) -> Access:
    """Certificates for the nodes and a token for the programs, made as an operator would."""
    nodes = [option for name in cluster.names for option in ("--node", f"{name}=127.0.0.1,localhost")]
    command_line("certs", str(folder), *nodes)
    auth_file = folder / AUTH_FILE
    auth_file.write_text(RIGHTS)
    token = command_line("auth", "token", "create", "programs", "--file", str(auth_file))
    return Access(folder / "ca.pem", token.strip())


def command_line(*arguments: str) -> str:
    """What `replcache` prints."""
    command = [sys.executable, "-m", "replcache.cli.main", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
