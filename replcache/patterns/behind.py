"""The queue of write-behind: what is stored where, and the operations on it that need no drainer.

A queue is part of the replicated state, under a prefix of its own, so it survives what the cluster survives:

    \\0behind\\0<view>\\0<shard>\\0key\\0<key>     the newest value that the database does not have yet
    \\0behind\\0<view>\\0<shard>\\0status         what the drainer has done last (JSON)

A change writes the cache entry and the record in one atomic batch. A key has one record: a newer value
replaces an older one that nobody has written out yet (coalescing). The record's revision in the cluster's
history is the revision of the change: monotone, and the same whoever reads the record, however often.
Records carry a ttl of years only because the remaining ttl tells their age on the cluster's clock; no clocks
of hosts are compared.
"""

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replcache.client import convert
from replcache.client.base import Prepared
from replcache.client.requests import delete_operation, get_operation, set_operation
from replcache.client.types import Consistency, Entry
from replcache.constants import TTL_MS_MAX, WRITE_BEHIND_PREFIX
from replcache.errors import InvalidRequest
from replcache.patterns.source import DELETED, Row

if TYPE_CHECKING:
    from replcache.client.aio import AsyncClient

DELETED_CONTENT_TYPE = "application/x-replcache-deleted"
# Half of the longest ttl there is: about five years.
RECORD_TTL_S = TTL_MS_MAX // 2000
NAME_BYTES_MAX = 100
SHARDS_MAX = 256


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the database is behind.

    rows: changes that wait.
    seconds: age of the oldest, on the cluster's clock; while the database refuses, at least the time since
    then.
    """

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Status:
    """What a drainer publishes with each batch that it has written out.

    flushed_revision: the database has every change up to here, or a newer one of the same key.
    swept_revision: the same but for rows that this process can't decode, which stay in the queue.
    left: how many these are. rows: that waited when it looked last, with them.
    behind_s: since everything (but them) was written out last.
    written, batches, failures: since it became the drainer. error: of the last try; "": it worked.
    age_s: of this status, when it was read.
    """

    flushed_revision: int = 0
    swept_revision: int = 0
    left: int = 0
    rows: int = 0
    behind_s: float = 0.0
    written: int = 0
    batches: int = 0
    failures: int = 0
    error: str = ""
    age_s: float = 0.0

    @property
    def is_failing(self) -> bool:
        """The database refuses; rows that can't be decoded are no such thing."""
        return bool(self.error) and self.rows > self.left

    def encoded(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "age_s"}
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def of(cls, entry: Entry | None) -> "Status":
        if entry is None:
            return cls()
        fields: dict[str, Any] = json.loads(entry.raw)
        # Drainers of earlier builds leave nothing.
        fields.setdefault("swept_revision", fields.get("flushed_revision", 0))
        known = {name: value for name, value in fields.items() if name in cls.__slots__}
        return cls(**{**known, "age_s": age_s(entry)})


@dataclass(frozen=True, slots=True)
class ShardLag:
    """rows, seconds: as in Lag. waiting, waiting_s: without rows that the drainer can't decode and leaves."""

    status: Status
    rows: int
    seconds: float
    waiting: int
    waiting_s: float


def age_s(entry: Entry) -> float:
    """Seconds on the cluster's clock since a record or status was written."""
    return 0.0 if entry.expires_in_s is None else max(0.0, RECORD_TTL_S - entry.expires_in_s)


