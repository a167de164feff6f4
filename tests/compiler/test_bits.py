"""Memory that is read or written as another type: the parts of complex numbers, the bits of floats; and gradients that
reach a parameter through views alone."""

import pytest

import flambeau as torch
from flambeau import nn
from tests.compiler.comparing import alike, assert_native, assert_same, compiled_of, entries
from tests.compiler.test_compile_training import OPTIMIZERS, compare


def complex_pairs(count=3):
    stream = torch.Generator().manual_seed(0)
    return [(torch.randn(2, 3, dtype=torch.complex64, generator=stream), torch.randn(4)) for _ in range(count)]


def test_parts_are_read_and_written():
    def function(z, x):
        pairs = torch.view_as_real(z)
        pairs[..., 0].mul_(2)
        z.add_(1j)
        z.imag.clamp_(min=0)
        new = torch.zeros(2, 3, dtype=torch.complex64)
        torch.view_as_real(new).normal_()
        new.real += 1
        return pairs.sum(), z * 2, new, torch.view_as_complex(x.reshape(2, 2)) * 1j, z.real.mean() + z.imag.sum()

    alike(function, *complex_pairs())


def test_bits_of_floats():
    def function(z, x):
        y = x.clone()
        y.view(torch.int32).add_(1)
        y.view(torch.uint8)[3] = 0
        return y, x.view(torch.int32) + 1, x.view(torch.int64) >> 3, x.double().view(torch.float32) * 1

    alike(function, *complex_pairs())


@pytest.mark.parametrize("function", [
    lambda z: (z * 2).real,
    lambda z: torch.view_as_real(z + 1),
    lambda z: (z + 1).view(torch.float32)[1],
])  # fmt: skip
def test_views_of_new_memory_are_returned(function):
    alike(function, *[(z,) for z, _ in complex_pairs()])


@pytest.mark.parametrize("function", [
    lambda z: torch.view_as_real(z),  # shows the argument
    lambda z: (lambda y: (y, y.real))(z * 2),  # two results in one memory
])  # fmt: skip
def test_results_that_share_memory_with_another_type_stay_eager(function):
    with pytest.warns(UserWarning, match="returns memory of complex64 as float32"):
        compiled = alike(function, *[(z,) for z, _ in complex_pairs()], native=False)
    assert compiled_of(compiled).eager


class Waves(nn.Module):
    """A layer with complex weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4, dtype=torch.complex64))
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last((x.to(torch.complex64) @ self.weight).abs())


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_complex_parameters_are_trained(name):
    assert_native(compare(make_optimizer=OPTIMIZERS[name], make_model=Waves, count=5).step, None)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.bfloat16, torch.float16])
def test_copies_of_any_type_are_native(dtype):
    def function(x):
        return (
            torch.cat([x, x.t()]),
            x.t().contiguous(),
            torch.stack([x, x], -1),
            x[1:].clone(),
            x.reshape(-1).view(3, 3)[:1],
        )

    compiled = alike(function, *[(torch.randn(3, 3).to(dtype),) for _ in range(2)])
    assert not [step.name for entry in entries(compiled) for _, step in entry.execute.hosts]


@pytest.mark.parametrize("shown", [
    lambda w: w.t(),
    lambda w: torch.view_as_complex(w.view(2, 3, 2)).abs(),
    lambda w: w.view(-1)[2:8].view(2, 3),
])  # fmt: skip
def test_gradients_that_come_later_reach_a_parameter_behind_a_view(shown):
    weight = torch.linspace(-1, 1, 12).view(3, 4).requires_grad_()

    def function(x):
        return (x @ shown(weight).reshape(-1)[:6]).sum()

    compiled = torch.compile(function)
    for number in range(3):
        x, found = torch.full((2, 6), number + 1.0), []
        for run in (function, compiled):
            weight.grad = None
            run(x).backward()
            found.append(weight.grad)
        assert found[0] is not None
        assert_same(found[1], found[0])
    assert_native(compiled)


def test_gradients_that_come_later_reach_a_view_made_before():
    weight = torch.randn(3, 4, requires_grad=True)
    turned = weight.t()
    compiled = torch.compile(lambda x: (x @ turned).sum())
    for number in range(3):
        weight.grad = None
        compiled(torch.full((2, 4), float(number))).backward()
        assert_same(weight.grad, torch.full((3, 4), 2.0 * number))
    assert_native(compiled)


def test_gradients_that_come_later_reach_a_parameter_written_before():
    weights = [torch.ones(3, requires_grad=True) for _ in range(2)]

    def function(weight, x):
        with torch.no_grad():
            weight.mul_(2)
        return (weight * x).sum()

    compiled = torch.compile(lambda x: function(weights[1], x))
    for number in range(3):
        x = torch.full((3,), number + 1.0)
        for weight, run in zip(weights, (lambda x: function(weights[0], x), compiled)):
            weight.grad = None
            run(x).backward()
        assert_same([weights[1], weights[1].grad], [weights[0], weights[0].grad])
    assert_native(compiled)
