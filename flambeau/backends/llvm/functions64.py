"""float64 functions as straight-line code on vectors; what is not here is the C library's, lane by lane.

Coefficients are from tools/minimax.py. Integers of 64 bits and floats are converted by adding 1.5 * 2^52, which leaves
the integer in the low bits: AVX2 has no instruction for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends.llvm.functions import function
from flambeau.backends.llvm.functions32 import LOG2E, polynomial

float64 = np.dtype(np.float64)
MAGIC = 1.5 * 2.0**52

# ln 2 in two parts: the first has 32 bits, so that its product with an exponent is exact even without fma.
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10

EXP = (0.5, 0.166666666666666838, 0.0416666666666667243, 0.00833333333331675134, 0.00138888888888585415,
       0.000198412698970267229, 0.0000248015873735599066, 2.75572342695997293e-6, 2.75572335044394086e-7,
       2.51122282118736946e-8, 2.0926900936072881e-9)  # fmt: skip
LOG = (0.666666666666673441, 0.399999999994146838, 0.285714287423870511, 0.222221985732134508, 0.181835643256291532,
       0.153140505431303457, 0.147959499864227182)  # fmt: skip


def _power_of_two(m: Any, n: Any) -> Any:
    """2 to the power of a float that is an integer between -1022 and 1023."""
    return m.bits(m.bits(n + MAGIC, np.int64) + 1023 << 52, float64)


@function(float64)
def exp(m: Any, x: Any) -> Any:
    """e to the power of x; 0 below -746, infinity above 709.78."""
    x = m.minimum(710.0, m.maximum(-746.0, x))
    n = m.rint(x * LOG2E)
    r = m.muladd(n, -LN2_LOW, m.muladd(n, -LN2_HIGH, x))
    out = m.muladd(r * r, polynomial(m, r, EXP), r) + 1
    half = m.floor(n * 0.5)  # in two steps: the result may be denormal or infinite
    return out * _power_of_two(m, half) * _power_of_two(m, n - half)


@function(float64)
def log(m: Any, x: Any) -> Any:
    """The natural logarithm: with s = f / (2 + f), log(1 + f) = f - s (f - s^2 p(s^2)), so that f itself is exact."""
    tiny = x < 2.0**-1022
    bits = m.bits(m.where(tiny, x * 2.0**52, x), np.int64)
    shifted = bits - 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
    exponent = (shifted >> 52) + 0x4338000000000000  # the bits of MAGIC
    e = m.bits(exponent, float64) - MAGIC - m.where(tiny, m.number(52.0, x), 0.0)
    f = m.bits((shifted & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD, float64) - 1
    s = f / (2 + f)
    square = s * s
    half = 0.5 * f * f
    rest = s * (half + square * polynomial(m, square, LOG))
    out = m.muladd(e, LN2_HIGH, f - (half - m.muladd(e, LN2_LOW, rest)))
    out = m.where(x == 0, -np.inf, m.where(x == np.inf, np.inf, out))
    return m.where((x < 0) | (x != x), np.nan, out)
