"""One table over every primitive: its samples, its oracle, and what one sample buys.

The loop runs over the registry itself, so a new op without samples or oracle fails here. Values and types are compared
with NumPy and SciPy, first and second derivatives with finite differences, strided inputs with dense ones, the kernels
of backends with the op's own body.
"""

import importlib
import itertools
import pkgutil

import numpy as np
import pytest

import flambeau as torch
import flambeau.ops
from flambeau.autograd import gradcheck, gradgradcheck
from flambeau.core import dispatch
from flambeau.core.dispatch import REGISTRY
from flambeau.core.tensor import Tensor, wrap
from tests.ops.oracles import COVERED, NO_ORACLE, ORACLES
from tests.ops.samples import NEVER_EMPTY, arguments_of

for module in pkgutil.iter_modules(flambeau.ops.__path__):
    importlib.import_module(f"flambeau.ops.{module.name}")

NAMES = sorted(REGISTRY)
TESTED = [name for name in NAMES if name not in NO_ORACLE and name not in COVERED]
SMOOTH = [name for name in TESTED if REGISTRY[name].no_gradient is None]

# Inputs that the derivative treats as constants, as PyTorch does.
CONSTANT = {"nll_loss": {2}, "scale_gradient": {1}, "relu_backward": {1}, "igamma": {0}, "igammac": {0}}
# Outputs that carry a gradient, where not all floating ones do.
OUTPUTS = {
    "native_batch_norm": (0,),  # the statistics are for the running averages and the derivative
    "instance_norm": (0,),
    "native_layer_norm": (0,),
    "native_group_norm": (0,),
}
NO_FIRST = {
    "nextafter": "a step of one unit in the last place counts as none, as in PyTorch",
    "to_copy": "rounds to float32, too coarse for finite differences",
    **{f"{name}_draw": "a draw does not depend on what it overwrites" for name in (
        "uniform", "normal", "exponential", "cauchy", "log_normal", "geometric", "bernoulli", "random")},
}  # fmt: skip
NO_SECOND = {
    **NO_FIRST,
    "ctc_loss": "not defined, as in PyTorch",
    "cofactors": "a third derivative of the determinant goes through the inverse",
}
# The derivative assumes an input of this kind.
PREPARED = {
    "ctc_loss": lambda x, *lengths, **attrs: torch.log_softmax(x, 2),
    "cholesky_solve": lambda L, upper: torch.triu(L) if upper else torch.tril(L),
    "cholesky_inverse": lambda L, upper: torch.triu(L) if upper else torch.tril(L),
}
# A sample whose layout the op depends on has no strided twin.
NOT_STRIDED = {
    "view": "refuses strides that do not fit",
    "view_dtype": "refuses a last dimension that is not dense",
    "view_as_complex": "needs pairs side by side",
    "as_strided": "reads the memory itself",
}


class Maker:
    """Random float64 tensors: `make(2, 3)`; the same ones at every run."""

    def __init__(self, seed=0):
        self.stream = np.random.default_rng(seed)

    def __call__(self, *shape, low=-1.0, high=1.0):
        return wrap(self.stream.uniform(low, high, shape))

    def complex(self, *shape):
        return wrap(self.stream.uniform(-1, 1, shape) + 1j * self.stream.uniform(-1, 1, shape))


def samples_of(name):
    return arguments_of(REGISTRY[name], Maker()) or []  # none: test_has_samples_and_an_oracle says so


def is_real(value):
    return isinstance(value, Tensor) and value.is_floating_point()


def outputs_of(result):
    return list(result) if isinstance(result, tuple) else [result]


def arrays_of(args):
    return [a.numpy() if isinstance(a, Tensor) else a for a in args]


def with_floats(args, change):
    """The arguments with `change` applied to the floating and complex tensors."""
    return [change(a) if is_real(a) or (isinstance(a, Tensor) and a.is_complex()) else a for a in args]


def shapes(args):
    return [tuple(a.shape) if isinstance(a, Tensor) else a for a in args]


# ---- no row sleeps ---------------------------------------------------------------------------------------


def test_the_registry_is_complete():
    dispatch.check_registry()
    assert len(REGISTRY) > 200


@pytest.mark.parametrize("name", TESTED)
def test_has_samples_and_an_oracle(name):
    assert arguments_of(REGISTRY[name], Maker()), f"{name} has no samples: add {name}.samples or a row in samples.py"
    assert name in ORACLES, f"{name} has no oracle: add a row in oracles.py, or a reason in NO_ORACLE"


@pytest.mark.parametrize("table", [NO_ORACLE, COVERED, ORACLES, NEVER_EMPTY, NO_SECOND, CONSTANT, OUTPUTS, NOT_STRIDED])
def test_tables_name_ops_that_exist(table):
    assert not set(table) - set(REGISTRY)