class Queue:
    """The queue of one view. Holds no state."""

    def __init__(self, client: "AsyncClient", name: str, shards: int) -> None:
        if not isinstance(name, str) or not 0 < len(name.encode()) <= NAME_BYTES_MAX or "\0" in name:
            raise InvalidRequest(f"name={name!r}: 1 to {NAME_BYTES_MAX} bytes of text", field="name")
        if not 1 <= shards <= SHARDS_MAX:
            raise InvalidRequest(f"shards={shards}: 1 to {SHARDS_MAX}", field="shards")
        self.client = client
        self.name = name
        self.shards = shards

    # --- names ---

    def shard_of(self, key: str) -> int:
        return zlib.crc32(key.encode("utf-8", "surrogateescape")) % self.shards

    def _shard_prefix(self, shard: int) -> bytes:
        return WRITE_BEHIND_PREFIX + self.name.encode() + b"\0%d\0" % shard

    def records_prefix(self, shard: int) -> bytes:
        return self._shard_prefix(shard) + b"key\0"

    def record_key(self, key: str) -> bytes:
        return self.records_prefix(self.shard_of(key)) + key.encode("utf-8", "surrogateescape")

    def status_key(self, shard: int) -> bytes:
        return self._shard_prefix(shard) + b"status"

    def lock_name(self, shard: int) -> str:
        return f"replcache/write-behind/{self.name}/{shard}"

    # --- records ---

    def put(self, key: str, data: bytes, content_type: str) -> Prepared:
        if content_type == DELETED_CONTENT_TYPE:
            raise InvalidRequest(f"{content_type} marks deleted rows", field="content_type")
        operation = set_operation(self.record_key(key), data, content_type, ttl=RECORD_TTL_S)
        return operation, convert.set_result

    def put_deleted(self, key: str) -> Prepared:
        operation = set_operation(self.record_key(key), b"", DELETED_CONTENT_TYPE, ttl=RECORD_TTL_S)
        return operation, convert.set_result

    def remove(self, record: Entry, fence: tuple[str, int]) -> Prepared:
        """Only while the drainer's lock is held: nobody else removes records, so while it is, a version is
        enough to know that no newer value has come."""
        operation = delete_operation(record.key, if_version=record.version, fence=fence)
        return operation, convert.delete_result

    def row(self, record: Entry, shard: int) -> Row:
        """
        Raises:
            WrongType, or what the codec raises: the value can't be decoded in this process.
        """
        key = record.key[len(self.records_prefix(shard)) :].decode("utf-8", "surrogateescape")
        is_deleted = record.content_type == DELETED_CONTENT_TYPE
        return Row(key, DELETED if is_deleted else record.value, record.mod_revision)

    async def pending(self, key: str) -> Entry | None:
        """The value that the database does not have yet."""
        return await self.client.get(self.record_key(key), read=Consistency.LINEARIZABLE)

    # --- status ---

    def read_status(self, shard: int) -> Prepared:
        return get_operation(self.status_key(shard)), convert.get_result

    def write_status(self, shard: int, status: Status, fence: tuple[str, int]) -> Prepared:
        operation = set_operation(
            self.status_key(shard), status.encoded(), "application/json", ttl=RECORD_TTL_S, fence=fence
        )
        return operation, convert.set_result

    async def status(self, shard: int) -> Status:
        return Status.of(await self.client.get(self.status_key(shard), read=Consistency.LINEARIZABLE))

    async def revision(self) -> int:
        """A linearizable read of nothing: everything acknowledged before the call is at or below it."""
        client = self.client
        waiter = client._waiter()
        client._core.get_seen(self.status_key(0), client.settings.timeout_s, waiter)
        _, revision = await waiter
        return int(revision)

    async def count(self, shard: int, limit: int) -> int:
        scan = self.client.scan(
            self.records_prefix(shard),
            limit=limit,
            page_size=1000,
            keys_only=True,
            read=Consistency.LINEARIZABLE,
        )
        return len([record async for record in scan])

    async def shard_lag(self, shard: int, limit: int | None = None) -> ShardLag:
        """Counts what waits: a scan of the queue without its values."""
        status = await self.status(shard)
        rows = waiting = 0
        seconds = waiting_s = 0.0
        async for record in self.client.scan(
            self.records_prefix(shard),
            limit=limit,
            page_size=1000,
            keys_only=True,
            read=Consistency.LINEARIZABLE,
        ):
            rows += 1
            seconds = max(seconds, age_s(record))
            if not status.left or record.mod_revision > status.swept_revision:
                waiting += 1
                waiting_s = max(waiting_s, age_s(record))
        if waiting and status.is_failing:
            waiting_s = max(waiting_s, status.behind_s + status.age_s)
        return ShardLag(status, rows, max(seconds, waiting_s), waiting, waiting_s)

    async def lag(self) -> Lag:
        """Of all shards, with what can't be decoded."""
        found = [await self.shard_lag(shard) for shard in range(self.shards)]
        return Lag(sum(one.rows for one in found), max(one.seconds for one in found))
