"""Checks of multi-key transactions by cycles, after Elle (Kingsbury and Alvaro, VLDB 2020).

Histories of operation "txn": input and output are lists of [action, key, value] with actions append, r
(list-append) or w, r (rw-register); `r` and `w` also as read and write. Values are unique per key.

Between transactions there are four kinds of edges: ww (its version follows the other's directly), wr (reads
what the other wrote), rw (overwrites what the other read), and rt (returned before the other was called;
only when `realtime`). A cycle is an anomaly, named by Adya's classes: G0 only ww; G1c ww and wr; G-single one
rw; G2 several rw; with "-realtime" when it needs an rt edge. Beside cycles: internal (a transaction
contradicts itself), G1a (read of an aborted write), G1b (read of an intermediate write), incompatible-order
(two reads are not prefixes of one list), duplicate (an element twice), lost-update, unknown-value (nobody
wrote it), cyclic-versions.

Each edge follows from what was observed, so an anomaly is certain; absence of anomalies is no proof for
rw-register, where the order of versions is only partly known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from replcache.verify.graph import Graph, name_of_cycle
from replcache.verify.history import History, Operation, Outcome, Value

_READS: Final = ("r", "read")
_WRITES: Final = ("w", "write")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """`operations`: ids of those involved; in the order of the cycle for cycles."""

    name: str
    operations: tuple[int, ...]
    detail: str


class _Txn:
    """One transaction that may have taken effect."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.parts: Sequence[tuple[str, Value, Value]] = (
            operation.output if operation.is_ok and operation.output is not None else operation.input
        )

    def writes(self, action: Sequence[str]) -> dict[Value, list[Value]]:
        """Values written to each key, in order."""
        result: dict[Value, list[Value]] = {}
        for name, key, value in self.parts:
            if name in action:
                result.setdefault(key, []).append(value)
        return result

    def reads(self) -> Iterator[tuple[Value, Value]]:
        """(key, value) of the reads that show the state before the transaction's own writes."""
        if not self.operation.is_ok:
            return
        touched = set()
        for name, key, value in self.parts:
            if name in _READS and key not in touched:
                yield key, value
            touched.add(key)


def check_list_append(history: History, *, realtime: bool = True) -> list[Anomaly]:
    """Anomalies of a list-append history; empty: none.

    Args:
        realtime: ask for strict serializability; False: for serializability.
    """
    txns = _transactions(history)
    appender, anomalies = _writers(history, ("append",))
    anomalies += [found for txn in txns for found in _internal_append(txn)]
    orders: dict[Value, tuple[Value, ...]] = {}
    for txn in txns:
        for key, value in _all_reads(txn):
            anomalies += _read_of_list(txn, key, value, appender)
            orders[key] = max(orders.get(key, ()), value, key=len)
    for txn in txns:
        for key, value in _all_reads(txn):
            if orders[key][: len(value)] != value:
                detail = f"key {key!r}: {list(value)} is no prefix of {list(orders[key])}"
                anomalies.append(Anomaly("incompatible-order", (txn.operation.id,), detail))
    graph = Graph()
    for key, order in orders.items():
        _edges_of_list(graph, key, order, txns, appender)
    return anomalies + _cycles(graph, txns, realtime)


def check_rw_register(
    history: History, *, realtime: bool = True, all_writes_recorded: bool = True
) -> list[Anomaly]:
    """Anomalies of an rw-register history; empty: none.

    Args:
        realtime: as for check_list_append.
        all_writes_recorded: a value that no transaction wrote is an anomaly. False: it may have been there
            before the history began.
    """
    txns = _transactions(history)
    writer, anomalies = _writers(history, _WRITES)
    anomalies += [found for txn in txns for found in _internal_register(txn)]
    graph = Graph()
    followers: dict[tuple[Value, Value], set[Value]] = {}
    updates: dict[tuple[Value, Value], list[int]] = {}
    for txn in txns:
        written = txn.writes(_WRITES)
        for key, value in txn.reads():
            anomalies += _read_of_register(txn, key, value, writer, all_writes_recorded)
            if key in written:
                followers.setdefault((key, value), set()).add(written[key][0])
                updates.setdefault((key, value), []).append(txn.operation.id)
        for key, values in written.items():
            for before, after in pairwise(values):
                followers.setdefault((key, before), set()).add(after)
    for (key, value), ids in updates.items():
        if len(ids) > 1:
            anomalies.append(
                Anomaly("lost-update", tuple(ids), f"key {key!r}: all of them replace {value!r}")
            )
    anomalies += _cyclic_versions(followers)
    _edges_of_registers(graph, txns, writer, followers)
    return anomalies + _cycles(graph, txns, realtime)


