"""Which private names of pysyncobj 0.3.17 we rely on, and the proof at start that they are still there.

The library is the frame of the engine: node set, term, vote, role, commit and applied index live in its
object, and its constructor wires log and transport. Every handler that hazards.md found wrong is overridden
whole, under its mangled name, in engine.py. A new upstream release must be read again line by line; until
then `assert_upstream()` refuses to start with anything else.
"""

from operator import attrgetter
from typing import Any

import pysyncobj
from pysyncobj.syncobj import SyncObj

from replcache.errors import NodeHalted

UPSTREAM_VERSION = "0.3.17"

# Attributes of the object that we read or write (set by the library's constructor).
STATE_NAMES = (
    "raftState",
    "raftCurrentTerm",
    "votedForNodeId",
    "raftLeader",
    "raftElectionDeadline",
    "raftLog",
    "raftCommitIndex",
    "raftLastApplied",
    "otherNodes",
    "connectedNodes",
)
# Handlers that we override whole, or that we call; each must exist on the class.
METHOD_NAMES = (
    "_SyncObj__onMessageReceived",
    "_SyncObj__onNodeConnected",
    "_SyncObj__onNodeDisconnected",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__sendNextNodeIdx",
    "_SyncObj__onBecomeLeader",
    "_SyncObj__applyLogEntries",
    "_SyncObj__doApplyCommand",
    "_SyncObj__tryLogCompaction",
    "_SyncObj__loadDumpFile",
    "_SyncObj__deleteEntriesFrom",
    "_SyncObj__deleteEntriesTo",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__setCurrentTerm",
    "_SyncObj__setState",
    "_SyncObj__getCurrentLogIndex",
    "_SyncObj__getCurrentLogTerm",
    "_SyncObj__changeCluster",
    "_SyncObj__doChangeCluster",
    "_checkCommandsToApply",
    "_applyCommand",
    "_onTick",
)


def private(name: str) -> Any:
    """A property for an attribute of SyncObj under its mangled name.

    Keeps the library's camelCase and name mangling out of the rest of the engine. The getter is C code: the
    engine reads these a million times in a minute of simulation.
    """
    assert name in STATE_NAMES, name
    mangled = f"_SyncObj__{name}"

    def write(instance: Any, value: Any) -> None:
        setattr(instance, mangled, value)

    return property(attrgetter(mangled), write)


def assert_upstream(instance: SyncObj | None = None) -> None:
    """Checks version and private names; with an instance also its attributes.

    Raises:
        NodeHalted: another version is installed, or a name is missing.
    """
    version = pysyncobj.syncobj.VERSION
    if version != UPSTREAM_VERSION:
        raise NodeHalted(f"pysyncobj {version} is installed, but this release relies on {UPSTREAM_VERSION}")
    missing = [name for name in METHOD_NAMES if not hasattr(SyncObj, name)]
    if instance is not None:
        missing += [name for name in STATE_NAMES if not hasattr(instance, f"_SyncObj__{name}")]
    if missing:
        raise NodeHalted(f"pysyncobj {version} lacks the private names {', '.join(missing)}")
