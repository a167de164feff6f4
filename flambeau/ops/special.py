"""Special functions: the error function and its relatives, gamma functions, entropies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.dispatch import primitive
from flambeau.core.tensor import Tensor, constant
from flambeau.ops.comparison import eq, isnan
from flambeau.ops.pointwise import add, div, exp, log, log1p, mul, neg, sub, where, zero_of

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

# Rational approximations of the error function: W. J. Cody, "Rational Chebyshev approximations for the error function",
# Mathematics of Computation 23 (1969). Three ranges: |x| <= 0.46875, up to 4, and beyond.
_ERF_A = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_ERF_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_ERF_C = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_ERF_D = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_ERF_P = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_ERF_Q = (
    1.0,
    2.56852019228982242e0,
    1.87295284992346725e0,
    5.27905102951428412e-1,
    6.05183413119413191e-2,
    2.33520497626869185e-3,
)


def _horner(coefficients: Any, x: Any) -> Any:
    total = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total


def erfc_scaled_array(x: np.ndarray) -> np.ndarray:
    """exp(x²) erfc(x) for x >= 0.46875, in float64."""
    middle = _horner(_ERF_C, x) / _horner(_ERF_D, x)
    far = np.maximum(x, 1.0)
    inverse = 1.0 / (far * far)
    tail = (1 / math.sqrt(math.pi) - inverse * _horner(_ERF_P, inverse) / _horner(_ERF_Q, inverse)) / far
    return np.where(x <= 4.0, middle, tail)


def erf_array(x: np.ndarray) -> np.ndarray:
    """The error function of float64 values, to a few units in the last place."""
    size = np.abs(x)
    square = size * size
    small = x * _horner(_ERF_A, square) / _horner(_ERF_B, square)
    if not (size > 0.46875).any():
        return small
    big = np.maximum(size, 0.46875)
    rest = np.exp(-np.minimum(square, 750.0)) * erfc_scaled_array(big)
    return np.where(size <= 0.46875, small, np.copysign(1.0 - rest, x))


def erfc_array(x: np.ndarray) -> np.ndarray:
    """1 - erf(x) of float64 values, without cancellation for large x."""
    size = np.abs(x)
    rest = np.exp(-np.minimum(size * size, 750.0)) * erfc_scaled_array(np.maximum(size, 0.46875))
    rest = np.where(np.isinf(x), 0.0, rest)
    return np.where(size <= 0.46875, 1.0 - erf_array(x), np.where(x < 0, 2.0 - rest, rest))


# A minimax fit x·P(x²)/Q(x²) on [-4, 4] in float32 arithmetic, the usual one of vectorised libraries; error below 2
# ulp of 1.
_ERF32_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF32_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def erf_float32(x: np.ndarray) -> np.ndarray:
    """The error function in float32: no branches, in-place Horner steps."""
    x = np.clip(x, np.float32(-4), np.float32(4))
    square = np.multiply(x, x, out=np.empty_like(x))
    top = np.full_like(x, _ERF32_P[0])
    for c in _ERF32_P[1:]:
        np.multiply(top, square, out=top)
        np.add(top, np.float32(c), out=top)
    below = np.full_like(x, _ERF32_Q[0])
    for c in _ERF32_Q[1:]:
        np.multiply(below, square, out=below)
        np.add(below, np.float32(c), out=below)
    np.multiply(top, x, out=top)
    return np.divide(top, below, out=top)


def in_float64(function: Any) -> Any:
    """A kernel that computes in float64 and rounds to the type of its first argument."""

    def kernel(x: Any) -> Any:
        return np.asarray(function(np.asarray(x, np.float64))).astype(x.dtype)

    return kernel


@primitive("erf", elementwise=True, float_op=True)
def erf(x: Any) -> Any:
    """The error function 2/√π ∫₀ˣ exp(-t²) dt."""
    if x.dtype == np.float32 and x.size > 256:
        return erf_float32(x)
    return erf_array(np.asarray(x, np.float64)).astype(x.dtype)


erf.vjp(x=lambda grad, x: mul(grad, mul(exp(neg(mul(x, x))), TWO_OVER_ROOT_PI)))
erf.scalar(lambda m, x: m.erf(x))

erfc = primitive("erfc", elementwise=True, float_op=True)(in_float64(erfc_array))
erfc.vjp(x=lambda grad, x: mul(grad, mul(exp(neg(mul(x, x))), -TWO_OVER_ROOT_PI)))
erfc.scalar(lambda m, x: m.erfc(x))


def _erfcx_array(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    big = erfc_scaled_array(np.maximum(size, 0.46875))
    small = np.exp(np.minimum(size, 0.46875) ** 2) * (1.0 - erf_array(np.where(size < 0.46875, x, 0.0)))
    mirrored = 2 * np.exp(x * x) - big
    return np.where(np.isnan(x), x, np.where(size < 0.46875, small, np.where(x < 0, mirrored, big)))


erfcx = primitive("erfcx", elementwise=True, float_op=True, grad_name="SpecialErfcxBackward0")(in_float64(_erfcx_array))
erfcx.vjp(x=lambda grad, x, out: mul(grad, sub(mul(mul(x, out), 2), TWO_OVER_ROOT_PI)))


# Rational approximations of the normal quantiles: M. J. Wichura, "Algorithm AS 241: The percentage points
# of the normal distribution", Applied Statistics 37 (1988), PPND16. Three ranges: the middle 85 %, tails, far tails.
_QUANTILE_A = (
    2.5090809287301226727e3,
    3.3430575583588128105e4,
    6.7265770927008700853e4,
    4.5921953931549871457e4,
    1.3731693765509461125e4,
    1.9715909503065514427e3,
    1.3314166789178437745e2,
    3.3871328727963666080e0,
)
_QUANTILE_B = (
    5.2264952788528545610e3,
    2.8729085735721942674e4,
    3.9307895800092710610e4,
    2.1213794301586595867e4,
    5.3941960214247511077e3,
    6.8718700749205790830e2,
    4.2313330701600911252e1,
    1.0,
)
_QUANTILE_C = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258e0,
    3.64784832476320460504e0,
    5.76949722146069140550e0,
    4.63033784615654529590e0,
    1.42343711074968357734e0,
)
_QUANTILE_D = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940e0,
    2.05319162663775882187e0,
    1.0,
)
_QUANTILE_E = (
    2.01033439929228813265e-7,
    2.71155556874348757815e-5,
    1.24266094738807843860e-3,
    2.65321895265761230930e-2,
    2.96560571828504891230e-1,
    1.78482653991729133580e0,
    5.46378491116411436990e0,
    6.65790464350110377720e0,
)
_QUANTILE_F = (
    2.04426310338993978564e-15,
    1.42151175831644588870e-7,
    1.84631831751005468180e-5,
    7.86869131145613259100e-4,
    1.48753612908506148525e-2,
    1.36929880922737580531e-1,
    5.99832206555887937690e-1,
    1.0,
)
_PIECE = 1 << 14    # float64 values that stay in the cache from one step of a polynomial to the next


def _erfinv_piece(y: np.ndarray) -> np.ndarray:
    half = 0.5 * y                                      # the quantile of probability 1/2 + half, over the root of 2
    inside = np.clip(half, -0.425, 0.425)
    square = 0.180625 - inside * inside
    x = inside * _horner(_QUANTILE_A, square) / _horner(_QUANTILE_B, square)
    out = np.flatnonzero(np.abs(half) > 0.425)
    if out.size:
        side = half[out]
        depth = np.sqrt(-np.log(np.maximum(0.5 - np.abs(side), 1e-300)))
        middle, far = depth - 1.6, depth - 5.0
        tail = np.where(depth <= 5.0, _horner(_QUANTILE_C, middle) / _horner(_QUANTILE_D, middle),
                        _horner(_QUANTILE_E, far) / _horner(_QUANTILE_F, far))
        x[out] = np.copysign(tail, side)
    x *= math.sqrt(0.5)
    edge = np.abs(y) >= 1.0
    if edge.any():
        x[edge] = np.where(np.abs(y[edge]) == 1.0, np.copysign(np.inf, y[edge]), np.nan)
    return x


def _erfinv_array(y: np.ndarray) -> np.ndarray:
    """The inverse of the error function, to a few units in the last place of float64."""
    flat = np.ascontiguousarray(y).reshape(-1)
    x = np.empty(flat.shape)
    for start in range(0, flat.size, _PIECE):
        x[start:start + _PIECE] = _erfinv_piece(flat[start:start + _PIECE])
    return x.reshape(y.shape)


erfinv = primitive("erfinv", elementwise=True, float_op=True)(in_float64(_erfinv_array))
erfinv.vjp(x=lambda grad, out: mul(grad, mul(exp(mul(out, out)), 1 / TWO_OVER_ROOT_PI)))

# ---- gamma functions --------------------------------------------------------------------------------


def _lgamma_one(value: float) -> float:
    if math.isinf(value) or (value <= 0 and value == math.floor(value)):
        return math.inf
    return math.lgamma(value)


def _lgamma_array(x: np.ndarray) -> np.ndarray:
    flat = np.array([_lgamma_one(v) for v in x.ravel().tolist()], np.float64)
    return flat.reshape(x.shape)


lgamma = primitive("lgamma", elementwise=True, float_op=True)(in_float64(_lgamma_array))
lgamma.vjp(x=lambda grad, x: mul(grad, digamma(x)))
lgamma.scalar(lambda m, x: m.lgamma(x))

_BERNOULLI = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def _digamma_array(x: np.ndarray) -> np.ndarray:
    """Reflection for negative arguments, recurrence up to 10, then the asymptotic series."""
    negative = x < 0
    y = np.where(negative, 1.0 - x, x)
    shift = np.zeros_like(y)
    for _ in range(10):
        low = y < 10
        shift = np.where(low, shift - 1.0 / np.where(y == 0, 1.0, y), shift)
        y = np.where(low, y + 1.0, y)
    inverse = 1.0 / (y * y)
    series = np.zeros_like(y)
    for b in reversed(_BERNOULLI):
        series = (series + b) * inverse
    value = np.log(y) - 0.5 / y - series + shift
    whole = x == np.floor(x)
    fraction = np.where(whole, 0.5, x - np.rint(x))  # small near the poles, where tan needs its digits
    value = np.where(negative, value - math.pi / np.tan(math.pi * fraction), value)
    value = np.where(negative & whole, np.nan, value)
    value = np.where(x == 0, np.copysign(np.inf, -x), value)
    return np.where(np.isposinf(x), np.inf, np.where(np.isneginf(x), np.nan, value))


digamma = primitive("digamma", elementwise=True, float_op=True)(in_float64(_digamma_array))
digamma.vjp(x=lambda grad, x: mul(grad, polygamma(1, x)))


def _polygamma_array(n: int, x: np.ndarray) -> np.ndarray:
    """(-1)^(n+1) n! ζ(n+1, x) by recurrence and Euler-Maclaurin; reflection of the trigamma for negative x."""
    if n == 1:
        negative = x < 0.5
        y = np.where(negative, 1.0 - x, x)
        positive = _zeta_array(2.0, y)
        sine = np.sin(math.pi * (x - np.rint(x)))
        return np.where(negative, (math.pi / sine) ** 2 - positive, positive)
    sign = -1.0 if n % 2 == 0 else 1.0
    return sign * math.gamma(n + 1) * _zeta_array(n + 1.0, x)


def _zeta_array(s: float, q: np.ndarray) -> np.ndarray:
    """Hurwitz's zeta function; for q < 0 (s a whole number) the terms with negative base are summed as they are."""
    total = np.zeros_like(q)
    y = q.copy()
    while (low := y < 10).any():
        total = np.where(low, total + np.where(low, y, 1.0) ** -s, total)
        y = np.where(low, y + 1.0, y)
    total = total + y ** (1 - s) / (s - 1) + 0.5 * y**-s
    factor, power = s, y ** (-s - 1)
    bernoulli = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
    factorial = 2.0
    for k, b in enumerate(bernoulli, start=1):
        total = total + b / factorial * factor * power
        factor *= (s + 2 * k - 1) * (s + 2 * k)
        power = power / (y * y)
        factorial *= (2 * k + 1) * (2 * k + 2)
    return total


