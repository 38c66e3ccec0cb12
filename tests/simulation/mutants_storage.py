"""Planted bugs: log files, snapshots, recovery (docs/hazards.md H11, H12, H14, H27-H31)."""

from tests.simulation.planting import Edit, Mutant, method


def storage(name: str, about: str, *edits: Edit, directed: str = "") -> Mutant:
    return Mutant(name, "storage", about, edits, directed)


MUTANTS = (
    storage(
        "forget the fsync",
        "H27: the log is written, never synced",
        method("wal_writer:SegmentWriter._sync", "if self._options.sync:", "if False:"),
        directed="power cut after a snapshot",
    ),
    storage(
        "forget the fsync of a new segment",
        "its header is not on the disk when its name is",
        method("wal_writer:SegmentWriter._begin_segment", "    file.fdatasync()\n", ""),
    ),
    storage(
        "forget the fsync of the log's directory",
        "a new segment's name is lost with the power",
        method("wal_writer:SegmentWriter._begin_segment", "    self._disk.fsync_dir(self._directory)\n", ""),
        directed="power cut after a snapshot",
    ),
    storage(
        "forget the fsync of a snapshot",
        "H27: renamed before its bytes are on the disk",
        method("snapshots:SnapshotWriter._write", "        file.fdatasync()\n    finally:", "    finally:"),
        directed="power cut after a snapshot",
    ),
    storage(
        "forget the fsync of the snapshots' directory",
        "the log is trimmed, the snapshot's name is lost",
        method("snapshots:SnapshotStore._publish", "    self._disk.fsync_dir(self._directory)", "    pass"),
        directed="power cut after a snapshot",
    ),
    storage(
        "trim the log before the snapshot is durable",
        "H14, H28",
        method(
            "snapshot_jobs:SnapshotJobs.take",
            "    self._node.short_task(",
            "    engine.wal.compact_to(index)\n    self._node.short_task(",
        ),
    ),
    storage(
        "call it durable when the sync begins",
        "H10, H27: the durable index moves too early",
        method(
            "wal:Wal.take_sync_job",
            "    self._pending = []\n",
            "    self._pending = []\n"
            "    self.durable_lsn = self.next_lsn - 1\n"
            "    self.durable_index = self.last_index\n",
        ),
    ),
    storage(
        "do not write term and vote",
        "H8: only memory has them",
        method(
            "wal:Wal.set_hard_state",
            "return self._add((HARD_STATE, 0 if voted_for is None else 1, 0, term, vote))",
            "return self.next_lsn - 1",
        ),
    ),
    storage(
        "do not write truncations",
        "what was cut comes back at the next start",
        method(
            "wal:Wal.truncate_from",
            'return self._add((TRUNCATE, 0, index, self.last_term, b""))',
            "return self.next_lsn - 1",
        ),
        directed="divergent tail",
    ),
    storage(
        "throw the log's tail away at start",
        "H11: only what the snapshot holds is kept",
        method("wal:Wal.align_to_snapshot", "if self.term_at(index) == term:", "if False:"),
    ),
    storage(
        "go on after a failed fsync",
        "fsyncgate: the error is forgotten, the next sync says OK",
        method(
            "wal_writer:SegmentWriter._sync",
            "        self._file.fdatasync()\n",
            "        try:\n            self._file.fdatasync()\n        except OSError:\n            pass\n",
        ),
        directed="failed sync",
    ),
    storage(
        "start from the older snapshot",
        "H12: an older one replaces a newer one",
        method(
            "snapshots:SnapshotStore.latest", "index, term, name = found[-1]", "index, term, name = found[0]"
        ),
    ),
    storage(
        "start empty when the snapshot is unreadable",
        "H30: damage is a log line",
        method(
            "snapshots:SnapshotStore.latest",
            "if not found:",
            "if not found or len(found) > 1:",
        ),
    ),
    storage(
        "cut the log at the first bad record",
        "H29: damage before the tail looks like a torn tail",
        Edit(
            "replcache.raft.wal_recovery:recover",
            "judge_tail(data, seed, end, path)",
            "pass",
            ("replcache.raft.wal",),
        ),
        directed="flipped bits",
    ),
    storage(
        "do not check records",
        "H29: a flipped bit is served as data",
        Edit(
            "replcache.raft.wal_format:scan_records",
            "if len(payload) != size or value(payload) != payload_crc:",
            "if len(payload) != size:",
            ("replcache.raft.wal_recovery",),
        ),
        directed="flipped bits",
    ),
    storage(
        "keep a torn tail",
        "the next group is written behind what recovery ignored",
        method("wal_recovery:_settle", "        file.truncate(min(end, file.size()))\n", "        pass\n"),
        directed="torn tail",
    ),
    storage(
        "delete segments that are still needed",
        "H28",
        method(
            "wal_writer:SegmentWriter._delete_old",
            "while len(self._segments) > 1 and self._segments[0].last_live <= floor:",
            "while len(self._segments) > 1 and floor:",
        ),
    ),
)
