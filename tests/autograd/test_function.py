"""Custom functions: contexts, both signatures, what `backward` may and may not return."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.autograd import Function, gradcheck, gradgradcheck
from flambeau.autograd.function import once_differentiable


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


class Scale(Function):
    """The newer signature."""

    @staticmethod
    def forward(x, factor):
        return x * factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.factor = inputs

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def test_forward_and_backward():
    x = leaf(1.0, 2.0)
    y = Cube.apply(x)
    assert y.grad_fn.name() == "CubeBackward"
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]


@pytest.mark.parametrize("function", [Cube.apply, Exp.apply, lambda x: Scale.apply(x, 3.0)])
def test_first_and_second_derivatives(function):
    assert gradcheck(function, (leaf(0.3, -0.7),))
    assert gradgradcheck(function, (leaf(0.3, -0.7),))


def test_nothing_is_recorded_inside_forward():
    seen = []

    class Look(Function):
        @staticmethod
        def forward(ctx, x):
            seen.append((torch.is_grad_enabled(), (x * 2).requires_grad))
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    Look.apply(leaf(1.0))
    assert seen == [(False, False)]


def test_under_no_grad_the_result_has_no_history():
    with torch.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad
    assert not Cube.apply(torch.ones(1)).requires_grad


def test_several_inputs_and_outputs():
    class SumAndProduct(Function):
        @staticmethod
        def forward(ctx, x, y, unused):
            ctx.save_for_backward(x, y)
            return x + y, x * y

        @staticmethod
        def backward(ctx, to_sum, to_product):
            x, y = ctx.saved_tensors
            return to_sum + to_product * y, to_sum + to_product * x, None

    assert gradcheck(lambda x, y: SumAndProduct.apply(x, y, "text"), (leaf(1.0, 2.0), leaf(3.0, 4.0)))
    x, y = leaf(1.0), leaf(2.0)
    SumAndProduct.apply(x, y, None)[1].backward()  # zeros arrive for the sum
    assert (x.grad.item(), y.grad.item()) == (2.0, 1.0)


def test_needs_input_grad():
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, grad):
            seen.append(ctx.needs_input_grad)
            return grad, grad

    Two.apply(leaf(1.0), torch.ones(1, dtype=torch.float64)).backward()
    assert seen == [(True, False)]


def test_missing_gradients_are_zeros_or_none():
    arrived = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            arrived.append(b)
            return a * 2, None

    for materialize in (True, False):
        Two.apply(leaf(1.0), materialize)[0].backward()
    assert arrived[0].tolist() == [0.0] and arrived[1] is None


def test_mark_non_differentiable():
    class Sorted(Function):
        @staticmethod
        def forward(ctx, x):
            values, places = x.sort()
            ctx.mark_non_differentiable(places)
            ctx.save_for_backward(places)
            return values, places

        @staticmethod
        def backward(ctx, grad, _):
            (places,) = ctx.saved_tensors
            return torch.zeros_like(grad).scatter(0, places, grad)

    x = leaf(3.0, 1.0, 2.0)
    values, places = Sorted.apply(x)
    assert values.requires_grad and not places.requires_grad
    (values * leaf(1.0, 10.0, 100.0)).sum().backward()
    assert x.grad.tolist() == [100.0, 1.0, 10.0]


def test_non_differentiable_floating_output():
    class Both(Function):
        @staticmethod
        def forward(ctx, x):
            a, b = x * 2, x * 3
            ctx.mark_non_differentiable(b)
            return a, b

        @staticmethod
        def backward(ctx, grad, _):
            return grad * 2

    a, b = Both.apply(leaf(1.0))
    assert a.requires_grad and not b.requires_grad


def test_mark_dirty():
    class AddOne(Function):
        @staticmethod
        def forward(ctx, x):
            x.add_(1)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * 5

    x = leaf(1.0, 2.0)
    y = x * 1
    z = AddOne.apply(y)
    assert z is y and y.grad_fn.name() == "AddOneBackward" and y.tolist() == [2.0, 3.0]
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_an_input_returned_as_it_is():
    class Identity(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * 7

    x = leaf(1.0)
    y = Identity.apply(x)
    assert y is not x and y.grad_fn.name() == "IdentityBackward"
    y.backward()
    assert x.grad.item() == 7.0


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            assert not torch.is_grad_enabled()
            return torch.from_numpy(grad.numpy() * 2 * x.detach().numpy())

    x = leaf(3.0)
    Once.apply(x).backward()
    assert x.grad.item() == 6.0
    (g,) = torch.autograd.grad(Once.apply(x) * x, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.backward()


def test_saved_tensors_are_watched_and_freed():
    x = leaf(1.0, 2.0)
    middle = x * 1
    y = Cube.apply(middle).sum()
    middle.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    y = Cube.apply(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


@pytest.mark.parametrize(
    "returned, error, message",
    [
        (lambda grad: (grad, grad), RuntimeError, "incorrect number of gradients"),
        (lambda grad: torch.ones(5, dtype=torch.float64), RuntimeError, "invalid gradient at index 0"),
        (lambda grad: 3.0, (TypeError, RuntimeError), "expected"),
    ],
)
def test_wrong_gradients_are_refused(returned, error, message):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return returned(grad)

    with pytest.raises(error, match=message):
        Wrong.apply(leaf(1.0, 2.0)).sum().backward()


def test_none_more_than_inputs_is_fine():
    class Extra(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2, None, None

    x = leaf(1.0)
    Extra.apply(x).backward()
    assert x.grad.item() == 2.0


def test_instances_and_missing_methods_are_refused():
    with pytest.raises(RuntimeError, match="should not be instantiated"):
        Cube()(leaf(1.0))

    class Half(Function):
        @staticmethod
        def forward(ctx, x):
            return x / 2

    with pytest.raises(NotImplementedError, match="must implement either the backward or vjp"):
        Half.apply(leaf(1.0)).backward()


def test_numpy_inside():
    """The classic use: a function PyTorch does not have, computed by NumPy."""

    class Sinh(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.from_numpy(np.sinh(x.numpy()))

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * torch.from_numpy(np.cosh(x.detach().numpy()))

    assert gradcheck(Sinh.apply, (leaf(0.2, -0.5),))


def test_attributes_on_the_context():
    class Clip(Function):
        @staticmethod
        def forward(ctx, x, low, high):
            ctx.limits = (low, high)
            ctx.save_for_backward(x)
            return x.clamp(low, high)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            low, high = ctx.limits
            return grad * ((x > low) & (x < high)), None, None

    x = leaf(-2.0, 0.5, 2.0)
    Clip.apply(x, -1, 1).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
