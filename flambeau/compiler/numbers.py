"""The numbers of a captured call that change from call to call: options of optimizers, step counts (symbols.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.compiler.graph import Graph, Node, Ref
from flambeau.compiler.sources import Source, Unrecordable, user_line
from flambeau.compiler.symbols import Symbol, evaluator
from flambeau.core import dispatch
from flambeau.core.tensor import Tensor


class Numbers:
    """The part of a recorder that makes symbols and remembers what was asked of them."""

    graph: Graph
    thread: int
    failed: Unrecordable | None
    operand: Callable[[Any], Any]
    fail: Callable[[Unrecordable], None]

    def __init__(self) -> None:
        self.guards: list[tuple[Callable[[Any], Any], Any, bool]] = []  # (evaluate(call), expected, changes by itself)
        self.options_read: list[tuple[dict, tuple]] = []  # (group, its items as they were)
        self.option_values: dict[tuple, Symbol] = {}
        self.optimizers: list[Any] = []

    def options(self, optimizer: Any, group: dict) -> dict:
        """A parameter group whose numbers are symbols, for our own algorithms; others are guarded as they are."""
        if not any(known is optimizer for known in self.optimizers):
            self.optimizers.append(optimizer)
        if not any(known is group for known, _ in self.options_read):
            self.options_read.append((group, tuple(group.items())))
        if not type(optimizer).__module__.startswith("flambeau.optim"):
            return group
        return {name: self._option(group, name, value) for name, value in group.items()}

    def _option(self, group: dict, name: str, value: Any) -> Any:
        if type(value) is float:
            return self._option_symbol(group, name, None, value)
        if type(value) is tuple and all(type(v) is float for v in value):
            return tuple(self._option_symbol(group, name, i, v) for i, v in enumerate(value))
        return value

    def _option_symbol(self, group: dict, name: str, index: Any, value: float) -> Symbol:
        key = (id(group), name, index)
        if key not in self.option_values:
            ref = self.graph.value((), (), np.dtype(np.float64))
            ref.source = Source("option", (group, name, index))
            self.graph.inputs.append(ref)

            def evaluate(call: Any) -> float:
                found = group[name]
                return found if index is None else found[index]

            self.option_values[key] = self._symbol(value, ref.whole(), evaluate)
        return self.option_values[key]

    def _symbol(self, value: float, ref: Ref, evaluate: Any, moving: bool = False) -> Symbol:
        if ref.dtype == np.float64:
            ref.value.symbol = True
        made = Symbol(value)
        made.recorder, made.ref, made.evaluate, made.moving = self, ref, evaluate, moving
        return made

    def symbol_of(self, name: str, function: Any, left: Any, right: Any) -> Any:
        """The result of arithmetic on symbols and numbers, as a node."""
        value = function(float(left), float(right))
        if self.failed is not None or not isinstance(value, float):
            return value
        out = self.graph.value((), (), np.dtype(np.float64))
        operands = [x.ref if type(x) is Symbol else float(x) for x in (left, right)]
        node = Node(name, operands, {}, [out], user_line())
        node.compute = np.dtype(np.float64)
        self.graph.nodes.append(node)
        moving = any(type(x) is Symbol and x.moving for x in (left, right))
        return self._symbol(value, out.whole(), evaluator(function, left, right), moving)

    def number(self, t: Tensor) -> Any:
        """The value of a 0-d tensor of state (a step count), as a symbol."""
        if threading.get_ident() != self.thread:
            return t.item()
        try:
            ref = self.operand(t)
        except Unrecordable as error:
            self.fail(error)
            return t.item()
        wide = self.graph.value((), (), np.dtype(np.float64))
        node = Node("to_copy", [Ref(ref.value, (), (), ref.offset)], {"dtype": wide.dtype}, [wide], user_line())
        self.graph.nodes.append(node)
        return self._symbol(float(t._array.reshape(())), wide.whole(), lambda call: host_value(ref), True)

    def require(self, function: Any, left: Any, right: Any, answer: bool) -> None:
        moving = any(type(x) is Symbol and x.moving for x in (left, right))
        self.guards.append((evaluator(function, left, right), answer, moving))


def host_value(ref: Ref) -> float:
    """The value that a 0-d value of a later call will have, computed from state as it is before that call."""
    value = ref.value
    if value.source is not None:
        kind, what = value.source.kind, value.source.what
        if kind == "tensor":
            return float(what._array.reshape(()))
        if kind == "option":
            group, name, index = what
            return float(group[name] if index is None else group[name][index])
        raise Unrecordable("a number that depends on an argument", None)
    node = value.node
    if node is None:
        raise Unrecordable("a number that the call itself makes decides what it does", None, later=True)
    operands = [np.float64(host_value(x)) if isinstance(x, Ref) else x for x in node.inputs]
    if node.op == "@copy":
        return float(operands[0])
    kernel = dispatch.REGISTRY[node.op].kernel
    return float(np.asarray(kernel(*operands, **node.attrs)).astype(value.dtype))
