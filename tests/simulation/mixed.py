"""Random commands of every kind, on keys and names of their own (m...).

No model judges them. They are there for what must hold whatever is executed: equal results and equal states
on all nodes, through snapshots and restarts, and that everything with a time ends.
"""

import random
from collections.abc import Callable

from replcache.statemachine.commands import (
    Accessed,
    Compare,
    Condition,
    Delete,
    DeleteRange,
    Evict,
    Fence,
    Get,
    GuardRemove,
    GuardSet,
    Increment,
    InvalidateTags,
    LeaseGrant,
    LeaseKeep,
    LeaseRevoke,
    LockAcquire,
    LockNote,
    LockRelease,
    LockRenew,
    NamespaceRemove,
    NamespaceSet,
    Op,
    SessionClose,
    SessionKeep,
    SessionOpen,
    Set,
    Touch,
    Txn,
    Update,
)

TTLS_MS = (0, 0, 100, 500, 1500)
TAGS = ("red", "green", "blue")
KEYS = 6
# Session ids, leases and tokens are revisions: small numbers hit some of them.
REVISIONS = 200


class MixedOperations:
    """Draws operations. `own` names the client, as owner of locks."""

    def __init__(self, rng: random.Random, own: str) -> None:
        self._rng = rng
        self._own = own.encode()
        self._makers: list[tuple[Callable[[], Op], int]] = [
            (self._set, 8),
            (self._update, 4),
            (self._increment, 2),
            (self._get, 3),
            (self._touch, 2),
            (self._delete, 2),
            (self._range, 1),
            (self._lock, 4),
            (self._lease, 3),
            (self._session, 2),
            (self._rare, 3),
        ]

    def draw(self) -> tuple[Op, ...]:
        """One to four operations."""
        makers = [maker for maker, _ in self._makers]
        weights = [weight for _, weight in self._makers]
        return tuple(
            maker() for maker in self._rng.choices(makers, weights, k=self._rng.choice([1, 1, 2, 4]))
        )

    def _key(self) -> bytes:
        return b"m%d" % self._rng.randrange(KEYS)

    def _revision(self) -> int:
        return self._rng.randrange(REVISIONS)

    def _tags(self) -> tuple[str, ...]:
        return tuple(tag for tag in TAGS if self._rng.random() < 0.3)

    def _condition(self) -> Condition | None:
        return self._rng.choice(
            [None, None, None, Condition(if_absent=True), Condition(if_present=True), Condition(if_version=1)]
        )

    def _set(self) -> Op:
        rng = self._rng
        return Set(
            self._key(),
            rng.choice([b"1", b"25", b'{"a": 1}', b"x" * rng.randrange(200)]),
            content_type=rng.choice(["", "text/plain"]),
            ttl_ms=rng.choice(TTLS_MS),
            idle_ttl_ms=rng.choice(TTLS_MS),
            max_reads=rng.choice([0, 0, 0, 1, 3]),
            tags=self._tags(),
            lease_id=rng.choice([0, 0, 0, self._revision()]),
            keep_ttl=rng.random() < 0.2,
            condition=self._condition(),
            want_previous=rng.random() < 0.3,
        )

    def _update(self) -> Op:
        key, rng = self._key(), self._rng
        return rng.choice(
            [
                Update(key, append=b"+"),
                Update(key, replace=b"7", ttl_ms=rng.choice([None, 0, 800])),
                Update(key, add_integer=rng.randrange(-5, 6)),
                Update(key, add_decimal="0.1"),
                Update(key, merge_json=b'{"b": %d}' % rng.randrange(9)),
            ]
        )

    def _increment(self) -> Op:
        return Increment(self._key(), self._rng.randrange(-3, 9), initial=1, minimum=-5, maximum=50)

    def _get(self) -> Op:
        return Get(self._key())

    def _touch(self) -> Op:
        return Touch(self._key(), self._rng.choice(TTLS_MS), self._rng.choice(TTLS_MS), self._condition())

    def _delete(self) -> Op:
        return Delete(self._key(), self._condition(), want_previous=True)

    def _range(self) -> Op:
        return DeleteRange(b"m2", b"m5", limit=self._rng.choice([0, 1, 2]))

    def _lock(self) -> Op:
        rng, name = self._rng, f"m{self._rng.randrange(3)}"
        return rng.choice(
            [
                LockAcquire(name, self._own, rng.choice([200, 1500]), wait_ms=rng.choice([0, 300, 1500])),
                LockAcquire(name, self._own, 700, shared=True, wait_ms=rng.choice([0, 300])),
                LockAcquire(f"{name}-of-2", self._own, 500, permits=2),
                LockRenew(name, self._own, self._revision(), 400),
                LockRelease(name, self._own),
                LockNote(name, self._own, self._revision(), "note"),
            ]
        )

    def _lease(self) -> Op:
        return self._rng.choice(
            [
                LeaseGrant(self._rng.choice([300, 1500])),
                LeaseKeep(self._revision()),
                LeaseRevoke(self._revision()),
                LockAcquire("m-leased", self._own, 0, lease_id=self._revision()),
            ]
        )

    def _session(self) -> Op:
        return self._rng.choice(
            [SessionOpen(1000), SessionKeep(self._revision()), SessionClose(self._revision())]
        )

    def _rare(self) -> Op:
        key = self._key()
        return self._rng.choice(
            [
                InvalidateTags(self._tags() or ("red",)),
                Accessed((key, b"m0")),
                Evict((key,), reason="size"),
                Txn(
                    compares=(Compare(key, Condition(if_present=True)),),
                    held=self._rng.choice([(), (Fence("m0", self._revision()),)]),
                    then_ops=(Set(key, b"then"), Get(b"m1")),
                    else_ops=(Delete(key), Set(b"m1", b"else", tags=("blue",))),
                ),
                GuardSet(b"m4", "m0"),
                GuardRemove(b"m4"),
                NamespaceSet("m", b"m", self._rng.choice([300, 2000]), policy=self._rng.randrange(3)),
                NamespaceRemove("m"),
            ]
        )
