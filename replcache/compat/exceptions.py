"""The exceptions of redis-py, by name, and which of replcache's errors becomes which.

The original is the `__cause__`: its `may_have_executed` says what a timeout does not.
"""

import builtins

from replcache import errors


class RedisError(Exception):
    """Base of the others."""


class ConnectionError(RedisError):  # the name of redis-py
    """The cluster can't be reached, or has no leader now; the command was not executed."""


class TimeoutError(RedisError):  # the name of redis-py
    """No answer in time; the command may have been executed, once at most."""


class ResponseError(RedisError):
    """The command was refused."""


class DataError(RedisError):
    """An argument can't be sent."""


class WatchError(RedisError):
    """A watched key has changed."""


class LockError(RedisError, ValueError):
    """The lock could not be acquired, released or extended."""


class LockNotOwnedError(LockError):
    """The lock is not, or no longer, held by this object."""


NOT_AN_INTEGER = "value is not an integer or out of range"


def translated(error: errors.ReplcacheError, command: str = "") -> RedisError:
    """The exception that redis-py would raise; the caller raises it `from` the original."""
    if isinstance(error, errors.WrongType):
        if command == "INCRBYFLOAT":
            return ResponseError("value is not a valid float")
        return ResponseError(NOT_AN_INTEGER if command == "INCRBY" else str(error))
    if isinstance(error, errors.OutOfRange):
        return ResponseError("increment or decrement would overflow")
    if isinstance(error, errors.QuotaExceeded):
        return ResponseError(f"OOM command not allowed when used memory > 'maxmemory': {error}")
    if isinstance(error, errors.OutcomeUnknown | errors.DeadlineExceeded):
        return TimeoutError(str(error))
    if isinstance(error, errors.NotApplied | errors.Unauthenticated):
        return ConnectionError(str(error))
    if isinstance(error, errors.InvalidRequest):
        return DataError(str(error))
    return ResponseError(str(error))


assert not issubclass(ConnectionError, builtins.ConnectionError), "as in redis-py"
