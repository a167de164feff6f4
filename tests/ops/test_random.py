"""Random tensors: arguments, dtypes, memory order, errors. The numbers themselves are in tests/core/test_random.py."""

import pytest

import flambeau as torch


def same_stream(a, b):
    torch.manual_seed(0)
    first = a()
    torch.manual_seed(0)
    return first.tolist() == b().tolist()


def test_sizes_in_every_spelling():
    for make in (torch.rand, torch.randn):
        assert make(2, 3).shape == make((2, 3)).shape == make(size=(2, 3)).shape == (2, 3)
        assert make(()).shape == ()
    assert same_stream(lambda: torch.randint(5, (3,)), lambda: torch.randint(0, 5, (3,)))
    assert same_stream(lambda: torch.randint(2, 5, (3,)), lambda: torch.randint(low=2, high=5, size=(3,)))
    assert same_stream(lambda: torch.randint(2, high=5, size=(3,)), lambda: torch.randint(2, 5, (3,)))


def test_options_of_new_tensors():
    made = torch.rand(2, dtype=torch.float64, requires_grad=True)
    assert made.dtype is torch.float64 and made.requires_grad and made.is_leaf
    assert torch.randn(2, 3, device="meta").shape == (2, 3)
    assert "names=('N', 'C')" in repr(torch.rand(2, 3, names=("N", "C")))
    out = torch.zeros(3, dtype=torch.float64)
    assert torch.rand(3, out=out) is out and out.sum().item() > 0
    assert torch.randint(9, (4,)).dtype is torch.randperm(4).dtype is torch.int64
    assert torch.randint_like(torch.zeros(2, dtype=torch.float16), 5).dtype is torch.float16


def test_meta_tensors_draw_nothing():
    torch.manual_seed(0)
    torch.rand(5, device="meta").normal_()
    assert same_stream(lambda: torch.rand(3), lambda: torch.rand(3))
    torch.manual_seed(0)
    torch.rand(5, device="meta")
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.rand(3).tolist() == after.tolist()


def test_a_generator_of_ones_own():
    torch.manual_seed(0)
    first = torch.rand(3, generator=torch.Generator().manual_seed(5))
    default = torch.rand(3)
    assert first.tolist() == torch.rand(3, generator=torch.Generator().manual_seed(5)).tolist()
    torch.manual_seed(0)
    assert default.tolist() == torch.rand(3).tolist()
    with pytest.raises(TypeError, match="generator"):
        torch.rand(3, generator=4)


def test_filling_through_a_view_reaches_the_base():
    base = torch.zeros(4, 6)
    base[1:3].uniform_(1, 2)
    assert (base[1:3] >= 1).all() and (base[0] == 0).all() and (base[3] == 0).all()


def test_a_transposed_tensor_is_filled_in_memory_order():
    plain, turned = torch.empty(4, 3), torch.empty(4, 3).transpose(0, 1)
    torch.manual_seed(0)
    plain.uniform_()
    torch.manual_seed(0)
    turned.uniform_()
    assert turned.transpose(0, 1).tolist() == plain.tolist()


