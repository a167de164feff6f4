"""Comparisons, logic and bit operations. Their results are constant almost everywhere: no derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.core.dispatch import primitive

_FLAT = "a comparison is constant almost everywhere"

eq = primitive("eq", elementwise=True, no_gradient=_FLAT)(np.equal)
ne = primitive("ne", elementwise=True, no_gradient=_FLAT)(np.not_equal)
lt = primitive("lt", elementwise=True, no_gradient=_FLAT)(np.less)
le = primitive("le", elementwise=True, no_gradient=_FLAT)(np.less_equal)
gt = primitive("gt", elementwise=True, no_gradient=_FLAT)(np.greater)
ge = primitive("ge", elementwise=True, no_gradient=_FLAT)(np.greater_equal)

eq.scalar(lambda m, x, y: x == y)
ne.scalar(lambda m, x, y: x != y)
lt.scalar(lambda m, x, y: x < y)
le.scalar(lambda m, x, y: x <= y)
gt.scalar(lambda m, x, y: x > y)
ge.scalar(lambda m, x, y: x >= y)

logical_and = primitive("logical_and", elementwise=True, no_gradient=_FLAT)(np.logical_and)
logical_or = primitive("logical_or", elementwise=True, no_gradient=_FLAT)(np.logical_or)
logical_xor = primitive("logical_xor", elementwise=True, no_gradient=_FLAT)(np.logical_xor)
logical_not = primitive("logical_not", elementwise=True, no_gradient=_FLAT)(np.logical_not)

logical_and.scalar(lambda m, x, y: m.cast(x, bool) & m.cast(y, bool))
logical_or.scalar(lambda m, x, y: m.cast(x, bool) | m.cast(y, bool))
logical_xor.scalar(lambda m, x, y: m.cast(x, bool) ^ m.cast(y, bool))
logical_not.scalar(lambda m, x: ~m.cast(x, bool))


def _integers_only(name: str, run: Any) -> Any:
    def kernel(*arrays: Any) -> Any:
        for a in arrays:
            if getattr(a, "dtype", None) is not None and a.dtype.kind not in "iub":
                raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{_title(a.dtype)}'")
        return run(*arrays)

    if len(arrays_of(run)) == 1:
        return lambda x: kernel(x)
    return lambda x, y: kernel(x, y)


def arrays_of(run: np.ufunc) -> range:
    """The inputs of a ufunc, counted."""
    return range(run.nin)


def _title(dtype: Any) -> str:
    return {
        "float32": "Float",
        "float64": "Double",
        "float16": "Half",
        "bfloat16": "BFloat16",
        "complex64": "ComplexFloat",
        "complex128": "ComplexDouble",
    }.get(dtype.name, dtype.name)


_BITS = "bits are not numbers that vary smoothly"
bitwise_and = primitive("bitwise_and", elementwise=True, no_gradient=_BITS)(
    _integers_only("bitwise_and", np.bitwise_and)
)
bitwise_or = primitive("bitwise_or", elementwise=True, no_gradient=_BITS)(_integers_only("bitwise_or", np.bitwise_or))
bitwise_xor = primitive("bitwise_xor", elementwise=True, no_gradient=_BITS)(
    _integers_only("bitwise_xor", np.bitwise_xor)
)
bitwise_not = primitive("bitwise_not", elementwise=True, no_gradient=_BITS)(_integers_only("bitwise_not", np.invert))
bitwise_left_shift = primitive("bitwise_left_shift", elementwise=True, no_gradient=_BITS)(
    _integers_only("lshift", np.left_shift)
)
bitwise_right_shift = primitive("bitwise_right_shift", elementwise=True, no_gradient=_BITS)(
    _integers_only("rshift", np.right_shift)
)

bitwise_and.scalar(lambda m, x, y: x & y)
bitwise_or.scalar(lambda m, x, y: x | y)
bitwise_xor.scalar(lambda m, x, y: x ^ y)
bitwise_not.scalar(lambda m, x: ~x)
bitwise_left_shift.scalar(lambda m, x, y: x << y)
bitwise_right_shift.scalar(lambda m, x, y: x >> y)

isnan = primitive("isnan", elementwise=True, no_gradient=_FLAT)(np.isnan)
isinf = primitive("isinf", elementwise=True, no_gradient=_FLAT)(np.isinf)
isfinite = primitive("isfinite", elementwise=True, no_gradient=_FLAT)(np.isfinite)
signbit = primitive("signbit", elementwise=True, no_gradient=_FLAT)(
    lambda x: np.signbit(x) if x.dtype.kind != "b" else x & False
)

isnan.scalar(lambda m, x: m.isnan(x))
isinf.scalar(lambda m, x: m.isinf(x))
isfinite.scalar(lambda m, x: m.isfinite(x))
signbit.scalar(lambda m, x: m.signbit(x))
