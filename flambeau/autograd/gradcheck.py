"""Comparing derivatives with finite differences, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flambeau.autograd.engine import grad
from flambeau.core.tensor import Tensor, plain, wrap


class GradcheckError(RuntimeError):
    """A derivative that finite differences contradict."""


def _tensors(values: Any) -> tuple[Any, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)


def _differentiable(t: Any) -> bool:
    return isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())


def numerical_jacobian(
    function: Callable[..., Any], inputs: Any, target: Tensor, eps: float = 1e-6
) -> list[np.ndarray]:
    """For each output the matrix d output / d target (elements of target in rows), by central differences."""
    values = plain(target)
    columns: list[list[np.ndarray]] = []
    for place in np.ndindex(values.shape):
        kept = values[place].copy()
        steps = (eps, eps * 1j) if values.dtype.kind == "c" else (eps,)
        slopes = []
        for step in steps:
            values[place] = kept + step
            above = [np.array(o._array, copy=True) for o in _outputs(function, inputs)]
            values[place] = kept - step
            below = [np.array(o._array, copy=True) for o in _outputs(function, inputs)]
            values[place] = kept
            slopes.append([((a - b) / (2 * eps)).reshape(-1) for a, b in zip(above, below, strict=True)])
        if len(slopes) == 2:  # conjugate Wirtinger derivative, PyTorch's convention
            columns.append([np.stack([real, imaginary]) for real, imaginary in zip(*slopes, strict=True)])
        else:
            columns.append(slopes[0])
    count = len(_outputs(function, inputs))
    return [np.stack([c[i] for c in columns]) if columns else np.zeros((0, 0)) for i in range(count)]


def _outputs(function: Callable[..., Any], inputs: Any) -> list[Tensor]:
    return [o for o in _tensors(function(*inputs)) if _differentiable(o)]


def _analytical(
    function: Callable[..., Any],
    inputs: Any,
    targets: list[Tensor],
    eps_output: int,
    place: Any,
    imaginary: bool = False,
) -> list[np.ndarray]:
    outputs = _outputs(function, inputs)
    out = outputs[eps_output]
    seed = np.zeros(out._array.shape, out._array.dtype)
    seed[place] = 1j if imaginary else 1
    if not out._requires_grad:
        return [np.zeros(t._array.shape, t._array.dtype) for t in targets]
    found = grad([out], targets, [wrap(seed)], allow_unused=True)
    return [
        np.zeros(t._array.shape, t._array.dtype) if g is None else np.array(g._array)
        for t, g in zip(targets, found, strict=True)
    ]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the derivatives of `func` at `inputs` agree with central finite differences.

    Inputs that require grad should be float64 (or complex128). GradcheckError (a RuntimeError) says where they
    differ, unless `raise_exception` is False. `fast_mode` compares one random projection instead of every element.
    """
    inputs = _tensors(inputs)
    targets = [t for t in inputs if isinstance(t, Tensor) and t._requires_grad]
    if not targets:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have "
            "requires_grad=True."
        )
    for position, t in enumerate(inputs):
        if isinstance(t, Tensor) and t._requires_grad and t._array.dtype not in (np.float64, np.complex128):
            warnings.warn(
                f"Input #{position} requires gradient and is not a double precision floating point or complex. This "
                f"check will "
                "likely fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=2,
            )
    try:
        if fast_mode:
            _compare_projection(func, inputs, targets, eps, atol, rtol)
        else:
            for number, out in enumerate(_outputs(func, inputs)):
                _compare_output(func, inputs, targets, number, out, eps, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _compare_output(
    func: Any, inputs: Any, targets: list[Tensor], number: int, out: Tensor, eps: float, atol: float, rtol: float
) -> None:
    numeric = [numerical_jacobian(func, inputs, t, eps)[number] for t in targets]
    for flat, place in enumerate(np.ndindex(out._array.shape)):
        parts = (False, True) if out._array.dtype.kind == "c" else (False,)
        for imaginary in parts:
            found = _analytical(func, inputs, targets, number, place, imaginary)
            for which, (t, g, table) in enumerate(zip(targets, found, numeric, strict=True)):
                want = _expected(table, flat, t, imaginary)
                if not np.allclose(g.reshape(-1), want, rtol=rtol, atol=atol, equal_nan=True):
                    raise GradcheckError(
                        f"Jacobian mismatch for output {number} with respect to input {which},\n"
                        f"numerical (finite difference):{want}\nanalytical:{g.reshape(-1)}\n"
                    )


def _compare_projection(func: Any, inputs: Any, targets: list[Tensor], eps: float, atol: float, rtol: float) -> None:
    """Each input along one random direction, all outputs weighted by random numbers: two calls per input."""
    stream = np.random.default_rng(0)
    outputs = _outputs(func, inputs)
    seeds = [_random_like(o, stream).detach() for o in outputs]
    live = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o._requires_grad]
    found: Any = [None] * len(targets)
    if live:
        found = grad([o for o, _ in live], targets, [s for _, s in live], allow_unused=True)
    for which, (t, g) in enumerate(zip(targets, found, strict=True)):
        direction = _random_like(t, stream)._array
        values = plain(t)
        kept = values.copy()
        slope = 0.0
        for sign in (1, -1):
            values[...] = kept + sign * eps * direction
            for o, s in zip(_outputs(func, inputs), seeds, strict=True):
                slope += sign * float((np.conj(s._array) * o._array).real.sum()) / (2 * eps)
        values[...] = kept
        have = 0.0 if g is None else float((np.conj(g._array) * direction).real.sum())
        if not np.isclose(have, slope, rtol=rtol, atol=atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch with respect to input {which} along a random direction,\n"
                f"numerical (finite difference):{slope}\nanalytical:{have}\n"
            )


def _expected(table: np.ndarray, flat: int, t: Tensor, imaginary: bool) -> np.ndarray:
    """What the gradient should be for the output element `flat`, seeded with 1 or i."""
    seed = 1j if imaginary else 1
    if t._array.dtype.kind == "c":
        if table.size == 0:
            return np.zeros(0, t._array.dtype)
        dx, dy = table[:, 0, flat], table[:, 1, flat]
        return (np.conj(seed) * dx).real + 1j * (np.conj(seed) * dy).real
    if table.size == 0:
        return np.zeros(0)
    return (np.conj(seed) * table[:, flat]).real


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Whether the derivatives of the derivatives of `func` agree with finite differences."""
    inputs = _tensors(inputs)
    outputs = _outputs(func, inputs)
    if grad_outputs is None:
        stream = np.random.default_rng(0)
        seeds: Iterable[Any] = [_random_like(o, stream) for o in outputs]
    else:
        seeds = _tensors(grad_outputs)
    seeds = [s if s._requires_grad else s.detach().requires_grad_() for s in seeds]
    count = len(inputs)

    def first_derivative(*values: Any) -> Any:
        xs, gs = values[:count], values[count:]
        outs = _outputs(func, xs)
        wanted = [x for x in xs if isinstance(x, Tensor) and x._requires_grad]
        live = [(o, g) for o, g in zip(outs, gs, strict=True) if o._requires_grad]
        found = grad([o for o, _ in live], wanted, [g for _, g in live], create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        first_derivative,
        (*inputs, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        fast_mode=fast_mode,
    )


def _random_like(t: Tensor, stream: Any) -> Tensor:
    values = stream.standard_normal(t._array.shape)
    if t._array.dtype.kind == "c":
        values = values + 1j * stream.standard_normal(t._array.shape)
    return wrap(np.asarray(values, t._array.dtype)).requires_grad_()
