"""Sample arguments for primitives that do not carry their own: `SAMPLES[name](make)` yields `(args, attributes)`.

`make(*shape)` gives a float64 tensor of random numbers, `make(*shape, low=…, high=…)` within bounds; numbers it gives
never tie and never fall on an integer. An elementwise op of one or two inputs needs no row here: `arguments_of` gives
it the shapes that break fast paths (0-d, empty, transposed, broadcast), within the bounds of `DOMAINS`.
"""

import numpy as np

import flambeau as torch
from tests.ops.samples_layers import SAMPLES as LAYERS

# Where an elementwise op is defined and smooth, when that is not (-0.9, 0.9): (low, high) for every input, or for each.
DOMAINS = {
    "acosh": (1.2, 3.0),
    "digamma": (0.3, 3.0),
    "entr": (0.2, 2.0),
    "igamma": ((0.5, 5.0), (0.4, 8.0)),
    "igammac": ((0.5, 5.0), (0.4, 8.0)),
    "lgamma": (0.3, 3.0),
    "log": (0.2, 3.0),
    "log10": (0.2, 3.0),
    "log1p": (-0.5, 3.0),
    "log2": (0.2, 3.0),
    "ndtri": (0.1, 0.9),
    "pow": (0.3, 2.0),
    "reciprocal": (0.3, 2.0),
    "rsqrt": (0.3, 2.0),
    "sqrt": (0.3, 2.0),
    "ceil": (-3.0, 3.0),
    "floor": (-3.0, 3.0),
    "round": (-3.0, 3.0),
    "trunc": (-3.0, 3.0),
    "div": ((-2.0, 2.0), (0.4, 2.0)),
    "div_floor": ((-5.0, 5.0), (0.7, 2.0)),
    "div_trunc": ((-5.0, 5.0), (0.7, 2.0)),
    "floor_divide": ((-5.0, 5.0), (0.7, 2.0)),
    "fmod": ((-5.0, 5.0), (0.7, 2.0)),
    "remainder": ((-5.0, 5.0), (0.7, 2.0)),
    "xlogy": ((-2.0, 2.0), (0.4, 2.0)),
    "xlog1py": ((-2.0, 2.0), (0.4, 2.0)),
}
INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "gcd", "lcm"}
SHIFTS = {"bitwise_left_shift", "bitwise_right_shift"}
COMPLEX_TOO = {
    "add", "sub", "mul", "div", "neg", "abs", "exp", "sin", "cos", "tanh", "square", "conj_physical", "real", "angle",
    "reciprocal", "sgn",
}  # fmt: skip

# Ops that do not accept a tensor without elements, or for which it says nothing.
NEVER_EMPTY = {
    "argmax": "the maximum of nothing is an IndexError",
    "argmin": "the minimum of nothing is an IndexError",
    "max": "the maximum of nothing is an IndexError",
    "min": "the minimum of nothing is an IndexError",
    "median": "the median of nothing is an IndexError",
    "nanmedian": "the median of nothing is an IndexError",
    "mode": "the mode of nothing is an IndexError",
    "kthvalue": "nothing has no k-th value",
    "amax": "the maximum of nothing is an IndexError",
    "amin": "the minimum of nothing is an IndexError",
}


def arguments_of(op, make):
    """The samples of an op: its own, the ones listed here, or the usual shapes for its number of inputs."""
    listed = op.samples or SAMPLES.get(op.name)
    if listed is not None:
        return list(listed(make))
    if op.elementwise and not op.attributes and len(op.parameters) in (1, 2):
        return elementwise(op, make)
    return None