def test_draws_and_autograd():
    leaf = torch.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        leaf.normal_()
    with torch.no_grad():
        leaf.normal_()
    made = leaf * 2
    made.normal_()
    assert made.grad_fn.name() == "NormalBackward0"
    made.sum().backward()
    assert leaf.grad.tolist() == [0, 0, 0]
    chances = torch.full((3,), 0.5, requires_grad=True)
    drawn = torch.bernoulli(chances)
    assert drawn.grad_fn.name() == "BernoulliBackward0"
    drawn.sum().backward()
    assert chances.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("error, match, call", [
    (NotImplementedError, "check_uniform_bounds.*Long", lambda: torch.rand(3, dtype=torch.int64)),
    (NotImplementedError, "normal_kernel_cpu.*Bool", lambda: torch.randn(3, dtype=torch.bool)),
    (RuntimeError, r"negative dimension -1: \[-1\]", lambda: torch.rand(-1)),
    (TypeError, "tuple of ints, not str", lambda: torch.rand("a")),
    (TypeError, "tuple of ints, not float", lambda: torch.rand(2.5)),
    (TypeError, "invalid combination", lambda: torch.rand()),
    (RuntimeError, "from=5 >= to=5", lambda: torch.randint(5, 5, (2,))),
    (RuntimeError, "to - 1 is out of bounds for signed char", lambda: torch.randint(500, (2,), dtype=torch.int8)),
    (RuntimeError, "from is out of bounds for unsigned char", lambda: torch.randint(-1, 5, (2,), dtype=torch.uint8)),
    (TypeError, "'high' must be int, not float|'high'.*int", lambda: torch.randint(2.5, (2,))),
    (TypeError, "size", lambda: torch.randint(5)),
    (RuntimeError, "negative dimension", lambda: torch.randperm(-1)),
    (RuntimeError, "without overflow", lambda: torch.randperm(300, dtype=torch.uint8)),
    (RuntimeError, "std >= 0.0, but found std -1", lambda: torch.normal(0.0, -1.0, (2,))),
    (RuntimeError, "all elements of std", lambda: torch.normal(torch.zeros(2), -torch.ones(2))),
    (TypeError, "size", lambda: torch.normal(1.0, 2.0)),
    (RuntimeError, "from=3 > to=1", lambda: torch.empty(3).uniform_(3, 1)),
    (RuntimeError, "exceed the limit", lambda: torch.empty(3).uniform_(-3e38, 3e38)),
    (RuntimeError, "lambda=-1", lambda: torch.empty(3).exponential_(-1)),
    (RuntimeError, "p to be in \\(0, 1\\)", lambda: torch.empty(3).geometric_(1)),
    (RuntimeError, "sigma > 0.0", lambda: torch.empty(3).cauchy_(0, -1)),
    (RuntimeError, "std > 0.0", lambda: torch.empty(3).log_normal_(0, 0)),
    (RuntimeError, "p to be in \\[0, 1\\], but got p=1.5", lambda: torch.empty(3).bernoulli_(1.5)),
    (RuntimeError, "between 0 and 1", lambda: torch.bernoulli(torch.tensor([1.5]))),
    (NotImplementedError, "Long", lambda: torch.bernoulli(torch.tensor([1]))),
    (RuntimeError, "do not expand", lambda: torch.empty(3).bernoulli_(torch.ones(2))),
    (RuntimeError, "single memory location", lambda: torch.zeros(1).expand(3).uniform_()),
    (RuntimeError, "got: Long", lambda: torch.multinomial(torch.ones(3, dtype=torch.int64), 1)),
    (RuntimeError, "n_sample <= 0", lambda: torch.multinomial(torch.ones(3), 0)),
    (RuntimeError, "without replacement", lambda: torch.multinomial(torch.ones(3), 4)),
    (RuntimeError, "1 or 2 dim", lambda: torch.multinomial(torch.ones(3, 3, 3), 1)),
    (RuntimeError, "element < 0", lambda: torch.multinomial(torch.tensor([-1.0, 2.0]), 1)),
    (RuntimeError, "sum of probabilities", lambda: torch.multinomial(torch.zeros(2), 1)),
    (RuntimeError, "infinity or NaN", lambda: torch.multinomial(torch.tensor([1.0, float("inf")]), 3, True)),
    (RuntimeError, "Poisson rate", lambda: torch.poisson(torch.tensor([-1.0]))),
    (ValueError, "got: Long", lambda: torch.binomial(torch.tensor([3]), torch.tensor([0.2]))),
])
def test_errors(error, match, call):
    with pytest.raises(error, match=match):
        call()


def test_floats_beyond_exact_integers_warn():
    with pytest.warns(UserWarning, match=r"2\^24"):
        torch.randint(2**25, (2,), dtype=torch.float32)