@primitive("polygamma")
def _polygamma(x: Any, *, n: int) -> Any:
    value = _polygamma_array(n, np.asarray(x, np.float64))
    return value.astype(x.dtype if x.dtype.kind in "fV" else dtypes.default_dtype().numpy)


_polygamma.vjp(x=lambda grad, x, n: mul(grad, _polygamma(x, n=n + 1)))


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of `digamma`. RuntimeError for negative n."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return digamma(input) if n == 0 else _polygamma(input, n=n)


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """Logarithm of the multivariate gamma function of dimension p.

    RuntimeError unless all elements exceed (p - 1) / 2.
    """
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = input if input.dtype.is_floating_point else input.to(dtypes.default_dtype())
    total = lgamma(x)
    for j in range(1, p):
        total = add(total, lgamma(sub(x, j / 2)))
    return add(total, p * (p - 1) / 4 * math.log(math.pi))


# ---- logarithms that know about zero -------------------------------------------------------------------


def xlogy(input: Any, other: Any) -> Tensor:
    """input * log(other), 0 where input is 0 (and other is not nan)."""
    return _xlogy(input, other)


@primitive("xlogy", elementwise=True, float_op=True)
def _xlogy(x: Any, y: Any) -> Any:
    value = np.where(np.equal(x, 0), 0, np.multiply(x, np.log(y)))
    return np.where(np.isnan(y), y, value).astype(np.result_type(x, y), copy=False)