def elementwise(op, make):
    """Plain, transposed, empty and 0-d; for two inputs also broadcast against each other."""
    name = op.name
    if name in INTEGERS or name in SHIFTS:
        return integer_samples(len(op.parameters), shift=name in SHIFTS)
    bounds = DOMAINS.get(name, (-0.9, 0.9))
    first, second = bounds if isinstance(bounds[0], tuple) else (bounds, bounds)

    def x(*shape):
        return make(*shape, low=first[0], high=first[1])

    def y(*shape):
        return make(*shape, low=second[0], high=second[1])

    if len(op.parameters) == 1:
        samples = [((x(3, 4),), {}), ((x(4, 3).T,), {}), ((x(0, 2),), {}), ((x(),), {})]
        if name in COMPLEX_TOO:
            samples.append(((make.complex(2, 3),), {}))
        return samples
    shapes = [((3, 4), (3, 4)), ((2, 1, 3), (4, 1)), ((0, 2), (1, 2)), ((), (2, 3)), ((), ())]
    samples = [((x(*a), y(*b)), {}) for a, b in shapes] + [((x(4, 3).T, y(3, 4)), {})]
    if name in COMPLEX_TOO:
        samples.append(((make.complex(2, 3), make.complex(3)), {}))
    return samples


def integer_samples(inputs, shift):
    a = integers([[5, 12, 7], [1, 9, 30]])
    b = integers([3, 2, 1] if shift else [10, 4, 6])
    empty = torch.zeros(0, 3, dtype=torch.int64)
    return [((a,), {}), ((empty,), {})] if inputs == 1 else [((a, b), {}), ((empty, b), {}), ((a[0, 0], b), {})]


def integers(values):
    """An int64 tensor."""
    return torch.tensor(values, dtype=torch.int64)


def over_dims(make, **more):
    """Reductions over some dimensions, over all, over a 0-d tensor and over an empty dimension."""
    return [
        ((make(2, 3, 4),), {"dims": (1,), "keepdim": False, **more}),
        ((make(2, 3, 4),), {"dims": (0, 2), "keepdim": True, **more}),
        ((make(4, 3).T,), {"dims": (0, 1), "keepdim": False, **more}),
        ((make(),), {"dims": (), "keepdim": False, **more}),
        ((make(0, 3),), {"dims": (1,), "keepdim": False, **more}),
    ]


def over_dim(make, **more):
    """The same for ops that work along one dimension."""
    return [
        ((make(2, 3, 4),), {"dim": 1, **more}),
        ((make(4, 3).T,), {"dim": 0, **more}),
        ((make(0, 3),), {"dim": 1, **more}),
    ]


def not_empty(samples):
    return [(args, attrs) for args, attrs in samples if args[0].numel()]


def count_dims(make):
    return [(args, {"dims": attrs["dims"]}) for args, attrs in over_dims(make)]


def truth(make):
    return [((args[0] > 0,), attrs) for args, attrs in over_dims(make)]


def prod_samples(make):
    with_zero = make(2, 3) * torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    return [
        ((make(2, 3, 2),), {"dim": 1, "keepdim": False}),
        ((with_zero.detach(),), {"dim": 1, "keepdim": True}),
        ((make(3, 2).T,), {"dim": None, "keepdim": False}),
        ((make(0, 3),), {"dim": 0, "keepdim": False}),
        ((make(),), {"dim": None, "keepdim": False}),
    ]


def views(make, **attrs):
    return [((make(2, 3, 4),), attrs), ((make(2, 3, 0),), attrs)]


def matmul_samples(make):
    shapes = [((3, 4), (4, 2)), ((2, 3, 4), (4, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 0), (0, 3))]
    return [((make(*a), make(*b)), {}) for a, b in shapes] + [((make(4, 3).T, make(2, 4).T), {})]


def linear_samples(make):
    return [((make(*rows, 4), make(2, 4), bias), {}) for rows in ((3,), (2, 3), (0,)) for bias in (None, make(2))]


def mask(*shape):
    """Every third element, beginning with the second."""
    return torch.tensor((np.arange(int(np.prod(shape))) % 3 == 1).reshape(shape))


INDEX = [[0, 2, 1], [2, 2, 0]]  # with a duplicate


def index_samples(make):
    rows, columns = integers([0, 1, 1]), integers([2, 0, 0])
    return [
        ((make(2, 3), rows, columns), {"dims": (0, 1)}),
        ((make(2, 3, 4), integers([[0, 2], [2, 2]])), {"dims": (1,)}),
        ((make(2, 3), integers([])), {"dims": (0,)}),
    ]


