"""Dropout: set elements or whole channels to zero at random and scale the rest, in training.

The masks are PyTorch's: one Bernoulli draw of probability 1 - p per element (or channel), in memory order.
`dropout`, `dropout1d` … have the signatures of `nn.functional`; `raw_dropout` and its siblings those of
`flambeau.dropout`, which take `train` and have in-place forms.
"""

from __future__ import annotations

import builtins
import math
import warnings
from typing import Any

import numpy as np

from flambeau.core import random_distributions as distributions
from flambeau.core.inplace import scalar_name
from flambeau.core.random import default_generator
from flambeau.core.tensor import Tensor, constant, wrap
from flambeau.ops.arithmetic import add_, mul_
from flambeau.ops.creation import like_array
from flambeau.ops.pointwise import add, mul
from flambeau.ops.random import described, write_draws

SELU_NEGATIVE_LIMIT = 1.7580993408473766                # SELU tends to minus this; alpha dropout sets elements to it


def _drop(input: Tensor, p: float, train: builtins.bool, inplace: builtins.bool, *, feature: builtins.bool = False,
          alpha: builtins.bool = False) -> Tensor:
    """Multiply by noise (and for alpha dropout add some), the one computation behind every form."""
    if not isinstance(input, Tensor):
        raise TypeError(f"dropout(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    if p == 0 or not train or input.numel() == 0:
        return input
    times, plus = (mul_, add_) if inplace else (mul, add)
    if p == 1:
        return times(input, constant(np.zeros((), input._array.dtype)))
    if input._array.dtype.kind not in "fcV":
        raise RuntimeError("result type Float can't be cast to the desired output type "
                           f"{scalar_name(input._array.dtype)}")
    if not alpha:
        return times(input, wrap(_noise(input, p, feature, 1 / np.float32(1 - p) if _narrow(input) else 1 / (1 - p))))
    scale = 1 / math.sqrt((SELU_NEGATIVE_LIMIT**2 * p + 1) * (1 - p))
    kept = wrap(_noise(input, p, feature, None))
    limit = SELU_NEGATIVE_LIMIT * scale
    shift = add(mul(add(kept, -1.0), limit), limit * p)
    return plus(times(input, mul(kept, scale)), shift)


def _narrow(input: Tensor) -> builtins.bool:
    return input._array.dtype not in (np.float64, np.complex128)


def _noise(input: Tensor, p: float, feature: builtins.bool, scale: Any) -> np.ndarray:
    """Ones (or `scale`) with probability 1 - p, else zeros: for each element, or for each of the first two dims."""
    if feature:
        if input._array.ndim < 2:
            raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
        noise = np.empty(input._array.shape[:2] + (1,) * (input._array.ndim - 2), input._array.dtype)
    else:
        noise = like_array(input)

    def draw(shape: tuple, dtype: np.dtype, contiguous: builtins.bool) -> np.ndarray:
        kept = distributions.bernoulli(default_generator, shape, 1 - p)
        return kept if scale is None else np.multiply(kept, dtype.type(scale), dtype=dtype)

    write_draws(wrap(noise), described(draw, "bernoulli", default_generator, p=1 - p, scale=scale))
    return noise


# ---- the signatures of nn.functional ---------------------------------------------------------------


def _check_probability(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: builtins.bool = True, inplace: builtins.bool = False) -> Tensor:
    """Set elements to zero with probability p and divide the rest by 1 - p; the input itself outside training.

    Shapes: any. Dtypes: floating and complex. Raises ValueError for p outside [0, 1]. Source: Srivastava et al. 2014.
    """
    _check_probability(p)
    return _drop(input, p, training, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: builtins.bool = True, inplace: builtins.bool = False) -> Tensor:
    """Set whole channels to zero: (N, C, L) or (C, L). RuntimeError for other ranks."""
    _check_probability(p)
    if input.dim() not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Channels are "
                           "dropped from (C, L) or (N, C, L); for other shapes use dropout")
    return _with_batch(input, 2, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: builtins.bool = True, inplace: builtins.bool = False) -> Tensor:
    """Set whole channels to zero: (N, C, H, W). Three dimensions are read as (N, C, L), with a warning."""
    _check_probability(p)
    if input.dim() not in (3, 4):
        _warn_rank("dropout2d", input.dim(), "2 spatial dimensions")
    if input.dim() == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired "
            "- input is interpreted as shape (N, C, L), where C is the channel dim. Use dropout1d for that.",
            UserWarning, stacklevel=2)
    return _drop(input, p, training, inplace, feature=True)


