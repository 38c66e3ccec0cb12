"""What must hold at every moment of a run, whatever goes wrong: looked at after each event.

Sources: Raft paper figure 3 (Election Safety, Log Matching, Leader Completeness, State Machine Safety), the
check-list of docs/hazards.md (after SandTable, EuroSys 2024), promises P1-P6 of docs/guarantees.md.
Each check is incremental: it costs a few comparisons for the node that the event touched.
"""

import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from replcache.raft.library_frame import LEADER
from replcache.raft.messages import AppendReply, Forward, PreVote, RequestVote, VoteReply
from replcache.raft.port import Member
from replcache.statemachine.machine import Applied

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import SimNode, World

# Every so many log entries the whole state of the nodes is compared, not only their results.
DIGEST_EVERY = 16

_TERM, _ROLE = "_SyncObj__raftCurrentTerm", "_SyncObj__raftState"
_COMMIT, _APPLIED = "_SyncObj__raftCommitIndex", "_SyncObj__raftLastApplied"


class Violation(Exception):
    """A promise was broken. `kind` groups findings: the same kind may have many texts."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class _Seen:
    """What was last seen of one process (one life)."""

    __slots__ = ("applied", "clock_ms", "commit", "is_leader", "machine", "revision", "term")

    def __init__(self, process: "Process") -> None:
        engine = process.engine
        self.term = engine.term
        self.commit = engine.commit_index
        self.applied = engine.applied_index
        self.clock_ms = engine.machine.clock_ms
        self.is_leader = False
        self.machine = engine.machine
        self.revision = engine.machine.revision


class Oracles:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._seen: dict[str, _Seen] = {}
        self._leaders: dict[int, str] = {}
        # (voter, its incarnation, term) -> candidate that it told to have its vote.
        self._votes: dict[tuple[str, int, int], str] = {}
        # index -> (term, kind, crc of the payload); index 0 is the beginning.
        self._committed: list[tuple[int, int, int]] = [(0, 0, 0)]
        # index -> term of the node that was the first to commit it.
        self._committed_in: list[int] = [0]
        # (index, term) -> (term before, kind, crc): the same everywhere, or the logs do not match.
        self._entries: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._results: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self._snapshots: dict[str, int] = {}
        # (node, incarnation) -> highest term in any message of its.
        self._told_terms: dict[tuple[str, int], int] = {}
        # When (global time) which revision was first applied anywhere.
        self._revision_times: list[float] = [0.0]
        self._revisions: list[int] = [0]
        self._events: deque[str] = deque(maxlen=50)
        self.elections = 0
        self.snapshots = 0
        self.refused = 0
        self.one_reads = 0
        self.one_bounded = 0
        self.deleted_matching = 0

    def facts(self) -> dict[str, int]:
        return {
            "elections": self.elections,
            "committed": len(self._committed) - 1,
            "snapshots": self.snapshots,
            "one_reads": self.one_reads,
            "one_bounded": self.one_bounded,
        }

    # --- life of processes ---------------------------------------------------------------------------------

    def on_started(self, process: "Process") -> None:
        base = process.storage.applied_index
        durable = self._snapshots.get(process.name, 0)
        if base < durable:
            self._fail("snapshot goes back", f"{process.name} starts from {base}, had a durable {durable}")
        self._seen[process.name] = _Seen(process)
        wal = process.storage.wal
        wal.check_invariants()
        self._check_kept(process)
        self._watch_log(process, wal.base_index + 1)

    def _check_kept(self, process: "Process") -> None:
        """What the last life had on the disk, and what it had told others, is still there."""
        wal, before = process.storage.wal, process.node.last_log
        told = self._told_terms.get((process.name, process.incarnation), 0)
        if wal.term < told:
            self._fail("term forgotten", f"{process.name} starts with term {wal.term}, had told {told}")
        voted = self._votes.get((process.name, process.incarnation, wal.term))
        if voted is not None and wal.voted_for != voted:
            self._fail(
                "vote forgotten",
                f"{process.name} starts with a vote for {wal.voted_for} in term {wal.term}, had told {voted}",
            )
        if before is None or process.node.is_fresh:
            return
        for index in range(max(before.base_index, wal.base_index) + 1, before.durable_index + 1):
            if wal.term_at(index) != before.term_at(index):
                self._fail(
                    "durable entry lost",
                    f"{process.name} starts with term {wal.term_at(index)} at {index}, had "
                    f"{before.term_at(index)} durable; log {wal.base_index}..{wal.last_index}",
                )
        if before.durable_index > wal.last_index:
            self._fail(
                "durable entry lost",
                f"{process.name} starts with a log up to {wal.last_index}, had {before.durable_index}",
            )

    def on_stopped(self, process: "Process") -> None:
        self._seen.pop(process.name, None)

    def on_wiped(self, name: str) -> None:
        self._snapshots.pop(name, None)

    def on_refused(self, node: "SimNode", error: BaseException) -> None:
        """A node refuses its data directory: right when it was damaged, else a finding."""
        self.refused += 1
        if not node.is_damaged and node.disk.capacity_bytes is None and node.disk.fault is None:
            self._fail("refused", f"{node.name} refuses an undamaged directory: {error}")

    def on_snapshots(self, process: "Process") -> None:
        """A snapshot may have been written or installed: from now on this node never starts from less."""
        index = process.snapshots.last_index
        if index > self._snapshots.get(process.name, 0):
            self._snapshots[process.name] = index
            self.snapshots += 1

    # --- after each event ----------------------------------------------------------------------------------

    def after_event(self, process: "Process") -> None:
        seen = self._seen.get(process.name)
        if seen is None:
            return
        # The library's own attributes, read without descriptors: this runs after every event.
        state = vars(process.engine)
        term, commit, applied = state[_TERM], state[_COMMIT], state[_APPLIED]
        if term != seen.term:
            if term < seen.term:
                self._fail("term goes back", f"{process.name}: {seen.term} -> {term}")
            seen.term = term
            seen.is_leader = False
        if commit != seen.commit:
            self._commit_moved(process, seen)
        if applied != seen.applied or state["machine"] is not seen.machine:
            self._applied_moved(process, seen)
        if not applied <= commit <= process.storage.wal.last_index:
            self._fail(
                "index order",
                f"{process.name}: applied {applied}, commit {commit}, last {process.storage.wal.last_index}",
            )
        if state[_ROLE] == LEADER and not seen.is_leader:
            seen.is_leader = True
            self._new_leader(process)

    def _commit_moved(self, process: "Process", seen: _Seen) -> None:
        commit = process.engine.commit_index
        if commit < seen.commit:
            self._fail("commit goes back", f"{process.name}: {seen.commit} -> {commit}")
        wal = process.storage.wal
        for index in range(max(seen.commit, wal.base_index) + 1, commit + 1):
            entry = wal.entry(index)
            found = (entry[1], entry[2], zlib.crc32(entry[3]))
            if index < len(self._committed):
                if self._committed[index] != found:
                    self._fail(
                        "committed entry changed",
                        f"{process.name} commits {found} at {index}, it was {self._committed[index]}",
                    )
            elif index == len(self._committed):
                self._first_commit(process, index, found)
            else:
                self._fail(
                    "commit gap", f"{process.name} commits {index}, {len(self._committed) - 1} was last"
                )
        if commit >= len(self._committed):
            self._fail(
                "snapshot of uncommitted",
                f"{process.name} holds {commit} as committed, nobody committed behind "
                f"{len(self._committed) - 1}",
            )
        seen.commit = commit

    def _first_commit(self, process: "Process", index: int, found: tuple[int, int, int]) -> None:
        """Nobody had this committed before: it must be on the disks of a majority of the voters now."""
        self._committed.append(found)
        self._committed_in.append(process.engine.term)
        voters = [member.name for member in process.engine.configurations.current if member.voter]
        holders = [name for name in voters if self._holds_durably(process, name, index, found[0])]
        if len(holders) * 2 <= len(voters):
            self._fail(
                "committed without majority",
                f"{process.name} commits {index} (term {found[0]}) of voters {voters}, on disks: {holders}",
            )

    def _holds_durably(self, leader: "Process", name: str, index: int, term: int) -> bool:
        """A disk that was lost counts until the leader can know: its acknowledgement was true.

        That is safe: the node without its disk does not vote, so each majority has another holder.
        """
        node = self._world.nodes.get(name)
        if node is None:
            return False
        log = node.process.storage.wal if node.process is not None else node.last_log
        if node.lost_log is not None and (leader.engine.peer_incarnations.get(name) == node.lost_incarnation):
            log = node.lost_log
        if log is None:
            return False
        if index <= log.base_index:
            return True
        return bool(log.durable_index >= index and log.term_at(index) == term)

    def _applied_moved(self, process: "Process", seen: _Seen) -> None:
        engine = process.engine
        if engine.applied_index < seen.applied:
            self._fail("applied goes back", f"{process.name}: {seen.applied} -> {engine.applied_index}")
        if engine.machine.revision < seen.revision:
            self._fail(
                "state goes back",
                f"{process.name}: revision {seen.revision} -> {engine.machine.revision}",
            )
        if engine.machine.clock_ms < seen.clock_ms:
            self._fail(
                "cluster clock goes back",
                f"{process.name}: {seen.clock_ms} -> {engine.machine.clock_ms} ms",
            )
        seen.clock_ms = engine.machine.clock_ms
        if engine.machine is not seen.machine:
            self._compare_digest(process)
        seen.applied, seen.machine = engine.applied_index, engine.machine
        seen.revision = engine.machine.revision
        if seen.revision > self._revisions[-1]:
            self._revisions.append(seen.revision)
            self._revision_times.append(self._world.now)
            self._world.ledger.newest_revision = seen.revision

    def _compare_digest(self, process: "Process") -> None:
        index = process.engine.applied_index
        digest = process.machine.digest()
        if self._digests.setdefault(index, digest) != digest:
            self._fail("state differs", f"{process.name} at index {index}")

    def _new_leader(self, process: "Process") -> None:
        engine, wal = process.engine, process.storage.wal
        self.elections += 1
        self._world.trace("leader", process.name, engine.term)
        other = self._leaders.setdefault(engine.term, process.name)
        if other != process.name:
            self._fail("two leaders", f"term {engine.term}: {other} and {process.name}")
        # Leader Completeness is about what was committed in earlier terms: a node that slept over its own
        # election may begin to lead a term that is long past.
        last = len(self._committed) - 1
        while last and self._committed_in[last] >= engine.term:
            last -= 1
        if last > wal.base_index and wal.term_at(last) != self._committed[last][0]:
            self._fail(
                "leader incomplete",
                f"{process.name} leads term {engine.term} with term {wal.term_at(last)} at {last}, committed "
                f"was {self._committed[last][0]}",
            )

    # --- the log -------------------------------------------------------------------------------------------

    def on_appended(self, process: "Process", first: int) -> None:
        """Entries from `first` on were appended."""
        self._watch_log(process, first)

    def _watch_log(self, process: "Process", first: int) -> None:
        """Log Matching (Raft paper 5.3) by induction: equal index and term, equal entry and equal place."""
        wal = process.storage.wal
        before = wal.term_at(first - 1)
        for index in range(first, wal.last_index + 1):
            entry = wal.entry(index)
            found = (before if before is not None else -1, entry[2], zlib.crc32(entry[3]))
            known = self._entries.setdefault((index, entry[1]), found)
            if known[1:] != found[1:] or (known[0] != found[0] and -1 not in (known[0], found[0])):
                self._fail(
                    "logs do not match",
                    f"{process.name} has {found} at index {index}, term {entry[1]}; known is {known}",
                )
            before = entry[1]

    # --- messages ------------------------------------------------------------------------------------------

    def on_send(self, process: "Process", peer: str, message: Any) -> None:
        """What leaves a node binds it."""
        wal = process.storage.wal
        term = getattr(message, "term", 0)
        # A question about a term, and a request to the leader of one, promise nothing for it.
        if term and not isinstance(message, (PreVote, Forward)):
            key = (process.name, process.incarnation)
            if term > self._told_terms.get(key, 0):
                self._told_terms[key] = term
        if isinstance(message, VoteReply) and message.granted:
            self._vote(process, peer, message.term)
        elif isinstance(message, RequestVote):
            self._vote(process, process.name, message.term)
        elif isinstance(message, AppendReply) and message.success and message.match_index > wal.durable_index:
            self._fail(
                "ack before durable",
                f"{process.name} acknowledges {message.match_index}, durable is {wal.durable_index}",
            )

    def _vote(self, process: "Process", candidate: str, term: int) -> None:
        key = (process.name, process.incarnation, term)
        before = self._votes.setdefault(key, candidate)
        if before != candidate:
            self._fail("two votes", f"{process.name} in term {term}: {before} and {candidate}")

    # --- applied -------------------------------------------------------------------------------------------

    def on_applied(self, process: "Process", index: int, applied: Applied) -> None:
        crc = zlib.crc32(repr((applied.group_results, applied.events)).encode())
        self._world.trace_number(crc)
        if self._results.setdefault(index, crc) != crc:
            self._fail("results differ", f"{process.name} at index {index}: {applied.group_results}")
        if index % DIGEST_EVERY == 0:
            digest = process.machine.digest()
            if self._digests.setdefault(index, digest) != digest:
                self._fail("state differs", f"{process.name} at index {index}")

    # --- reads ---------------------------------------------------------------------------------------------

    def on_linearizable_read(self, process: "Process", since_revision: int) -> None:
        """All that was applied anywhere before the call is in the answer."""
        if process.machine.revision < since_revision:
            self._fail(
                "stale read",
                f"{process.name} answers from revision {process.machine.revision}, "
                f"{since_revision} was applied before the call",
            )

    def on_session_read(self, process: "Process", wanted: int) -> None:
        if process.machine.revision < wanted:
            self._fail("session goes back", f"{process.name}: {process.machine.revision} < {wanted}")

    def on_one_read(self, process: "Process", staleness_s: float | None) -> None:
        """The stated bound holds: everything applied anywhere before now - bound is in the answer."""
        self.one_reads += 1
        if staleness_s is None:
            return
        self.one_bounded += 1
        before = self._world.now - process.clock.in_global(staleness_s) * (1 + 1e-9) - 1e-9
        wanted = self._revisions[max(0, bisect_right(self._revision_times, before) - 1)]
        if process.machine.revision < wanted:
            self._fail(
                "older than stated",
                f"{process.name} states {staleness_s:.3f} s at revision {process.machine.revision}, "
                f"{wanted} was applied before",
            )

    # --- the end -------------------------------------------------------------------------------------------

    def check_end(self) -> None:
        """All nodes have applied the same: their states must be equal, byte for byte."""
        leader = self._world.leader()
        assert leader is not None
        configuration = _by_name(leader.engine.configurations.current)
        members = {member.name for member in configuration}
        digest = leader.machine.digest()
        for name in sorted(members):
            process = self._world.process(name)
            assert process is not None, f"{name} is down after everything was repaired"
            process.machine.check_invariants()
            process.storage.wal.check_invariants()
            if process.machine.digest() != digest:
                self._fail("state differs", f"{name} and {leader.name} at the end")
            if _by_name(process.engine.configurations.current) != configuration:
                self._fail(
                    "configuration differs",
                    f"{name}: {process.engine.configurations.current}, {leader.name}: {configuration}",
                )

    def _fail(self, kind: str, text: str) -> None:
        raise Violation(kind, f"at {self._world.now:.6f} s: {text}")


def _by_name(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.name)
