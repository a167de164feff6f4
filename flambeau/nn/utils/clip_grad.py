"""Limits on gradients: by their total norm, or element by element."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

from flambeau.autograd.modes import no_grad
from flambeau.core.dtype import float32, float64
from flambeau.core.tensor import Tensor
from flambeau.ops.creation import tensor
from flambeau.ops.joining import stack

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _norm(values: Tensor, p: float) -> Tensor:
    """The p-norm of all elements, as a 0-d tensor."""
    if values.numel() == 0:
        return values.sum()
    if p == 2:
        if values.dtype in (float32, float64):
            values = values.reshape(-1)
            return values.dot(values).sqrt()                            # no array of squares
        magnitudes = values.abs()
        return (magnitudes * magnitudes).sum().sqrt()
    if p == math.inf:
        return values.abs().max()
    if p == -math.inf:
        return values.abs().min()
    if p == 0:
        return (values != 0).sum().to(values.dtype)
    return values.abs().pow(p).sum().pow(1 / p)


@no_grad()
def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False,
                   foreach: bool | None = None) -> Tensor:
    """The norm of all elements of all tensors together, as a 0-d tensor.

    Raises RuntimeError for a NaN or infinite norm if `error_if_nonfinite`.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return tensor(0.0)
    total = _norm(stack([_norm(values, norm_type).to(tensors[0].dtype) for values in tensors]), norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it "
                           "cannot be clipped. To disable this error and scale the gradients by the non-finite norm "
                           "anyway, set `error_if_nonfinite=False`")
    return total


@no_grad()
def clip_grads_with_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor,
                          foreach: bool | None = None) -> None:
    """Scales the gradients in place by max_norm / total_norm where that is less than 1."""
    gradients = _gradients(parameters)
    if gradients:
        # No branch on the value: a compiled step stays one program.
        scale = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient.dtype))


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False, foreach: bool | None = None) -> Tensor:
    """Scales the gradients in place so that their total norm is at most max_norm; returns the norm before."""
    if not isinstance(parameters, Tensor):
        parameters = list(parameters)
        if not parameters:
            warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                   error_if_nonfinite: bool = False, foreach: bool | None = None) -> Tensor:
    """The old name of `clip_grad_norm_`."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.",
                  FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clips every element of the gradients, in place, to [-clip_value, clip_value]."""
    clip_value = float(clip_value)
    for gradient in _gradients(parameters):
        gradient.clamp_(min=-clip_value, max=clip_value)
