"""Places where a test can kill a real process: REPLCACHE_FAILPOINTS="wal.before_fsync=kill:17,...".

`name=kill:n` sends SIGKILL to this process at the n-th time (from 1) that it passes `fail_point(name)`.
Without the variable a point costs one test of a module variable. The environment is read once, at import:
a running node can't be armed from outside.

Points, in replcache/raft:
    wal.before_write, wal.before_fsync, wal.after_fsync     one group of records
    wal.truncate_record, wal.hard_state                     such a record is about to be encoded
    wal.roll_begin, wal.roll_before_rename, wal.roll_before_dir_fsync, wal.roll_end     new segment
    wal.before_delete, wal.after_delete                     old segment
    snapshot.before_rename, snapshot.before_dir_fsync, snapshot.after_dir_fsync
    identity.before_rename, identity.before_dir_fsync, identity.after_dir_fsync
"""

import os
import signal

from replcache.errors import ConfigError

VARIABLE = "REPLCACHE_FAILPOINTS"


def parse_failpoints(text: str) -> dict[str, int] | None:
    """Returns {point: hits left until the kill}; None when the text is empty.

    Raises:
        ConfigError: not of the form name=kill:n,... with n >= 1.
    """
    points: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, action = item.partition("=")
        verb, _, count = action.partition(":")
        if not name or verb != "kill" or not count.isdecimal() or int(count) < 1:
            raise ConfigError(f"{VARIABLE}: {item!r} is not of the form name=kill:n with n >= 1")
        points[name] = int(count)
    return points or None


_points = parse_failpoints(os.environ.get(VARIABLE, ""))


def fail_point(name: str) -> None:
    """Kills this process when the environment says so for this point and hit; otherwise does nothing."""
    if _points is not None:
        _hit(_points, name)


def _hit(points: dict[str, int], name: str) -> None:
    left = points.get(name)
    if left is None:
        return
    points[name] = left - 1
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        # SIGKILL is delivered before kill() returns to the only thread that it could spare.
        os._exit(137)
