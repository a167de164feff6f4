"""Distributions beyond uniform and normal, drawn as PyTorch's CPU kernels draw them, on NumPy arrays.

Each function takes a generator first and consumes as many random words, in the same order, as PyTorch does.
"""

from __future__ import annotations

import math

import numpy as np

from flambeau.core import random as stream
from flambeau.core.random import CHUNK, float32, float64, narrowed, scalar_normal, unit_double, unit_float64


def bernoulli(gen, shape, p):
    """True with probability p, a number; 53 random bits decide each element. bool."""
    n = math.prod(shape)
    out = np.empty(n, bool)
    native = stream.compiled(n)
    if native:
        return native.bernoulli(gen, out, p).reshape(shape)
    # u * 2**-53 < p, compared as integers. The upper 21 bits decide, but for one case in two million.
    limit = math.ceil(p * 2.0**53)
    upper, lower = np.uint64(limit >> 32), np.uint64(limit & 0xFFFFFFFF)
    for start in range(0, n, CHUNK):
        part = out[start:start + CHUNK]
        words = gen.raw(2 * part.size)
        high = words[0::2] & np.uint64(0x1FFFFF)
        np.less(high, upper, out=part)
        ties = high == upper
        if ties.any():
            part[ties] = words[1::2][ties] < lower
    return out.reshape(shape)


def bernoulli_each(gen, p):
    """True with the probability each element of `p` gives; 24 random bits decide, 53 for float64. bool."""
    units = unit_float64(gen, p.size) if p.dtype == float64 else stream.unit_float32(gen, p.size)
    return units.reshape(p.shape) < p.astype(units.dtype, copy=False)


def quiet():
    """For arithmetic where infinities are results, not accidents."""
    return np.errstate(over="ignore", divide="ignore", invalid="ignore")


def exponential(gen, shape, dtype=float32, rate=1.0):
    """Exponential numbers of the given rate, by inverting the distribution in float64."""
    units = unit_float64(gen, math.prod(shape))
    np.negative(units, out=units)
    np.log1p(units, out=units)
    units *= -1.0 / rate
    return narrowed(units, dtype).reshape(shape)


def geometric(gen, shape, dtype, p):
    """How many trials of probability p until the first success: 1, 2, …"""
    with quiet():                                       # log 0, and its infinity in an integer dtype
        drawn = np.ceil(np.log(unit_float64(gen, math.prod(shape))) / math.log1p(-p))
        return narrowed(drawn, dtype).reshape(shape)


def cauchy(gen, shape, dtype=float32, median=0.0, sigma=1.0):
    """Cauchy numbers, by inverting the distribution in float64."""
    drawn = np.tan(math.pi * (unit_float64(gen, math.prod(shape)) - 0.5))
    with quiet():
        return narrowed(stream.fma_float64(drawn, sigma, median), dtype).reshape(shape)


def log_normal(gen, shape, dtype=float32, mean=1.0, std=2.0):
    """The exponential of normal numbers; mean and std are those of the logarithm."""
    with quiet():
        return narrowed(np.exp(scalar_normal(gen, math.prod(shape), mean, std)), dtype).reshape(shape)


def randperm(gen, n, dtype=np.int64):
    """The numbers 0 … n-1 in random order (Fisher and Yates, from the front)."""
    if n < 2:
        return np.arange(n, dtype=dtype)
    native = stream.compiled(n) if n < 0xFFFFFFFF // 20 else None
    if native:
        return native.randperm(gen, np.empty(n, np.int64)).astype(dtype, copy=False)
    places = np.arange(n)
    remaining = n - places[:-1]
    if n < 0xFFFFFFFF // 20:
        places[:-1] += gen.raw(n - 1).astype(np.uint32) % remaining.astype(np.uint32)
    else:                                               # 32 bits would favour small numbers
        places[:-1] += (stream.random64(gen, n - 1) % remaining.astype(np.uint64)).astype(np.int64)
    return (_swapped_in_turn(places) if n < 1000 else _swapped_at_once(places)).astype(dtype, copy=False)


