"""From a caller's deadline to ours: every request ends by it, and the typed error still arrives.

Deadlines are absolute readings of the node's Clock in seconds.
"""

from dataclasses import dataclass

from replcache import constants
from replcache.clock import Clock
from replcache.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a request has to be answered.

    Attributes:
        client: when the caller stops listening.
        work: a little earlier: what everything that waits is given.
        given: False when the caller set none and the server's default counts.
    """

    client: float
    work: float
    given: bool = True


def from_remaining(clock: Clock, remaining_s: float | None) -> Deadline:
    """Deadline of a request.

    Args:
        remaining_s: what the caller has left; None: it set none, so the server's default counts.
    Raises:
        DeadlineExceeded: too little is left to do anything; nothing was executed.
    """
    now = clock.now()
    if remaining_s is None:
        end = now + constants.DEFAULT_DEADLINE_S
        return Deadline(end, end, given=False)
    if remaining_s < constants.DEADLINE_LEFT_MIN_S:
        raise DeadlineExceeded(f"{remaining_s * 1000:.1f} ms were left when the request was looked at")
    end = now + remaining_s
    return Deadline(end, end - min(constants.DEADLINE_MARGIN_MAX_S, remaining_s / 10))
