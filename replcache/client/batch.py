"""Collecting operations for one log entry: the `batch()` of both clients, and the lists of a transaction."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from replcache.client import convert
from replcache.client.base import BaseClient, Prepared, check_batch_size
from replcache.client.durations import Duration
from replcache.client.requests import UNSET, Fence, Key, LeaseId, get_operation, key_bytes
from replcache.errors import InvalidRequest, ReplcacheError

if TYPE_CHECKING:
    from types import TracebackType

    from replcache.client.aio import AsyncClient
    from replcache.client.blocking import Client


class Pending:
    """What one operation of a batch will answer; ready when the batch has been sent."""

    __slots__ = ("_is_ready", "_outcome")

    def __init__(self) -> None:
        self._is_ready = False
        self._outcome: Any = None

    def result(self) -> Any:
        """The result of the operation.

        Raises:
            InvalidRequest: the batch has not been sent.
            ReplcacheError: what the operation was refused with.
        """
        if not self._is_ready:
            raise InvalidRequest("the batch has not been sent yet", field="batch")
        if isinstance(self._outcome, ReplcacheError):
            raise self._outcome
        return self._outcome

    def settle(self, outcome: Any) -> None:
        self._outcome = outcome
        self._is_ready = True


class Operations:
    """Operations in the order in which they will be applied. The arguments are those of the client."""

    def __init__(self, client: BaseClient, what: str) -> None:
        self._client = client
        self._what = what
        self._operations: list[Prepared] = []
        self._pending: list[Pending] = []
        self._is_sent = False

    def __len__(self) -> int:
        return len(self._operations)

    def _add(self, prepared: Prepared) -> Pending:
        pending = Pending()
        self._check_open()
        self._operations.append(prepared)
        self._pending.append(pending)
        return pending

    def _check_open(self) -> None:
        if self._is_sent:
            raise InvalidRequest(f"the {self._what} has been sent already", field=self._what)

    def _close(self) -> list[Prepared]:
        """What is to be sent; nothing can be added any more."""
        self._check_open()
        check_batch_size(self._operations)
        self._is_sent = True
        return self._operations

    def _fail(self, error: ReplcacheError) -> None:
        for pending in self._pending:
            pending.settle(error)

    def get(self, key: Key) -> Pending:
        """Reads at this point of the log; in an atomic batch, the state after the batch."""
        return self._add((get_operation(key_bytes(key)), convert.get_result))

    def set(
        self,
        key: Key,
        value: object,
        *,
        ttl: Duration | None = None,
        idle: Duration | None = None,
        max_reads: int = 0,
        tags: Iterable[str] = (),
        lease: LeaseId | None = None,
        if_version: int | None = None,
        if_mod_revision: int | None = None,
        if_value: object = UNSET,
        nx: bool = False,
        xx: bool = False,
        keep_ttl: bool = False,
        fence: Fence | None = None,
        want_previous: bool = False,
    ) -> Pending:
        return self._add(
            self._client._set(
                key,
                value,
                nx=nx,
                xx=xx,
                if_value=if_value,
                ttl=ttl,
                idle=idle,
                max_reads=max_reads,
                tags=tags,
                lease=lease,
                if_version=if_version,
                if_mod_revision=if_mod_revision,
                keep_ttl=keep_ttl,
                fence=fence,
                want_previous=want_previous,
            )
        )

    def update(
        self,
        key: Key,
        value: object = UNSET,
        *,
        append: str | bytes | None = None,
        add: int | float | None = None,
        merge: Mapping[str, object] | None = None,
        ttl: Duration | None = None,
        if_version: int | None = None,
        if_mod_revision: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
    ) -> Pending:
        prepared = self._client._update(
            key,
            value,
            append,
            add,
            merge,
            if_value,
            ttl=ttl,
            if_version=if_version,
            if_mod_revision=if_mod_revision,
            fence=fence,
        )
        return self._add(prepared)

    def delete(
        self,
        key: Key,
        *,
        if_version: int | None = None,
        if_mod_revision: int | None = None,
        if_value: object = UNSET,
        fence: Fence | None = None,
        want_previous: bool = False,
    ) -> Pending:
        prepared = self._client._delete(
            key,
            if_value,
            if_version=if_version,
            if_mod_revision=if_mod_revision,
            fence=fence,
            want_previous=want_previous,
        )
        return self._add(prepared)

    def touch(
        self,
        key: Key,
        *,
        ttl: Duration | None = None,
        idle: Duration | None = None,
        if_version: int | None = None,
        if_mod_revision: int | None = None,
        fence: Fence | None = None,
    ) -> Pending:
        return self._add(
            self._client._touch(
                key, ttl=ttl, idle=idle, if_version=if_version, if_mod_revision=if_mod_revision, fence=fence
            )
        )

    def incr(
        self,
        key: Key,
        delta: int = 1,
        *,
        initial: int = 0,
        ttl: Duration | None = None,
        minimum: int | None = None,
        maximum: int | None = None,
        fence: Fence | None = None,
    ) -> Pending:
        prepared = self._client._incr(
            key, delta, initial=initial, ttl=ttl, minimum=minimum, maximum=maximum, fence=fence
        )
        return self._add(prepared)


class BatchBuilder(Operations):
    """Operations for one log entry."""

    def __init__(self, client: BaseClient, atomic: bool, timeout: Duration | None) -> None:
        super().__init__(client, "batch")
        self._atomic = atomic
        self._timeout_s = client._timeout_s(timeout)

    @property
    def results(self) -> list[Any]:
        """All results in order; raises the first refusal."""
        return [pending.result() for pending in self._pending]

    def _settle(self, outcomes: list[Any]) -> None:
        for pending, outcome in zip(self._pending, outcomes, strict=True):
            pending.settle(outcome)
        for outcome in outcomes:
            if isinstance(outcome, ReplcacheError):
                raise outcome


class AsyncBatch(BatchBuilder):
    """`async with client.batch() as b:` sends at the end of the block, unless the block raises."""

    _client: "AsyncClient"

    async def __aenter__(self) -> "AsyncBatch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if kind is None and not self._is_sent:
            await self.commit()

    async def commit(self) -> list[Any]:
        """Sends the batch as one log entry, exactly once, and returns the results in order.

        Raises:
            BatchAborted, or the error of the operation at fault: atomic and undone; nothing was applied.
            ReplcacheError: not atomic: the first operation that was refused; the others were applied, see
                their Pending.
        """
        operations = self._close()
        if operations:
            try:
                outcomes = await self._client._send_batch(operations, self._atomic, self._timeout_s)
            except ReplcacheError as err:
                self._fail(err)
                raise
            self._settle(outcomes)
        return self.results


class Batch(BatchBuilder):
    """`with client.batch() as b:` sends at the end of the block, unless the block raises."""

    _client: "Client"

    def __enter__(self) -> "Batch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if kind is None and not self._is_sent:
            self.commit()

    def commit(self) -> list[Any]:
        """As AsyncBatch.commit."""
        operations = self._close()
        if operations:
            try:
                outcomes = self._client._send_batch(operations, self._atomic, self._timeout_s)
            except ReplcacheError as err:
                self._fail(err)
                raise
            self._settle(outcomes)
        return self.results
