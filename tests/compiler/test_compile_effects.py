"""What a compiled call does beside its result: writes, draws, bounds of indices, errors; as in eager mode."""

import gc
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from tests.compiler.comparing import alike, assert_native, assert_same, compiled_of

F = nn.functional


def x(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- writing ----------------------------------------------------------------------------------------


WRITES = {
    "add_": lambda a, b: a.add_(b),
    "view": lambda a, b: (a[0].mul_(2), a.t()[1].add_(b[:, 1] if b.shape[1] > 1 else 1), a)[2],
    "setitem": lambda a, b: (a.__setitem__(0, 1.5), a.__setitem__((slice(None), 1), b[:, 0]), a.sum())[2],
    "copy_": lambda a, b: a.copy_(b * 2) + 1,
    "relu_": lambda a, b: F.relu_(a) * b,
    "fill": lambda a, b: (a.fill_(3), b.zero_(), a + b)[2],
    "out": lambda a, b: torch.add(a, b, out=a),
    "mask": lambda a, b: a.masked_fill_(b > 0, -1.0),
    "index": lambda a, b: a.index_add_(0, torch.tensor([0, 0, 1]), b),
    "intermediate": lambda a, b: (lambda c: (c[1].add_(a[0]), c.mul_(b), c)[2])(a + b),
    "twice": lambda a, b: (a.add_(1), b.add_(a), a.mul_(b), b)[3],
    "swap": lambda a, b: (lambda t: (a.copy_(b), b.copy_(t), t)[2])(a.clone()),
    "augmented": lambda a, b: a.__iadd__(b).__imul__(2),
    "number": lambda a, b: a.clamp_(-0.5, 0.5).neg_().sqrt_().nan_to_num_(),
}


@pytest.mark.parametrize("name", WRITES)
def test_arguments_written_in_place(name):
    alike(WRITES[name], *[(x(3, 4, seed=k), x(3, 4, seed=k + 10)) for k in range(3)])


def test_writes_through_strided_arguments():
    for make in (lambda t: t.t(), lambda t: t[:, ::2], lambda t: t[1:]):

        def function(a):
            return a.mul_(2).sum()

        compiled = torch.compile(function)
        for k in range(3):
            one, two = x(4, 4, seed=k), x(4, 4, seed=k)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert_same([compiled(make(one)), one], [function(make(two)), two])


def test_versions_of_arguments_move():
    compiled = torch.compile(lambda a, b: (a.add_(1), b + 1)[1])
    for _ in range(3):
        a, b = x(3), x(3)
        compiled(a, b)
        assert a._version == 1 and b._version == 0
    w = x(3).requires_grad_()
    step = torch.compile(lambda: w.detach().mul_(2).sum())
    for _ in range(3):
        y = (w * w).sum()
        step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


def test_two_views_of_one_memory():
    def function(a, b):
        a.mul_(2)
        return b + 1

    compiled = torch.compile(function)
    for k in range(4):  # memory of its own at first, shared later
        base, twin = x(6, seed=k), x(6, seed=k)
        if k % 2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert_same([compiled(base[:4], base[2:]), base], [function(twin[:4], twin[2:]), twin])
        else:
            assert_same(compiled(base[:4].clone(), base[2:].clone()), function(twin[:4].clone(), twin[2:].clone()))


def test_shared_memory_at_capture_and_not_later():
    def function(a, b):
        return a * 2 + b

    compiled = torch.compile(function)
    base = x(4)
    assert_same(compiled(base, base), base * 3)
    assert_same(compiled(base, base.view(4)), base * 3)
    for k in range(3):
        a, b = x(4, seed=k), x(4, seed=k + 9)
        assert_same(compiled(a, b), a * 2 + b)
    both = x(8)
    assert_same(compiled(both[:4], both[4:]), both[:4] * 2 + both[4:])
    assert_same(compiled(both[:4], both[2:6]), both[:4] * 2 + both[2:6])
    assert_same(compiled(both[2:6], both[:4]), both[2:6] * 2 + both[:4])


def test_an_argument_that_is_a_parameter():
    layer = nn.Linear(3, 3, bias=False)

    def function(w, a):
        return F.linear(a, layer.weight) + w

    compiled = torch.compile(function)
    for k in range(3):
        assert_same(compiled(layer.weight, x(3, 3, seed=k)), function(layer.weight, x(3, 3, seed=k)))
    for k in range(3):
        w = nn.Parameter(x(3, 3, seed=k + 3))
        assert_same(compiled(w, x(3, 3, seed=k)), function(w, x(3, 3, seed=k)))


def test_an_argument_that_is_written_as_state():
    state = x(4)

    def function(a):
        state.add_(a)
        return a * 2

    compiled = torch.compile(function)
    for k in range(2):
        state.copy_(x(4, seed=5))
        found = compiled(x(4, seed=k))
        assert_same([found, state], [x(4, seed=k) * 2, x(4, seed=5) + x(4, seed=k)])
    state.copy_(x(4, seed=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(compiled(state), x(4, seed=5) * 4)


# ---- generator state ------------------------------------------------------------------------------

DRAWS = {
    "rand": lambda a: torch.rand(3) + a,
    "randn": lambda a: torch.randn(17) * a[0],
    "rand_like": lambda a: torch.rand_like(a) + torch.randn_like(a),
    "randint": lambda a: torch.randint(0, 10, (5,)) + a[0],
    "randperm": lambda a: torch.randperm(6),
    "dropout": lambda a: F.dropout(a.expand(40, 3), 0.3),
    "alpha_dropout": lambda a: F.alpha_dropout(a.expand(40, 3), 0.3),
    "dropout2d": lambda a: F.dropout2d(a.reshape(1, 3, 1, 1).expand(2, 3, 2, 2), 0.5),
    "bernoulli": lambda a: torch.bernoulli(a.sigmoid()),
    "bernoulli_": lambda a: torch.empty(9).bernoulli_(0.3) + a[0],
    "normal": lambda a: torch.normal(a, 2.0),
    "normal_": lambda a: a.normal_(1.0, 2.0),
    "uniform_": lambda a: a.clone().uniform_(-1, 1) * a,
    "exponential_": lambda a: torch.empty(5).exponential_() + a[0],
    "poisson": lambda a: torch.poisson(a.abs() * 4),
    "gaussian noise twice": lambda a: a + torch.randn(3) + torch.randn(20)[:3],
    "unused": lambda a: (torch.rand(3), a + 1)[1],
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_eager_mode(name):
    alike(DRAWS[name], *[(x(3, seed=k),) for k in range(3)])


def test_draws_interleave_with_eager_ones():
    def function(a):
        return F.dropout(a, 0.5) + torch.randn(7)

    compiled = torch.compile(function)
    found = []
    for run in (function, compiled):
        torch.manual_seed(11)
        made = []
        for k in range(5):
            made += [run(torch.ones(7)), torch.randn(k + 1), torch.rand(2)]
        found.append(made)
    assert_same(found[1], found[0])
    assert_native(compiled)


def test_a_generator_of_its_own():
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)

    def make(generator):
        return lambda a: torch.randn(4, generator=generator) + a

    eager, compiled = make(first), torch.compile(make(second))
    for _ in range(4):
        assert_same(compiled(torch.ones(4)), eager(torch.ones(4)))
        assert_same(torch.rand(1, generator=second), torch.rand(1, generator=first))


@pytest.mark.parametrize(
    "draw",
    [
        lambda a: torch.multinomial(a.softmax(0), 2),
        lambda a: a.bernoulli_(a.sigmoid()),
        lambda a: F.rrelu(a, training=True),
        lambda a: F.gumbel_softmax(a),
        lambda a: torch.binomial(torch.full((3,), 9.0), a.sigmoid()),
    ],
)
def test_draws_that_depend_on_values(draw):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some stay eager
        alike(draw, *[(x(3, seed=k),) for k in range(3)], native=False)


def test_python_and_numpy_draws_stay_eager():
    import random

    stream = np.random.default_rng(0)
    for draw in (random.random, np.random.rand, stream.random):

        def function(a, draw=draw):
            return a + draw()

        compiled = torch.compile(function)
        with pytest.warns(UserWarning, match="eagerly"):
            compiled(torch.zeros(2))
        assert len({compiled(torch.zeros(2))[0].item() for _ in range(4)}) == 4


# ---- bounds ------------------------------------------------------------------------------------------


def test_indices_out_of_bounds_raise_at_any_call():
    table = nn.Embedding(5, 3)
    compiled = torch.compile(lambda i: table(i).sum())
    for _ in range(3):
        compiled(torch.tensor([0, 4]))
    for wrong in (5, -1):
        with pytest.raises(IndexError):
            compiled(torch.tensor([0, wrong]))
    assert_same(compiled(torch.tensor([1, 2])), table(torch.tensor([1, 2])).sum())
    assert_native(compiled)


def test_classes_out_of_bounds_raise_at_any_call():
    def function(a, t):
        return F.cross_entropy(a, t)

    compiled = torch.compile(function)
    for k in range(3):
        assert_same(
            compiled(x(4, 3, seed=k), torch.tensor([0, 1, 2, k])), function(x(4, 3, seed=k), torch.tensor([0, 1, 2, k]))
        )
    for wrong in (3, -1):
        with pytest.raises(IndexError):
            compiled(x(4, 3), torch.tensor([0, 1, 2, wrong]))
    assert_same(
        compiled(x(4, 3), torch.tensor([0, -100, 2, -100])), function(x(4, 3), torch.tensor([0, -100, 2, -100]))
    )
    assert compiled(x(4, 3), torch.full((4,), -100)).isnan()
    assert_native(compiled)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_ignored_classes(reduction, ignored):
    def function(a, t):
        a = a.clone().requires_grad_()
        loss = F.cross_entropy(a, t, reduction=reduction, ignore_index=ignored)
        return loss, torch.autograd.grad(loss.sum(), a)[0]

    targets = [torch.tensor(t) for t in ([0, 1, 2, 0], [0, ignored, 2, ignored], [ignored, 0, 0, 2])]
    alike(function, *[(x(4, 3, seed=k), t) for k, t in enumerate(targets)])


def test_computed_indices_are_checked():
    table = x(5, 3)
    compiled = torch.compile(lambda i, n: F.embedding(i + n, table))
    for _ in range(3):
        assert_same(compiled(torch.tensor([0, 1]), torch.tensor(2)), table[2:4])
    for wrong in (4, -1):
        with pytest.raises(IndexError):
            compiled(torch.tensor([0, 1]), torch.tensor(wrong))


@pytest.mark.parametrize(
    "use",
    [
        lambda a, i: a.gather(0, i.view(-1, 1).expand(3, 4)),
        lambda a, i: a.index_select(0, i),
        lambda a, i: a[i],
        lambda a, i: torch.zeros(3, 4).index_add(0, i, a),
        lambda a, i: torch.zeros(3, 4).scatter(0, i.view(-1, 1).expand(3, 4), a),
        lambda a, i: F.one_hot(i, 3),
        lambda a, i: a.take(i),
        lambda a, i: torch.zeros(3, 4).index_copy(0, i, a),
    ],
)
def test_every_index_op_checks(use):
    compiled = torch.compile(use)
    for k in range(3):
        i = torch.tensor([0, 2, 1 + k % 2])
        assert_same(compiled(x(3, 4, seed=k), i), use(x(3, 4, seed=k), i))
    for wrong in (torch.tensor([0, 1, 3000]), torch.tensor([0, -3000, 1])):
        with pytest.raises((IndexError, RuntimeError)):
            compiled(x(3, 4), wrong)
    for odd in (torch.tensor([0, -1, 1]),):  # some count from the end, some refuse
        try:
            expected = use(x(3, 4), odd)
        except (IndexError, RuntimeError) as error:
            with pytest.raises(type(error)):
                compiled(x(3, 4), odd)
        else:
            assert_same(compiled(x(3, 4), odd), expected)


def test_values_out_of_bounds():
    compiled = torch.compile(lambda a: F.binary_cross_entropy(a, torch.ones(3)))
    computed = torch.compile(lambda a: F.binary_cross_entropy(a * 2, torch.ones(3)))
    for k in range(3):
        good = torch.full((3,), 0.1 * (k + 1))
        assert_same(
            [compiled(good), computed(good)],
            [F.binary_cross_entropy(good, torch.ones(3)), F.binary_cross_entropy(good * 2, torch.ones(3))],
        )
    for function in (compiled, computed):
        assert_native(function)
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            function(torch.full((3,), 1.5))


# ---- errors ------------------------------------------------------------------------------------------


def test_exceptions_of_the_function():
    def function(a, wrong):
        b = a * 2
        if wrong:
            raise KeyError("mine")
        return b

    compiled = torch.compile(function)
    with pytest.raises(KeyError):
        compiled(x(2), True)
    for _ in range(3):
        assert_same(compiled(x(2), False), x(2) * 2)
        with pytest.raises(KeyError):
            compiled(x(2), True)
    with pytest.raises(RuntimeError):
        torch.compile(lambda a, b: a @ b)(x(2, 3), x(2, 3))
    assert compiled_of(compiled) is compiled


def test_full_graph_raises():
    compiled = torch.compile(lambda a: a * a.sum().item(), fullgraph=True)
    with pytest.raises(RuntimeError, match="reads the values"):
        compiled(x(2))


def test_garbage_is_looked_for_again_after_a_capture_and_when_one_fails():
    seen = []

    def fails(x):
        x.sum().item()
        seen.append(gc.isenabled())  # what follows may take hours
        return x * 2

    torch.compile(lambda x: x * 2)(torch.ones(3))
    assert gc.isenabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(fails)(torch.ones(3))
    assert seen == [True] and gc.isenabled()
    gc.disable()
    try:
        torch.compile(lambda x: x * 3)(torch.ones(3))
        assert not gc.isenabled()
    finally:
        gc.enable()
