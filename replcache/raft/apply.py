"""Applying committed entries. Total: either every entry has its results, or the node halts with the index.

No exception reaches pysyncobj, which would apply the entry again for ever (hazard H26), and callbacks of
callers can't disturb it: results are only handed over.
"""

from replcache.errors import NodeHalted
from replcache.statemachine.machine import Applied, StateMachine


def apply_command(machine: StateMachine, index: int, payload: bytes) -> Applied:
    """Applies one command entry.

    Raises:
        NodeHalted: the state machine broke an invariant or does not know the format; skipping the entry would
            make this node differ from the others, so the node must stop.
    """
    try:
        return machine.apply(index, payload)
    except Exception as error:
        # Whatever it was, this replica can't be trusted behind this index.
        raise NodeHalted(f"applying log entry {index} failed: {type(error).__name__}: {error}") from error
