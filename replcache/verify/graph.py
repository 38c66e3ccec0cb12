"""A small directed graph with kinds of edges, its strongly connected components, and a cycle for each kind.

Components by Tarjan's algorithm ("Depth-first search and linear graph algorithms", 1972), without recursion.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from replcache.verify.history import INFINITY_NS, Operation

# The kinds of edges a cycle may use, most serious class first (see transactions.py).
_CLASSES: Final = (("ww",), ("ww", "wr"), ("ww", "wr", "rw"))
REALTIME: Final = "rt"

# A cycle: (node, kind of the edge to the next node), the last one leads to the first.
Cycle = list[tuple[int, str]]


class Graph:
    """Nodes are integers; negative ones in `add` stand for nobody and are left out."""

    def __init__(self) -> None:
        self._edges: dict[int, dict[int, set[str]]] = {}

    def add(self, source: int, target: int, kind: str) -> None:
        if source < 0 or target < 0 or source == target:
            return
        self._edges.setdefault(source, {}).setdefault(target, set()).add(kind)
        self._edges.setdefault(target, {})

    def add_realtime(self, operations: Sequence[Operation]) -> None:
        """An edge from each operation to each that was called after its return, in O(n) edges.

        Every return gets a node of its own (numbers above all others) on a chain in time order; operations
        lead to the node of their return, and the last node before a call leads to the operation.
        """
        fresh = max([*self._edges, *(op.id for op in operations)], default=-1) + 1
        events = [(op.invoke_ns, 0, op.id) for op in operations]
        events += [(op.return_ns, 1, op.id) for op in operations if op.return_ns != INFINITY_NS]
        last = -1
        for _, returned, number in sorted(events):
            if not returned:
                self.add(last, number, REALTIME)
                continue
            self.add(number, fresh, REALTIME)
            self.add(last, fresh, REALTIME)
            last = fresh
            fresh += 1

    def cycles(self) -> Iterator[Cycle]:
        """At most one cycle for each component and class: the most serious class that it has."""
        for component in self.components(("ww", "wr", "rw", REALTIME)):
            cycle = self._worst(set(component))
            if cycle is not None:
                yield cycle

    def _worst(self, component: set[int]) -> Cycle | None:
        for extra in ((), (REALTIME,)):
            for kinds in _CLASSES[:2]:
                for inner in self.components((*kinds, *extra), component):
                    return self._shortest(inner[0], set(inner), (*kinds, *extra))
            # With rw: first one that needs a single rw edge, closed by a path without any.
            for source, target in self._of_kind("rw", component):
                path = self._path(target, source, component, ("ww", "wr", *extra))
                if path is not None:
                    return [(source, "rw"), *path]
            for inner in self.components((*_CLASSES[2], *extra), component):
                return self._shortest(inner[0], set(inner), (*_CLASSES[2], *extra))
        return None

    def _of_kind(self, kind: str, nodes: set[int]) -> Iterator[tuple[int, int]]:
        for source in sorted(nodes):
            for target, kinds in self._edges.get(source, {}).items():
                if kind in kinds and target in nodes:
                    yield source, target

    def _shortest(self, start: int, nodes: set[int], kinds: Sequence[str]) -> Cycle | None:
        for source in (start, *sorted(nodes)):
            for target in self._next(source, nodes, kinds):
                path = self._path(target, source, nodes, kinds)
                if path is not None:
                    return [(source, self._kind(source, target, kinds)), *path]
        return None

    def _path(self, source: int, target: int, nodes: set[int], kinds: Sequence[str]) -> Cycle | None:
        """The shortest path from source to target, without target itself."""
        came: dict[int, int] = {source: source}
        queue = deque([source])
        while queue:
            node = queue.popleft()
            if node == target:
                break
            for after in self._next(node, nodes, kinds):
                if after not in came:
                    came[after] = node
                    queue.append(after)
        if target not in came:
            return None
        path: Cycle = []
        node = target
        while node != source:
            before = came[node]
            path.append((before, self._kind(before, node, kinds)))
            node = before
        return path[::-1]

    def _next(self, node: int, nodes: set[int] | None, kinds: Sequence[str]) -> Iterator[int]:
        for target, found in self._edges.get(node, {}).items():
            if (nodes is None or target in nodes) and not found.isdisjoint(kinds):
                yield target

    def _kind(self, source: int, target: int, kinds: Sequence[str]) -> str:
        found = self._edges[source][target]
        return next(kind for kind in kinds if kind in found)

    def components(self, kinds: Sequence[str], nodes: Iterable[int] | None = None) -> list[list[int]]:
        """Strongly connected components of more than one node, using edges of these kinds."""
        allowed = None if nodes is None else set(nodes)
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        path: list[int] = []
        on_path: set[int] = set()
        result: list[list[int]] = []
        for root in self._edges if allowed is None else sorted(allowed):
            if root in index:
                continue
            index[root] = low[root] = len(index)
            path.append(root)
            on_path.add(root)
            work = [(root, self._next(root, allowed, kinds))]
            while work:
                node, targets = work[-1]
                for target in targets:
                    if target not in index:
                        index[target] = low[target] = len(index)
                        path.append(target)
                        on_path.add(target)
                        work.append((target, self._next(target, allowed, kinds)))
                        break
                    if target in on_path:
                        low[node] = min(low[node], index[target])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == index[node]:
                        members = path[path.index(node) :]
                        del path[-len(members) :]
                        on_path.difference_update(members)
                        if len(members) > 1:
                            result.append(members)
        return result


def name_of_cycle(cycle: Cycle) -> str:
    """Adya's class of a cycle (transactions.py)."""
    kinds = [kind for _, kind in cycle]
    overwritten = kinds.count("rw")
    if overwritten:
        name = "G-single" if overwritten == 1 else "G2"
    else:
        name = "G1c" if "wr" in kinds else "G0"
    return name + ("-realtime" if REALTIME in kinds else "")
