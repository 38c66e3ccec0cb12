"""What to do after an answer or a failure: pure decisions, no time, no I/O.

Three endings of a write are never blurred (replcache/errors.py). A message carries a session sequence, so
sending it again is safe while the session lives, whatever happened to the earlier tries (Raft dissertation
6.3). What is not safe is to send it under a new session once an earlier try may have been executed.
"""

import random
from dataclasses import dataclass
from enum import Enum

from replcache import errors
from replcache.constants import CLIENT_RETRY_MAX_S, CLIENT_RETRY_MIN_S


class Action(Enum):
    # Send the same message, with the same sequence, to another node.
    RETRY = 1
    # Nothing was executed and the session is gone: open a new one, then send.
    NEW_SESSION = 2
    # One of several calls packed together is at fault: send them in halves, so that only that one fails.
    SPLIT = 3
    FAIL = 4


@dataclass(frozen=True, slots=True)
class Decision:
    """`error` is what the callers get when the action is FAIL (or when there is no time left)."""

    action: Action
    error: errors.ReplcacheError


# A fault of one request. Sent alone it fails alone.
_FAULT_OF_A_REQUEST = (errors.InvalidRequest, errors.PermissionDenied)
# Plain sets in columns are refused as a whole for one key below a guard or in a full namespace.
_REFUSED_FOR_A_REQUEST = (errors.FenceRejected, errors.QuotaExceeded)


def decide(
    error: errors.ReplcacheError, *, is_write: bool, maybe_executed: bool, can_split: bool
) -> Decision:
    """What follows from `error`, the answer to the latest try.

    Args:
        is_write: the message changes something (and carries a session sequence).
        maybe_executed: an EARLIER try ended without a certain answer.
        can_split: several callers' requests are packed in the message.
    """
    if isinstance(error, errors.StalenessUnavailable | errors.ClientClosed):
        return Decision(Action.FAIL, error)
    if isinstance(error, errors.NotApplied | errors.OutcomeUnknown | errors.NodeHalted):
        return Decision(Action.RETRY, error)
    if isinstance(error, errors.SessionExpired):
        if not is_write or not maybe_executed:
            return Decision(Action.NEW_SESSION, error)
        return Decision(Action.FAIL, unknown(f"the session ended between two tries: {error}"))
    if can_split and isinstance(error, _REFUSED_FOR_A_REQUEST):
        return Decision(Action.SPLIT, error)
    if isinstance(error, errors.Refused):
        # An answer of the state machine, or the stored one of an earlier try: certain either way.
        return Decision(Action.FAIL, error)
    if is_write and (maybe_executed or error.may_have_executed):
        return Decision(Action.FAIL, unknown(f"an earlier try may have been executed; then: {error}"))
    if can_split and isinstance(error, _FAULT_OF_A_REQUEST):
        return Decision(Action.SPLIT, error)
    return Decision(Action.FAIL, error)


def after_deadline(
    last_error: errors.ReplcacheError | None, *, is_write: bool, maybe_executed: bool, timeout_s: float
) -> errors.ReplcacheError:
    """What callers get when their time is up."""
    why = f"; last: {last_error}" if last_error is not None else ""
    if is_write and maybe_executed:
        return unknown(f"no answer within {timeout_s:g} s{why}")
    if isinstance(last_error, errors.NotApplied) and not isinstance(last_error, errors.DeadlineExceeded):
        return type(last_error)(
            f"{last_error} (tried for {timeout_s:g} s)",
            retry_after_s=last_error.retry_after_s,
            metadata=last_error.metadata,
        )
    if isinstance(last_error, errors.OutcomeUnknown):
        # Of a read: nothing can have been executed.
        return errors.Unavailable(f"no answer within {timeout_s:g} s{why}")
    return errors.DeadlineExceeded(f"not answered within {timeout_s:g} s{why}")


def unknown(message: str) -> errors.OutcomeUnknown:
    return errors.OutcomeUnknown(message)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter between half and all of it, so that callers do not come back in step."""

    minimum_s: float = CLIENT_RETRY_MIN_S
    maximum_s: float = CLIENT_RETRY_MAX_S

    def delay_s(self, failures: int, rng: random.Random, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the `failures`-th failure in a row (from 1).

        The server's advice (RetryInfo) is a lower bound, itself bounded so that a mistaken one does not
        silence a client.
        """
        if failures < 1:
            return 0.0
        ceiling = min(self.maximum_s, self.minimum_s * 2.0 ** min(failures - 1, 16))
        delay = ceiling * (0.5 + 0.5 * rng.random())
        if retry_after_s is not None:
            delay = max(delay, min(retry_after_s, self.maximum_s))
        return delay
