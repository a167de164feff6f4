"""What each primitive should compute, from NumPy, SciPy or plain loops: `ORACLES[name](*arrays, **attributes)`.

Nothing here uses the library. `NO_ORACLE` says why an op has no row; `COVERED` names, for the ops that exist only as
derivatives of others, the op whose gradient tests run them (test_registry.py checks that they do).
"""

import numpy as np
import scipy.linalg
from scipy import special

from tests.ops.oracles_layers import ORACLES as LAYERS

_FACTORS = "unique up to signs, with the gradient of a symmetric matrix: see tests/ops/test_linalg.py"
_INDEFINITE = "symmetric matrices and their packed factors: see tests/ops/test_linalg.py"
NO_ORACLE = {
    **dict.fromkeys(("cholesky", "qr", "svd", "eigh", "eig", "lu_factor", "geqrf"), _FACTORS),
    **dict.fromkeys(("ldl_factor", "ldl_solve"), _INDEFINITE),
    "pinv": "takes its tolerances as tensors: see tests/ops/test_linalg.py",
    "bernoulli": "a random draw: its stream is compared with PyTorch's in tests/core/test_random.py",
    "poisson": "a random draw: its stream is compared with PyTorch's in tests/core/test_random.py",
    "normal": "a random draw: its stream is compared with PyTorch's in tests/core/test_random.py",
    "standard_gamma": "a random draw; how it moves with its parameter is standard_gamma_grad",
    "sample_dirichlet": "a random draw; how it moves with its parameters is dirichlet_grad",
    "argmax_sampled_boxes": "random windows: compared with PyTorch's in tests/ops/test_pooling.py",
    "as_strided_scatter": "takes the storage itself, and PyTorch's definition of its gradient is no derivative: see "
    "test_as_strided_scatter",
}
COVERED = {
    "clear_region": "copy_slices",
    "read_region": "copy_slices",
    "write_region": "slice",
    "unfold_backward": "unfold",
    "as_strided_backward": "as_strided",
    "masked_unselect": "masked_select",
    "masked_scatter_backward": "masked_scatter",
    "index_backward": "index",
    "mask_place": "mask_index",
    "scatter_source_grad": "scatter",
    "spread_value": "max",
    "take_value": "max",
    "nll_loss_backward": "nll_loss",
    "ctc_loss_backward": "ctc_loss",
    "weight_gradient": "convolution",
    "resample_backward": "resample",
    "avg_pool_backward": "avg_pool",
    "adaptive_avg_pool_backward": "adaptive_avg_pool",
    "max_pool_backward": "max_pool",
    "max_pool_select": "max_pool",
    "add_planes": "gather_planes",
    "col2im": "im2col",
    "native_batch_norm_backward": "native_batch_norm",
    "instance_norm_backward": "instance_norm",
    "native_layer_norm_backward": "native_layer_norm",
    "native_group_norm_backward": "native_group_norm",
    "lstm_scan_backward": "lstm_scan",
    "gru_scan_backward": "gru_scan",
    "rnn_scan_backward": "rnn_scan",
    "sigmoid_backward": "sigmoid",
    "tanh_backward": "tanh",
    "elu_backward": "elu",
    "gelu_backward": "gelu",
    "silu_backward": "silu",
    "softplus_backward": "softplus",
    "softmax_backward": "softmax",
    "log_softmax_backward": "log_softmax",
}


def along(dims):
    return tuple(dims) or None


def over(function):
    """A reduction of NumPy with our attributes."""
    return lambda x, dims, keepdim: function(x, axis=along(dims), keepdims=keepdim)


def spread(function):
    return lambda x, dims, correction, keepdim: function(x, axis=along(dims), ddof=correction, keepdims=keepdim)


def norm(x, ord, dims, keepdim):
    size = np.abs(x)
    if ord == 0:
        return (size != 0).sum(along(dims), keepdims=keepdim).astype(x.dtype)
    return (size**ord).sum(along(dims), keepdims=keepdim) ** (1 / ord)


def place(function):
    """argmax and argmin, over everything or one dimension."""
    return lambda x, dim, keepdim: function(x, axis=dim, keepdims=keepdim)


def chosen(order):
    """(values, positions) of the entry that `order(sorted positions)` picks along a dimension."""

    def oracle(x, dim, keepdim, **attributes):
        positions = np.expand_dims(order(np.argsort(x, dim, kind="stable"), dim, **attributes), dim)
        values = np.take_along_axis(x, positions, dim)
        return (values, positions) if keepdim else (values.squeeze(dim), positions.squeeze(dim))

    return oracle