def _swapped_in_turn(places):
    """0 … n-1 after swapping elements i and places[i] for i = 0, 1, …"""
    order = list(range(len(places)))
    for i, j in enumerate(places.tolist()):
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def _swapped_at_once(places):
    """The same without a loop over elements; every place is at or behind its index.

    Step i takes what lies at places[i]: what the last earlier step m with the same place left there, which is what
    step m found at m itself, or else the number of the place. What a step finds at its own index follows from an
    earlier step in the same way; following these links to their ends gives all of it.
    """
    n = len(places)
    bits = n.bit_length()
    keys = np.sort(places << bits | np.arange(n))       # by place, then by step
    place, step = keys >> bits, keys & ((1 << bits) - 1)
    same = place[1:] == place[:-1]
    before = np.full(n, -1)                             # the last earlier step with the same place
    before[step[1:][same]] = step[:-1][same]
    last = np.flatnonzero(np.append(~same, True))       # of every place, the last step
    found = np.arange(n)
    link = np.where(step[last] == place[last], before[step[last]], step[last])
    found[place[last]] = np.where(link < 0, place[last], link)
    while not np.array_equal(found, found[found]):
        found = found[found]
    return np.where(before < 0, places, found[before])


def multinomial(gen, weights, count, replacement=False):
    """Indices drawn with probability proportional to `weights`, of shape (n,) or (rows, n). int64 (…, count).

    Without replacement, and for a single draw, the largest of weight / Exp(1) win; with replacement a uniform
    number is looked up in the cumulative sums of its row.
    """
    if replacement and count > 1:
        return _multinomial_by_lookup(gen, weights, count)
    with quiet():
        race = weights / exponential(gen, weights.shape, weights.dtype)
    if count == 1:
        return np.argmax(race, axis=-1, keepdims=True)
    order = np.argsort(-race.astype(np.float64), axis=-1, kind="stable")
    return np.ascontiguousarray(order[..., :count])


def _multinomial_by_lookup(gen, weights, count):
    wide = weights.dtype if weights.dtype in (float32, float64) else float32
    rows = np.cumsum(weights.reshape(-1, weights.shape[-1]).astype(wide), axis=-1, dtype=wide)
    rows /= rows[:, -1:].copy()
    rows[:, -1] = 1
    units = unit_float64(gen, len(rows) * count).reshape(len(rows), count)
    drawn = [np.searchsorted(row.astype(np.float64), unit) for row, unit in zip(rows, units)]
    return np.array(drawn, np.int64).reshape(*weights.shape[:-1], count)


# ---- one element at a time: how many words an element takes depends on what is drawn -----------


def poisson(gen, rates):
    """Poisson counts for each rate, in the dtype of `rates`."""
    return _each(_poisson, gen, rates)


def standard_gamma(gen, shapes):
    """Gamma numbers of scale 1 for each shape parameter, in the dtype of `shapes`."""
    smallest = np.finfo(shapes.dtype).tiny if shapes.dtype in (float32, float64) else 0.0
    round_to = np.float32 if shapes.dtype == float32 else float
    drawn = [_gamma(gen, alpha, round_to) for alpha in shapes.reshape(-1).tolist()]
    return np.maximum(np.array(drawn, np.float64).astype(shapes.dtype), smallest).reshape(shapes.shape)


def dirichlet(gen, alphas):
    """Points of the simplex for each row of concentrations, in the dtype of `alphas`."""
    gammas = standard_gamma(gen, alphas.astype(np.float64))
    ratio = (gammas / gammas.sum(-1, keepdims=True)).astype(alphas.dtype)
    info = np.finfo(alphas.dtype)
    return np.clip(ratio, info.tiny, np.nextafter(alphas.dtype.type(1), alphas.dtype.type(0)))


def binomial(gen, counts, probabilities):
    """Successes in `counts` trials of the given probabilities (same shapes), in the dtype of `counts`."""
    return _each(_binomial, gen, counts, probabilities)


