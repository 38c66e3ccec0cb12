"""Transactions: compare, then one of two lists of operations, as one atomic step of the cluster.

    with client.txn() as t:
        t.require(t["stock"].version == 7, lock.held)
        t.set("stock", 41)
        t.otherwise.get("stock")
    t.succeeded, t.results

Nothing is read while the block runs: everything is sent at its end, decided and executed in one log entry.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from replcache.client.base import BaseClient, check_batch_size
from replcache.client.batch import Operations
from replcache.client.durations import Duration
from replcache.client.requests import Held, HeldLock, Key, fence_proto, key_bytes
from replcache.constants import BATCH_OPERATIONS_MAX
from replcache.errors import InvalidRequest, ReplcacheError
from replcache.pb.v1 import cache_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from replcache.client.aio import AsyncClient
    from replcache.client.blocking import Client


class Comparison(NamedTuple):
    """What must hold of one key; made by `t[key]`."""

    key: bytes
    condition: cache_pb2.Condition

    def __bool__(self) -> NoReturn:
        raise InvalidRequest("a comparison has no truth yet: pass each to require(), not joined with `and`")


class _Number:
    """`t[key].version` (0 means missing) or `t[key].mod_revision`, compared with ==."""

    def __init__(self, key: bytes, field: str) -> None:
        self._key = key
        self._field = field

    def __eq__(self, other: object) -> Comparison:  # type: ignore[override]  # a comparison, not its outcome
        if isinstance(other, bool) or not isinstance(other, int) or not 0 <= other < 2**64:
            raise InvalidRequest(f"{other!r} is no version", field=self._field)
        return Comparison(self._key, cache_pb2.Condition(**{self._field: other}))  # type: ignore[arg-type]

    def __ne__(self, other: object) -> NoReturn:
        raise InvalidRequest("only == is decided by the cluster; use .exists, or the `otherwise` operations")

    __hash__ = None  # type: ignore[assignment]  # as every class with an __eq__ of its own


class _Value:
    """`t[key].value`: compared with ==."""

    def __init__(self, client: BaseClient, key: bytes) -> None:
        self._client = client
        self._key = key

    def __eq__(self, other: object) -> Comparison:  # type: ignore[override]  # a comparison, not its outcome
        data, _ = self._client._encode(other)
        return Comparison(self._key, cache_pb2.Condition(if_value=data))

    def __ne__(self, other: object) -> NoReturn:
        raise InvalidRequest("only == is decided by the cluster; use the `otherwise` operations")

    __hash__ = None  # type: ignore[assignment]  # as every class with an __eq__ of its own


class Compared:
    """One key of a transaction, for require()."""

    def __init__(self, client: BaseClient, key: Key) -> None:
        self._key = key_bytes(key)
        self.version = _Number(self._key, "if_version")
        self.mod_revision = _Number(self._key, "if_mod_revision")
        self.value = _Value(client, self._key)

    @property
    def exists(self) -> Comparison:
        return Comparison(self._key, cache_pb2.Condition(if_present=True))

    @property
    def missing(self) -> Comparison:
        return Comparison(self._key, cache_pb2.Condition(if_absent=True))


class TxnBuilder(Operations):
    """Requirements, operations for when all of them hold, and `otherwise` for when one does not."""

    def __init__(self, client: BaseClient, timeout: Duration | None) -> None:
        super().__init__(client, "transaction")
        self.otherwise = Operations(client, "transaction")
        self._timeout_s = client._timeout_s(timeout)
        self._compares: list[Comparison] = []
        self._held: list[Held] = []
        self._succeeded: bool | None = None

    def __getitem__(self, key: Key) -> Compared:
        """For require(): `t[key].version == 7`, `t[key].value == x`, `t[key].exists`, `t[key].missing`."""
        return Compared(self._client, key)

    def require(self, *requirements: Comparison | Held | HeldLock) -> None:
        """All of these must hold: comparisons of keys, and locks (`lock` or `lock.held`) that must be held
        by exactly this holding at that moment."""
        for requirement in requirements:
            if isinstance(requirement, Comparison):
                self._compares.append(requirement)
            elif hasattr(requirement, "name") and hasattr(requirement, "token"):
                held = Held(requirement.name, requirement.token)
                fence_proto(held)
                self._held.append(held)
            else:
                raise InvalidRequest(f"{requirement!r} is no requirement: t[key].version == n, or a lock")

    @property
    def succeeded(self) -> bool:
        """Whether all requirements held. Raises InvalidRequest before the end of the block."""
        if self._succeeded is None:
            raise InvalidRequest("the transaction has not been sent yet", field="txn")
        return self._succeeded

    @property
    def results(self) -> list[Any]:
        """Of the operations that were executed: those of `otherwise` unless it succeeded."""
        branch = self if self.succeeded else self.otherwise
        return [pending.result() for pending in branch._pending]

    def _request(self) -> cache_pb2.TxnRequest:
        then, otherwise = self._close(), self.otherwise._close()
        check_batch_size(then + otherwise)
        if len(self._compares) + len(then) + len(otherwise) > BATCH_OPERATIONS_MAX:
            raise InvalidRequest(f"at most {BATCH_OPERATIONS_MAX} comparisons and operations", field="txn")
        request = cache_pb2.TxnRequest(
            then=[operation for operation, _ in then],
            otherwise=[operation for operation, _ in otherwise],
        )
        for key, condition in self._compares:
            request.compares.add(key=key, condition=condition)
        for held in self._held:
            request.held.append(fence_proto(held))
        return request

    def _settle(self, succeeded: bool, outcomes: list[Any]) -> None:
        self._succeeded = succeeded
        taken, left = (self, self.otherwise) if succeeded else (self.otherwise, self)
        for pending, outcome in zip(taken._pending, outcomes, strict=True):
            pending.settle(outcome)
        why = "the requirements did not hold" if taken is self.otherwise else "the requirements held"
        left._fail(InvalidRequest(f"this operation was not executed: {why}", field="txn"))

    def _fail_all(self, error: ReplcacheError) -> None:
        self._fail(error)
        self.otherwise._fail(error)


class AsyncTxn(TxnBuilder):
    """`async with client.txn() as t:` sends at the end of the block, unless the block raises."""

    _client: "AsyncClient"

    async def __aenter__(self) -> "AsyncTxn":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if kind is None and not self._is_sent:
            await self.commit()

    async def commit(self) -> bool:
        """Sends the transaction, exactly once, and tells whether the requirements held.

        Raises:
            BatchAborted: an operation of the list that was taken was refused; nothing of it was done.
            OutcomeUnknown: no answer in time; it may or may not take effect, as a whole.
        """
        request = self._request()
        branches = (self._operations, self.otherwise._operations)
        try:
            succeeded, outcomes = await self._client._send_txn(request, branches, self._timeout_s)
        except ReplcacheError as err:
            self._fail_all(err)
            raise
        self._settle(succeeded, outcomes)
        return succeeded


class Txn(TxnBuilder):
    """`with client.txn() as t:` sends at the end of the block, unless the block raises."""

    _client: "Client"

    def __enter__(self) -> "Txn":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if kind is None and not self._is_sent:
            self.commit()

    def commit(self) -> bool:
        """As AsyncTxn.commit."""
        request = self._request()
        branches = (self._operations, self.otherwise._operations)
        aio = self._client._aio
        try:
            succeeded, outcomes = self._client._run(
                lambda: aio._send_txn(request, branches, self._timeout_s), self._timeout_s
            )
        except ReplcacheError as err:
            self._fail_all(err)
            raise
        self._settle(succeeded, outcomes)
        return bool(succeeded)
