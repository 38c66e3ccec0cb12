"""What is used on this node: hits, misses and writes by namespace, the most frequent keys, and, for the
leader's choice of victims, which keys were used at all.

The request path only counts into plain dictionaries; every ACTIVITY_FLUSH_INTERVAL_S what came together is
merged into the sketches. Hits, misses and writes are exact. Of the keys no more than ACTIVITY_SAMPLES are
counted in that time, so that a busy node spends about 2 % of its time on them: of more, samples count, scaled
up.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from google.protobuf.message import DecodeError

from replcache import constants
from replcache.observability.logs import get_logger
from replcache.pb.internal import peer_pb2
from replcache.raft.port import RaftPort
from replcache.server.sketches import SpaceSaving
from replcache.statemachine.entries import Entry
from replcache.statemachine.events import Event, EventKind
from replcache.statemachine.namespaces import NamespaceTable
from replcache.tasks import Supervisor

_log = get_logger(__name__)
# Keys of no namespace, or of the one of everything.
REST = ""


@dataclass(slots=True)
class Counts:
    """Reads and writes that came through this node; removals as this replica applied them."""

    hits: int = 0
    misses: int = 0
    writes: int = 0
    expired: int = 0
    evicted: int = 0


class Window:
    """Counts since the last flush. Of many keys only every stride-th is counted, from a random one on in each
    batch; there is one dictionary for each stride that was in force."""

    __slots__ = ("_counter", "_random", "_room", "_seen", "by_stride", "stride")

    def __init__(self, random_number: Callable[[], float] = random.random) -> None:
        self._random = random_number
        self.by_stride: dict[int, Counter[bytes]] = {}
        self._seen = 0
        self._start(1)

    def _start(self, stride: int) -> None:
        self.stride = stride
        self._counter = self.by_stride.setdefault(stride, Counter())
        # Keys after which this stride is too short.
        self._room = 2 * stride * constants.ACTIVITY_SAMPLES

    def add(self, keys: Sequence[bytes]) -> None:
        number = len(keys)
        self._seen += number
        stride, counter = self.stride, self._counter
        if stride > 1:
            start = int(self._random() * stride)
            if start < number:
                counter.update(keys[start::stride])
        elif number == 1:
            key = keys[0]
            counter[key] = counter.get(key, 0) + 1
        else:
            counter.update(keys)
        self._room -= number
        if self._room < 0:
            self._start(4 * stride)

    def take(self) -> dict[int, Counter[bytes]]:
        """What was counted, by stride; the next window has the stride that would have been right for this
        one."""
        taken, self.by_stride = self.by_stride, {}
        stride = max(1, -(-self._seen // constants.ACTIVITY_SAMPLES))
        self._seen = 0
        self._start(stride)
        return taken


class Activity:
    """Attributes:
    counts: by name of the namespace.
    on_used: told of used keys with their counts, when eviction wants to know; None: it does not.
    """

    def __init__(self, port: RaftPort) -> None:
        self._port = port
        self.counts: dict[str, Counts] = {REST: Counts()}
        self._rest = self.counts[REST]
        self._most_read = SpaceSaving(constants.HOT_KEYS_KEPT)
        self._most_written = SpaceSaving(constants.HOT_KEYS_KEPT)
        self._reads, self._writes = Window(), Window()
        self.on_used: Callable[[Mapping[bytes, int]], None] | None = None

    def start(self, supervisor: Supervisor) -> None:
        self._port.add_applied_listener(self.on_applied)
        supervisor.background("activity", self._run())

    # --- the request path ---

    def read(self, keys: list[bytes], entries: list[Entry | None], missing: int) -> None:
        """Keys that were asked for, with what was found."""
        number = len(keys)
        namespaces = self._port.machine.store.namespaces
        if not namespaces.active:
            self._rest.hits += number - missing
            self._rest.misses += missing
        else:
            name = common_namespace(namespaces, keys)
            if name is None:
                for key, entry in zip(keys, entries, strict=True):
                    counts = self._counts_of(namespaces, key)
                    counts.hits += entry is not None
                    counts.misses += entry is None
            else:
                counts = self._named(name)
                counts.hits += number - missing
                counts.misses += missing
        self._reads.add(keys)

    def wrote(self, keys: Sequence[bytes]) -> None:
        """Keys of an acknowledged write."""
        if not keys:
            return
        namespaces = self._port.machine.store.namespaces
        if not namespaces.active:
            self._rest.writes += len(keys)
        else:
            name = common_namespace(namespaces, keys)
            if name is None:
                for key in keys:
                    self._counts_of(namespaces, key).writes += 1
            else:
                self._named(name).writes += len(keys)
        self._writes.add(keys)

    def on_applied(self, _: int, events: Sequence[object]) -> None:
        """Counts what expired and what was evicted."""
        for event in events:
            if type(event) is Event and event.row is None:
                if event.kind is EventKind.EXPIRE:
                    self._counts_of(self._port.machine.store.namespaces, event.key).expired += 1
                elif event.kind is EventKind.EVICT:
                    self._counts_of(self._port.machine.store.namespaces, event.key).evicted += 1

    def _counts_of(self, namespaces: NamespaceTable, key: bytes) -> Counts:
        found = namespaces.find(key) if namespaces.active else None
        return self._rest if found is None else self._named(found.name)

    def _named(self, name: str) -> Counts:
        counts = self.counts.get(name)
        if counts is None:
            counts = self.counts[name] = Counts()
        return counts

    # --- now and then ---

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(constants.ACTIVITY_FLUSH_INTERVAL_S)
            self.flush()

    def flush(self) -> None:
        """Merges what came together: 1 to 2 ms when it is much."""
        reads, writes = self._reads.take(), self._writes.take()
        for sketch, windows in ((self._most_read, reads), (self._most_written, writes)):
            for stride, window in windows.items():
                if window:
                    sketch.merge(window, stride)
        if self.on_used is not None:
            for window in (*reads.values(), *writes.values()):
                if window:
                    self.on_used(window)
        namespaces = self._port.machine.store.namespaces.by_name
        if len(self.counts) > len(namespaces) + 1:
            for name in [name for name in self.counts if name != REST and name not in namespaces]:
                del self.counts[name]

    def most_read(self, number: int) -> list[tuple[bytes, int, int]]:
        self.flush()
        return self._most_read.top(number)

    def most_written(self, number: int) -> list[tuple[bytes, int, int]]:
        self.flush()
        return self._most_written.top(number)


def common_namespace(namespaces: NamespaceTable, keys: Sequence[bytes]) -> str | None:
    """The namespace of all keys; None: they are of several, or it takes more to tell."""
    if len(keys) == 1:
        found = namespaces.find(keys[0])
        return REST if found is None else found.name
    # Keys with a prefix are a range of all keys: when the lowest and the highest have it, all have.
    lowest, highest = min(keys), max(keys)
    found = namespaces.find(lowest)
    if found is None:
        return REST if namespaces.is_free(lowest, highest) else None
    return found.name if highest.startswith(found.prefix) else None


# --- digests: from any node to the leader ---


def encode_digest(used: Mapping[bytes, int]) -> bytes:
    """As many of the keys as a digest may have."""
    digest = peer_pb2.AccessDigest()
    size = 0
    for key, count in islice(used.items(), constants.DIGEST_KEYS_MAX):
        size += len(key)
        if size > constants.DIGEST_BYTES_MAX:
            break
        digest.keys.append(key)
        digest.counts.append(min(count, constants.DIGEST_COUNT_MAX))
    return digest.SerializeToString()


def decode_digest(data: bytes) -> dict[bytes, int]:
    """Empty when it is none."""
    try:
        digest = peer_pb2.AccessDigest.FromString(data)
    except DecodeError as err:
        _log.warning("access_digest_broken", error=str(err))
        return {}
    return dict(islice(zip(digest.keys, digest.counts, strict=False), constants.DIGEST_KEYS_MAX))
