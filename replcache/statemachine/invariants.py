"""What halts a node: a broken invariant or a format that this version does not know.

Both mean that this replica can't be trusted behind the entry at which it happened, so nothing may skip it.
"""

from replcache.errors import NodeHalted


class InvariantBroken(NodeHalted):
    """The state machine found its own state, or a committed entry, impossible."""


class UnknownFormat(NodeHalted):
    """A committed entry or a snapshot is of a format that this version does not know."""


def require(holds: object, message: str) -> None:
    """Raises InvariantBroken unless `holds`; unlike assert it stays on under -O."""
    if not holds:
        raise InvariantBroken(message)
