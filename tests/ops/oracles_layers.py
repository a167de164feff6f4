"""Slow and obvious versions of the primitives behind layers: plain loops over windows, steps and channels."""

import itertools

import numpy as np
from scipy.special import expit

from tests.backends.reference import convolution as dense_convolution


def convolution(x, w, bias, stride, padding, dilation, groups):
    if not len(x):
        return np.zeros((0, *dense_convolution(np.zeros((1, *x.shape[1:])), w, bias, stride, padding, dilation,
                                               groups).shape[1:]))  # fmt: skip
    return dense_convolution(x, w, bias, stride, padding, dilation, groups)


def transposed_convolution(y, w, bias, stride, padding, dilation, groups, size):
    """Every value of y adds a weighted kernel to an image with room for the padding."""
    kernel, outs, per_group = w.shape[2:], y.shape[1] // groups, w.shape[1]
    room = [n + sum(p) for n, p in zip(size, padding, strict=True)]
    out = np.zeros((len(y), groups * per_group, *room))
    for n, o, c in itertools.product(range(len(y)), range(y.shape[1]), range(per_group)):
        channel = (o // outs) * per_group + c
        for at in np.ndindex(*y.shape[2:]):
            for k in np.ndindex(*kernel):
                spot = tuple(a * s + i * d for a, s, i, d in zip(at, stride, k, dilation, strict=True))
                if all(p < r for p, r in zip(spot, room, strict=True)):
                    out[(n, channel, *spot)] += y[(n, o, *at)] * w[(o, c, *k)]
    out = out[(..., *(slice(before, before + n) for (before, _), n in zip(padding, size, strict=True)))]
    return out if bias is None else out + bias.reshape(-1, *(1,) * len(size))


def windows(x, kernel, stride, padding, dilation, count):
    """(place of the window, [(number in the kernel, position in the image) of what lies inside])."""
    for at in np.ndindex(*count):
        inside = []
        for number, k in enumerate(np.ndindex(*kernel)):
            spot = tuple(a * s - p + i * d for a, s, p, i, d in zip(at, stride, padding, k, dilation, strict=True))
            if all(0 <= p < n for p, n in zip(spot, x.shape[2:], strict=True)):
                inside.append((number, spot))
        yield at, inside


def max_pool(x, kernel, stride, padding, dilation, count, track):
    values = np.zeros((*x.shape[:2], *count))
    places = np.zeros(values.shape, np.int64)
    for at, inside in windows(x, kernel, stride, padding, dilation, count):
        for plane in np.ndindex(*x.shape[:2]):
            best = max(inside, key=lambda entry: x[(*plane, *entry[1])])
            values[(*plane, *at)], places[(*plane, *at)] = x[(*plane, *best[1])], best[0]
    return values, places


def avg_pool(x, kernel, stride, padding, count, include_pad, divisor):
    out = np.zeros((*x.shape[:2], *count))
    for at, inside in windows(x, kernel, stride, padding, (1,) * len(kernel), count):
        # With padding counted, a window is clipped only where it leaves the padded image.
        edges = zip(at, stride, padding, kernel, x.shape[2:], strict=True)
        room = np.prod([min(a * s - p + k, n + p) - (a * s - p) for a, s, p, k, n in edges])
        total = sum(x[(slice(None), slice(None), *spot)] for _, spot in inside)
        out[(slice(None), slice(None), *at)] = total / (divisor or (room if include_pad else len(inside)))
    return out


def adaptive_avg_pool(x, count):
    out = np.zeros((*x.shape[:2], *count))
    for at in np.ndindex(*count):
        box = [slice(i * n // c, -(-(i + 1) * n // c)) for i, c, n in zip(at, count, x.shape[2:], strict=True)]
        part = x[(slice(None), slice(None), *box)]
        out[(slice(None), slice(None), *at)] = part.mean(tuple(range(2, x.ndim)))
    return out


def max_pool_indices(place, size, kernel, stride, padding, dilation):
    out = np.zeros(place.shape, np.int64)
    for at in np.ndindex(*place.shape):
        inside = np.unravel_index(place[at], kernel)
        spot = [a * s - p + i * d for a, s, p, i, d in zip(at[2:], stride, padding, inside, dilation, strict=True)]
        out[at] = np.ravel_multi_index(spot, size)
    return out


def gather_planes(x, index):
    flat = x.reshape(*x.shape[:2], int(np.prod(x.shape[2:])))
    out = np.zeros((*x.shape[:2], *index.shape[2:]))
    for n, c in np.ndindex(*x.shape[:2]):
        out[n, c] = flat[n, c][index[n, c if index.shape[1] > 1 else 0]]
    return out


def max_unpool(x, index, size):
    out = np.zeros((*x.shape[:2], int(np.prod(size))))
    for n, c in np.ndindex(*x.shape[:2]):
        out[n, c][index[n, c].reshape(-1)] = x[n, c].reshape(-1)
    return out.reshape(*x.shape[:2], *size)


def argmax_boxes(x, boxes):
    out = np.zeros((*x.shape[:2], *map(len, boxes)), np.int64)
    for at in np.ndindex(*out.shape):
        ranges = [range(*boxes[d][i]) for d, i in enumerate(at[2:])]
        best = max(itertools.product(*ranges), key=lambda spot: x[(*at[:2], *spot)])
        out[at] = np.ravel_multi_index(best, x.shape[2:])
    return out


def normalization(x, weight, bias, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    out = (x - mean) / np.sqrt(var + eps)
    return (out if weight is None else out * weight) + (0 if bias is None else bias), mean, var


def channel_normalization(x, weight, bias, axes, eps):
    """The same with parameters that are vectors of channels."""
    along = [None if p is None else p.reshape(1, -1, 1) for p in (weight, bias)]
    return normalization(x, *along, axes, eps)


def cubic(t):
    """Keys' kernel with a = -0.75."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def matrix(size, how):
    """One dimension of a resampling plan as an (out, size) matrix of weights."""
    kind, *rest = how
    if kind in ("reflect", "circular", "replicate"):
        mode = {"reflect": "reflect", "circular": "wrap", "replicate": "edge"}[kind]
        return np.eye(size)[np.pad(np.arange(size), rest, mode=mode)]
    out, _, corners, antialias = rest
    weights = np.zeros((out, size))
    step = (size - 1) / max(out - 1, 1) if corners else size / out
    for i in range(out):
        centre = i * step if corners else (i + 0.5) * step - 0.5
        if kind == "nearest":
            weights[i, int(i * size / out)] = 1
        elif kind == "nearest-exact":
            weights[i, int((i + 0.5) * size / out)] = 1
        elif antialias:  # a triangle as wide as the step, normalised over what lies inside
            width = max(step, 1.0)
            weights[i] = [max(0.0, 1 - abs(j - centre) / width) for j in range(size)]
            weights[i] /= weights[i].sum()
        else:
            if kind == "linear" and not corners:
                centre = max(centre, 0.0)
            reach = 1 if kind == "linear" else 2
            for j in range(int(np.floor(centre)) - reach + 1, int(np.floor(centre)) + reach + 1):
                t = centre - j
                weights[i, np.clip(j, 0, size - 1)] += max(0.0, 1 - abs(t)) if kind == "linear" else cubic(t)
    return weights


def resample(x, plan):
    for axis, how in enumerate(plan, x.ndim - len(plan)):
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix(x.shape[axis], how).T, -1, axis)
    return x


def im2col(x, kernel, stride, padding, dilation):
    shape = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    count = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in shape]
    out = np.zeros((*x.shape[:2], int(np.prod(kernel)), *count))
    for at, inside in windows(x, kernel, stride, padding, dilation, count):
        for number, spot in inside:
            out[(slice(None), slice(None), number, *at)] = x[(slice(None), slice(None), *spot)]
    return out.reshape(len(x), x.shape[1] * int(np.prod(kernel)), int(np.prod(count)))


def scan(sizes, reverse, rows, states, step):
    """Walk over packed steps; `step(rows, states of these sequences)` gives the row's output and new states."""
    states = [s.copy() for s in states]
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    out = [None] * len(sizes)
    for t in range(len(sizes))[::-1] if reverse else range(len(sizes)):
        now = slice(firsts[t], firsts[t] + sizes[t])
        out[t], *new = step(rows[now], [s[: sizes[t]] for s in states])
        for state, value in zip(states, new, strict=True):
            state[: sizes[t]] = value
    return np.concatenate(out), states


def lstm_scan(gates, h0, c0, w_hh, w_hr, sizes, reverse=False):
    def step(rows, states):
        h, c = states
        i, f, g, o = np.split(rows + h @ w_hh.T, 4, -1)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        h = h if w_hr is None else h @ w_hr.T
        return h, h, c

    out, (h, c) = scan(sizes, reverse, gates, (h0, c0), step)
    return out, h, c


def gru_scan(gates, h0, w_hh, b_hh, sizes, reverse=False):
    def step(rows, states):
        (h,) = states
        recurrent = h @ w_hh.T + (0 if b_hh is None else b_hh)
        r, z, n = np.split(rows, 3, -1)
        hr, hz, hn = np.split(recurrent, 3, -1)
        n = np.tanh(n + expit(r + hr) * hn)
        z = expit(z + hz)
        h = (1 - z) * n + z * h
        return h, h

    out, (h,) = scan(sizes, reverse, gates, (h0,), step)
    return out, h


def rnn_scan(gates, h0, w_hh, sizes, relu=False, reverse=False):
    def step(rows, states):
        (h,) = states
        h = rows + h @ w_hh.T
        h = np.maximum(h, 0) if relu else np.tanh(h)
        return h, h

    out, (h,) = scan(sizes, reverse, gates, (h0,), step)
    return out, h


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, zero_infinity):
    """Adds up the probability of every path that collapses to the target."""
    losses = []
    begins = np.cumsum(target_lengths) - target_lengths
    for n, (length, labels) in enumerate(zip(input_lengths, target_lengths, strict=True)):
        row = targets[n] if targets.ndim == 2 else targets[begins[n] :]
        want, total = list(row[:labels]), 0.0
        for path in itertools.product(range(log_probs.shape[2]), repeat=int(length)):
            kept = [c for c, _ in itertools.groupby(path) if c != blank]
            if kept == want:
                total += np.exp(sum(log_probs[t, n, c] for t, c in enumerate(path)))
        losses.append(-np.log(total))
    return np.array(losses)


ORACLES = {
    "convolution": convolution,
    "transposed_convolution": transposed_convolution,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "adaptive_avg_pool": adaptive_avg_pool,
    "max_pool_indices": max_pool_indices,
    "gather_planes": gather_planes,
    "max_unpool": max_unpool,
    "argmax_boxes": argmax_boxes,
    "native_batch_norm": channel_normalization,
    "instance_norm": channel_normalization,
    "native_layer_norm": normalization,
    "native_group_norm": normalization,
    "channel_affine": lambda x, scale, shift: x * scale + shift,
    "resample": resample,
    "im2col": im2col,
    "lstm_scan": lstm_scan,
    "gru_scan": gru_scan,
    "rnn_scan": rnn_scan,
    "ctc_loss": ctc_loss,
}