@pytest.mark.parametrize("name", TESTED)
def test_samples_include_an_empty_tensor(name):
    sizes = [a.numel() for args, _ in samples_of(name) for a in args if isinstance(a, Tensor)]
    assert 0 in sizes or name in NEVER_EMPTY or name in EMPTY_ELSEWHERE, f"{name}: no sample without elements"


EMPTY_ELSEWHERE = {
    "argmax_boxes": "windows without elements are refused before",
    "as_strided": "covered by tests/core/test_views.py",
    "ctc_loss": "an empty batch is refused, as in PyTorch",
    "embedding": "an empty list of indices is tested in tests/ops/test_embedding.py",
    "embedding_backward": "sums over at least one index",
    "nll_loss": "the mean of nothing is tested in tests/ops/test_loss.py",
    "piecewise_backward": "empty tensors reach it through hardtanh",
    "prelu": "empty tensors reach it through where",
    "relu_backward": "empty tensors reach it through relu",
    "scale_gradient": "hands its input on, whatever its size",
}


# ---- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TESTED)
def test_value(name):
    """Equal to the oracle, of its type; the inputs are left as they were."""
    for args, attrs in samples_of(name):
        arrays = arrays_of(args)
        before = [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
        outs = outputs_of(REGISTRY[name].function(*args, **attrs))
        with np.errstate(all="ignore"):
            expected = outputs_of(ORACLES[name](*before, **attrs))
        assert len(expected) <= len(outs)
        for out, want in zip(outs, expected):
            hint = f"{name}{shapes(args)} {attrs}"
            assert tuple(out.shape) == np.shape(want), hint
            same_kind = out.numpy().dtype == np.asarray(want).dtype
            assert same_kind or not out.is_floating_point(), f"{hint}: {out.dtype}, {np.asarray(want).dtype}"
            np.testing.assert_allclose(out.numpy(), want, rtol=1e-6, atol=1e-8, err_msg=hint)
        for array, kept in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, kept, err_msg=f"{name} changed its input")


@pytest.mark.parametrize("name", [name for name in TESTED if name != "to_copy" and not name.endswith("_draw")])
def test_float32_stays_float32(name):
    """What is float64 for float64 inputs is float32 for float32 inputs, with the same values up to rounding."""
    for args, attrs in samples_of(name):
        narrow = with_floats(args, lambda a: a.to(torch.complex64 if a.is_complex() else torch.float32))
        if name == "view_dtype":
            continue
        wide = with_floats(narrow, lambda a: a.to(torch.complex128 if a.is_complex() else torch.float64))
        for out, want in zip(*(outputs_of(REGISTRY[name].function(*a, **attrs)) for a in (narrow, wide)), strict=True):
            kinds = {torch.float64: torch.float32, torch.complex128: torch.complex64}
            assert out.dtype is kinds.get(want.dtype, want.dtype), f"{name}{shapes(args)} {attrs}"
            np.testing.assert_allclose(out.numpy(), want.numpy(), rtol=2e-4, atol=2e-5, err_msg=f"{name} {attrs}")


@pytest.mark.parametrize("name", [name for name in TESTED if name not in NOT_STRIDED])
def test_strided_inputs(name):
    """Transposed memory, every second element, and an offset give what dense inputs give."""
    for args, attrs in samples_of(name):
        expected = outputs_of(REGISTRY[name].function(*args, **attrs))
        for layout in (transposed, sparse):
            outs = outputs_of(REGISTRY[name].function(*(layout(a) for a in args), **attrs))
            for out, want in zip(outs, expected, strict=True):
                np.testing.assert_allclose(out.numpy(), want.numpy(), rtol=1e-9, atol=1e-12, err_msg=f"{name} {attrs}")


def transposed(value):
    """The same values with the dimensions in reverse order in memory."""
    if not isinstance(value, Tensor):
        return value
    order = tuple(range(value.dim()))[::-1]
    return value.permute(order).contiguous().permute(order)