def _xlogy_x(grad: Any, x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor):
        y = constant(np.asarray(y, x._array.dtype))
    return mul(grad, where((eq(x, 0) & (y <= 0)) if isinstance(x, Tensor) else isnan(y) & False, zero_of(grad), log(y)))


_xlogy.vjp(x=_xlogy_x, y=lambda grad, x, y: div(mul(grad, x), y))
_xlogy.scalar(lambda m, x, y: m.where(m.isnan(y), y, m.where(x == 0, 0, x * m.log(y))))


def xlog1py(input: Any, other: Any) -> Tensor:
    """input * log1p(other), 0 where input is 0 (and other is not nan)."""
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        raise TypeError(
            "special_xlog1py() received an invalid combination of arguments - got "
            f"({type(input).__name__}, {type(other).__name__}), but one of them must be a Tensor"
        )
    return _xlog1py(input, other)


@primitive("xlog1py", elementwise=True, float_op=True)
def _xlog1py(x: Any, y: Any) -> Any:
    value = np.where(np.equal(x, 0), 0, np.multiply(x, np.log1p(y)))
    return np.where(np.isnan(y), y, value).astype(np.result_type(x, y), copy=False)


def _xlog1py_x(grad: Any, x: Any, y: Any) -> Any:
    if not isinstance(y, Tensor):
        y = constant(np.asarray(y, x._array.dtype))
    return mul(grad, where(eq(x, 0) & (y <= -1), zero_of(grad), log1p(y)))


