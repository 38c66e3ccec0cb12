"""Which entries of a namespace to evict: a choice among random ones, by estimates of when and how often keys
were used. Only looks; who evicts is eviction.py.

LRU: those that were not read or written for the longest time, as in the approximated LRU of Redis 3.0: of
some samples for each victim, together with the best candidates of the choices before. Time is counted in
revisions, so an entry's own mod_revision says when it was written.
LFU: those that were used least often, by a decaying estimate (TinyLFU); an entry that has just been made gets
a chance first, as in W-TinyLFU.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from replcache import constants
from replcache.server.sketches import WIDTH_MAX, WIDTH_MIN, FrequencySketch, RecencySketch
from replcache.statemachine.entries import CREATE, MOD, VALUE, VERSION, Row
from replcache.statemachine.events import Event, EventKind, PutBatch
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.namespaces import ENTRY_OVERHEAD_BYTES, Namespace, Policy

# One of so many entries is new, as many as W-TinyLFU's window holds: made by the last writes, it had no
# chance to be used yet.
_NEW_PART = 100
# Blocks of keys that are taken over at once while existing keys are collected: about 5 ms.
_COLLECTED_BLOCKS = 100

# How much an entry is wanted: the lowest go first.
Score = tuple[int, int]


class Usage:
    """Estimates of when and how often keys were used; empty until a namespace needs them."""

    def __init__(self) -> None:
        self.recency: RecencySketch | None = None
        self.frequency: FrequencySketch | None = None

    def prepare(self, policies: set[Policy], keys: int) -> None:
        """Makes room for what the policies ask about so many keys."""
        wanted = WIDTH_MIN
        while wanted < 2 * keys and wanted < WIDTH_MAX:
            wanted *= 2
        if not policies:
            self.recency = self.frequency = None
            return
        if self.recency is None:
            self.recency = RecencySketch(wanted)
        while self.recency.width < wanted:
            self.recency.grow()
        if Policy.LFU not in policies:
            self.frequency = None
            return
        if self.frequency is None:
            self.frequency = FrequencySketch(wanted)
        while self.frequency.width < wanted:
            self.frequency.grow()

    def note(self, key: bytes, count: int, revision: int) -> None:
        hashed = hash(key)
        if self.recency is not None:
            self.recency.note(hashed, revision)
        if self.frequency is not None:
            self.frequency.add(hashed, count)

    def score(self, key: bytes, row: Row, policy: Policy) -> Score:
        hashed = hash(key)
        last = row[MOD]
        if self.recency is not None:
            last = max(last, self.recency.last(hashed))
        if policy is Policy.LFU and self.frequency is not None:
            return self.frequency.estimate(hashed), last
        return last, 0


class Keys:
    """The keys of one namespace, to draw from at random: those that are there now, collected bit by bit, and
    those that come. What is gone is found out when it is drawn. (Drawing from the key index would mostly meet
    keys that are gone: a cache at its quota leaves many there.)
    """

    def __init__(self, machine: StateMachine, prefix: bytes) -> None:
        self._prefix = prefix
        self._keys: list[bytes] = []
        self._existing: Iterator[list[bytes]] | None = machine.store.index.iterate(prefix, False, 256)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Sequence[bytes]) -> None:
        """Keys that were put anew."""
        self._keys += keys

    def collect(self, machine: StateMachine) -> None:
        """Goes on with the existing ones."""
        rows, prefix = machine.store.rows, self._prefix
        if self._existing is None:
            return
        for block in islice(self._existing, _COLLECTED_BLOCKS):
            if not block[-1].startswith(prefix):
                self._keys += [key for key in block if key.startswith(prefix) and key in rows]
                break
            self._keys += [key for key in block if key in rows]
        else:
            return
        self._existing = None

    def forget_gone(self, machine: StateMachine, living: int) -> None:
        """Keys that come and go leave doubles behind: when those are too many, they are sorted out."""
        if len(self._keys) > 2 * living + constants.EVICTION_KEYS_MAX:
            rows = machine.store.rows
            self._keys = [key for key in dict.fromkeys(self._keys) if key in rows]

    def draw(self, machine: StateMachine, number: int, rng: random.Random) -> list[bytes]:
        """Random keys of rows; maybe fewer, maybe some twice."""
        keys, rows = self._keys, machine.store.rows
        found: list[bytes] = []
        for _ in range(4 * number):
            if not keys or len(found) >= number:
                break
            place = int(rng.random() * len(keys))
            key = keys[place]
            if key in rows:
                found.append(key)
            else:
                keys[place] = keys[-1]
                keys.pop()
        return found


class Victims:
    """Chooses entries of one namespace."""

    def __init__(self, usage: Usage, keys: Keys, rng: random.Random) -> None:
        self._usage = usage
        self.keys = keys
        self._rng = rng
        # Candidates from the choices before.
        self._pool: list[bytes] = []

    def choose(self, machine: StateMachine, namespace: Namespace, surplus: int) -> list[tuple[bytes, Row]]:
        """Entries whose going frees about `surplus` bytes, at most EVICTION_KEYS_MAX of them."""
        number_of_keys = len(machine.store.rows) if not namespace.prefix else namespace.keys
        used = machine.store.quota_bytes if not namespace.prefix else namespace.used_bytes
        if not number_of_keys:
            return []
        number = min(surplus * number_of_keys // max(used, 1) + 1, constants.EVICTION_KEYS_MAX)
        samples = max(number * constants.EVICTION_SAMPLES, constants.EVICTION_SAMPLES_MIN)
        policy, score = namespace.policy, self._usage.score
        new = number_of_keys // _NEW_PART if policy is Policy.LFU else -1
        candidates: list[tuple[bool, Score, bytes, Row]] = []
        drawn = self.keys.draw(machine, samples, self._rng)
        for key in dict.fromkeys([*self._pool, *drawn]):
            row = machine.store.peek(key)
            if row is not None and _may_go(machine, namespace, key):
                candidates.append((row[CREATE] >= machine.revision - new, score(key, row, policy), key, row))
        # New ones last, then by score, then what was written longest ago.
        candidates.sort(key=lambda candidate: (candidate[0], candidate[1], candidate[3][MOD]))
        chosen: list[tuple[bytes, Row]] = []
        for _, _, key, row in candidates[: constants.EVICTION_KEYS_MAX]:
            if surplus <= 0:
                break
            surplus -= len(key) + len(row[VALUE]) + ENTRY_OVERHEAD_BYTES
            chosen.append((key, row))
        # Only the best of the rest: most of what was looked at deserves to stay.
        rest = candidates[len(chosen) : 2 * len(chosen) + 1]
        self._pool = [key for _, _, key, _ in rest[: constants.EVICTION_POOL_MAX]]
        return chosen


def _may_go(machine: StateMachine, namespace: Namespace, key: bytes) -> bool:
    """The quota of everything does not take from a namespace that never evicts; and what waits for a database
    has no other copy."""
    if key.startswith(constants.WRITE_BEHIND_PREFIX):
        return False
    if namespace.prefix:
        return True
    other = machine.store.namespaces.find(key)
    return other is None or other.policy is not Policy.NONE


def new_keys(event: object) -> Sequence[bytes]:
    """Keys that the event made."""
    if type(event) is PutBatch:
        return [key for key, row in zip(event.keys, event.rows, strict=True) if row[VERSION] == 1]
    if type(event) is Event and event.kind is EventKind.PUT and event.row is not None:
        return (event.key,) if event.row[VERSION] == 1 else ()
    return ()
