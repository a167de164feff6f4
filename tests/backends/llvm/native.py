"""Rules compiled into loops over arrays, for the tests."""

import ctypes

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import jit
from flambeau.backends.llvm import registers as reg
from flambeau.backends.llvm.scalars import Maths


def loop_of(rule, dtypes, lanes, outputs=1):
    """A function (*arrays) -> array(s) that applies `rule(m, *scalars)` with vectors of `lanes` elements.

    The number of elements must be a multiple of `lanes`.
    """
    dtypes = [np.dtype(d) for d in dtypes]
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [reg.pointer] * (len(dtypes) + outputs) + [reg.i64])
    function = ir.Function(module, kind, "loop")
    *addresses, count = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    entry, head, done = builder.block, function.append_basic_block(), function.append_basic_block()
    builder.cbranch(builder.icmp_signed("<", ir.Constant(reg.i64, 0), count), head, done)
    builder.position_at_end(head)
    index = builder.phi(reg.i64)
    index.add_incoming(ir.Constant(reg.i64, 0), entry)
    m = Maths(builder)

    def element(address, dtype):
        return builder.gep(address, [index], source_etype=reg.memory_type(dtype))

    results = rule(m, *(m.load(element(a, d), d, lanes) for a, d in zip(addresses, dtypes)))
    several = isinstance(results, tuple)
    results = results if several else (results,)
    for result, address in zip(results, addresses[len(dtypes) :]):
        m.store(m.broadcast(result, lanes), element(address, result.dtype))
    following = builder.add(index, ir.Constant(reg.i64, lanes))
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), head, done)
    builder.position_at_end(done)
    builder.ret_void()
    code = jit.compile_and_load(module, ["loop"])
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(addresses), ctypes.c_int64)(code.address("loop"))
    kinds = [result.dtype for result in results]

    def run(*arrays):
        arrays = [np.ascontiguousarray(a) for a in arrays]
        assert [a.dtype for a in arrays] == dtypes
        assert arrays[0].size % lanes == 0
        outs = [np.empty(arrays[0].shape, d) for d in kinds]
        native(*(a.ctypes.data for a in [*arrays, *outs]), arrays[0].size)
        return tuple(outs) if several else outs[0]

    run.code = code  # the machine code lives as long as this function
    return run


def ulps(found, exact):
    """How many units in the last place of `found`'s dtype each element is away from `exact` (of more precision).

    0 where both are nan or the same infinity; half a unit is the best that rounding can do.
    """
    with np.errstate(all="ignore"):
        nearest = exact.astype(found.dtype)
        unit = np.spacing(np.abs(np.where(np.isfinite(nearest), nearest, 1)))
        distance = np.abs(found.astype(exact.dtype) - exact) / unit
        same = (found == nearest) | (np.isnan(found) & np.isnan(nearest))
        # Beyond the largest finite number a unit goes on to be what it is there.
        largest = np.finfo(found.dtype).max
        edge = np.isinf(found) & np.isfinite(exact) & (np.abs(exact) <= float(largest) * 1.0000002)
        return np.where(same & ~np.isfinite(nearest), 0, np.where(edge, 1, distance))
