"""Minimax polynomials for the functions in flambeau/backends/llvm: prints the coefficients that stand there.

`python tools/minimax.py [name …]` runs the Remez exchange in 50 digits for each approximation of the table below and
prints its coefficients, lowest degree first, with the largest weighted error. Needs mpmath.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from mpmath import mp, mpf

mp.dps = 50


def remez(f: Callable[[Any], Any], weight: Callable[[Any], Any], low: Any, high: Any, degree: int, grid: int = 600):
    """The polynomial p of this degree that minimises max |p(x) - f(x)| * weight(x) on [low, high], and that maximum."""
    low, high = mpf(low), mpf(high)
    count = degree + 2
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle - half * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]
    samples = [middle - half * mp.cos(mp.pi * i / (grid - 1)) for i in range(grid)]
    known = [(x, f(x), weight(x)) for x in samples]
    coefficients: list[Any] = []
    for _ in range(12):
        system = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for row, x in enumerate(points):
            for k in range(degree + 1):
                system[row, k] = x**k
            system[row, degree + 1] = (-1) ** row / weight(x)
            right[row] = f(x)
        solution = mp.lu_solve(system, right)
        coefficients = [solution[k] for k in range(degree + 1)]
        errors = [(mp.polyval(coefficients[::-1], x) - y) * w for x, y, w in known]
        worst = max(abs(e) for e in errors)
        if worst < abs(solution[degree + 1]) * mpf("1.001"):
            break
        points = _extrema(samples, errors, count) or points
    return coefficients, worst


def _extrema(samples: list[Any], errors: list[Any], count: int) -> list[Any] | None:
    """Where the error is largest in each run of one sign: `count` neighbours, or None if there are fewer."""
    runs: list[list[int]] = []
    for i, e in enumerate(errors):
        if runs and (errors[runs[-1][-1]] > 0) == (e > 0):
            runs[-1].append(i)
        else:
            runs.append([i])
    peaks = [max(run, key=lambda i: abs(errors[i])) for run in runs]
    if len(peaks) < count:
        return None
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return [samples[i] for i in peaks]


def series(f: Callable[[Any], Any], at_zero: Any) -> Callable[[Any], Any]:
    """f, with its limit where the quotient that defines it is 0 / 0."""
    return lambda x: mpf(at_zero) if abs(x) < mpf(10) ** -12 else f(x)


LN2 = mp.log(2)
ROOT = mp.sqrt(2)
# name: (function, weight, low, high, degree)
TABLE: dict[str, tuple[Any, Any, Any, Any, int]] = {
    # exp(r) = 1 + r + r^2 p(r)
    "exp32": (series(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5), lambda r: r**2 + mpf(10) ** -6, -LN2 / 2, LN2 / 2, 4),
    "exp64": (series(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5), lambda r: r**2 + mpf(10) ** -6, -LN2 / 2, LN2 / 2, 10),
    # expm1(r) = r + r^2 p(r): relative to r
    "expm1_32": (series(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5), lambda r: abs(r) + mpf(10) ** -6, -LN2 / 2,
                 LN2 / 2, 5),
    # 2^r = 1 + r p(r)
    "exp2_32": (series(lambda r: (2**r - 1) / r, LN2), lambda r: abs(r) + mpf(10) ** -6, -0.5, 0.5, 5),
    # log(1 + f) = f - f^2 / 2 + f^3 p(f)
    "log32": (series(lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3, mpf(1) / 3), lambda f: f**2 + mpf(10) ** -4,
              1 / ROOT - 1, ROOT - 1, 8),
    # log((1 + s) / (1 - s)) = 2 s + s^3 p(s^2)
    "log64": (series(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z, mpf(2) / 3),
              lambda z: z + mpf(10) ** -9, 0, (3 - 2 * ROOT) ** 2, 6),
    # tanh(x) = x + x^3 p(x^2) for |x| < 0.625
    "tanh32": (series(lambda z: (mp.tanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mpf(-1) / 3), lambda z: z + mpf(10) ** -6,
               0, mpf("0.625") ** 2, 4),
    # erf(x) = x + x p(x^2) for |x| < 1
    "erf32": (series(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, 2 / mp.sqrt(mp.pi) - 1), lambda z: mpf(1), 0, 1, 6),
    # log(erfc(x)) = p(x) for 1 <= x <= 4, where only 1 - exp(p) matters
    "erf32_tail": (lambda x: mp.log(mp.erfc(x)), lambda x: mp.erfc(x), mpf(1), 4, 8),
    # sin(r) = r + r^3 p(r^2), cos(r) = 1 - r^2 / 2 + r^4 p(r^2) for |r| <= pi / 4
    "sin32": (series(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mpf(-1) / 6), lambda z: z + mpf(10) ** -6, 0,
              (mp.pi / 4) ** 2, 2),
    "cos32": (series(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mpf(1) / 24), lambda z: z**2 + mpf(10) ** -6, 0,
              (mp.pi / 4) ** 2, 2),
    # the same in float64, for float32 results
    "sin_wide": (series(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mpf(-1) / 6), lambda z: z + mpf(10) ** -6,
                 0, (mp.pi / 4) ** 2, 4),
    "cos_wide": (series(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mpf(1) / 24), lambda z: z**2 + mpf(10) ** -6,
                 0, (mp.pi / 4) ** 2, 4),
    # atan(x) = x + x^3 p(x^2) for |x| <= 1, for float32 results
    "atan_wide": (series(lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mpf(-1) / 3),
                  lambda z: z + mpf(10) ** -6, 0, 1, 10),
    # erfc(x) exp(x^2) = p(t), t = (x - 3) / (x + 3), for x >= 0, for float32 results
    "erfcx_wide": (lambda t: mp.erfc(3 * (1 + t) / (1 - t)) * mp.exp((3 * (1 + t) / (1 - t)) ** 2),
                   lambda t: 1 / (mp.erfc(3 * (1 + t) / (1 - t)) * mp.exp((3 * (1 + t) / (1 - t)) ** 2)), -1,
                   mpf(8) / 14, 12),
}  # fmt: skip


def main(names: list[str]) -> None:
    for name in names or TABLE:
        coefficients, error = remez(*TABLE[name])
        print(f"{name}: error {mp.nstr(error, 3)} = 2^{mp.nstr(mp.log(error, 2), 4)}")
        print("    " + ", ".join(mp.nstr(c, 18) for c in coefficients))


if __name__ == "__main__":
    main(sys.argv[1:])
