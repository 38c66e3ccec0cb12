"""Which groups were applied: so that a group may be forwarded to one leader after the other, and counts once.

One record per origin: (boot, done_below, sequences applied at or above done_below). An origin is one data
directory of one node (its boot counter lives there), not just a node's name: the node layer makes the name
unique.
"""

from replcache.statemachine.invariants import require
from replcache.statemachine.plain import PlainReader, PlainWriter


class Origin:
    """Invariant: every number in `applied` is >= done_below."""

    __slots__ = ("applied", "boot", "done_below")

    def __init__(self, boot: int, done_below: int) -> None:
        self.boot = boot
        self.done_below = done_below
        # A dict for its order; the values mean nothing.
        self.applied: dict[int, None] = {}


class GroupLog:
    """The table of origins. Bounded by the nodes: each acknowledges as it goes, few are in flight."""

    __slots__ = ("origins",)

    def __init__(self) -> None:
        self.origins: dict[str, Origin] = {}

    def take(self, origin_name: str, boot: int, sequence: int, done_below: int) -> bool:
        """True: never seen, apply it now. False: a duplicate, or of a process that is gone."""
        origin = self.origins.get(origin_name)
        if origin is None or boot > origin.boot:
            # A new process: what its predecessor had in flight may no longer take effect.
            origin = self.origins[origin_name] = Origin(boot, 0)
        elif boot < origin.boot:
            return False
        if sequence < origin.done_below or sequence in origin.applied:
            return False
        origin.applied[sequence] = None
        if done_below > origin.done_below:
            _acknowledge(origin, done_below)
        return True

    # --- snapshot ---

    def freeze(self) -> list[tuple[str, int, int, list[int]]]:
        return [
            (name, origin.boot, origin.done_below, sorted(origin.applied))
            for name, origin in sorted(self.origins.items())
        ]

    def load(self, frozen: list[tuple[str, int, int, list[int]]]) -> None:
        for name, boot, done_below, applied in frozen:
            origin = self.origins[name] = Origin(boot, done_below)
            origin.applied = dict.fromkeys(applied)

    def check_invariants(self) -> None:
        for name, origin in self.origins.items():
            lowest = min(origin.applied, default=origin.done_below)
            require(lowest >= origin.done_below, f"origin {name!r} keeps group {lowest}, which is done")


def _acknowledge(origin: Origin, done_below: int) -> None:
    if done_below - origin.done_below > 2 * len(origin.applied):
        origin.applied = dict.fromkeys([number for number in origin.applied if number >= done_below])
    else:
        for number in range(origin.done_below, done_below):
            origin.applied.pop(number, None)
    origin.done_below = done_below


def write_origin(writer: PlainWriter, frozen: tuple[str, int, int, list[int]]) -> None:
    name, boot, done_below, applied = frozen
    writer.text(name)
    writer.unsigned_column([boot, done_below, len(applied)])
    writer.unsigned_column(applied)


def read_origin(reader: PlainReader) -> tuple[str, int, int, list[int]]:
    name = reader.text()
    boot, done_below, count = reader.unsigned_column(3)
    return name, boot, done_below, list(reader.unsigned_column(count))
