"""float32 functions as straight-line code on vectors, within 2 units in the last place (tests/backends/llvm measures).

Coefficients are from tools/minimax.py; the ways of reducing arguments are the textbook ones (J.-M. Muller, Elementary
Functions, 3rd ed., 2016; S. Moshier's Cephes library documents the splits used for log and tanh).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.backends.llvm.functions import function, libm, unless

float32 = np.dtype(np.float32)

LOG2E = 1.4426950408889634
# ln 2 in two parts: the first has 15 bits, so that its product with an exponent is exact even without fma.
LN2_HIGH = 0.693145751953125
LN2_LOW = 1.4286068203094172e-06

EXP = (0.500000009514579985, 0.166665188995242191, 0.0416662059158974149, 0.00836888220512250873,
       0.00139504834772599405)  # fmt: skip
EXPM1 = (0.500000004638533906, 0.166666668169616407, 0.0416663547871388381, 0.00833327307907412701,
         0.00139409980423336748, 0.000199141530653027971)  # fmt: skip
EXP2 = (0.69314720624750232, 0.24022651345922076, 0.0555032779136418931, 0.00961800388615435923,
        0.00134002697351922946, 0.000154763016412747675)  # fmt: skip
LOG = (0.333333105973037981, -0.249999865608136613, 0.200022181588030799, -0.166692481830741324, 0.142188016165385016,
       -0.123844592618393267, 0.118721368817899659, -0.117889322606429604, 0.0691609034647837397)  # fmt: skip
TANH = (-0.3333328392610365, 0.133314913073738115, -0.0537434996051037134, 0.0206505916358245301,
        -0.00571704923733708276)  # fmt: skip
ERF = (0.128379165913794488, -0.376126271362658685, 0.112836001797275561, -0.0268544447349484468,
       0.00518953560536334992, -0.000802084356205183484, 0.0000788912688118713059)  # fmt: skip
ERF_TAIL = (0.000204361598765270645, -1.12966116676425645, -0.633039588803461379, -0.108639030259703574,
            0.0253735828766750498, -0.0042823967878339959, 0.000463792530846519731, -0.0000253156094998999107,
            2.51387261740158284e-7)  # fmt: skip
SIN = (-0.166666549436098708, 0.00833217814178659136, -0.000195172985027753992)
COS = (0.0416666468666845666, -0.00138873675243162967, 0.0000244384523440395643)


def polynomial(m: Any, x: Any, coefficients: Any) -> Any:
    """The value of a polynomial, coefficients from the lowest degree up (Horner's rule)."""
    out = m.number(coefficients[-1], x)
    for c in reversed(coefficients[:-1]):
        out = m.muladd(out, x, c)
    return out


def power_of_two(m: Any, n: Any) -> Any:
    """2 to an int32 power between -126 and 127."""
    return m.bits(n + 127 << 23, float32)


# ---- exponentials ----------------------------------------------------------------------------------


def _reduced(m: Any, x: Any) -> tuple[Any, Any]:
    """n (a float) and r with x = n ln 2 + r, |r| <= ln 2 / 2."""
    n = m.rint(x * LOG2E)
    return n, m.muladd(n, -LN2_LOW, m.muladd(n, -LN2_HIGH, x))


def _scaled(m: Any, x: Any, n: Any) -> Any:
    """x * 2^n for a float n between -250 and 250, in two steps because a result may be denormal or infinite."""
    whole = m.cast(n, np.int32)
    half = whole >> 1
    return x * power_of_two(m, half) * power_of_two(m, whole - half)


def _exp_of_reduced(m: Any, r: Any) -> Any:
    return m.muladd(r * r, polynomial(m, r, EXP), r) + 1


@function(float32)
def exp(m: Any, x: Any) -> Any:
    """e to the power of x; 0 below -104, infinity above 88.72."""
    n, r = _reduced(m, m.minimum(89.0, m.maximum(-104.0, x)))
    return _scaled(m, _exp_of_reduced(m, r), n)


@function(float32)
def exp2(m: Any, x: Any) -> Any:
    """2 to the power of x."""
    x = m.minimum(129.0, m.maximum(-151.0, x))
    n = m.rint(x)
    r = x - n
    return _scaled(m, m.muladd(r, polynomial(m, r, EXP2), 1.0), n)


@function(float32)
def expm1(m: Any, x: Any) -> Any:
    """exp(x) - 1, exact for small x: 2^n (exp(r) - 1) + (2^n - 1), both halved against overflow."""
    n, r = _reduced(m, m.minimum(89.0, m.maximum(-30.0, x)))
    inner = m.muladd(r * r, polynomial(m, r, EXPM1), r)
    half = power_of_two(m, m.cast(n, np.int32) - 1)
    return m.where(abs(x) < 2.0**-25, x, 2 * m.muladd(half, inner, half - 0.5))


# ---- logarithms ------------------------------------------------------------------------------------


def _split(m: Any, x: Any) -> tuple[Any, Any]:
    """f and e (a float) with x = 2^e (1 + f), 1 + f between sqrt(1/2) and sqrt(2), for positive finite x."""
    tiny = x < 2.0**-126
    bits = m.bits(m.where(tiny, x * 2.0**23, x), np.int32)
    # Subtracting the bits of sqrt(1/2) carries the exponent over where the fraction is above.
    shifted = bits - 0x3F3504F3
    e = m.cast(shifted >> 23, float32) - m.where(tiny, m.number(23.0, x), 0.0)
    return m.bits((shifted & 0x007FFFFF) + 0x3F3504F3, float32) - 1, e


def _log_tail(m: Any, f: Any) -> Any:
    """log(1 + f) - f."""
    square = f * f
    return m.muladd(square * f, polynomial(m, f, LOG), -0.5 * square)


def _log_ends(m: Any, x: Any, out: Any) -> Any:
    """A logarithm with its values outside of the positive numbers."""
    out = m.where(x == 0, -np.inf, m.where(x == np.inf, np.inf, out))
    return m.where((x < 0) | (x != x), np.nan, out)


@function(float32)
def log(m: Any, x: Any) -> Any:
    """The natural logarithm."""
    f, e = _split(m, x)
    out = m.muladd(e, LN2_HIGH, f + m.muladd(e, LN2_LOW, _log_tail(m, f)))
    return _log_ends(m, x, out)


def _log_base(m: Any, x: Any, scale: float, e_high: float, e_low: float) -> Any:
    """log(1 + f) * scale + e * (e_high + e_low), the product with f to more than float32."""
    f, e = _split(m, x)
    high = float(np.float32(scale))
    product = f * high
    rest = m.fma(f, high, -product) + f * (scale - high)
    tail = m.muladd(_log_tail(m, f), scale, rest)
    return _log_ends(m, x, m.muladd(e, e_high, product + m.muladd(e, e_low, tail)))


@function(float32)
def log2(m: Any, x: Any) -> Any:
    """The logarithm to base 2; exact for powers of two."""
    return _log_base(m, x, LOG2E, 1.0, 0.0)


@function(float32)
def log10(m: Any, x: Any) -> Any:
    """The logarithm to base 10."""
    return _log_base(m, x, 0.4342944819032518, 0.301025390625, 4.605038981195214e-06)


@function(float32)
def log1p(m: Any, x: Any) -> Any:
    """log(1 + x): what the sum rounds away is put back, scaled like the sum."""
    u = 1 + x
    shifted = m.bits(u, np.int32) - 0x3F3504F3
    exponent = shifted >> 23
    e = m.cast(exponent, float32)
    f = m.bits((shifted & 0x007FFFFF) + 0x3F3504F3, float32) - 1
    lost = m.where(x < 1, x - (u - 1), 1 - (u - x))
    # Above 2^25 nothing of the 1 is left, and 2^-e could be denormal.
    lost = m.where(x < 2.0**25, lost * power_of_two(m, m.where(exponent < 100, -exponent, 0)), 0.0)
    f = m.where(exponent == 0, x, f + lost)
    out = m.muladd(e, LN2_HIGH, f + m.muladd(e, LN2_LOW, _log_tail(m, f)))
    out = m.where(u == 0, -np.inf, m.where(x == np.inf, np.inf, out))
    return m.where(x == 0, x, m.where((u < 0) | (x != x), np.nan, out))


# ---- sigmoids --------------------------------------------------------------------------------------


@function(float32)
def tanh(m: Any, x: Any) -> Any:
    """x + x^3 p(x^2) near 0, 1 - 2 / (exp(2 |x|) + 1) elsewhere."""
    size = abs(x)
    square = x * x
    near = m.muladd(square * x, polynomial(m, square, TANH), x)
    n, r = _reduced(m, m.minimum(20.0, 2 * size))
    e = _exp_of_reduced(m, r) * power_of_two(m, m.cast(n, np.int32))
    return m.copysign(m.where(size < 0.625, near, 1 - 2 / (e + 1)), x)


@function(float32)
def erf(m: Any, x: Any) -> Any:
    """x + x p(x^2) below 1, 1 - exp(q(|x|)) above, 1 from 4 on."""
    size = m.minimum(4.0, abs(x))
    square = x * x
    near = m.muladd(x, polynomial(m, square, ERF), x)
    n, r = _reduced(m, polynomial(m, size, ERF_TAIL))
    far = 1 - _exp_of_reduced(m, r) * power_of_two(m, m.cast(n, np.int32))
    return m.where(size < 1, near, m.copysign(far, x))


# ---- sine and cosine -------------------------------------------------------------------------------

# pi / 2 in three parts of 24 bits: with fma, x - n pi / 2 is good to 2^-48 for n below 2^15.
PIO2 = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
_FAR = 51000.0


def _quadrant(m: Any, x: Any) -> tuple[Any, Any]:
    """n (int32) and r with x = n pi / 2 + r, |r| <= pi / 4, for |x| below _FAR."""
    n = m.rint(x * 0.6366197723675814)
    r = x
    for part in PIO2:
        r = m.fma(n, -part, r)
    return m.cast(n, np.int32), r


def _wave(m: Any, x: Any, shift: int) -> Any:
    """sin(x + shift * pi / 2)."""
    n, r = _quadrant(m, x)
    n = n + shift
    square = r * r
    sine = m.muladd(square * r, polynomial(m, square, SIN), r)
    cosine = m.muladd(square * square, polynomial(m, square, COS), m.muladd(square, -0.5, 1.0))
    sign = (n & 2) << 30
    chosen = m.where((n & 1) == 0, sine, cosine)
    return m.bits(m.bits(chosen, np.int32) ^ sign, float32)


@function(float32)
def sin(m: Any, x: Any) -> Any:
    """The sine; arguments beyond 51000 take the C library's."""
    usual = _wave(m, x, 0)
    usual = m.where(x == 0, x, usual)
    return unless(m, ~(abs(x) < _FAR), usual, "sin.far", [x], lambda m, x: libm(m, "sin", x))


@function(float32)
def cos(m: Any, x: Any) -> Any:
    """The cosine; arguments beyond 51000 take the C library's."""
    return unless(m, ~(abs(x) < _FAR), _wave(m, x, 1), "cos.far", [x], lambda m, x: libm(m, "cos", x))
