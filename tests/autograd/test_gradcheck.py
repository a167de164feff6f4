"""gradcheck accepts right derivatives and complains about wrong ones, in full and in fast mode."""

import pytest

import flambeau as torch
from flambeau.autograd import Function, gradcheck, gradgradcheck


def leaf(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(*shape, dtype=dtype, generator=generator).requires_grad_()


class Doubled(Function):
    """A cube that claims the derivative of x², and of a derivative that is right only once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x


class RightOnce(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * (x * x).detach()


@pytest.mark.parametrize("fast", [False, True])
def test_right_derivatives_pass(fast):
    assert gradcheck(lambda x, y: (x @ y).tanh(), (leaf(2, 3), leaf(3, 2)), fast_mode=fast)
    assert gradgradcheck(lambda x, y: (x @ y).tanh(), (leaf(2, 3), leaf(3, 2)), fast_mode=fast)
    assert gradcheck(lambda x: (x * 2, x.sum()), leaf(3), fast_mode=fast)
    assert gradcheck(lambda x: x * x.conj() * (1 + 2j), leaf(3, dtype=torch.complex128), fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_wrong_derivatives_are_caught(fast):
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(Doubled.apply, (leaf(3),), fast_mode=fast)
    assert not gradcheck(Doubled.apply, (leaf(3),), raise_exception=False, fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_wrong_second_derivatives_are_caught(fast):
    assert gradcheck(RightOnce.apply, (leaf(3),), fast_mode=fast)
    with pytest.raises(RuntimeError):
        gradgradcheck(RightOnce.apply, (leaf(3),), fast_mode=fast)


def test_an_input_is_needed():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(torch.exp, (torch.ones(2, dtype=torch.float64),))


def test_single_precision_is_warned_about():
    with pytest.warns(UserWarning, match="not a double precision floating point"):
        gradcheck(lambda x: x * 1, (leaf(2, dtype=torch.float32),), raise_exception=False)


def test_the_inputs_are_left_as_they_were():
    x = leaf(3)
    before = x.tolist()
    gradcheck(torch.exp, (x,))
    gradcheck(torch.exp, (x,), fast_mode=True)
    assert x.tolist() == before and x.grad is None
