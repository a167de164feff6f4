"""Transcendental functions: the table of their rules, and how a module shares their code.

The code of a function is written into a module once per dtype and width, as a private function that the optimiser
always inlines: a module of twenty kernels that use `exp` says it once. float32 has its own approximations
(`functions32.py`; the rarer ones computed in float64, `functions_wide.py`), float64 its own exp and log
(`functions64.py`) and the C library for the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from flambeau.backends.llvm import registers as reg

# (name, dtype) -> function (m, *scalars) -> Scalar; dtype None for both float32 and float64. What has no rule is the C
# library's.
_RULES: dict[tuple[str, Any], Callable[..., Any]] = {}


def function(dtype: Any) -> Callable[[Any], Any]:
    """Add a rule for a dtype to the table, under the function's own name."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        _RULES[rule.__name__, dtype] = rule
        return rule

    return register


@function(None)
def sigmoid(m: Any, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + m.exp(-x))


@function(None)
def softplus(m: Any, x: Any) -> Any:
    """log(1 + exp(x)), without overflow."""
    return m.maximum(0, x) + m.log1p(m.exp(-abs(x)))


def rule_for(name: str, dtype: Any) -> Callable[..., Any]:
    """The rule of a function for float32 or float64."""
    for module in ("functions32", "functions64", "functions_wide"):
        importlib.import_module(f"flambeau.backends.llvm.{module}")
    found = _RULES.get((name, dtype)) or _RULES.get((name, None))
    return found or (lambda m, *operands: libm(m, name, *operands))


def call_function(m: Any, name: str, operands: list[Any]) -> Any:
    """A call of the module's copy of the function; its code is made at the first."""
    first = operands[0]
    label = f"flambeau.{name}.{first.dtype}x{first.lanes}"
    made = m.builder.module.globals.get(label)
    if made is None:
        made = make_function(m, label, operands, rule_for(name, first.dtype))
        made.attributes.add("alwaysinline")
    return type(first)(m.builder, m.builder.call(made, [x.value for x in operands]), first.dtype)


def make_function(m: Any, label: str, operands: list[Any], rule: Callable[..., Any]) -> Any:
    """A private function of the module, with parameters and result like the operands, whose body a rule writes."""
    first = operands[0]
    kind = first.value.type
    made = ir.Function(m.builder.module, ir.FunctionType(kind, [kind] * len(operands)), label)
    made.linkage = "private"
    made.attributes.add("nounwind")
    builder = ir.IRBuilder(made.append_basic_block())
    arguments = (type(first)(builder, argument, first.dtype) for argument in made.args)
    builder.ret(rule(type(m)(builder), *arguments).value)
    return made


def libm(m: Any, name: str, *operands: Any) -> Any:
    """The C library's function, lane by lane: exact enough for everything, and slow."""
    first = operands[0]
    builder, element = m.builder, reg.register_type(first.dtype)
    name += "f" if first.dtype == reg.float32 else ""
    target = reg.declared(builder.module, name, element, [element] * len(operands))
    if first.lanes == 1:
        return type(first)(builder, builder.call(target, [x.value for x in operands]), first.dtype)
    out = ir.Constant(first.value.type, ir.Undefined)
    for lane in range(first.lanes):
        index = ir.Constant(reg.i32, lane)
        parts = [builder.extract_element(x.value, index) for x in operands]
        out = builder.insert_element(out, builder.call(target, parts), index)
    return type(first)(builder, out, first.dtype)


def unless(m: Any, rare: Any, usual: Any, label: str, operands: list[Any], rule: Callable[..., Any]) -> Any:
    """`usual`, but where any lane of `rare` holds, what `rule` computes of the operands, in a function of its own.

    A branch that is never taken in practice: it keeps slow cases out of the loops they would bloat.
    """
    builder, first = m.builder, operands[0]
    full = f"flambeau.{label}.{first.dtype}x{first.lanes}"
    made = builder.module.globals.get(full)
    if made is None:
        made = make_function(m, full, operands, rule)
        made.attributes.add("noinline")
    flags = rare.value
    if rare.lanes > 1:
        bits = ir.IntType(rare.lanes)
        flags = builder.icmp_unsigned("!=", builder.bitcast(flags, bits), ir.Constant(bits, 0))
    before = builder.block
    with builder.if_then(flags, likely=False):
        slow = builder.call(made, [x.value for x in operands])
        inside = builder.block
    out = builder.phi(usual.value.type)
    out.add_incoming(usual.value, before)
    out.add_incoming(slow, inside)
    return m.where(rare, type(first)(builder, out, first.dtype), usual)
