"""What a model is: the sequential behaviour of one object, as a pure function.

`step` is the definition; it is short and is what the brute-force oracle of the tests uses. `plan` may say
the same in a faster way for one whole partition of a history (closures on small states) and may add what
follows from the history as a whole (see Plan). The tests compare both on random histories.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from replcache.verify.history import Operation

# A state is any hashable value; equal states behave equally for ever.
State = Any
Step = Callable[[State], State]


class _Illegal:
    """The single value that says: the operation can't take effect with this reply in this state."""

    def __repr__(self) -> str:
        return "ILLEGAL"


ILLEGAL: Final = _Illegal()


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search one partition. Bit i everywhere stands for the i-th operation passed to `Model.plan`.

    All but the first two only cut the search short, by what holds in every linearization:

    after[i]: operations that must have taken effect before operation i can.
    useless: operations with an unknown outcome without which every linearization stays one.
    leave[state]: operations that must have taken effect before this state is left, because they need it and
        it never comes back.
    viable(done, state): False when some operation not in `done` can't take effect in this state nor after.
    names[i]: operations with equal names have equal steps, also where their inputs differ.
    """

    initial: State
    steps: Sequence[Step]
    after: Sequence[int] = field(default=())
    useless: int = 0
    leave: Mapping[State, int] = field(default_factory=dict)
    viable: Callable[[int, State], bool] | None = None
    names: Sequence[Hashable] = field(default=())


class Model(ABC):
    """A sequential specification. Immutable; one object may be used for many histories."""

    name: str = ""
    # Whether `step` ignores the operation's times: then two unknown calls with equal input are alike.
    timeless: bool = True

    def partition_of(self, operation: Operation) -> Hashable:
        """Operations of different partitions never influence each other (P-compositionality)."""
        return operation.key

    @abstractmethod
    def initial(self) -> State:
        """State before the first operation."""

    @abstractmethod
    def step(self, state: State, operation: Operation) -> State:
        """State after the operation, or ILLEGAL when it can't give this reply in this state.

        For an unknown outcome the reply is free and a call that would be refused changes nothing.

        Raises:
            ValueError: the model does not know such an operation.
        """

    def plan(self, operations: Sequence[Operation]) -> Plan:
        return Plan(self.initial(), [self._bind(operation) for operation in operations])

    def is_read(self, operation: Operation) -> bool:
        """Whether the operation, with this reply, never changes any state (refusals count).

        Such an operation can take effect as soon as its reply fits, and leaving it out keeps a history
        linearizable. A write of the value that is there already is NOT one: elsewhere it would change it.
        """
        return operation.op in ("read", "get")

    def removable(self, operations: Sequence[Operation]) -> list[frozenset[int]]:
        """Groups of operation ids; without such a group a linearizable history stays linearizable."""
        return [frozenset((operation.id,)) for operation in operations if self.is_read(operation)]

    def describe(self, state: State) -> str:
        """The state of `step`, for people."""
        return repr(state)

    def _bind(self, operation: Operation) -> Step:
        step = self.step
        return lambda state: step(state, operation)


def unknown_operation(model: Model, operation: Operation) -> ValueError:
    return ValueError(f"model {model.name!r} knows no operation {operation.op!r} ({operation})")
