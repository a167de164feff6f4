"""Box-Muller in float32 as PyTorch's AVX2 kernel computes it, to the last bit, on NumPy arrays.

The kernel evaluates the Cephes polynomials for logarithm, sine and cosine (Moshier 1992; in vector form by
J. Pommier) with fused multiply-adds. NumPy has no such operation, so each one is a product and a sum in float64,
where the product of two float32 numbers is exact, rounded to float32 at its end.
"""

from __future__ import annotations

import numpy as np

CHUNK = 2048                                            # groups of 16 at a time: the working arrays stay in the cache
EIGHT = np.dtype("V32")                                 # eight float32 numbers, moved as one element


def _rounded(*numbers: float) -> list[float]:
    """Coefficients as the float32 numbers they are in the kernel."""
    return [float(np.float32(number)) for number in numbers]


LOG = _rounded(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
               -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
SIN = _rounded(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = _rounded(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
LOG_2_LOW, LOG_2_HIGH = np.float32(-2.12194440e-4), np.float32(0.693359375)
SQRT_HALF_BITS = np.float32(0.707106781186547524).view(np.int32)
# pi/4 in three parts, for subtracting multiples of it without loss
PI_QUARTER_1, PI_QUARTER_2 = np.float32(0.78515625), np.float32(2.4187564849853515625e-4)
PI_QUARTER_3 = np.float32(3.77489497744594108e-8)
FOUR_OVER_PI, TWO_PI = np.float32(1.27323954473516), np.float32(2 * np.pi)
ONE, HALF, MINUS_TWO = np.float32(1), np.float32(0.5), np.float32(-2)


def box_muller_float32(values, mean=0.0, std=1.0):
    """Turn uniforms into normals in place, 16 at a time: 8 for the radii, then 8 for the angles.

    `values` is a contiguous float32 array whose size is a multiple of 16.
    """
    groups = values.view(EIGHT).reshape(-1, 2)
    mean, std = np.float32(mean), np.float32(std)
    for start in range(0, len(groups), CHUNK):
        part = groups[start:start + CHUNK]
        radius = _log(ONE - part[:, 0].copy().view(np.float32))
        radius *= MINUS_TWO
        np.sqrt(radius, out=radius)
        sine, cosine = _sine_and_cosine(TWO_PI * part[:, 1].copy().view(np.float32))
        for column, direction in enumerate((cosine, sine)):
            direction *= radius
            part[:, column] = _scaled(direction, std, mean).view(EIGHT)


def _scaled(x, std, mean):
    """x * std + mean, rounded once."""
    if mean == 0:
        return x if std == 1 else x * std
    if std == 1:
        return x + mean
    wide = x.astype(np.float64)
    wide *= std
    wide += mean
    return wide.astype(np.float32)


def _horner(coefficients, x, wide, narrow):
    """Put the polynomial at x into `narrow`, rounded to float32 after each fused step.

    `x` holds float32 values in float64, `wide` is scratch of its kind.
    """
    np.multiply(x, coefficients[0], wide)
    for coefficient in coefficients[1:-1]:
        wide += coefficient
        narrow[...] = wide                              # rounds
        wide[...] = narrow
        wide *= x
    wide += coefficients[-1]
    narrow[...] = wide


def _log(x):
    """Natural logarithm of float32 numbers in (0, 1]."""
    bits = x.view(np.int32)
    exponent = bits - SQRT_HALF_BITS
    exponent >>= 23
    rest = (bits - (exponent << 23)).view(np.float32)   # the significand, in [sqrt(1/2), sqrt(2))
    rest -= ONE
    exponent = exponent.astype(np.float32)
    square = rest * rest
    wide_rest, wide, y = rest.astype(np.float64), np.empty(x.shape), np.empty_like(x)
    _horner(LOG, wide_rest, wide, y)
    y *= rest
    wide[...] = y
    wide_rest[...] = square
    wide *= wide_rest
    wide += exponent * LOG_2_LOW
    y[...] = wide
    square *= HALF
    y -= square
    y += rest
    exponent *= LOG_2_HIGH                              # an exact product
    y += exponent
    return y


def _sine_and_cosine(x):
    """Sine and cosine of float32 numbers in [0, 2 pi]."""
    octant = (x * FOUR_OVER_PI).astype(np.int32)
    octant += 1
    octant &= ~1
    turns = octant.astype(np.float32)
    x -= turns * PI_QUARTER_1                           # these two products are exact, the third is not
    x -= turns * PI_QUARTER_2
    wide, wide_x = turns.astype(np.float64), x.astype(np.float64)
    wide *= PI_QUARTER_3
    wide_x -= wide
    x[...] = wide_x
    wide_x[...] = x
    square = x * x
    wide_square = square.astype(np.float64)

    even, odd = np.empty_like(x), turns                 # `turns` is used up
    _horner(COS, wide_square, wide, even)
    even *= square
    wide[...] = even
    wide *= wide_square
    wide -= square * HALF
    even[...] = wide
    even += ONE

    _horner(SIN, wide_square, wide, odd)
    odd *= square
    wide[...] = odd
    wide *= wide_x
    wide += wide_x
    odd[...] = wide

    # Octants 2 and 6 exchange the two polynomials; the sign bits follow from the quadrant.
    sine, cosine = odd.view(np.int32), even.view(np.int32)
    exchange = (sine ^ cosine) & -(octant >> 1 & 1)
    sine ^= exchange
    cosine ^= exchange
    sine ^= (octant & 4) << 29
    cosine ^= ((octant + 2) & 4) << 29
    return odd, even