def index_put_samples(make):
    rows, columns = integers([0, 1, 1]), integers([2, 0, 1])
    twice = integers([2, 0, 2])
    return [
        ((make(2, 3), make(3), rows, columns), {"dims": (0, 1), "accumulate": False}),
        ((make(2, 3), make(2, 3), twice), {"dims": (1,), "accumulate": True}),
        ((make(2, 3), make(0, 3), integers([])), {"dims": (0,), "accumulate": False}),
    ]


def along(make, **attrs):
    """x, index of a dimension, source: index_add and its like."""
    return [
        ((make(2, 3, 2), integers([2, 0]), make(2, 2, 2)), {"dim": 1, **attrs}),
        ((make(2, 3), integers([]), make(0, 3)), {"dim": 0, **attrs}),
    ]


def scattered(make, **attrs):
    unique = integers([[0, 2, 1], [2, 1, 0]])
    return [
        ((make(3, 4), unique.T, make(3, 4)), {"dim": 1, **attrs}),
        ((make(3, 3), unique, make(2, 3)), {"dim": 1, **attrs}),
        ((make(0, 3), integers([[]]).reshape(0, 3), make(0, 3)), {"dim": 1, **attrs}),
    ]


def added(make, **attrs):
    return [((make(3, 3), integers(INDEX), make(2, 3)), {"dim": 1, **attrs}),
            ((make(2, 3), integers([[]]).reshape(0, 3), make(2, 3)), {"dim": 1, **attrs})]  # fmt: skip


def scatter_reduce_samples(make):
    return [
        (args, {**attrs, "reduce": reduce, "include_self": own})
        for reduce in ("sum", "prod", "mean", "amax", "amin")
        for own in (True, False)
        for args, attrs in added(make)
    ]


def norm_samples(make):
    """Infinite orders are amax and amin of the absolute values."""
    return [sample for ord in (0.0, 1.0, 2.0, 3.0) for sample in over_dims(make, ord=ord)]


def unfold_samples(make):
    return [((make(2, 5),), {"dim": 1, "size": 3, "step": 1}), ((make(5, 2),), {"dim": 0, "size": 2, "step": 2}),
            ((make(0, 3),), {"dim": 1, "size": 2, "step": 1})]  # fmt: skip


def drawn(make):
    return [((make(2, 3), torch.full((2, 3), 0.5, dtype=torch.float64)), {}), ((make(0, 3), make(0, 3)), {})]


def matrices(make, *batch, n=3):
    """Far from singular, also when only a triangle is read."""
    return make(*batch, n, n) * 0.4 + 2 * torch.eye(n, dtype=torch.float64)


def square(make):
    return [((matrices(make),), {}), ((matrices(make, 2),), {}), ((matrices(make, 0),), {})]


def systems(make, **attrs):
    return [
        ((matrices(make), make(3, 2)), attrs),
        ((matrices(make, 2), make(2, 3, 1)), attrs),
        ((matrices(make, 0), make(0, 3, 1)), attrs),
    ]


def triangular(make, upper, **attrs):
    """The same with matrices whose other triangle is zero."""
    keep = torch.triu if upper else torch.tril
    return [((keep(A), B), {"upper": upper, **attrs}) for (A, B), _ in systems(make)]


