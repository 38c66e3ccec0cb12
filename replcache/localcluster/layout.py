"""Where a local cluster keeps its files, and the configuration file of each of its nodes.

<directory>/cluster.json     ports and names; marks the directory as ours
<directory>/n1/config.toml   generated; `replcache serve --config` reads it
<directory>/n1/data/         log, snapshots, identity
<directory>/n1/node.log      what the process printed
<directory>/n1/process.json  which process it is (processes.Identity)
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
MARKER_FILE = "cluster.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Ports:
    """First port of each kind; node i of n gets first + i - 1."""

    grpc: int = 7401
    peer: int = 7411
    http: int = 7421


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """Addresses and files of one node."""

    name: str
    folder: Path
    grpc_address: str
    peer_address: str
    http_address: str

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def data_lock(self) -> Path:
        """Locked by the node as long as it uses the data (replcache/raft/identity.py)."""
        return self.data / "lock"

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    @property
    def process(self) -> Path:
        return self.folder / "process.json"


def node_layouts(directory: Path, nodes: int, ports: Ports) -> tuple[NodeLayout, ...]:
    return tuple(
        NodeLayout(
            name=f"n{number}",
            folder=directory / f"n{number}",
            grpc_address=f"{HOST}:{ports.grpc + number - 1}",
            peer_address=f"{HOST}:{ports.peer + number - 1}",
            http_address=f"{HOST}:{ports.http + number - 1}",
        )
        for number in range(1, nodes + 1)
    )


def port_problems(nodes: int, ports: Ports) -> list[str]:
    """Ports that are out of range or that two listeners would share."""
    owners: dict[int, str] = {}
    problems = []
    for kind, first in asdict(ports).items():
        for port in range(first, first + nodes):
            if not 1 <= port <= 65535:
                problems.append(f"{kind} port {port} is not within 1..65535")
            elif port in owners:
                problems.append(f"port {port} is wanted for {owners[port]} and for {kind}")
            else:
                owners[port] = kind
    return problems


def save_cluster(directory: Path, nodes: int, ports: Ports) -> None:
    fields = {"format": FORMAT, "nodes": nodes, "ports": asdict(ports)}
    temporary = directory / "cluster.tmp"
    temporary.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / MARKER_FILE)


def load_cluster(directory: Path) -> tuple[int, Ports] | None:
    """(nodes, ports) of the cluster in that directory; None: there is none.

    Raises:
        ValueError: the marker file is not readable as one of ours.
    """
    path = directory / MARKER_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ValueError(f"{path} has an unknown format; remove the directory or use another one")
    numbers = fields.get("nodes"), *_port_numbers(fields.get("ports"))
    if {type(number) for number in numbers} != {int}:
        raise ValueError(f"{path} is damaged: nodes, and grpc, peer and http of its ports, are numbers")
    return numbers[0], Ports(*numbers[1:])


def _port_numbers(ports: Any) -> tuple[Any, ...]:
    """Of Ports, in its order; what is not there is None."""
    found = ports if isinstance(ports, dict) else {}
    return tuple(found.get(kind) for kind in ("grpc", "peer", "http"))