def sparse(value):
    """The same values at every second place of a larger tensor."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    room = torch.zeros(*(2 * n + 1 for n in value.shape), dtype=value.dtype)
    view = room[tuple(slice(1, None, 2) for _ in value.shape)]
    view.copy_(value)
    return view


# ---- derivatives -----------------------------------------------------------------------------------------


def derivable(name, args, attrs):
    """A function of the differentiable inputs, and these inputs; None where nothing is to be checked."""
    constant = CONSTANT.get(name, set())
    inputs = [
        a.detach().clone().requires_grad_() if differentiable(a) and i not in constant else a
        for i, a in enumerate(args)
    ]
    if not any(isinstance(a, Tensor) and a.requires_grad and a.numel() for a in inputs):
        return None

    def function(*xs):
        if name in PREPARED:
            xs = (PREPARED[name](xs[0], **attrs), *xs[1:])
        outs = outputs_of(REGISTRY[name].function(*xs, **attrs))
        return tuple(outs[i] for i in OUTPUTS.get(name, range(len(outs))))

    return function, inputs


def differentiable(a):
    return isinstance(a, Tensor) and (a.is_floating_point() or a.is_complex())


@pytest.mark.parametrize("name", [name for name in SMOOTH if name not in NO_FIRST])
def test_first_derivative(name):
    checked = 0
    for args, attrs in samples_of(name):
        case = derivable(name, args, attrs)
        if case is not None:
            assert gradcheck(*case, fast_mode=True), name
            checked += 1
    assert checked, f"{name}: no sample has something to differentiate"


@pytest.mark.parametrize("name", [name for name in SMOOTH if name not in NO_SECOND])
def test_second_derivative(name):
    for args, attrs in samples_of(name):
        case = derivable(name, args, attrs)
        if case is not None:
            assert gradgradcheck(*case, fast_mode=True, atol=1e-4), name


@pytest.mark.parametrize("name", [name for name in SMOOTH if name not in NO_FIRST])
def test_empty_inputs_have_empty_gradients(name):
    for args, attrs in samples_of(name):
        case = derivable(name, args, attrs)
        if case is None:
            inputs = [a.detach().requires_grad_() if differentiable(a) else a for a in args]
            outs = [o for o in outputs_of(REGISTRY[name].function(*inputs, **attrs)) if o.requires_grad]
            if outs:
                torch.autograd.backward(outs, [torch.ones_like(o) for o in outs])
                for a in inputs:
                    assert not differentiable(a) or a.grad is None or a.grad.shape == a.shape


@pytest.mark.parametrize("name", [name for name in TESTED if REGISTRY[name].no_gradient is not None])
def test_without_gradient_nothing_is_recorded(name):
    for args, attrs in samples_of(name):
        inputs = [a.detach().requires_grad_() if differentiable(a) else a for a in args]
        assert not any(o.requires_grad for o in outputs_of(REGISTRY[name].function(*inputs, **attrs)))


@pytest.mark.parametrize("name", sorted(COVERED))
def test_derivative_ops_run_in_the_gradient_tests(name):
    """An op that only exists for a derivative is exercised by the tests of the op it serves."""
    forward, seen = COVERED[name], set()

    def note(op, inputs, attrs):
        seen.add(op.name)
        return op.function(*inputs, **attrs)

    with dispatch.intercept(note):
        for args, attrs in samples_of(forward):
            case = derivable(forward, args, attrs)
            if case is not None:
                gradcheck(*case, fast_mode=True)
                if forward not in NO_SECOND:
                    gradgradcheck(*case, fast_mode=True, atol=1e-4)
    assert name in seen


# ---- backends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TESTED if REGISTRY[name].backends])
def test_backends_agree_with_the_op_itself(name, monkeypatch):
    """Value and gradient in float32, with the kernels of backends and without."""
    found = []
    for own in (False, True):
        if own:
            for op in REGISTRY.values():
                monkeypatch.setattr(op, "backends", [])
        found.append(list(itertools.chain.from_iterable(
            value_and_gradient(name, args, attrs) for args, attrs in samples_of(name)
        )))  # fmt: skip
    for fast, plain in zip(*found, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-4)


def value_and_gradient(name, args, attrs):
    inputs = with_floats(args, lambda a: a.float().requires_grad_())
    outs = outputs_of(REGISTRY[name].function(*inputs, **attrs))
    live = [o for o in (outs[i] for i in OUTPUTS.get(name, range(len(outs)))) if o.requires_grad]
    if live:
        torch.autograd.backward(live, [torch.ones_like(o) for o in live])
    grads = [a.grad.numpy() for a in inputs if isinstance(a, Tensor) and a.grad is not None]
    return [o.detach().numpy() for o in outs[: 1 if name in OUTPUTS else None]] + grads


def test_as_strided_scatter():
    """PyTorch's values: the region replaced; the old values receive the gradient of the region."""
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    source = torch.tensor([10.0, 20.0], requires_grad=True)
    out = torch.as_strided_scatter(x, source, (2,), (3,), 1)
    assert out.tolist() == [[0.0, 10.0, 2.0], [3.0, 20.0, 5.0]]
    (out * torch.arange(1.0, 7.0).reshape(2, 3)).sum().backward()
    assert source.grad.tolist() == [2.0, 5.0]
