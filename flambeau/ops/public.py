"""The one table of what `flambeau.*` exports from the op families.

`PUBLIC`: family -> names (a name after a colon is the public one); functions listed in `OUT` also take `out=`.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.inplace import check_overlap, with_out, write_out
from flambeau.core.tensor import Tensor, wrap
from flambeau.ops.methods import TENSORS_ONLY, entries, tensor_operands

# Functions that take out=
OUT: dict[str, str] = {
    "pointwise": """
        exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sigmoid tanh copysign floor ceil trunc neg reciprocal square abs
        sign sgn remainder fmod maximum minimum fmax fmin conj_physical mul neg:negative abs:absolute trunc:fix
        mul:multiply""",
    "trigonometry": """
        sin cos tan asin acos atan sinh cosh asinh acosh atanh atan2 hypot asin:arcsin acos:arccos atan:arctan
        asinh:arcsinh acosh:arccosh atanh:arctanh atan2:arctan2""",
    "arithmetic": """
        add sub rsub div floor_divide pow float_power clamp clamp_min clamp_max lerp addcmul addcdiv
        sub:subtract div:divide div:true_divide clamp:clip""",
    "comparison": """
        eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
        bitwise_left_shift bitwise_right_shift signbit
        ne:not_equal lt:less le:less_equal gt:greater ge:greater_equal""",
    "special": "erf erfc erfinv lgamma digamma polygamma mvlgamma xlogy logit sinc",
    "bessel": "i0",
    "incomplete_gamma": "igamma igammac",
    "tolerance": """
        nan_to_num round frac deg2rad rad2deg logaddexp logaddexp2 heaviside ldexp gcd lcm nextafter isposinf isneginf
        frexp""",
    "activation_piecewise": "hardshrink",
    "softmax": "softmax log_softmax",
    "decompositions": "cholesky_old:cholesky old_qr:qr old_svd:svd old_lu:lu lu_unpack",
    "linalg": """
        det slogdet logdet inv:inverse pinv:pinverse old_cross:cross cholesky_solve cholesky_inverse
        old_lu_solve:lu_solve triangular_solve""",
    "matrix_functions": "matrix_exp matrix_power",
    "reflections": "householder_product:orgqr ormqr geqrf",
    "complex": "angle",
    "reductions": "sum mean prod var std all any count_nonzero nansum nanmean",
    "extremes": "amax amin aminmax argmax argmin median nanmedian mode quantile nanquantile",
    "norms": "logsumexp renorm",
    "matmul": "matmul mm bmm dot vdot outer mv addmm addmv addr baddbmm addbmm outer:ger",
    "contraction": "inner kron tensordot",
    "masking": "masked_select nonzero where",
    "gathering": "index_select index_add index_copy take",
    "scattering": "gather scatter scatter_add scatter_reduce index_reduce take_along_dim",
    "joining": "cat cat:concat cat:concatenate stack hstack vstack vstack:row_stack dstack column_stack",
    "rearranging": "tril triu diag slice_scatter",
    "sorting": "sort argsort msort topk kthvalue isin searchsorted bucketize",
    "histograms": "histc histogram",
    "cumulative": "cumsum cumprod cummax cummin logcumsumexp",
    "differences": "diff",
}

PUBLIC: dict[str, str] = {
    "pointwise": "conj",
        "comparison": "isnan isinf isfinite",
    "casting": "clone detach",
    "enumerated": """
        affine_grid_generator embedding_bag
        binary_cross_entropy_with_logits cosine_embedding_loss ctc_loss embedding_lookup:embedding
        embedding_renorm_ hinge_embedding_loss kl_div margin_ranking_loss poisson_nll_loss triplet_margin_loss""",
    "activation": "selu selu_ celu celu_",
    "activation_piecewise": "relu relu_ prelu rrelu rrelu_ threshold threshold_",
    "writing": "fill fill_ zero_",
    "shape": """
        reshape transpose permute movedim squeeze unsqueeze select narrow unbind split diagonal as_strided
        transpose:swapaxes transpose:swapdims movedim:moveaxis split:split_with_sizes""",
    "queries": """
        is_tensor is_storage is_floating_point is_complex is_signed is_conj is_inference is_nonzero
        is_same_size numel get_device result_type typename set_num_threads get_num_threads set_printoptions""",
    "complex": "view_as_real view_as_complex real imag complex polar resolve_conj resolve_conj:resolve_neg",
    "reductions": "var_mean std_mean",
    "tolerance": "equal isclose allclose isreal positive",
    "statistics": "cov corrcoef",
    "spectrogram": "stft istft",
    "windows": "bartlett_window blackman_window hamming_window hann_window kaiser_window",
    "lowrank": "svd_lowrank pca_lowrank",
    "extremes": "max min",
    "norms": "norm dist",
    "matmul": "chain_matmul",
    "contraction": "einsum trace bilinear",
    "masking": "masked_fill masked_scatter argwhere",
    "indexing": "index_put index_put_",
    "gathering": "index_fill put",
    "joining": "atleast_1d atleast_2d atleast_3d block_diag meshgrid cartesian_prod combinations",
    "named": "align_tensors",
    "sorting": "unique unique_consecutive",
    "recurrent": "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
    "histograms": "bincount histogramdd",
    "differences": "gradient trapezoid trapezoid:trapz cumulative_trapezoid",
    "reshaping": """
        flatten unflatten ravel broadcast_to broadcast_shapes broadcast_tensors chunk tensor_split hsplit
        vsplit dsplit t adjoint resize_as_""",
    "rearranging": """
        tile repeat_interleave flip_function:flip fliplr flipud roll rot90 tril_indices triu_indices
        diag_embed diagflat vander unravel_index select_scatter diagonal_scatter as_strided_scatter""",
    "creation": """
        tensor as_tensor asarray from_numpy from_dlpack frombuffer zeros ones empty full zeros_like ones_like empty_like
        full_like empty_strided empty_permuted scalar_tensor""",
    "ranges": "arange linspace logspace eye",
    "random": """
        rand randn rand_like randn_like randint randint_like randperm normal bernoulli multinomial poisson binomial""",
    "dropout": """
        raw_dropout:dropout raw_dropout_:dropout_ raw_feature_dropout:feature_dropout
        raw_feature_dropout_:feature_dropout_ raw_alpha_dropout:alpha_dropout
        raw_alpha_dropout_:alpha_dropout_ native_dropout raw_feature_alpha_dropout:feature_alpha_dropout
        raw_feature_alpha_dropout_:feature_alpha_dropout_""",
    "convolution": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "pooling": "avg_pool1d adaptive_avg_pool1d",
    "pooling_max": """
        max_pool1d max_pool2d max_pool3d max_pool1d_with_indices
        adaptive_max_pool1d_with_indices:adaptive_max_pool1d""",
    "normalization": """
        raw_batch_norm:batch_norm raw_instance_norm:instance_norm raw_layer_norm:layer_norm
        raw_group_norm:group_norm rms_norm""",
    "padding": "constant_pad_nd",
    "folding": "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle",
    "distance": "cdist cosine_similarity pairwise_distance pdist",
}


def sources() -> dict[str, tuple[str, str, bool]]:
    """Public name -> (family, name in it, whether it takes `out=`)."""
    found: dict[str, tuple[str, str, bool]] = {}
    for table, takes_out in ((PUBLIC, False), (OUT, True)):
        for family, listing in table.items():
            for name, public in entries(listing):
                found[public] = (family, name, takes_out)
    return found


SOURCES = sources()


def resolve(public: str) -> Any:
    """The function of a public name; imports its family. KeyError for a name that is not in the tables."""
    family, name, takes_out = SOURCES[public]
    function = getattr(importlib.import_module(f"flambeau.ops.{family}"), name)
    if public in TENSORS_ONLY:
        function = tensor_operands(function, public)
    return _with_tensor_first(function, public) if takes_out else function


# Functions whose first operand may be a number, if the second is a tensor.
NUMBER_FIRST = frozenset(
    """polygamma pow float_power remainder bitwise_and bitwise_or bitwise_xor bitwise_left_shift
    bitwise_right_shift xlogy where""".split()
)

# Functions that take two numbers as well, as if the first were a 0-d tensor.
NUMBERS_ONLY = frozenset("add sub subtract mul multiply div divide true_divide floor_divide".split())


# Functions that do not read from the memory they write to.
NO_OVERLAP = frozenset("index_select masked_select take gather kthvalue cat concat concatenate".split())


# Functions whose `out=` must have the type of the result, rather than one it can be cast to.
EXACT_OUT = frozenset("gather aminmax".split())


def check_exact(name: str, result: Any, out: Any) -> None:
    """RuntimeError unless the tensors of `out` have the types of the results."""
    pairs = zip(result, out) if isinstance(result, tuple) else [(result, out)]
    for made, target in pairs:
        if made.dtype is not target.dtype:
            raise RuntimeError(
                f"{name}(): Expected out tensor to have dtype {made.dtype.name}, but got {target.dtype.name} instead"
            )


def check_apart(inputs: Any, out: Any) -> None:
    """RuntimeError when a tensor of `out` overlaps itself or one of the inputs (tensors and lists of them)."""
    tensors = [t for value in inputs for t in (value if isinstance(value, (list, tuple)) else [value])]
    for target in out if isinstance(out, (list, tuple)) else [out]:
        if not isinstance(target, Tensor):
            continue
        check_overlap(target._array)
        if any(t is target or np.may_share_memory(t._array, target._array) for t in tensors if isinstance(t, Tensor)):
            raise RuntimeError(
                "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single "
                "memory location. Please clone() the tensor before performing the operation."
            )


def _with_tensor_first(function: Any, public: str) -> Any:
    """Add `out=`, and PyTorch's TypeError for a first operand that is not a tensor."""
    number_first = public in NUMBER_FIRST or public in NUMBERS_ONLY

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        tensor_follows = number_first and any(isinstance(a, Tensor) for a in args[1:])
        if args and isinstance(args[0], NUMBERS) and not tensor_follows:
            if public in NUMBERS_ONLY:
                first = wrap(np.array(args[0], dtypes.result_of([], args[:1]).numpy))
                return call(first, *args[1:], out=out, **kwargs)
            kinds = ", ".join(type(a).__name__ for a in args)
            raise TypeError(
                f"{public}() received an invalid combination of arguments - got ({kinds}): argument 'input' "
                f"(position 1) must be Tensor, not {type(args[0]).__name__}"
            )
        if out is None:
            return function(*args, **kwargs)
        if public in NO_OVERLAP:
            check_apart(args, out)
        if public in EXACT_OUT:
            result = function(*args, **kwargs)
            check_exact(public, result, out)
            return write_out(result, out, public)
        return with_out(function)(*args, out=out, **kwargs)

    call.__name__ = call.__qualname__ = public
    call.__module__ = "flambeau"    # where pickle finds this very function again
    call.__doc__ = function.__doc__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


NUMBERS = (bool, int, float, complex)