_xlog1py.vjp(x=_xlog1py_x, y=lambda grad, x, y: div(mul(grad, x), add(y, 1)))
_xlog1py.scalar(lambda m, x, y: m.where(m.isnan(y), y, m.where(x == 0, 0, x * m.log1p(y))))


@primitive("logit", float_op=True)
def _logit(x: Any, *, eps: float | None) -> Any:
    if eps is not None:
        x = np.clip(x, x.dtype.type(eps), x.dtype.type(1 - eps))
    return np.log(x / (1 - x))


@_logit.vjp
def _logit_vjp(grad: Tensor, x: Tensor, eps: float | None) -> Any:
    slope = div(grad, mul(x, sub(1, x)))
    if eps is None:
        return where((x < 0) | (x > 1), constant(np.array(np.nan, grad._array.dtype)), slope)
    return where((x < eps) | (x > 1 - eps), zero_of(grad), slope)


@_logit.scalar
def _logit_scalar(m: Any, x: Any, eps: float | None) -> Any:
    if eps is not None:
        x = m.minimum(1 - eps, m.maximum(eps, x))
    return m.log(x / (1 - x))


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), with x moved into [eps, 1 - eps] if `eps` is given."""
    return _logit(input, eps=eps)


@primitive("entr", elementwise=True, float_op=True, grad_name="SpecialEntrBackward0")
def entr(x: Any) -> Any:
    """-x log(x), 0 at 0, -inf below."""
    value = np.where(x > 0, -x * np.log(np.where(x > 0, x, 1)), np.where(x == 0, 0, -np.inf))
    return np.where(np.isnan(x), x, value).astype(x.dtype)


entr.vjp(x=lambda grad, x: mul(grad, where(x >= 0, sub(neg(log(x)), 1), constant(np.array(np.nan, x._array.dtype)))))


@entr.scalar
def _entr_scalar(m: Any, x: Any) -> Any:
    return m.where(m.isnan(x), x, m.where(x > 0, -x * m.log(x), m.where(x == 0, m.number(0, x), -np.inf)))


@primitive("sinc", elementwise=True, float_op=True)
def sinc(x: Any) -> Any:
    """sin(πx) / (πx), 1 at 0."""
    return np.asarray(np.sinc(x)).astype(x.dtype)


def _sinc_vjp(grad: Any, x: Any) -> Any:
    angle = mul(x, math.pi)
    turned = div(sub(mul(angle, angle.cos()), angle.sin()), mul(mul(x, x), math.pi))
    return mul(grad, where(eq(x, 0), zero_of(grad), turned))


sinc.vjp(x=_sinc_vjp)
sinc.scalar(lambda m, x: m.where(x == 0, 1, m.sin(x * math.pi) / (x * math.pi)))

# ---- the normal distribution ---------------------------------------------------------------------------


@primitive("ndtr", elementwise=True, float_op=True)
def ndtr(x: Any) -> Any:
    """Area below the standard normal density up to x."""
    return (0.5 * erfc_array(-np.asarray(x, np.float64) / math.sqrt(2))).astype(x.dtype)


ndtr.vjp(x=lambda grad, x: mul(grad, mul(exp(mul(mul(x, x), -0.5)), 1 / math.sqrt(2 * math.pi))))


@ndtr.scalar
def _ndtr_scalar(m: Any, x: Any) -> Any:
    return m.cast(0.5 * m.erfc(-m.cast(x, np.float64) / math.sqrt(2)), x.dtype)


@primitive("ndtri", elementwise=True, float_op=True)
def ndtri(x: Any) -> Any:
    """The point up to which the standard normal density has area x."""
    wide = np.asarray(x, np.float64)
    middle = math.sqrt(2) * _erfinv_array(2 * wide - 1)
    # Near 0 the difference 2x - 1 loses all digits: two Newton steps on the logarithm of the tail instead.
    tail = np.where((wide > 0) & (wide < 1e-3), -np.sqrt(-2 * np.log(np.where(wide > 0, wide, 1))), middle)
    for _ in range(6):
        area = 0.5 * erfc_array(-tail / math.sqrt(2))
        density = np.exp(-tail * tail / 2) / math.sqrt(2 * math.pi)
        step = (
            (np.log(np.where(area > 0, area, 1)) - np.log(np.where(wide > 0, wide, 1)))
            * area
            / np.where(density > 0, density, 1)
        )
        tail = np.where((wide > 0) & (wide < 1e-3), tail - step, tail)
    return np.where((wide > 0) & (wide < 1e-3), tail, middle).astype(x.dtype)


ndtri.vjp(x=lambda grad, out: mul(grad, mul(exp(mul(mul(out, out), 0.5)), math.sqrt(2 * math.pi))))


@primitive("log_ndtr", elementwise=True, float_op=True)
def log_ndtr(x: Any) -> Any:
    """log(ndtr(x)), accurate far out in the lower tail."""
    wide = np.asarray(x, np.float64)
    t = -wide / math.sqrt(2)
    tail = np.log(erfc_scaled_array(np.maximum(t, 0.47)) / 2) - t * t
    return np.where(wide < -1, tail, np.log1p(-0.5 * erfc_array(wide / math.sqrt(2)))).astype(x.dtype)


log_ndtr.vjp(x=lambda grad, x, out: mul(grad, mul(exp(sub(mul(mul(x, x), -0.5), out)), 1 / math.sqrt(2 * math.pi))))


def multigammaln(input: Tensor, p: int) -> Tensor:
    """`mvlgamma` under SciPy's name."""
    return mvlgamma(input, p)


def polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of `digamma`, as a method."""
    return polygamma(n, self)
