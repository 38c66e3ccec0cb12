"""The part of pysyncobj that carries the engine, and nothing else of it.

A subclass of SyncObj whose constructor opens nothing: no thread, no socket, no file. The library's term,
vote, role, leader, commit and applied index are the engine's; they get readable names here. Every handler
that docs/hazards.md found wrong is replaced, so that a call of it by mistake fails at once.
"""

import random
from collections.abc import Iterable
from typing import Any

from pysyncobj.node import Node as LibraryNode
from pysyncobj.syncobj import _RAFT_STATE, SyncObj
from pysyncobj.transport import Transport

from replcache.raft.engine_config import EngineConfig, library_conf
from replcache.raft.log_adapter import LogAdapter
from replcache.raft.upstream import assert_upstream, private

FOLLOWER = _RAFT_STATE.FOLLOWER
CANDIDATE = _RAFT_STATE.CANDIDATE
LEADER = _RAFT_STATE.LEADER


class LibraryTransport(Transport):  # type: ignore[misc]  # the library has no types
    """Always ready and without sockets, so that none of the library's open ports exists (H33-H39)."""

    def __init__(self) -> None:
        super().__init__(None, None, [])

    def send(self, node: Any, message: Any) -> bool:
        raise AssertionError("the library's own messages are not used")

    def destroy(self) -> None:
        pass


class LibraryFrame(SyncObj):  # type: ignore[misc]  # the library has no types
    """SyncObj without its own life. The engine sets its own attributes before it calls this constructor,
    because the library's looks at every attribute of the object."""

    # The library's own state, under readable names.
    term = private("raftCurrentTerm")
    voted_for = private("votedForNodeId")
    commit_index = private("raftCommitIndex")
    applied_index = private("raftLastApplied")
    election_deadline = private("raftElectionDeadline")
    _role = private("raftState")
    _leader_node = private("raftLeader")
    _library_log = private("raftLog")
    _library_nodes = private("otherNodes")

    def __init__(self, name: str, config: EngineConfig, rng: random.Random, log: LogAdapter) -> None:
        self._frame_config = config
        self._frame_rng = rng
        super().__init__(LibraryNode(name), [], library_conf(config), transport=LibraryTransport())
        assert_upstream(self)
        self._library_log = log

    @property
    def is_leader(self) -> bool:
        return bool(self._role == LEADER)

    @property
    def is_candidate(self) -> bool:
        return bool(self._role == CANDIDATE)

    @property
    def leader(self) -> str:
        """Name of the leader of the current term as known here; empty: unknown."""
        node = self._leader_node
        return str(node.id) if node is not None else ""

    def write_leader(self, name: str | None) -> None:
        self._leader_node = LibraryNode(name) if name is not None else None

    def write_other_nodes(self, names: Iterable[str]) -> None:
        self._library_nodes = {LibraryNode(name) for name in names}

    def write_term(self, term: int, voted_for: str | None) -> None:
        """Into the object and, by the log adapter, into the WAL."""
        self._SyncObj__setCurrentTerm(term, voted_for)

    def set_role(self, role: int) -> None:
        self._SyncObj__setState(role)

    def random_election_timeout_s(self) -> float:
        low, high = self._frame_config.election_min_s, self._frame_config.election_max_s
        return low + (high - low) * self._frame_rng.random()

    # --- driven by the engine ---

    def receive(self, peer: str, message: Any) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        raise NotImplementedError

    def advance(self) -> None:
        raise NotImplementedError

    def apply_some(self) -> bool:
        raise NotImplementedError

    def process(self) -> bool:
        """Both of them; for drivers that have nothing to start in between."""
        self.advance()
        return self.apply_some()

    # --- the library's handlers, replaced ---

    def _SyncObj__generateRaftTimeout(self) -> float:
        return self.random_election_timeout_s()

    def _SyncObj__onMessageReceived(self, node: LibraryNode, message: Any) -> None:
        self.receive(str(node.id), message)

    def _onTick(self, timeToWait: float = 0.0) -> None:
        self.tick()
        self.process()

    def _applyCommand(self, *_: Any, **__: Any) -> None:
        raise AssertionError("commands enter through submit()")

    def _unused(self, *_: Any, **__: Any) -> None:
        raise AssertionError("this handler of the library is replaced (docs/hazards.md)")

    _checkCommandsToApply = _unused
    _SyncObj__sendAppendEntries = _unused
    _SyncObj__sendNextNodeIdx = _unused
    _SyncObj__onBecomeLeader = _unused
    _SyncObj__applyLogEntries = _unused
    _SyncObj__doApplyCommand = _unused
    _SyncObj__tryLogCompaction = _unused
    _SyncObj__loadDumpFile = _unused
    _SyncObj__deleteEntriesFrom = _unused
    _SyncObj__deleteEntriesTo = _unused
    _SyncObj__changeCluster = _unused
    _SyncObj__doChangeCluster = _unused