# --- what both have in common ------------------------------------------------------------------------------

# (key, value) -> the transaction that wrote it, and whether it was the last it wrote to the key.
_Writers = dict[tuple[Value, Value], tuple[Operation, bool]]


def _transactions(history: History) -> list[_Txn]:
    return [_Txn(op) for op in history.operations if op.op == "txn" and op.outcome is not Outcome.FAIL]


def _writers(history: History, action: Sequence[str]) -> tuple[_Writers, list[Anomaly]]:
    writers: _Writers = {}
    anomalies = []
    for operation in history.operations:
        if operation.op != "txn":
            continue
        for key, values in _Txn(operation).writes(action).items():
            for index, value in enumerate(values):
                if (key, value) in writers:
                    ids = (writers[key, value][0].id, operation.id)
                    anomalies.append(Anomaly("not-unique", ids, f"key {key!r}: both write {value!r}"))
                writers[key, value] = (operation, index == len(values) - 1)
    return writers, anomalies


def _cycles(graph: Graph, txns: Sequence[_Txn], realtime: bool) -> list[Anomaly]:
    by_id = {txn.operation.id: txn.operation for txn in txns}
    if realtime:
        graph.add_realtime([txn.operation for txn in txns])
    found = []
    for cycle in graph.cycles():
        ids = tuple(node for node, _ in cycle if node in by_id)
        steps = ", then ".join(f"{by_id[node]} [{edge}]" for node, edge in cycle if node in by_id)
        found.append(Anomaly(name_of_cycle(cycle), ids, steps))
    return found


# --- list-append -------------------------------------------------------------------------------------------


def _all_reads(txn: _Txn) -> Iterator[tuple[Value, tuple[Value, ...]]]:
    """(key, list) of every read, without the elements that the transaction appended itself before it."""
    if not txn.operation.is_ok:
        return
    own: dict[Value, list[Value]] = {}
    for name, key, value in txn.parts:
        if name == "append":
            own.setdefault(key, []).append(value)
        elif name in _READS:
            count = len(own.get(key, ()))
            seen = tuple(value or ())
            yield key, seen[: len(seen) - count]


def _internal_append(txn: _Txn) -> Iterator[Anomaly]:
    if not txn.operation.is_ok:
        return
    known: dict[Value, list[Value]] = {}  # key -> its list so far
    added: dict[Value, list[Value]] = {}  # key -> own elements, while its list is not known
    for name, key, value in txn.parts:
        if name == "append":
            (known[key] if key in known else added.setdefault(key, [])).append(value)
            continue
        seen = list(value or ())
        tail = added.get(key, [])
        if (key in known and known[key] != seen) or seen[len(seen) - len(tail) :] != tail:
            detail = f"key {key!r}: {seen} contradicts what it did before"
            yield Anomaly("internal", (txn.operation.id,), detail)
        known[key] = seen


def _read_of_list(txn: _Txn, key: Value, seen: tuple[Value, ...], appender: _Writers) -> Iterator[Anomaly]:
    reader = txn.operation.id
    if len(set(seen)) != len(seen):
        yield Anomaly("duplicate", (reader,), f"key {key!r}: {list(seen)} has an element twice")
    for element in seen:
        if (key, element) not in appender:
            yield Anomaly("unknown-value", (reader,), f"key {key!r}: nobody appended {element!r}")
        elif appender[key, element][0].outcome is Outcome.FAIL:
            ids = (appender[key, element][0].id, reader)
            yield Anomaly("G1a", ids, f"key {key!r}: {element!r} was read, but its append failed")
    if seen and (key, seen[-1]) in appender:
        operation, last = appender[key, seen[-1]]
        if not last and operation.id != reader:
            detail = f"key {key!r}: read in the middle of a transaction"
            yield Anomaly("G1b", (operation.id, reader), detail)


