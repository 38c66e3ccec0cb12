"""Cache.Txn: compare, then one of two lists of operations, as one step of the log."""

from collections.abc import Sequence

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.batches import sliced
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.statemachine.commands import Compare, Op, Txn
from replcache.statemachine.results import TxnResult


class Txns:
    """Part of the Cache service."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def methods(self) -> list[Method]:
        return [Method("Txn", cache_pb2.TxnRequest, self.txn, writes=True)]

    async def txn(self, request: cache_pb2.TxnRequest, deadline: Deadline) -> cache_pb2.TxnResponse:
        """Raises BatchAborted: an operation of the chosen list was refused, and nothing of it is done."""
        op = await txn_op(request)
        result = await self._backend.execute_one(convert.command(op, request), deadline)
        assert type(result) is TxnResult
        ops = op.then_ops if result.succeeded else op.else_ops
        convert.check_carried(result.results, "the transaction")
        self._backend.count(ops, result.results)
        clock_ms = self._backend.machine.clock_ms
        return cache_pb2.TxnResponse(
            header=self._backend.header(result.revision),
            succeeded=result.succeeded,
            results=[
                convert.operation_result(ops[index], one, clock_ms)
                async for index, one in sliced(result.results)
            ],
        )


async def txn_op(request: cache_pb2.TxnRequest) -> Txn:
    """Raises InvalidRequest; the field is named as the caller wrote it."""
    validate.batch_bytes(request.ByteSize(), "transaction")
    number = len(request.compares) + len(request.held) + len(request.then) + len(request.otherwise)
    if number == 0:
        raise InvalidRequest("then: a transaction must hold at least one compare or operation", field="then")
    if number > constants.BATCH_OPERATIONS_MAX:
        raise validate.too_large("then", number, constants.BATCH_OPERATIONS_MAX, "compares and operations")
    return Txn(
        tuple([_compare(message, index) async for index, message in sliced(request.compares)]),
        tuple([validate.fence(fence, f"held[{index}]") for index, fence in enumerate(request.held)]),
        await _operations(request.then, "then"),
        await _operations(request.otherwise, "otherwise"),
    )


async def _operations(messages: Sequence[cache_pb2.Operation], where: str) -> tuple[Op, ...]:
    return tuple([convert.operation(message, index, where) async for index, message in sliced(messages)])


def _compare(message: cache_pb2.Compare, index: int) -> Compare:
    where = f"compares[{index}]"
    key = validate.key(message.key, f"{where}.key")
    condition = convert.condition(message.condition, f"{where}.condition")
    if condition is None:
        raise InvalidRequest(f"{where}.condition: must ask for something", field=f"{where}.condition")
    return Compare(key, condition)