def middle(positions, dim):
    return positions.take((positions.shape[dim] - 1) // 2, dim)


def median_all(x, skip_nan):
    values = np.sort(x.reshape(-1))
    return values[(len(values) - 1) // 2] if len(values) else np.array(np.nan)


def running(better):
    def oracle(x, dim):
        values, positions = np.copy(x), np.zeros(x.shape, np.int64)
        columns = np.moveaxis(values, dim, -1)
        places = np.moveaxis(positions, dim, -1)
        for place in np.ndindex(columns.shape[:-1]):
            best = 0
            for i in range(columns.shape[-1]):
                if better(columns[place][i], columns[place][best]):
                    best = i
                places[(*place, i)] = best
                columns[(*place, i)] = columns[(*place, best)]
        return values, positions

    return oracle


def sort(x, dim, descending):
    positions = np.argsort(-x if descending else x, dim, kind="stable")
    return np.take_along_axis(x, positions, dim), positions


def topk(x, k, dim, largest):
    values, positions = sort(x, dim, descending=largest)
    return values.take(range(k), dim), positions.take(range(k), dim)


def windows(x, dim, size, step):
    starts = range(0, x.shape[dim] - size + 1, step)
    return np.stack([np.moveaxis(x.take(range(s, s + size), dim), dim, -1) for s in starts], dim)


def diag_embed(x, offset, dim1, dim2):
    n = x.shape[-1] + abs(offset)
    out = np.zeros((*x.shape[:-1], n, n), x.dtype)
    for i in range(x.shape[-1]):
        out[..., i + max(-offset, 0), i + max(offset, 0)] = x[..., i]
    return np.moveaxis(out, (-2, -1), (dim1, dim2))


def block_diag(*blocks):
    return scipy.linalg.block_diag(*blocks)


def as_strided(x, size, stride, offset, geometry):
    memory = np.ascontiguousarray(x).reshape(-1)
    return np.array([memory[offset + np.dot(i, stride)] for i in np.ndindex(*size)]).reshape(size)


def pad(x, padding, value):
    for axis, (before, after) in enumerate(padding, x.ndim - len(padding)):
        x = x.take(range(max(-before, 0), x.shape[axis] - max(-after, 0)), axis)
        wide = [(0, 0)] * x.ndim
        wide[axis] = (max(before, 0), max(after, 0))
        x = np.pad(x, wide, constant_values=value)
    return x


def where_put(x, mask, value):
    return np.where(mask, value, x)


def masked_scatter(x, mask, source):
    out = x.copy()
    np.place(out, np.broadcast_to(mask, x.shape), source[: int(mask.sum())]) if mask.any() else None
    return out


def key_of(indices, dims):
    key = [slice(None)] * (max(dims) + 1)
    for dim, index in zip(dims, indices, strict=True):
        key[dim] = index
    return tuple(key)


def index_put(x, values, *indices, dims, accumulate):
    out = x.copy()
    if accumulate:
        np.add.at(out, key_of(indices, dims), values)
    else:
        out[key_of(indices, dims)] = values
    return out


def indexed(write):
    """index_add, index_copy, index_fill: one slice after the other."""

    def oracle(x, index, source, dim):
        out = x.copy()
        target = np.moveaxis(out, dim, 0)
        for i, where in enumerate(index):
            write(target, where, source if source.ndim == 0 else np.moveaxis(source, dim, 0)[i])
        return out

    return oracle


def assign(target, where, value):
    target[where] = value


def increase(target, where, value):
    target[where] += value


def put(x, index, source, accumulate):
    out = x.copy()
    for where, value in zip(index.reshape(-1), source.reshape(-1), strict=True):
        out.reshape(-1)[where] = out.reshape(-1)[where] + value if accumulate else value
    return out


def gather(x, index, dim):
    out = np.empty(index.shape, x.dtype)
    for place in np.ndindex(index.shape):
        out[place] = x[(*place[:dim], index[place], *place[dim + 1 :])]
    return out


def scattered(x, index, source, dim, collect):
    """Collects the values that meet at every place, then combines each list (None: nothing arrived)."""
    arrived = {}
    for place in np.ndindex(index.shape):
        arrived.setdefault((*place[:dim], index[place], *place[dim + 1 :]), []).append(source[place])
    out = x.copy()
    for place, values in arrived.items():
        out[place] = collect(x[place], values)
    return out


def scatter_reduce(x, index, source, dim, reduce, include_self):
    combine = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[reduce]
    return scattered(x, index, source, dim, lambda old, new: combine([old, *new] if include_self else new))


def embedding_backward(grad, indices, rows):
    out = np.zeros((rows, grad.shape[-1]))
    for place in np.ndindex(indices.shape):
        out[indices[place]] += grad[place]
    return out


def scale(x, low, high, inside, outside):
    return np.where((x > low) & (x < high), inside, outside)


def piecewise_backward(grad, x, low, high, inside, outside, edges):
    return grad * scale(x, low, high, inside, outside)


def softmax(x, dim):
    return special.softmax(x, dim if x.ndim else None)


def log_softmax(x, dim):
    return special.log_softmax(x, dim if x.ndim else None)


def gelu(x, approximate):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * special.ndtr(x)


def elu(x, alpha, scale, input_scale):
    return scale * np.where(x > 0, x, alpha * (np.exp(x * input_scale) - 1))


def mse_loss(x, y, reduction):
    return reduced((x - y) ** 2, reduction)


def reduced(losses, reduction):
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / losses.size if losses.size else np.float64(np.nan)


def nll_loss(x, target, weight, reduction, ignore_index):
    counts = np.array([0 if t == ignore_index else 1 if weight is None else weight[t] for t in target], x.dtype)
    losses = -counts * x[np.arange(len(target)), target]
    return losses if reduction == "none" else losses.sum() / (counts.sum() if reduction == "mean" else 1)


def unbind(x, dim):
    return tuple(x.take(i, dim) for i in range(x.shape[dim]))


def split(x, sizes, dim):
    return tuple(np.split(x, np.cumsum(sizes)[:-1], dim))


def copy_slices(base, values, replay):
    return np.concatenate([base[:1], values])


def integer_quotient(rounding):
    return lambda x, y: rounding(x / y)


def waves(n, forward=True):
    """The matrix of the Fourier transform."""
    k = np.arange(n)
    return np.exp((-2j if forward else 2j) * np.pi * np.outer(k, k) / n)


def fft_c2c(x, dims, forward, scale):
    for d in dims:
        x = np.moveaxis(np.moveaxis(x, d, -1) @ waves(x.shape[d], forward), -1, d)
    return x * scale


def fft_r2c(x, dims, scale):
    return fft_c2c(x, dims, True, scale).take(range(x.shape[dims[-1]] // 2 + 1), dims[-1])


def fft_c2r(x, dims, scale, size):
    """The missing half is the mirror image; a frequency that is its own mirror image counts with its real part."""
    x = np.moveaxis(fft_c2c(x, dims[:-1], False, scale), dims[-1], -1)
    full = np.zeros((*x.shape[:-1], size), x.dtype)
    for k in range(x.shape[-1]):
        alone = k == 0 or 2 * k == size
        full[..., k] = x[..., k].real if alone else x[..., k]
        full[..., -k % size] = full[..., k] if alone else x[..., k].conj()
    return np.moveaxis((full @ waves(size, False)).real, -1, dims[-1])


def triangle(A, upper):
    return np.triu(A) if upper else np.tril(A)


def triangular_solve(A, B, upper, unit):
    A = triangle(A, upper)
    if unit:
        A = A - A * np.eye(A.shape[-1]) + np.eye(A.shape[-1])
    return np.linalg.solve(A, B)


def gram(L, upper):
    L = triangle(L, upper)
    return np.swapaxes(L, -1, -2) @ L if upper else L @ np.swapaxes(L, -1, -2)


def slope_of_quantile(cumulative, quantile, parameter, x, step=1e-5):
    """How the draw at a fixed probability moves with the parameter, by differences of the quantile function."""
    p = cumulative(parameter, x)
    return (quantile(parameter + step, p) - quantile(parameter - step, p)) / (2 * step)


def dirichlet_grad(x, alpha, total):
    rest = total - alpha
    return slope_of_quantile(
        lambda a, x: special.betainc(a, rest, x), lambda a, p: special.betaincinv(a, rest, p), alpha, x
    ) / (1 - x)


def minors(A):
    """The determinants of what is left without a row and a column, with their signs."""
    out = np.zeros_like(A)
    for i, j in np.ndindex(A.shape[-2:]):
        out[..., i, j] = (-1) ** (i + j) * np.linalg.det(np.delete(np.delete(A, i, -2), j, -1))
    return out


def minors_slope(grad, A, step=1e-4):
    """How sum(grad * minors(A)) moves with A, by differences."""
    out = np.zeros_like(A)
    for i, j in np.ndindex(A.shape[-2:]):
        moved = np.zeros_like(A)
        moved[..., i, j] = step
        out[..., i, j] = (grad * (minors(A + moved) - minors(A - moved))).sum((-2, -1)) / (2 * step)
    return out


ORACLES = {
    "standard_gamma_grad": lambda alpha, x: slope_of_quantile(special.gammainc, special.gammaincinv, alpha, x),
    "dirichlet_grad": dirichlet_grad,
    "inverse": np.linalg.inv,
    "det": np.linalg.det,
    "cofactors": minors,
    "cofactors_backward": minors_slope,
    "slogdet": lambda A: tuple(np.linalg.slogdet(A)),
    "solve": np.linalg.solve,
    "triangular_solve_kernel": triangular_solve,
    "matrix_exp": lambda A: scipy.linalg.expm(A) if A.size else A,
    "cholesky_solve": lambda L, B, upper: np.linalg.solve(gram(L, upper), B),
    "cholesky_inverse": lambda L, upper: np.linalg.inv(gram(L, upper)),
    "fft_c2c": fft_c2c,
    "fft_r2c": fft_r2c,
    "fft_c2r": fft_c2r,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "floor_divide": np.floor_divide,
    "div_floor": integer_quotient(np.floor),
    "div_trunc": integer_quotient(np.trunc),
    "remainder": np.mod,
    "fmod": np.fmod,
    "neg": np.negative,
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "pow": np.power,
    "abs": np.abs,
    "sign": np.sign,
    "sgn": lambda x: x / np.abs(x),
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: x**-0.5,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "copysign": np.copysign,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.rint,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "clamp_min": np.maximum,
    "clamp_max": np.minimum,
    "conj_physical": np.conj,
    "real": np.real,
    "angle": lambda x: np.angle(x),
    "complex": lambda x, y: x + 1j * y,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
    "heaviside": np.heaviside,
    "gcd": np.gcd,
    "lcm": np.lcm,
    "nextafter": np.nextafter,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert,
    "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "signbit": np.signbit,
    "erf": special.erf,
    "erfc": special.erfc,
    "erfinv": special.erfinv,
    "lgamma": special.gammaln,
    "igamma": special.gammainc,
    "igammac": special.gammaincc,
    "i0": special.i0,
    "i0e": special.i0e,
    "i1": special.i1,
    "i1e": special.i1e,
    "erfcx": special.erfcx,
    "frexp": np.frexp,
    "digamma": special.digamma,
    "polygamma": lambda x, n: special.polygamma(n, x),
    "xlogy": special.xlogy,
    "xlog1py": special.xlog1py,
    "logit": lambda x, eps: special.logit(x if eps is None else np.clip(x, eps, 1 - eps)),
    "entr": special.entr,
    "sinc": np.sinc,
    "ndtr": special.ndtr,
    "ndtri": special.ndtri,
    "log_ndtr": special.log_ndtr,
    "nan_to_num": lambda x, nan, posinf, neginf: np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf),
    "round_decimals": lambda x, decimals: np.round(x, decimals),
    "where": np.where,
    "to_copy": lambda x, dtype: x.astype(dtype),
    "clamp": lambda x, min, max: np.clip(x, min, max),
    "clamp_tensor": lambda x, low, high: np.clip(x, low, high),
    "lerp": lambda x, end, weight: x + weight * (end - x),
    "clone": lambda x, memory_format: x,
    "view": lambda x, shape: x.reshape(shape),
    "view_dtype": lambda x, dtype: np.ascontiguousarray(x).view(dtype),
    "reshape_copy": lambda x, shape: x.reshape(shape),
    "alias": lambda x: x,
    "transpose": lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1),
    "permute": lambda x, dims: np.transpose(x, dims),
    "expand": lambda x, shape: np.broadcast_to(x, shape),
    "squeeze": lambda x, dims: np.squeeze(x, dims),
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim),
    "select": lambda x, dim, index: x.take(index, dim),
    "slice": lambda x, dim, start, stop, step: x.take(range(start, stop, step), dim),
    "unbind": unbind,
    "restack": lambda *xs, dim: np.stack(xs, dim),
    "split": split,
    "rejoin": lambda *xs, dim: np.concatenate(xs, dim),
    "diagonal": lambda x, offset, dim1, dim2: np.diagonal(x, offset, dim1, dim2),
    "unfold": windows,
    "as_strided": as_strided,
    "sum": over(np.sum),
    "mean": over(np.mean),
    "prod": lambda x, dim, keepdim: np.prod(x, axis=dim, keepdims=keepdim),
    "var": spread(np.var),
    "std": spread(np.std),
    "all": over(np.all),
    "any": over(np.any),
    "count_nonzero": lambda x, dims: np.asarray(np.count_nonzero(x, axis=along(dims))),
    "logsumexp": lambda x, dims, keepdim: special.logsumexp(x, axis=along(dims), keepdims=keepdim),
    "norm": norm,
    "amax": over(np.max),
    "amin": over(np.min),
    "argmax": place(np.argmax),
    "argmin": place(np.argmin),
    "max": chosen(lambda positions, dim: positions.take(-1, dim)),
    "min": chosen(lambda positions, dim: positions.take(0, dim)),
    "median": chosen(middle),
    "nanmedian": chosen(middle),
    "mode": chosen(lambda positions, dim: positions.take(0, dim)),  # all different: the smallest
    "kthvalue": chosen(lambda positions, dim, k: positions.take(k - 1, dim)),
    "median_all": median_all,
    "cumsum": lambda x, dim: np.cumsum(x, dim),
    "cumprod": lambda x, dim: np.cumprod(x, dim),
    "cummax": running(np.greater_equal),
    "cummin": running(np.less_equal),
    "logcumsumexp": lambda x, dim: np.log(np.cumsum(np.exp(x), dim)),
    "sort": sort,
    "topk": topk,
    "matmul": np.matmul,
    "dot": np.dot,
    "linear": lambda x, weight, bias: x @ weight.T + (0 if bias is None else bias),
    "difference_norm": lambda x, p: norm(x, p, (-1,), False),
    "euclidean_distances": lambda x, y: np.sqrt(((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)),
    "binary_cross_entropy": lambda x, y: -(y * np.log(x) + (1 - y) * np.log(1 - x)),
    "mse_loss": mse_loss,
    "nll_loss": nll_loss,
    "view_as_real": lambda x: np.stack([x.real, x.imag], -1),
    "view_as_complex": lambda x: x[..., 0] + 1j * x[..., 1],
    "real_part": np.real,
    "imaginary_part": np.imag,
    "masked_fill": where_put,
    "masked_select": lambda x, mask: x[mask],
    "masked_scatter": masked_scatter,
    "nonzero": np.argwhere,
    "copy": lambda x, source: np.broadcast_to(source, x.shape),
    "copy_over": lambda x, values: values,
    "pick": lambda x, key: x[key],
    "cut": lambda x, key: x[key],
    "insert": lambda x, key: x[key],
    "index": lambda x, *indices, dims: x[key_of(indices, dims)],
    "mask_index": lambda x, mask, dim: x[(slice(None),) * dim + (mask,)],
    "index_put": index_put,
    "index_select": lambda x, index, dim: x.take(index, dim) if x.ndim else x,
    "index_add": indexed(increase),
    "index_copy": indexed(assign),
    "index_fill": indexed(assign),
    "take": lambda x, index: x.reshape(-1)[index],
    "put": put,
    "gather": gather,
    "scatter": lambda x, index, source, dim: scattered(x, index, source, dim, lambda old, new: new[-1]),
    "scatter_add": lambda x, index, source, dim: scattered(x, index, source, dim, lambda old, new: old + sum(new)),
    "scatter_reduce": scatter_reduce,
    "repeat": lambda x, times: np.tile(x, times),
    "flip": lambda x, dims: np.flip(x, dims),
    "roll": lambda x, shifts, dims: np.roll(x, shifts, dims),
    "tril": lambda x, diagonal: np.tril(x, diagonal),
    "triu": lambda x, diagonal: np.triu(x, diagonal),
    "diag_embed": diag_embed,
    "block_diag": block_diag,
    "constant_pad": pad,
    "copy_slices": copy_slices,
    "relu": lambda x: x * (x > 0),
    "relu_backward": lambda grad, out: grad * (out > 0),
    "piecewise_backward": piecewise_backward,
    "threshold": lambda x, threshold, value: np.where(x > threshold, x, value),
    "leaky_relu": lambda x, negative_slope: np.where(x > 0, x, negative_slope * x),
    "hardtanh": lambda x, min_val, max_val: np.clip(x, min_val, max_val),
    "hardshrink": lambda x, lambd: np.where(np.abs(x) > lambd, x, 0),
    "softshrink": lambda x, lambd: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "elu": elu,
    "gelu": gelu,
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x, beta, threshold: np.where(x * beta > threshold, x, np.log1p(np.exp(x * beta)) / beta),
    "log_sigmoid": special.log_expit,
    "prelu": lambda x, weight: np.where(x > 0, x, weight * x),
    "softmax": softmax,
    "log_softmax": log_softmax,
    "embedding": lambda weight, indices: weight[indices],
    "embedding_backward": embedding_backward,
    "scale_gradient": lambda x, factor: x,
}
ORACLES |= {
    f"{name}_draw": lambda x, values: values
    for name in ("uniform", "normal", "exponential", "cauchy", "log_normal", "geometric", "bernoulli", "random")
}
ORACLES |= LAYERS
