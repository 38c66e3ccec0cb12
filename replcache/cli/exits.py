"""Exit codes, the same for every command, and how errors become them.

0  done
1  a negative answer: no such key, a condition does not hold, the lock was not granted
2  usage or configuration: the command line, a file or a setting is wrong
3  unavailable: no node reached, no leader, no room now; certainly not executed, try again
4  refused: the request can't be done as asked (fence, type, range, limit, quota)
5  unknown: the write may or may not have been executed
6  not allowed: who you are could not be established, or you have no right to this
7  this node can't run: its data directory or its state can't be trusted
8  the lock was lost while the command ran under it
"""

from enum import IntEnum

from replcache import errors


class Exit(IntEnum):
    OK = 0
    NEGATIVE = 1
    USAGE = 2
    UNAVAILABLE = 3
    REFUSED = 4
    UNKNOWN = 5
    NOT_ALLOWED = 6
    BROKEN = 7
    LOCK_LOST = 8


# The first class that matches decides: more special ones stand above their bases.
_BY_ERROR: tuple[tuple[type[errors.ReplcacheError], Exit], ...] = (
    (errors.NotFound, Exit.NEGATIVE),
    (errors.ConditionFailed, Exit.NEGATIVE),
    (errors.LockTimeout, Exit.NEGATIVE),
    (errors.LockLost, Exit.LOCK_LOST),
    (errors.SessionExpired, Exit.UNKNOWN),
    (errors.Refused, Exit.REFUSED),
    (errors.InvalidRequest, Exit.REFUSED),
    (errors.NotApplied, Exit.UNAVAILABLE),
    (errors.OutcomeUnknown, Exit.UNKNOWN),
    (errors.Unauthenticated, Exit.NOT_ALLOWED),
    (errors.PermissionDenied, Exit.NOT_ALLOWED),
    (errors.ConfigError, Exit.USAGE),
    (errors.StorageError, Exit.BROKEN),
    (errors.NodeHalted, Exit.BROKEN),
)


def exit_code(error: errors.ReplcacheError) -> Exit:
    """The exit code of an error; an error that no row names may have had any effect."""
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return Exit.UNKNOWN
