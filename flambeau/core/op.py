"""`Op`: everything known about a primitive, and `Rule`: what a derivative asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np


class Op:
    """Everything known about a primitive: kernel, derivative, samples; `function` is what users call."""

    custom = False  # True for the op of a user's autograd.Function

    def __init__(
        self,
        name: str,
        kernel: Any,
        *,
        outputs: int | None,
        elementwise: bool,
        view: bool,
        float_op: bool,
        no_gradient: str | None,
        grad_name: str | None,
    ):
        self.name = name
        self.kernel = kernel
        self.outputs = outputs
        self.elementwise = elementwise
        self.view = view
        self.float_op = float_op
        self.no_gradient = no_gradient
        self.grad_name = grad_name or camel(name) + "Backward0"
        self.parameters, self.attributes, self.variadic = signature(kernel)
        self.rules: list[Rule | None] = [None] * len(self.parameters)
        self.joint: Rule | None = None
        self.saves_out: tuple[Any, ...] = ()  # which outputs: () none, ("all",), or indices
        self.backends: list[Any] = []
        self.scalar: Any = None
        self.meta: Any = None
        self.samples: Any = None
        self.function: Any = None
        self.prepare: Any = None  # lets a specialised closure read the derivative's needs once
        self.wants_shapes = False
        self.masks: tuple[int, ...] = ()  # per input, bits of the inputs that its derivative reads
        self.joint_mask = 0
        self.reads_input = False  # for ops of one input: whether the derivative reads it

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def differentiable(self) -> bool:
        return self.joint is not None or any(self.rules)

    def declared(self) -> None:
        """Read off the derivative, once it is known, what a node has to keep."""
        rules = [self.joint] if self.joint is not None else [rule for rule in self.rules if rule is not None]
        wanted = set().union(*(rule.outputs for rule in rules))
        self.saves_out = ("all",) if "all" in wanted else tuple(sorted(wanted))
        self.reads_input = any(rule.inputs for rule in rules)
        self.wants_shapes = any(("shapes", None) in rule.plan for rule in rules)
        if self.joint is not None:
            self.joint_mask = self.joint.mask(len(self.parameters))
        self.masks = tuple(0 if rule is None else rule.mask(len(self.parameters)) for rule in self.rules)

    def saved_mask(self, edges: Any) -> int:
        """Bits of the inputs that the derivative reads, for the inputs that have an edge."""
        if self.joint is not None:
            return self.joint_mask
        bits = 0
        for edge, mask in zip(edges, self.masks):
            if edge is not None:
                bits |= mask
        return bits

    def run(self, *arrays: Any, **attrs: Any) -> Any:
        """The kernel of the first backend that accepts these arrays, else the op's own body."""
        for supports, kernel in self.backends:
            if supports(*arrays, **attrs):
                return kernel(*arrays, **attrs)
        return self.kernel(*arrays, **attrs)


class Rule:
    """A derivative and what its parameter names ask for."""

    __slots__ = ("function", "plan", "inputs", "outputs", "all_inputs", "rest")

    def __init__(self, op: Op, function: Callable[..., Any]):
        self.function = function
        self.plan: list[tuple[str, Any]] = []
        self.inputs: set[int] = set()
        self.outputs: set[Any] = set()
        self.all_inputs = self.rest = False
        code = function.__code__
        for name in code.co_varnames[: code.co_argcount]:
            if name in ("grad", "needs"):
                self.plan.append((name, None))
            elif name == "out" and "out" not in op.parameters:  # an input may be called that too
                self.plan.append(("out", None))
                self.outputs.add("all")
            elif name == "inputs" and op.variadic:
                self.plan.append(("inputs", None))
                self.all_inputs = True
            elif name == "rest" and op.variadic:  # the variable inputs, without the named ones before them
                self.plan.append(("rest", len(op.parameters)))
                self.rest = True
            elif name in op.parameters:
                position = op.parameters.index(name)
                self.plan.append(("input", position))
                self.inputs.add(position)
            elif name in op.attributes:
                self.plan.append(("attr", name))
            elif re.fullmatch(r"out\d+", name):
                self.plan.append(("output", int(name[3:])))
                self.outputs.add(int(name[3:]))
            elif name == "shapes":
                self.plan.append(("shapes", None))
            else:
                raise TypeError(
                    f"{op.name}: its derivative asks for '{name}', which is neither an input nor an attribute"
                )

    def mask(self, named: int) -> int:
        """Bits of the inputs it reads; after the `named` ones come the variable inputs, which it reads all or not."""
        if self.all_inputs:
            return -1
        bits = sum(1 << i for i in self.inputs)
        return bits | -1 << named if self.rest else bits


def signature(kernel: Any) -> tuple[list[str], dict[str, Any], bool]:
    """Tensor parameters, attributes with their defaults, and whether the tensors are `*xs`.

    Read off the code object: `inspect.signature` costs 30 µs, and there are hundreds of ops to import.
    """
    if isinstance(kernel, np.ufunc):
        return ["x", "y"][: kernel.nin], {}, False
    declared = getattr(kernel, "__signature__", None)
    if declared is not None:  # a kernel made by another function says what it takes
        parameters = declared.parameters.values()
        return (
            [p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)],
            {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
            any(p.kind is p.VAR_POSITIONAL for p in parameters),
        )
    while hasattr(kernel, "__wrapped__"):  # a decorated kernel has the parameters of what it wraps
        kernel = kernel.__wrapped__
    code = kernel.__code__
    names = code.co_varnames
    tensors = list(names[: code.co_argcount])
    attributes = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = kernel.__kwdefaults__ or {}
    return tensors, {name: defaults.get(name, REQUIRED) for name in attributes}, bool(code.co_flags & VARIADIC)


REQUIRED = object()  # the default of an attribute that has none
VARIADIC = 0x04  # CO_VARARGS of the inspect module


def camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
