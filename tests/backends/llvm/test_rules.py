"""Every primitive with a scalar rule: a loop compiled from the rule computes what the op's NumPy kernel computes.

The loop runs over the registry. Where a kernel takes them, integers and bools are tried too; scalars and vectors both.
"""

import importlib
import pkgutil

import numpy as np
import pytest

import flambeau.ops
from flambeau.backends.llvm.scalars import apply_rule
from flambeau.core.dispatch import REGISTRY
from flambeau.core.tensor import Tensor, wrap
from tests.backends.llvm.native import loop_of
from tests.ops.samples import arguments_of

for module in pkgutil.iter_modules(flambeau.ops.__path__):
    importlib.import_module(f"flambeau.ops.{module.name}")

RULES = sorted(name for name, op in REGISTRY.items() if op.scalar is not None)

# Elementwise primitives that are not written as a rule, and why.
WITHOUT = {
    "complex": "complex numbers",
    "mse_loss": "reduces, unless asked not to",
    "erfcx": "long: three rational approximations",
    "erfinv": "long: an approximation and three Newton steps",
    "ndtri": "long: an approximation and six Newton steps",
    "log_ndtr": "long: three rational approximations",
    "digamma": "long: ten steps of a recurrence, then a series",
    "igamma": "a loop until convergence",
    "igammac": "a loop until convergence",
    "i0": "a series of 75 terms",
    "i0e": "a series of 75 terms",
    "i1": "a series of 75 terms",
    "i1e": "a series of 75 terms",
    "gcd": "a loop until convergence",
    "lcm": "a loop until convergence",
}

# Rules that round where the kernel does: bit for bit. The others are held to the accuracy of the kernel.
EXACT = {
    "abs", "add", "angle", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "ceil", "clamp", "clamp_max", "clamp_min", "clamp_tensor", "clone", "conj_physical", "copy",
    "copysign", "div", "div_floor", "div_trunc", "eq", "floor", "floor_divide", "fmax", "fmin", "fmod", "ge", "gt",
    "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "heaviside", "isfinite", "isinf", "isnan", "le",
    "leaky_relu", "lerp", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "maximum", "minimum", "mul",
    "nan_to_num", "ne", "neg", "nextafter", "piecewise_backward", "prelu", "real", "reciprocal", "relu",
    "relu_backward", "remainder", "round", "round_decimals", "rsqrt", "scale_gradient", "sgn", "sigmoid_backward",
    "sign", "signbit", "softshrink", "sqrt", "square", "sub", "tanh_backward", "threshold", "to_copy", "trunc", "where",
}  # fmt: skip

# Their public functions refuse integers (or bools only); the NumPy kernel behind them may be more patient.
FLOATS_ONLY = {
    "binary_cross_entropy", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "heaviside", "hypot",
    "leaky_relu", "lerp", "log_sigmoid", "logaddexp", "logaddexp2", "nextafter", "piecewise_backward",
    "round_decimals", "silu", "softplus", "softshrink",
}  # fmt: skip
NOT_BOOL = {
    "bitwise_left_shift", "bitwise_right_shift", "conj_physical", "div_floor", "div_trunc", "floor_divide", "fmod",
    "remainder",
}  # fmt: skip

# Derivatives, which the tests of ops reach through what they are derivatives of: (gradient, input), and attributes.
DERIVATIVES = {
    "elu_backward": [
        {"alpha": 1.5, "scale": 1.2, "input_scale": 0.7},
        {"alpha": 1.0, "scale": 1.0, "input_scale": 1.0},
    ],
    "gelu_backward": [{"approximate": "none"}, {"approximate": "tanh"}],
    "sigmoid_backward": [{}],
    "silu_backward": [{}],
    "softplus_backward": [{"beta": 2.0, "threshold": 1.0}],
    "tanh_backward": [{}],
}

INTEGERS = [name for name in RULES if not REGISTRY[name].float_op and name not in FLOATS_ONLY | set(DERIVATIVES)]

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1e-3, 30.0, -30.0, np.inf, -np.inf, np.nan]


class Maker:
    """Random float64 tensors, the same ones at every run."""

    def __init__(self):
        self.stream = np.random.default_rng(0)

    def __call__(self, *shape, low=-1.0, high=1.0):
        return wrap(self.stream.uniform(low, high, shape))

    def complex(self, *shape):
        return wrap(np.zeros(shape, complex))


