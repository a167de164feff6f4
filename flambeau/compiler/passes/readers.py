"""Who reads what in a graph, and what stays the same from call to call."""

from __future__ import annotations

from flambeau.compiler.graph import Graph, Node, Ref, Value, same_order

STATE = frozenset({"tensor", "grad"})  # kinds of sources that are objects, not arguments


class Readers:
    """The nodes that read each value; a value that leaves the graph is read from outside as well."""

    def __init__(self, graph: Graph):
        self.nodes: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            for ref in node.refs:
                readers = self.nodes.setdefault(ref.value, [])
                if not readers or readers[-1] is not node:
                    readers.append(node)
        self.outside = {ref.value for ref in (*graph.outputs, *graph.writes.values())}

    def only(self, value: Value | None) -> Node | None:
        """The one node that reads the value, if nobody else does."""
        found = [] if value is None or value in self.outside else self.nodes.get(value, [])
        return found[0] if len(found) == 1 else None


class Steady:
    """Which values are the same in every call until somebody changes the state: those computed from it alone."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.known: dict[Value, bool] = {}

    def __call__(self, value: Value) -> bool:
        if value not in self.known:
            self.known[value] = self._find(value)
        return self.known[value]

    def _find(self, value: Value) -> bool:
        if value.node is not None:
            return not value.node.effect and all(self(ref.value) for ref in value.node.refs)
        if value in self.graph.constants:
            return True
        return value not in self.graph.writes and getattr(value.source, "kind", None) in STATE


def shows_all(ref: object, value: Value | None) -> bool:
    """Whether an operand is all of a value, in the value's own order."""
    return (
        isinstance(ref, Ref)
        and ref.value is value
        and ref.offset == 0
        and ref.shape == ref.value.shape
        and same_order(ref.shape, ref.strides, ref.value.strides)
    )
