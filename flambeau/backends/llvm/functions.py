"""Transcendental functions: a table of rules on Scalars, and how a module shares their code.

The code of a function is written into a module once per dtype and width, as a private function that the optimiser
always inlines: a module of twenty kernels that use `exp` says it once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import registers as reg

# Name -> function (m, *scalars) -> Scalar, for float32 and float64.
FUNCTIONS: dict[str, Callable[..., Any]] = {}


def function(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Add a rule to the table under its own name."""
    FUNCTIONS[rule.__name__.rstrip("_")] = rule
    return rule


def call_function(m: Any, name: str, operands: list[Any]) -> Any:
    """A call of the module's copy of the function; its code is made at the first."""
    first = operands[0]
    scalar = type(first)
    kind = first.value.type
    module = m.builder.module
    label = f"flambeau.{name}.{first.dtype}x{first.lanes}"
    made = module.globals.get(label)
    if made is None:
        made = ir.Function(module, ir.FunctionType(kind, [kind] * len(operands)), label)
        made.linkage = "private"
        made.attributes.add("alwaysinline")
        made.attributes.add("nounwind")
        builder = ir.IRBuilder(made.append_basic_block())
        inside = type(m)(builder)
        builder.ret(FUNCTIONS[name](inside, *(scalar(builder, a, first.dtype) for a in made.args)).value)
    return scalar(m.builder, m.builder.call(made, [x.value for x in operands]), first.dtype)


def libm(m: Any, name: str, *operands: Any) -> Any:
    """The C library's function, lane by lane: exact enough for everything, and slow."""
    first = operands[0]
    builder, element = m.builder, reg.register_type(first.dtype)
    target = reg.declared(
        builder.module, name + ("f" if first.dtype == reg.float32 else ""), element, [element] * len(operands)
    )
    if first.lanes == 1:
        return type(first)(builder, builder.call(target, [x.value for x in operands]), first.dtype)
    out = ir.Constant(first.value.type, ir.Undefined)
    for lane in range(first.lanes):
        index = ir.Constant(reg.i32, lane)
        parts = [builder.extract_element(x.value, index) for x in operands]
        out = builder.insert_element(out, builder.call(target, parts), index)
    return type(first)(builder, out, first.dtype)


def _from_libm(name: str, source: str) -> None:
    def rule(m: Any, *operands: Any) -> Any:
        return libm(m, source, *operands)

    rule.__name__ = name
    rule.__doc__ = f"{name}, from the C library."
    function(rule)


for _name in (
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log1p",
    "log10",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sinh",
    "cosh",
    "asin",
    "acos",
    "atan",
    "atan2",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "pow",
    "hypot",
):
    _from_libm(_name, _name)


@function
def sigmoid(m: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + m.exp(-x))


@function
def softplus(m: Any, x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return m.maximum(x, 0) + m.log1p(m.exp(-abs(x)))
