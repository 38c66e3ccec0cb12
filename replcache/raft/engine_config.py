"""What the engine needs to know, and its translation to every SyncObjConf field that we depend on."""

from dataclasses import dataclass

from pysyncobj import SyncObjConf

from replcache import constants as c


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Timing in seconds, sizes in bytes. Invariant: heartbeat * 3 < election_min < election_max."""

    heartbeat_s: float = c.HEARTBEAT_INTERVAL_S
    election_min_s: float = c.ELECTION_TIMEOUT_MIN_S
    election_max_s: float = c.ELECTION_TIMEOUT_MAX_S
    append_bytes_max: int = c.APPEND_BYTES_MAX
    appends_in_flight_max: int = c.APPENDS_IN_FLIGHT_MAX
    entry_bytes_max: int = c.ENTRY_BYTES_MAX
    snapshot_chunk_bytes: int = c.SNAPSHOT_CHUNK_BYTES
    snapshot_after_entries: int = c.SNAPSHOT_AFTER_ENTRIES
    snapshot_after_bytes: int = c.SNAPSHOT_AFTER_BYTES
    log_kept_entries: int = c.LOG_KEPT_ENTRIES
    log_kept_bytes: int = c.LOG_KEPT_BYTES
    proposals_bytes_max: int = c.PROPOSALS_IN_FLIGHT_BYTES_MAX
    # Messages that wait until the disk has what they promise; the oldest go first, as if the network had lost
    # them. Some dozens under load, but a full disk may keep a new term's answers waiting for days.
    gated_max: int = c.GATED_MESSAGES_MAX
    # How long applying may hold the loop before others get a turn.
    apply_slice_s: float = 0.005

    def __post_init__(self) -> None:
        if not self.heartbeat_s * 3 < self.election_min_s < self.election_max_s:
            raise ValueError(
                "timing must satisfy heartbeat * 3 < election_min < election_max, got "
                f"heartbeat={self.heartbeat_s}, election_min={self.election_min_s}, "
                f"election_max={self.election_max_s}"
            )


def library_conf(config: EngineConfig) -> SyncObjConf:
    """The library's configuration: no thread, no fork, no files, no sockets, no pickle of its own."""
    return SyncObjConf(
        autoTick=False,
        password=None,
        raftMinTimeout=config.election_min_s,
        raftMaxTimeout=config.election_max_s,
        appendEntriesPeriod=config.heartbeat_s,
        appendEntriesUseBatch=True,
        leaderFallbackTimeout=config.election_max_s,
        connectionTimeout=max(3.5, config.election_max_s),
        journalFile=None,
        fullDumpFile=None,
        useFork=False,
        dynamicMembershipChange=False,
        commandsWaitLeader=False,
    )