def _edges_of_list(
    graph: Graph, key: Value, order: tuple[Value, ...], txns: Sequence[_Txn], appender: _Writers
) -> None:
    writers = [appender[key, element][0].id if (key, element) in appender else -1 for element in order]
    # Elements of a key that nobody saw come after all that were seen.
    unseen = {op.id for (name, element), (op, _) in appender.items() if name == key and element not in order}
    unseen = {txn.operation.id for txn in txns if txn.operation.id in unseen and txn.operation.is_ok}
    for before, after in pairwise(writers):
        graph.add(before, after, "ww")
    for txn in txns:
        for name, seen in _all_reads(txn):
            if name != key:
                continue
            reader = txn.operation.id
            if seen and len(seen) <= len(order):
                graph.add(writers[len(seen) - 1], reader, "wr")
            if len(seen) < len(order):
                graph.add(reader, writers[len(seen)], "rw")
            for other in unseen if len(seen) == len(order) else ():
                graph.add(reader, other, "rw")
    if writers:
        for other in unseen:
            graph.add(writers[-1], other, "ww")


# --- rw-register -------------------------------------------------------------------------------------------


def _internal_register(txn: _Txn) -> Iterator[Anomaly]:
    if not txn.operation.is_ok:
        return
    known: dict[Value, Value] = {}
    for name, key, value in txn.parts:
        if name in _READS and key in known and known[key] != value:
            detail = f"key {key!r}: reads {value!r}, but {known[key]!r} is what it saw or wrote before"
            yield Anomaly("internal", (txn.operation.id,), detail)
        known[key] = value


def _read_of_register(
    txn: _Txn, key: Value, value: Value, writer: _Writers, all_recorded: bool
) -> Iterator[Anomaly]:
    reader = txn.operation.id
    if value is None:
        return
    if (key, value) not in writer:
        if all_recorded:
            yield Anomaly("unknown-value", (reader,), f"key {key!r}: nobody wrote {value!r}")
        return
    operation, last = writer[key, value]
    if operation.outcome is Outcome.FAIL:
        detail = f"key {key!r}: {value!r} was read, but its write failed"
        yield Anomaly("G1a", (operation.id, reader), detail)
    if not last and operation.id != reader:
        yield Anomaly(
            "G1b", (operation.id, reader), f"key {key!r}: {value!r} was overwritten by its own writer"
        )


def _cyclic_versions(followers: dict[tuple[Value, Value], set[Value]]) -> list[Anomaly]:
    graph = Graph()
    numbers: dict[tuple[Value, Value], int] = {}
    for (key, value), nexts in followers.items():
        for after in nexts:
            start = numbers.setdefault((key, value), len(numbers))
            graph.add(start, numbers.setdefault((key, after), len(numbers)), "ww")
    names = {number: version for version, number in numbers.items()}
    return [
        Anomaly("cyclic-versions", (), " -> ".join(repr(names[node]) for node, _ in cycle))
        for cycle in graph.cycles()
    ]


def _edges_of_registers(
    graph: Graph,
    txns: Sequence[_Txn],
    writer: _Writers,
    followers: dict[tuple[Value, Value], set[Value]],
) -> None:
    """wr from reads; ww and rw where a version is known to follow another. nil comes before every version."""
    first: dict[Value, set[int]] = {}
    for (key, _), (operation, _) in writer.items():
        if operation.is_ok:
            first.setdefault(key, set()).add(operation.id)
    for (key, value), nexts in followers.items():
        if (key, value) in writer:
            for after in nexts:
                graph.add(writer[key, value][0].id, writer[key, after][0].id, "ww")
    for txn in txns:
        reader = txn.operation.id
        for key, value in txn.reads():
            if value is None:
                overwriters = first.get(key, set())
            else:
                if (key, value) in writer:
                    graph.add(writer[key, value][0].id, reader, "wr")
                overwriters = {writer[key, after][0].id for after in followers.get((key, value), ())}
            for other in sorted(overwriters):
                graph.add(reader, other, "rw")