def samples_of(op):
    """(arrays of one shape, attributes) for every distinct set of attributes of the samples."""
    found = {}
    make = Maker()
    for args, attrs in [
        *(arguments_of(op, make) or []),
        *(((make(3, 4), make(3, 4, low=-3.0, high=3.0)), attrs) for attrs in DERIVATIVES.get(op.name, ())),
    ]:
        arrays = [a.numpy() if isinstance(a, Tensor) else np.asarray(a, np.float64) for a in args]
        if not any(a.dtype.kind == "c" for a in arrays):
            flat = [a.ravel() for a in np.broadcast_arrays(*arrays)]
            found.setdefault(repr(attrs), ([], attrs))[0].append(flat)
    return [([np.concatenate(column) for column in zip(*group)], attrs) for group, attrs in found.values()]


def with_specials(arrays):
    """The arrays of floats, lengthened by every combination of special values."""
    grids = np.meshgrid(*[SPECIAL] * len(arrays)) if len(arrays) < 3 else [np.array(SPECIAL)] * len(arrays)
    return [np.concatenate([a, g.ravel()]) if a.dtype.kind == "f" else np.resize(a, a.size + g.size)
            for a, g in zip(arrays, grids)]  # fmt: skip


def padded(arrays):
    """Repeated up to a multiple of 16 elements."""
    size = -(-arrays[0].size // 16) * 16
    return [np.resize(a, size) for a in arrays]


def as_dtype(arrays, dtype):
    """Floats (and integers, where the samples are integers) as this dtype; small numbers become integers of use."""
    if dtype.kind == "f":
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    arrays = [np.rint(a * 5) if a.dtype.kind == "f" else a for a in arrays]
    arrays = [np.abs(a) if dtype.kind in "ub" and a.dtype.kind != "b" else a for a in arrays]
    return [a if a.dtype.kind == "b" else a.astype(dtype) for a in arrays]


def kernel(op, arrays, attrs):
    """What the op's own body computes, or None where it does not take such arrays."""
    try:
        with np.errstate(all="ignore"):
            out = np.asarray(op.kernel(*arrays, **attrs))
    except (TypeError, NotImplementedError, RuntimeError):
        return None
    return out if out.dtype.kind in "biuf" and out.dtype.itemsize != 2 else None


def accurate(found, expected, exact):
    """Whether `found` is about as near to the exact value as the kernel's result: twice its error, plus two units."""
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(np.where(np.isfinite(expected), expected, 1)))
        slack = 2 * np.abs(expected.astype(np.float64) - exact) + 2.5 * unit
        if expected.dtype == np.float64:  # then the kernel itself is all there is to compare with
            slack = slack + 1e-12 * np.abs(expected)
        near = np.abs(found.astype(np.float64) - exact) <= slack
    return near | (found == expected) | (np.isnan(found) & np.isnan(expected))


def check(op, arrays, attrs, lanes):
    expected = kernel(op, arrays, attrs)
    run = loop_of(lambda m, *xs: apply_rule(m, op, *xs, **attrs), [a.dtype for a in arrays], lanes)
    found = run(*arrays)
    assert found.dtype == expected.dtype
    if op.name in EXACT or found.dtype.kind != "f":
        good = (found == expected) | ((found != found) & (expected != expected))
    else:
        wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
        good = accurate(found, expected, kernel(op, wide, attrs).astype(np.float64))
    where = np.flatnonzero(~good)[:5]
    assert good.all(), f"{[a[where] for a in arrays]} {attrs}: {found[where]} instead of {expected[where]}"


def test_the_table_says_which_have_none():
    assert {name for name, op in REGISTRY.items() if op.elementwise and op.scalar is None} == set(WITHOUT)
    assert set(RULES) >= EXACT


@pytest.mark.parametrize("dtype, lanes", [("f4", 1), ("f4", 8), ("f8", 4)])
@pytest.mark.parametrize("name", RULES)
def test_rule_computes_what_the_kernel_computes(name, dtype, lanes):
    op = REGISTRY[name]
    samples = samples_of(op)
    assert samples, f"{name} has a rule but no samples: add a row to DERIVATIVES"
    for arrays, attrs in samples:
        arrays = padded(as_dtype(with_specials(arrays), np.dtype(dtype)))
        if kernel(op, arrays, attrs) is not None:
            check(op, arrays, attrs, lanes)


@pytest.mark.parametrize("dtype", ["i4", "i8", "u1", "?"])
@pytest.mark.parametrize("name", INTEGERS)
def test_rule_of_integers(name, dtype):
    op = REGISTRY[name]
    if dtype == "?" and name in NOT_BOOL:
        pytest.skip("its public function refuses bools")
    for arrays, attrs in samples_of(op)[:1]:
        arrays = padded(as_dtype(arrays, np.dtype(dtype)))
        if kernel(op, arrays, attrs) is not None:
            check(op, arrays, attrs, 8)