def _each(sample, gen, first, *others):
    columns = [array.reshape(-1).tolist() for array in (first, *others)]
    drawn = [sample(gen, *numbers) for numbers in zip(*columns)]
    return np.array(drawn, np.float64).astype(first.dtype).reshape(first.shape)


def _poisson(gen, rate):
    """Transformed rejection (Hörmann 1993, PTRS) for rates of 10 and more, products of uniforms below."""
    if rate == 0:
        return 0.0
    if rate < 10:
        limit, count, product = math.exp(-rate), 0, unit_double(gen)
        while product > limit:
            count += 1
            product *= unit_double(gen)
        return float(count)
    root, log_rate = math.sqrt(rate), math.log(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = unit_double(gen) - 0.5, unit_double(gen)
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= v_r:
            return float(k)
        if k < 0 or (us < 0.013 and v > us):
            continue
        if _log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b) <= -rate + k * log_rate - math.lgamma(k + 1):
            return float(k)


def _log(x):
    return math.log(x) if x > 0 else -math.inf


def _gamma(gen, alpha, round_to):
    """Rejection with squeeze (Marsaglia and Tsang 2000, doi:10.1145/358407.358414).

    `round_to` is the precision in which PyTorch holds alpha; its other constants are float32 numbers.
    """
    scale = 1.0
    if alpha < 1:
        if alpha == 0:
            return 0.0
        scale = (1 - unit_double(gen)) ** float(round_to(1) / round_to(alpha))
        alpha = float(round_to(alpha) + round_to(1))
    third, squeeze = np.float32(1) / np.float32(3), float(np.float32(0.0331))
    d = float(round_to(alpha) - round_to(third))
    c = 1 / math.sqrt(9 * d)
    while True:
        x = float(scalar_normal(gen, 1)[0])
        y = 1 + c * x
        if y <= 0:
            continue
        v, u, xx = y * y * y, 1 - unit_double(gen), x * x
        if u < 1 - squeeze * xx * xx or math.log(u) < 0.5 * xx + d * (1 - v + math.log(v)):
            return scale * d * v


def _binomial(gen, count, p):
    if math.isnan(p):
        return math.nan
    if count <= 0 or p <= 0:
        return 0.0
    if p >= 1:
        return count
    if p > 0.5:
        return count - _binomial(gen, count, 1 - p)
    return _binomial_by_rejection(gen, count, p) if count * p >= 10 else _binomial_by_waiting(gen, count, p)


def _binomial_by_waiting(gen, count, p):
    """Add up geometric waiting times until they exceed the number of trials."""
    total, successes, log_q = 0.0, 0, math.log1p(-p)
    while True:
        total += math.ceil(_log(unit_double(gen)) / log_q)
        if total > count:
            return float(successes)
        successes += 1


def _binomial_by_rejection(gen, count, p):
    """Transformed rejection with squeeze (Hörmann 1993, BTRS)."""
    deviation = math.sqrt(count * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = count * p + 0.5
    v_r = 0.92 - 4.2 / b
    odds = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    m = math.floor((count + 1) * p)
    while True:
        u, v = unit_double(gen) - 0.5, unit_double(gen)
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + c)
        if us >= 0.07 and v <= v_r:
            return float(k)
        if k < 0 or k > count:
            continue
        bound = ((m + 0.5) * math.log((m + 1) / (odds * (count - m + 1)))
                 + (count + 1) * math.log((count - m + 1) / (count - k + 1))
                 + (k + 0.5) * math.log(odds * (count - k + 1) / (k + 1))
                 + _stirling_tail(m) + _stirling_tail(count - m) - _stirling_tail(k) - _stirling_tail(count - k))
        if _log(v * alpha / (a / (us * us) + b)) <= bound:
            return float(k)


# log k! minus Stirling's formula, for k = 0 … 9
STIRLING_TAIL = (0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211,
                 0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287)


def _stirling_tail(k):
    if k <= 9:
        return STIRLING_TAIL[int(k)]
    square = (k + 1) * (k + 1)
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)
