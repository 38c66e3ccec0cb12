"""Bearer tokens: `<id>.<secret>`, hashed at rest with argon2id (RFC 9106), verified once and then remembered.

A verified token is remembered under a keyed hash of it, so that a call costs a microsecond and the process's
memory holds no secret for longer than a call; the key is drawn at each start. Wrong tokens are remembered
too: an attacker who repeats one costs no argon2. Both memories are bounded and forget with time.
"""

import os
import re
from collections import OrderedDict
from hashlib import blake2b
from typing import Generic, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from replcache.clock import Clock

# The secrets are 256 random bits: these parameters (10 ms on a laptop) only have to make a stolen file dull.
_HASHER = PasswordHasher(time_cost=2, memory_cost=8 * 1024, parallelism=1, type=Type.ID)
_FORM = re.compile(r"([a-z2-7]{12})\.([A-Za-z0-9_-]{20,128})\Z")
SCHEME = "Bearer "
T = TypeVar("T")


def hash_secret(secret: str) -> str:
    return _HASHER.hash(secret)


def is_secret(secret: str, stored: str) -> bool:
    """Takes milliseconds: not for the event loop."""
    try:
        return _HASHER.verify(stored, secret)
    except (VerificationError, InvalidHashError):
        return False


def split_token(authorization: str) -> tuple[str, str] | None:
    """(id, secret) of an `authorization` header; None when it has not that form."""
    scheme, text = authorization[: len(SCHEME)], authorization[len(SCHEME) :]
    if scheme.lower() != SCHEME.lower():
        return None
    match = _FORM.match(text)
    return (match[1], match[2]) if match else None


class TokenMemory(Generic[T]):
    """What is known about tokens that were presented. Only the event loop touches it.

    Wrong tokens have a place of their own, so that no number of them drives a right one out.
    """

    def __init__(self, clock: Clock, entries_max: int, good_s: float, bad_s: float) -> None:
        """good_s, bad_s: how long a right and a wrong token are remembered."""
        self._clock = clock
        self._entries_max = entries_max
        self._good_s = good_s
        self._bad_s = bad_s
        self._key = os.urandom(32)
        self._good: OrderedDict[bytes, tuple[T, float]] = OrderedDict()
        self._bad: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._good) + len(self._bad)

    def digest(self, authorization: str) -> bytes:
        return blake2b(authorization.encode(), key=self._key, digest_size=32).digest()

    def find(self, digest: bytes) -> T | None:
        """What was remembered with the right token; None: not known, or too long ago."""
        entry = self._good.get(digest)
        if entry is None:
            return None
        if self._clock.now() >= entry[1]:
            del self._good[digest]
            return None
        return entry[0]

    def is_wrong(self, digest: bytes) -> bool:
        return self._clock.now() < self._bad.get(digest, 0.0)

    def remember(self, digest: bytes, what: T) -> None:
        self._good[digest] = (what, self._clock.now() + self._good_s)
        while len(self._good) > self._entries_max:
            self._good.popitem(last=False)

    def remember_wrong(self, digest: bytes) -> None:
        self._bad[digest] = self._clock.now() + self._bad_s
        while len(self._bad) > self._entries_max:
            self._bad.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        self._good.pop(digest, None)

    def forget_wrong(self) -> None:
        """The file has changed: what was wrong may be right now."""
        self._bad.clear()
