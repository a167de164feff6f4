"""Random draws in compiled programs: the same numbers as eager, from the memory of the same generator.

The generator's state is a constant of the graph whose array is the engine's own memory (`Generator.memory`), not a
copy: a program reads and advances it in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.compiler.graph import Graph, Node, Value
from flambeau.compiler.steps import Lowering, RoutineStep, Step, lowering
from flambeau.core.random import factor_of


def state_of(graph: Graph, generator: Any) -> Value:
    """The value that is the generator's engine; one for each generator of a graph."""
    memory = generator.memory()
    for value, array in graph.constants.items():
        if array is memory:
            return value
    value = graph.value(memory.shape, (1,), memory.dtype)
    graph.constants[value] = memory
    return value


def emit_draw(module: Any, emit: Callable[[Any], Any], count: int, numbers: Any, label: str) -> Any:
    """The routine `void (ptr buffers)` that fills buffer 1 with `count` draws from the state in buffer 0.

    `numbers` are the draw's parameters as (dtype, value) pairs.
    """
    from llvmlite import ir

    from flambeau.backends.llvm import registers as reg

    made = module.globals.get(label)
    if made is not None:
        return made
    draw = emit(module)
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer]), label)
    made.linkage = "internal"
    builder = ir.IRBuilder(made.append_basic_block())
    state, out = (
        builder.load(builder.gep(made.args[0], [ir.Constant(reg.i64, i)], source_etype=reg.pointer), typ=reg.pointer)
        for i in range(2)
    )
    constants = (ir.Constant(reg.register_type(np.dtype(kind)), value) for kind, value in numbers)
    builder.call(draw, [state, out, ir.Constant(reg.i64, count), *constants])
    builder.ret_void()
    return made


def _emitter(name: str, *arguments: Any) -> Callable[[Any], Any]:
    """What puts a draw of `backends/llvm/mersenne.py` into a module (llvmlite is imported then, not before)."""

    def emit(module: Any) -> Any:
        from flambeau.backends.llvm import mersenne

        return getattr(mersenne, f"emit_{name}")(module, *arguments)

    return emit


def _uniform(dtype: np.dtype, count: int, low: Any, high: Any) -> Any:
    if dtype not in (np.float32, np.float64):
        return None
    low, high = dtype.type(low), dtype.type(high)
    return _emitter("uniform", dtype), [(dtype, float(x)) for x in (low, high - low, high)]


def _normal(dtype: np.dtype, count: int, mean: Any, std: Any) -> Any:
    if dtype != np.float32 or count < 16:  # those of float64 take NumPy's logarithm and sine, few take turns in pairs
        return None
    return _emitter("normal"), [(np.float32, float(np.float32(x))) for x in (mean, std)]


def _bernoulli(dtype: np.dtype, count: int, p: Any, scale: Any) -> Any:
    size = dtype.itemsize
    if size > 8:
        return None
    one = np.array(1 if scale is None else scale).astype(dtype)
    pattern = int(np.frombuffer(one.tobytes(), f"<u{size}")[0])
    return _emitter("bernoulli", size), [(np.int64, math.ceil(p * 2.0**53)), (f"u{size}", pattern)]


def _randint(dtype: np.dtype, count: int, low: Any, high: Any) -> Any:
    span = high - low
    if dtype != np.int64 or span >= 1 << 28:
        return None
    return _emitter("randint"), [(np.int64, low), (np.int64, span), (np.int64, factor_of(span))]


_DRAWS: dict[str, Callable[..., Any]] = {
    "uniform": _uniform, "normal": _normal, "bernoulli": _bernoulli, "randint": _randint,
}  # fmt: skip


@lowering("@draw")
def lower_draw(node: Node, lowering: Lowering) -> list[Step] | None:
    """A whole value of random numbers, in the order of its memory."""
    (out,) = node.outputs
    assert out is not None
    kind, dtype = node.attrs["kind"], out.dtype
    if kind not in _DRAWS or (kind == "normal" and not _in_plain_order(out)):
        return None
    found = _DRAWS[kind](dtype, out.size, **node.attrs["parameters"])
    if found is None:
        return None
    emit, numbers = found
    values = ",".join(repr(value) for _, value in numbers)
    key = f"draw.{kind}.{dtype}.{out.size}.{values}"
    state = state_of(lowering.graph, node.attrs["generator"])
    return [
        RoutineStep(key, lambda module: emit_draw(module, emit, out.size, numbers, key), (state.whole(), out.whole()))
    ]


def _in_plain_order(value: Value) -> bool:
    step = 1
    for size, stride in zip(reversed(value.shape), reversed(value.strides)):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