SAMPLES = {
    "standard_gamma_grad": lambda make: [
        ((make(*shape, low=0.5, high=4.0), make(*shape, low=0.3, high=4.0)), {}) for shape in ((3, 4), (0, 2))
    ],
    "dirichlet_grad": lambda make: [
        ((make(*shape, low=0.1, high=0.9), make(*shape, low=0.5, high=3.0), make(*shape, low=3.5, high=6.0)), {})
        for shape in ((3, 4), (0, 2))
    ],
    "inverse": square,
    "det": square,
    "cofactors": square,
    "cofactors_backward": lambda make: [((make(*args[0].shape), *args), attrs) for args, attrs in square(make)],
    "slogdet": square,
    "matrix_exp": square,
    "solve": systems,
    "triangular_solve_kernel": lambda make: [
        sample for upper in (True, False) for unit in (True, False) for sample in triangular(make, upper, unit=unit)
    ],
    "cholesky_solve": lambda make: triangular(make, True) + triangular(make, False),
    "cholesky_inverse": lambda make: [
        (args[:1], attrs) for upper in (True, False) for args, attrs in triangular(make, upper)
    ],
    "where": lambda make: [
        ((mask(3, 4), make(3, 4), make(3, 4)), {}),
        ((mask(4), make(3, 1), make()), {}),
        ((mask(0, 2), make(0, 2), make()), {}),
    ],
    "to_copy": lambda make: [((make(*shape),), {"dtype": np.dtype(np.float32)}) for shape in ((2, 3), (0, 3), ())],
    "clamp": lambda make: [
        ((make(*shape),), {"min": low, "max": high})
        for shape in ((3, 4), (0, 2), ()) for low, high in ((-0.3, 0.4), (None, 0.2), (0.1, None))
    ],
    "clamp_tensor": lambda make: [
        ((make(3, 4), make(4, low=-0.6, high=-0.3), make(3, 1, low=0.2, high=0.6)), {}),
        ((make(0, 4), make(4), make()), {}),
    ],
    "lerp": lambda make: [((make(3, 4), make(4), make(3, 1)), {}), ((make(0, 4), make(4), make()), {})],
    "clone": lambda make: [
        ((x,), {"memory_format": torch.preserve_format}) for x in (make(2, 3), make(4, 3).T, make(0, 2), make())
    ],
    "view": lambda make: views(make, shape=(3, -1)) [:1] + [((make(2, 0),), {"shape": (0, 5)})],
    "view_dtype": lambda make: views(make, dtype=np.dtype(np.int64)),
    "reshape_copy": lambda make: [((make(4, 3).T,), {"shape": (2, 6)}), ((make(2, 0),), {"shape": (0, 5)})],
    "alias": views,
    "transpose": lambda make: views(make, dim0=0, dim1=2),
    "permute": lambda make: views(make, dims=(2, 0, 1)),
    "expand": lambda make: [((make(2, 1),), {"shape": (3, 2, 4)}), ((make(0, 1),), {"shape": (0, 4)})],
    "squeeze": lambda make: [((make(2, 1, 3),), {"dims": (1,)}), ((make(0, 1),), {"dims": (1,)})],
    "unsqueeze": lambda make: views(make, dim=1),
    "select": lambda make: views(make, dim=1, index=2),
    "slice": lambda make: views(make, dim=1, start=0, stop=3, step=2),
    "unbind": lambda make: views(make, dim=1),
    "restack": lambda make: [((make(2, 3), make(2, 3)), {"dim": 1}), ((make(0, 2), make(0, 2)), {"dim": 0})],
    "split": lambda make: views(make, sizes=(1, 2), dim=1),
    "rejoin": lambda make: [((make(2, 3), make(2, 1)), {"dim": 1}), ((make(0, 2), make(3, 2)), {"dim": 0})],
    "diagonal": lambda make: [
        ((make(3, 4, 2),), {"offset": offset, "dim1": a, "dim2": b}) for offset, a, b in ((0, 0, 1), (1, 2, 0))
    ] + [((make(0, 2),), {"offset": 0, "dim1": 0, "dim2": 1})],
    "unfold": unfold_samples,
    "as_strided": lambda make: [
        ((make(3, 4),), {"size": (2, 3), "stride": (1, 2), "offset": 1, "geometry": ((3, 4), (4, 1), 0)}),
    ],
    "sum": over_dims,
    "mean": lambda make: over_dims(make),
    "prod": prod_samples,
    "var": lambda make: [s for c in (1.0, 0.0) for s in over_dims(make, correction=c) if s[0][0].dim()],
    "std": lambda make: [s for c in (1.0, 0.0) for s in over_dims(make, correction=c) if s[0][0].dim()],
    "all": truth,
    "any": truth,
    "count_nonzero": count_dims,
    "logsumexp": over_dims,
    "norm": norm_samples,
    "amax": lambda make: not_empty(over_dims(make)),
    "amin": lambda make: not_empty(over_dims(make)),
    "argmax": lambda make: not_empty(over_dim(make, keepdim=True)) + [((make(2, 3),), {"dim": None, "keepdim": False})],
    "argmin": lambda make: not_empty(over_dim(make, keepdim=True)) + [((make(2, 3),), {"dim": None, "keepdim": False})],
    "max": lambda make: not_empty(over_dim(make, keepdim=False)),
    "min": lambda make: not_empty(over_dim(make, keepdim=True)),
    "median": lambda make: not_empty(over_dim(make, keepdim=False)),
    "nanmedian": lambda make: not_empty(over_dim(make, keepdim=False)),
    "mode": lambda make: not_empty(over_dim(make, keepdim=False)),
    "median_all": lambda make: [((make(*s),), {"skip_nan": skip}) for s in ((3, 3), (0, 2)) for skip in (True, False)],
    "cumsum": over_dim,
    "cumprod": over_dim,
    "cummax": over_dim,
    "cummin": over_dim,
    "logcumsumexp": over_dim,
    "sort": lambda make: over_dim(make, descending=False) + over_dim(make, descending=True),
    "topk": lambda make: over_dim(make, k=2, largest=True) + over_dim(make, k=1, largest=False),
    "kthvalue": lambda make: not_empty(over_dim(make, k=2, keepdim=False)),
    "matmul": matmul_samples,
    "dot": lambda make: [((make(n), make(n)), {}) for n in (5, 0)],
    "linear": linear_samples,
    "difference_norm": lambda make: [((make(*s),), {"p": p}) for s in ((2, 3, 4), (0, 3)) for p in (0, 1, 2, 3.5)],
    "euclidean_distances": lambda make: [((make(2, 3, 4), make(2, 2, 4)), {}), ((make(0, 4), make(3, 4)), {})],
    "binary_cross_entropy": lambda make: [
        ((make(*shape, low=0.1, high=0.9), make(*shape, low=0.1, high=0.9)), {}) for shape in ((3, 4), (0, 2), ())
    ],
    "view_as_real": lambda make: [((make.complex(2, 3),), {}), ((make.complex(0, 3),), {})],
    "view_as_complex": lambda make: [((make(3, 2),), {}), ((make(0, 2),), {})],
    "real_part": lambda make: [((make.complex(2, 3),), {}), ((make.complex(0, 3),), {})],
    "imaginary_part": lambda make: [((make.complex(2, 3),), {}), ((make.complex(0, 3),), {})],
    "masked_fill": lambda make: [
        ((make(3, 4), mask(3, 4), make()), {}),
        ((make(3, 4), mask(4), make()), {}),
        ((make(0, 4), mask(4), make()), {}),
    ],
    "masked_select": lambda make: [((make(3, 4), mask(3, 4)), {}), ((make(0, 4), mask(0, 4)), {})],
    "masked_scatter": lambda make: [
        ((make(3, 4), mask(3, 4), make(7)), {}),
        ((make(0, 4), mask(0, 4), make(2)), {}),
    ],
    "nonzero": lambda make: [((make(*s) > 0,), {}) for s in ((3, 4), (0, 2), ())],
    "copy": lambda make: [((make(3, 4), make(4)), {}), ((make(0, 4), make(4)), {}), ((make(), make()), {})],
    "copy_over": lambda make: [((make(3, 4), make(3, 4)), {}), ((make(0, 4), make(0, 4)), {})],
    "pick": lambda make: views(make, key=(1, slice(None), ...))[:1] + [((make(2, 0),), {"key": (1, ...)})],
    "cut": lambda make: views(make, key=(slice(0, 2), slice(1, 3, 2))),
    "insert": lambda make: views(make, key=(None, ..., None)),
    "index": index_samples,
    "mask_index": lambda make: [((make(2, 3, 4), mask(3, 4)), {"dim": 1}), ((make(0, 3), mask(3)), {"dim": 1})],
    "index_put": index_put_samples,
    "index_select": lambda make: [
        ((make(2, 3), integers([2, 0, 2])), {"dim": 1}), ((make(0, 3), integers([1])), {"dim": 1}),
        ((make(), integers([0])), {"dim": 0}),
    ],
    "index_add": along,
    "index_copy": along,
    "index_fill": lambda make: [
        ((make(2, 3), integers([2, 0]), make()), {"dim": 1}), ((make(0, 3), integers([2]), make()), {"dim": 1}),
    ],
    "take": lambda make: [((make(2, 3), integers([[5, 0], [0, 2]])), {}), ((make(2, 3), integers([])), {})],
    "put": lambda make: [
        ((make(2, 3), integers([5, 0]), make(2)), {"accumulate": False}),
        ((make(2, 3), integers([5, 5]), make(2)), {"accumulate": True}),
        ((make(2, 3), integers([]), make(0)), {"accumulate": True}),
    ],
    "gather": lambda make: [
        ((make(2, 3), integers(INDEX)), {"dim": 1}), ((make(3, 3), integers(INDEX)), {"dim": 0}),
        ((make(0, 3), integers([[]]).reshape(0, 3)), {"dim": 1}),
    ],
    "scatter": scattered,
    "scatter_add": added,
    "scatter_reduce": scatter_reduce_samples,
    "repeat": lambda make: [
        ((make(2, 3),), {"times": (2, 1, 3)}), ((make(0, 3),), {"times": (2, 2)}), ((make(2),), {"times": (0,)}),
    ],
    "flip": lambda make: views(make, dims=(0, 2)),
    "roll": lambda make: views(make, shifts=(1, -1), dims=(0, 2)),
    "tril": lambda make: views(make, diagonal=1),
    "triu": lambda make: views(make, diagonal=-1),
    "diag_embed": lambda make: [
        ((make(2, 3),), {"offset": 1, "dim1": -2, "dim2": -1}), ((make(2, 3),), {"offset": 0, "dim1": 0, "dim2": 1}),
        ((make(0, 3),), {"offset": 0, "dim1": -2, "dim2": -1}),
    ],
    "block_diag": lambda make: [((make(2, 3), make(1, 2), make(2, 2)), {}), ((make(0, 2), make(1, 2)), {})],
    "constant_pad": lambda make: [
        ((make(2, 3, 4),), {"padding": ((1, 0), (2, -1)), "value": 0.5}),
        ((make(0, 3),), {"padding": ((1, 1),), "value": 0}),
    ],
    "polygamma": lambda make: [((make(*s, low=0.5, high=3.0),), {"n": n}) for s in ((3, 4), (0, 2)) for n in (1, 2)],
    "logit": lambda make: [
        ((make(*s, low=0.2, high=0.8),), {"eps": eps}) for s in ((3, 4), (0, 2), ()) for eps in (None, 0.1)
    ],
    "frexp": lambda make: [((make(3, 4),), {}), ((make(4, 3).T,), {}), ((make(0, 2),), {}), ((make(),), {})],
    "nan_to_num": lambda make: [((make(*s),), {"nan": 0.0, "posinf": None, "neginf": None}) for s in ((3, 4), (0, 2))],
    "round_decimals": lambda make: [
        ((make(*s, low=-30, high=30),), {"decimals": d}) for s in ((3, 4), (0, 2)) for d in (1, -1)
    ],
    "fft_c2c": lambda make: [
        ((make.complex(*shape),), {"dims": dims, "forward": forward, "scale": scale})
        for shape, dims in (((2, 3, 4), (2,)), ((2, 3), (1, 0)), ((0, 3), (1,)))
        for forward, scale in ((True, 1.0), (False, 0.25))
    ],
    "fft_r2c": lambda make: [
        ((make(*shape),), {"dims": dims, "scale": 0.5})
        for shape, dims in (((2, 3, 4), (2,)), ((2, 5), (0, 1)), ((0, 3), (1,)))
    ],
    "fft_c2r": lambda make: [
        ((make.complex(*shape),), {"dims": dims, "scale": 0.5, "size": size})
        for shape, dims, size in (((2, 3), (1,), 4), ((2, 3), (0, 1), 5), ((0, 3), (1,), 4))
    ],
    "copy_slices": lambda make: [
        ((make(3, 4), make(2, 4)), {"replay": rows_after_first}),
        ((make(3, 0), make(2, 0)), {"replay": rows_after_first}),
    ],
}  # fmt: skip
SAMPLES |= {
    f"{name}_draw": drawn
    for name in ("uniform", "normal", "exponential", "cauchy", "log_normal", "geometric", "bernoulli", "random")
}


def rows_after_first(array):
    return array[1:]


SAMPLES |= LAYERS
