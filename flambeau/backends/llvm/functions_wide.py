"""The rarer float32 functions, computed in float64 and rounded once: short formulas, less than one unit of error.

Coefficients are from tools/minimax.py; in float64 they need to be good to 30 bits or so. Formulas that lose everything
to cancellation near 0 take the first terms of their series there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.backends.llvm.functions import function, libm, unless
from flambeau.backends.llvm.functions32 import polynomial

float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
HALF_PI, PI = 1.5707963267948966, 3.141592653589793

SIN = (-0.16666666666631625, 0.00833333332527726899, -0.000198412638259062325, 2.75553583690119388e-6,
       -2.47616963579453707e-8)  # fmt: skip
COS = (0.0416666666666022673, -0.00138888888782752213, 0.0000248015809719497007, -2.75555671687349815e-7,
       2.06477397557582361e-9)  # fmt: skip
ATAN = (-0.333333322355481944, 0.199999322075449526, -0.142842510146759459, 0.110952035104233105,
        -0.08988796328330283, 0.0726939474121853603, -0.0547046510286318706, 0.0347048214223120558,
        -0.0164715572586555102, 0.00499935120533821417, -0.000711309805585207545)  # fmt: skip
ERFCX = (0.179001151181861016, -0.326233560153399307, 0.245603801814189344, -0.150115930722429868,
         0.0716658322688061803, -0.0243925860149075033, 0.00426918462188745953, 0.000708318782791747461,
         -0.000597184304910570332, 0.0000433571203941126172, 0.000063840029911638387, -9.73934870434496381e-6,
         -6.76598235504698898e-6)  # fmt: skip


def wide(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Register a float32 function whose rule gets its arguments in float64."""

    def narrow(m: Any, *operands: Any) -> Any:
        return m.cast(rule(m, *(m.cast(x, float64) for x in operands)), float32)

    narrow.__name__, narrow.__doc__ = rule.__name__, rule.__doc__
    return function(float32)(narrow)


def _near_zero(m: Any, x: Any, usual: Any, *coefficients: float) -> Any:
    """`usual`, but for |x| < 0.001 the series x + c0 x^3 + c1 x^5: an odd function, so it has the sign of x."""
    square = x * x
    near = m.muladd(square * x, polynomial(m, square, coefficients), x)
    return m.copysign(m.where(abs(x) < 1e-3, near, usual), x)


# ---- circular --------------------------------------------------------------------------------------

_FAR = 1e6  # below, x - n pi / 2 is good to 2^-50 with two parts of pi / 2


@function(float32)
def tan(m: Any, x: Any) -> Any:
    """The tangent; arguments beyond a million take the C library's."""
    usual = m.cast(_tan(m, m.cast(x, float64)), float32)
    return unless(m, ~(abs(x) < _FAR), usual, "tan.far", [x], lambda m, x: libm(m, "tan", x))


def _tan(m: Any, x: Any) -> Any:
    n = m.rint(x * 0.6366197723675814)
    r = m.fma(n, -6.123233995736766e-17, m.fma(n, -HALF_PI, x))
    square = r * r
    sine = m.muladd(square * r, polynomial(m, square, SIN), r)
    cosine = m.muladd(square * square, polynomial(m, square, COS), m.muladd(square, -0.5, 1.0))
    odd = m.floor(n * 0.5) * 2 != n
    return m.where(x == 0, x, m.where(odd, -cosine, sine) / m.where(odd, sine, cosine))


def _atan_unit(m: Any, x: Any) -> Any:
    """atan of a number between 0 and 1."""
    square = x * x
    return m.muladd(square * x, polynomial(m, square, ATAN), x)


def _atan2(m: Any, y: Any, x: Any) -> Any:
    """The angle of (x, y) by the smaller over the larger of the two sizes."""
    a, b = abs(y), abs(x)
    small, large = m.minimum(a, b), m.maximum(a, b)
    ratio = m.where(large == 0, 0.0, m.where(small == np.inf, 1.0, small / large))
    angle = _atan_unit(m, ratio)
    angle = m.where(a > b, HALF_PI - angle, angle)
    return m.copysign(m.where(m.signbit(x), PI - angle, angle), y)


@wide
def atan2(m: Any, y: Any, x: Any) -> Any:
    """The angle of the point (x, y), with the signs of zeros."""
    return _atan2(m, y, x)


@wide
def atan(m: Any, x: Any) -> Any:
    """The inverse tangent."""
    size = abs(x)
    inverted = size > 1
    angle = _atan_unit(m, m.where(inverted, 1 / size, size))
    return m.copysign(m.where(inverted, HALF_PI - angle, angle), x)


@wide
def asin(m: Any, x: Any) -> Any:
    """The inverse sine; nan outside of [-1, 1]."""
    return _atan2(m, x, m.sqrt((1 - x) * (1 + x)))


@wide
def acos(m: Any, x: Any) -> Any:
    """The inverse cosine; nan outside of [-1, 1]."""
    return _atan2(m, m.sqrt((1 - x) * (1 + x)), x)


# ---- hyperbolic ------------------------------------------------------------------------------------


@wide
def sinh(m: Any, x: Any) -> Any:
    """The hyperbolic sine."""
    e = m.exp(x)
    return _near_zero(m, x, 0.5 * (e - 1 / e), 1 / 6, 1 / 120)


@wide
def cosh(m: Any, x: Any) -> Any:
    """The hyperbolic cosine."""
    e = m.exp(x)
    return 0.5 * (e + 1 / e)


@wide
def asinh(m: Any, x: Any) -> Any:
    """The inverse hyperbolic sine."""
    size = abs(x)
    return _near_zero(m, x, m.copysign(m.log(size + m.sqrt(size * size + 1)), x), -1 / 6, 3 / 40)


@wide
def acosh(m: Any, x: Any) -> Any:
    """The inverse hyperbolic cosine; nan below 1."""
    return m.where(x < 1, np.nan, m.log(x + m.sqrt((x - 1) * (x + 1))))


@wide
def atanh(m: Any, x: Any) -> Any:
    """The inverse hyperbolic tangent; infinite at -1 and 1, nan beyond."""
    return _near_zero(m, x, 0.5 * m.log((1 + x) / (1 - x)), 1 / 3, 1 / 5)


# ---- others ----------------------------------------------------------------------------------------


@wide
def erfc(m: Any, x: Any) -> Any:
    """1 - erf(x), relatively exact where it is small: exp(-x^2) p((|x| - 3) / (|x| + 3)), and 2 minus that below 0."""
    size = m.minimum(11.0, abs(x))
    tail = m.exp(-size * size) * polynomial(m, (size - 3) / (size + 3), ERFCX)
    return m.where(x < 0, 2 - tail, tail)


@wide
def hypot(m: Any, x: Any, y: Any) -> Any:
    """sqrt(x^2 + y^2); infinite if either is, even if the other is nan."""
    infinite = m.isinf(x) | m.isinf(y)
    return m.where(infinite, np.inf, m.sqrt(x * x + y * y))


@wide
def pow(m: Any, x: Any, y: Any) -> Any:
    """x to the power of y, with C's special cases."""
    whole = m.rint(y) == y
    # Floats of 2^24 and more are even; below, halving shows it.
    odd = whole & (m.rint(y * 0.5) * 2 != y)
    size = abs(x)
    out = m.exp(y * m.log(size))
    out = m.where(m.signbit(x) & odd, -out, out)
    out = m.where((x < 0) & ~whole & (x != -np.inf), np.nan, out)
    one = (y == 0) | (x == 1) | ((size == 1) & m.isinf(y))
    return m.where(one, 1.0, out)
