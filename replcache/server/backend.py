"""What all services share: the node, the clock, the metrics, headers, and running a command."""

from collections.abc import Sequence

from replcache import constants
from replcache.clock import Clock
from replcache.errors import NodeHalted, Overloaded
from replcache.observability.metrics import Metrics
from replcache.observability.tracing import Tracing
from replcache.pb.v1 import common_pb2
from replcache.raft.port import NodeStatus, RaftPort, Standing
from replcache.server.activity import Activity
from replcache.server.deadlines import Deadline
from replcache.server.status_map import refusal_error
from replcache.statemachine.commands import Command, Delete, Get, Increment, Op, Set, Touch, Update
from replcache.statemachine.entries import Entry
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import CommandResult, GetResult, OpResult, Refusal, SetManyResult

# Operations that write one key.
KeyWrite = Set | Update | Delete | Touch | Increment


class Backend:
    """Access to the node. Everything goes through RaftPort, so that the node may live elsewhere one day."""

    def __init__(
        self,
        port: RaftPort,
        clock: Clock,
        metrics: Metrics,
        proposals_max: int = constants.PROPOSALS_IN_FLIGHT_MAX,
        tracing: Tracing | None = None,
    ) -> None:
        """proposals_max: writes under way at once on this node; more are refused, not queued."""
        self.activity = Activity(port)
        self._proposals_max = proposals_max
        self.port = port
        self.clock = clock
        self.metrics = metrics
        self._tracing = tracing

    @property
    def machine(self) -> StateMachine:
        """The node's state now; an installed snapshot replaces the object, so never keep it over an await."""
        return self.port.machine

    def status(self) -> NodeStatus:
        """Raises NodeHalted when this node must not answer any more."""
        self.standing()
        return self.port.status()

    def standing(self) -> Standing:
        """Raises as status()."""
        standing = self.port.standing()
        if standing.halted:
            raise NodeHalted(f"node {standing.node} stopped itself: {standing.halted}")
        return standing

    def header(
        self, revision: int, level: int = 0, staleness_s: float | None = None
    ) -> common_pb2.ResponseHeader:
        """level: the ReadLevel that a read was served at; 0 for writes."""
        return self.header_of(self.standing(), revision, level, staleness_s)

    def header_of(
        self, status: NodeStatus | Standing, revision: int, level: int = 0, staleness_s: float | None = None
    ) -> common_pb2.ResponseHeader:
        """The same for a status at hand, also that of a halted node."""
        header = common_pb2.ResponseHeader(
            cluster_id=status.cluster_id,
            node=status.node,
            revision=revision,
            term=status.term,
            served_as=level,  # type: ignore[arg-type]  # the stubs want the enum's wrapper type
            leader=status.leader,
        )
        if staleness_s is not None:
            header.staleness.FromNanoseconds(int(staleness_s * 1e9))
        return header

    def wrote(self, keys: Sequence[bytes]) -> None:
        """Counts an acknowledged write."""
        self.metrics.keys_written += len(keys)
        self.activity.wrote(keys)

    def count(self, ops: Sequence[Op], results: Sequence[OpResult]) -> None:
        """Counts the operations of a batch that took effect: writes, hits and misses."""
        read: list[bytes] = []
        found: list[Entry | None] = []
        written: list[bytes] = []
        for op, result in zip(ops, results, strict=True):
            if type(result) is GetResult:
                assert isinstance(op, Get)
                read.append(op.key)
                found.append(result.entry)
            elif type(result) is not Refusal:
                assert isinstance(op, KeyWrite)
                written.append(op.key)
        if read:
            missing = found.count(None)
            self.metrics.misses += missing
            self.metrics.hits += len(read) - missing
            self.activity.read(read, found, missing)
        self.wrote(written)

    async def execute(self, command: Command, deadline: Deadline) -> tuple[OpResult, ...] | SetManyResult:
        """Replicates and applies one command.

        Raises:
            Refused: the whole command was refused; nothing changed.
            Overloaded: too many writes are under way on this node.
            NotApplied, OutcomeUnknown: see RaftPort.propose.
        """
        metrics = self.metrics
        if metrics.proposals_in_flight >= self._proposals_max:
            raise Overloaded(f"{self._proposals_max} writes are under way here (proposals_in_flight)")
        metrics.proposals_in_flight += 1
        try:
            if self._tracing is None:
                result = await self.port.propose(command, deadline.work)
            else:
                result = await self._propose_traced(self._tracing, command, deadline)
        finally:
            metrics.proposals_in_flight -= 1
        if type(result) is Refusal:
            raise refusal_error(result)
        return result  # type: ignore[return-value]  # mypy does not narrow by `type(x) is`

    async def _propose_traced(self, tracing: Tracing, command: Command, deadline: Deadline) -> CommandResult:
        if not tracing.is_in_call:
            return await self.port.propose(command, deadline.work)
        status = self.port.status()
        others = self.metrics.proposals_in_flight - 1
        with tracing.propose(status.node, status.leader, others, _keys_of(command)) as on_applied:
            return await self.port.propose(command, deadline.work, on_applied)

    async def execute_one(self, command: Command, deadline: Deadline) -> OpResult:
        """The result of a command with one operation; its refusal is raised."""
        results = await self.execute(command, deadline)
        assert type(results) is tuple
        assert len(results) == 1
        result = results[0]
        if type(result) is Refusal:
            raise refusal_error(result)
        return result

    async def execute_op(self, op: Op, deadline: Deadline) -> OpResult:
        return await self.execute_one(Command(ops=(op,)), deadline)


def _keys_of(command: Command) -> list[bytes]:
    if command.set_many is not None:
        return list(command.set_many.keys)
    return [op.key for op in command.ops if isinstance(op, Get | KeyWrite)]