def dropout3d(input: Tensor, p: float = 0.5, training: builtins.bool = True, inplace: builtins.bool = False) -> Tensor:
    """Set whole channels to zero: (N, C, D, H, W) or (C, D, H, W)."""
    _check_probability(p)
    if input.dim() not in (4, 5):
        _warn_rank("dropout3d", input.dim(), "3 spatial dimensions")
    return _with_batch(input, 4, p, training, inplace)


def _warn_rank(name: str, rank: int, expected: str) -> None:
    warnings.warn(f"{name}: Received a {rank}-D input to {name}, which is deprecated and will result in an error in a "
                  "future release. To retain the behavior and silence this warning, please use dropout instead. "
                  f"{name} drops channels of inputs with {expected}, a channel dimension and maybe a batch dimension.",
                  UserWarning, stacklevel=3)


def _with_batch(input: Tensor, unbatched: int, p: float, training: builtins.bool, inplace: builtins.bool) -> Tensor:
    """Feature dropout of an input whose batch dimension may be missing."""
    if input.dim() != unbatched:
        return _drop(input, p, training, inplace, feature=unbatched > 1 and input.dim() > 1)
    if inplace:
        _drop(input.unsqueeze(0), p, training, True, feature=True)
        return input
    return _drop(input.unsqueeze(0), p, training, False, feature=True).squeeze(0)


def alpha_dropout(input: Tensor, p: float = 0.5, training: builtins.bool = False,
                  inplace: builtins.bool = False) -> Tensor:
    """Dropout that keeps mean and variance of SELU networks. Source: Klambauer et al. 2017, section 3."""
    _check_probability(p)
    return _drop(input, p, training, inplace, alpha=True)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: builtins.bool = False,
                          inplace: builtins.bool = False) -> Tensor:
    """Alpha dropout of whole channels: (N, C, …)."""
    _check_probability(p)
    return _drop(input, p, training, inplace, feature=True, alpha=True)


# ---- the signatures of flambeau.dropout and its siblings ---------------------------------------------


def _raw(name: str, **kind: builtins.bool) -> tuple[Any, Any]:
    """The function and its in-place form."""

    def run(input: Tensor, p: float, train: builtins.bool) -> Tensor:
        return _drop(input, p, train, False, **kind)

    def run_(input: Tensor, p: float, train: builtins.bool) -> Tensor:
        return _drop(input, p, train, True, **kind)

    for function, public in ((run, name), (run_, name + "_")):
        function.__name__ = function.__qualname__ = public
    run.__doc__ = f"`nn.functional.{name}` with every argument given."
    run_.__doc__ = f"`nn.functional.{name}` with every argument given, in place."
    return run, run_


raw_dropout, raw_dropout_ = _raw("dropout")
raw_feature_dropout, raw_feature_dropout_ = _raw("feature_dropout", feature=True)
raw_alpha_dropout, raw_alpha_dropout_ = _raw("alpha_dropout", alpha=True)
raw_feature_alpha_dropout, raw_feature_alpha_dropout_ = _raw("feature_alpha_dropout", feature=True, alpha=True)


def native_dropout(input: Tensor, p: float, train: builtins.bool | None) -> tuple[Tensor, Tensor]:
    """The result of dropout and its mask (bool, True where elements were kept)."""
    if not train or p == 0:
        return input, constant(np.ones(input._array.shape, bool))
    if p == 1:
        return mul(input, constant(np.zeros((), input._array.dtype))), constant(np.zeros(input._array.shape, bool))
    noise = _noise(input, p, False, None)
    return mul(mul(input, wrap(noise)), 1 / (1 - p)), wrap(noise.astype(bool))
