"""What a Raft node has to be told when it is made."""

from dataclasses import dataclass, field

from replcache import constants as c
from replcache.raft.engine_config import EngineConfig
from replcache.raft.peer_tls import TlsConfig
from replcache.raft.port import Member


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Everything a node needs to know at start.

    Attributes:
        members: the members of the first start, this node included; later changes come from the log.
        join: this node is to be added to a cluster that exists; it never founds one.
        durability_fsync: False survives kill -9 but not power loss.
    """

    name: str
    cluster_id: bytes
    data_dir: str
    peer_listen: str
    members: tuple[Member, ...]
    client_address: str = ""
    join: bool = False
    peer_tls: TlsConfig | None = None
    durability_fsync: bool = True
    staleness_probe_s: float = c.STALENESS_PROBE_INTERVAL_S
    tick_s: float = c.TICK_INTERVAL_S
    fault_injection: bool = False
    engine: EngineConfig = field(default_factory=EngineConfig)
