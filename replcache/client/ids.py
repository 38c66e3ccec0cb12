"""Names that nobody else has: owners of locks, ids of writes, parts of large values."""

import os

_ID_BYTES = 16


def unique_id() -> bytes:
    """16 random bytes, from the operating system.

    Not from the client's own generator: a client that was made before os.fork() and is first used after it
    has the same generator in every child, and two processes with one owner would share a lock.
    """
    return os.urandom(_ID_BYTES)
