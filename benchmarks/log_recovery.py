"""How long a node needs to start with a long log and no snapshot: every entry is read, checked and applied.

    python -m benchmarks.log_recovery [--entries 1000000]

The log is written by the storage layer itself, one small set an entry: the worst case, since entries of a
busy cluster hold hundreds. One node, so that it leads at once; keys of 16 bytes, values of 100 bytes.
"""

import argparse
import random
import time

from rich.console import Console
from rich.progress import track

from benchmarks.data_size import key, running, until
from benchmarks.rivals.systems import temporary_directory
from replcache.client import Client
from replcache.config import load_config
from replcache.localcluster import LocalCluster
from replcache.raft.disk import OsDisk
from replcache.raft.messages import ENTRY_COMMAND
from replcache.raft.storage_open import open_storage
from replcache.statemachine.codec import encode_entry, encode_group
from replcache.statemachine.commands import Command, Group, Set

VALUE = b"x" * 100
# Entries of one write to the disk.
BATCH = 5000
# No snapshot is taken meanwhile: it would shorten the log.
SETTINGS = {
    "REPLCACHE_SNAPSHOT_AFTER_BYTES": str(64 * 1024**3),
    "REPLCACHE_SNAPSHOT_AFTER_ENTRIES": "100000000",
}


def lengthen(cluster: LocalCluster, entries: int, console: Console) -> int:
    """Appends to the log of the only node, which does not run; returns the bytes that were written."""
    config = load_config(cluster.layout("n1").config).config
    storage = open_storage(
        OsDisk(),
        config.data_dir,
        cluster_id=config.cluster_id,
        name="n1",
        members=(),
        rng=random.Random(1),
    )
    wal = storage.wal
    clock_ms = int(time.time() * 1000)
    for start in track(range(0, entries, BATCH), description=f"{entries:,} entries", console=console):
        batch = []
        for number in range(start, min(start + BATCH, entries)):
            command = Command((Set(key(number).encode(), VALUE),), None, False)
            group = encode_group(Group("bench/1", 1, number + 1, number + 1, (command,)))
            payload = encode_entry(clock_ms, [group])
            batch.append((wal.last_index + 1 + number - start, wal.term, ENTRY_COMMAND, payload))
        wal.append(batch)
        wal.sync()
    written = wal.bytes_written
    storage.close()
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries = parser.parse_args().entries
    console = Console()
    with (
        temporary_directory() as directory,
        running(directory / "node", SETTINGS, nodes=1) as cluster,
        Client(cluster.url, timeout="30s") as client,
    ):
        until(lambda: client.set("first", b"x"))
        cluster.stop()
        written = lengthen(cluster, entries, console)
        started = time.perf_counter()
        cluster.start(environment=SETTINGS)
        until(lambda: client.get(key(entries - 1)) is not None, timeout_s=600)
        seconds = time.perf_counter() - started
    console.print(
        f"{entries:,} entries, {written / 1e6:,.0f} MB of log: the first read after {seconds:.1f} s, "
        f"{entries / seconds:,.0f} entries a second"
    )


if __name__ == "__main__":
    main()
