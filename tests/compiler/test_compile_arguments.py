"""Arguments and results of compiled calls: nested, shared, of every dtype, shape and layout."""

import collections
import dataclasses

import pytest

import flambeau as torch
from flambeau import nn
from tests.compiler.comparing import alike, assert_native, assert_same

F = nn.functional
Pair = collections.namedtuple("Pair", "left right")


def x(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- structures ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Batch:
    a: torch.Tensor
    n: int = 2


def test_nested_arguments_and_results():
    def function(pair, things, *, scale=1.0):
        total = pair.left * scale + things["x"][0] + things["y"].a * things["y"].n
        return {
            "total": total,
            "pair": Pair(total + 1, pair.right),
            "list": [total.sum(), 3, "text", None],
            "b": Batch(total),
        }

    compiled = torch.compile(function)
    for k in range(3):
        given = Pair(x(3, seed=k), x(3, seed=k + 5)), {"x": [x(3, seed=k + 9)], "y": Batch(x(3, seed=k + 20))}
        found, expected = compiled(*given, scale=2.0), function(*given, scale=2.0)
        assert type(found["pair"]) is Pair and type(found["b"]) is Batch and found["list"][1:] == [3, "text", None]
        assert found["pair"].right is given[0].right
        assert_same(
            [found["total"], found["pair"].left, found["b"].a],
            [expected["total"], expected["pair"].left, expected["b"].a],
        )
    assert_native(compiled)


def test_python_arguments_are_part_of_the_signature():
    compiled = alike(
        lambda a, n, flag=True: a * n if flag else a - n,
        (x(3), 2),
        (x(3), 2),
        (x(3), 3),
        (x(3), 2.0),
        (x(3), 2, False),
        (x(3), 2),
        captures=4,
    )
    assert len(compiled.entries) == 4


def test_ordered_dict_and_defaultdict_results():
    def function(a):
        return collections.OrderedDict(y=a + 1)

    compiled = torch.compile(function)
    for k in range(3):
        found = compiled(x(2, seed=k))
        assert type(found) is collections.OrderedDict
        assert_same(found, function(x(2, seed=k)))


def test_an_argument_comes_back_as_itself():
    compiled = torch.compile(lambda a, b: (a, a + b, b))
    for k in range(3):
        a, b = x(3, seed=k), x(3, seed=k + 3)
        one, _, two = compiled(a, b)
        assert one is a and two is b
    assert_native(compiled)


def test_a_parameter_comes_back_as_itself():
    layer = nn.Linear(2, 2)
    compiled = torch.compile(lambda a: (layer.weight, layer(a)))
    for k in range(3):
        assert compiled(x(1, 2, seed=k))[0] is layer.weight
    assert_native(compiled)


def test_a_view_of_an_argument_shows_its_memory():
    compiled = torch.compile(lambda a: (a.t(), a[1:], a * 2))
    for k in range(3):
        a = x(3, 4, seed=k)
        turned, cut, _ = compiled(a)
        a[1, 0] = 100.0
        assert turned[0, 1] == 100.0 and cut[0, 0] == 100.0
        cut.zero_()
        assert a[1:].abs().sum() == 0
    assert_native(compiled)


def test_views_of_one_result_share_memory():
    def function(a):
        b = a * 2
        return b, b[0], b.t()

    compiled = torch.compile(function)
    for k in range(3):
        b, row, turned = compiled(x(2, 3, seed=k))
        row.fill_(7)
        assert (b[0] == 7).all() and (turned[:, 0] == 7).all()
    assert_native(compiled)


def test_the_same_result_twice_is_one_tensor_of_memory():
    def function(a):
        b = a + 1
        return b, b.detach()

    compiled = torch.compile(function)
    for _ in range(3):
        one, two = compiled(x(2))
        one.zero_()
        assert two.abs().sum() == 0


def test_equal_results_do_not_share_memory():
    compiled = torch.compile(lambda a: (a + 1, a + 1, torch.ones(2), torch.ones(2), a.clone(), a.clone()))
    for _ in range(3):
        found = compiled(x(2))
        for t in found:
            t.zero_()
        again = compiled(x(2))
        assert_same(again, (x(2) + 1, x(2) + 1, torch.ones(2), torch.ones(2), x(2), x(2)))
    assert_native(compiled)


def test_results_of_one_call_outlive_the_next():
    compiled = torch.compile(lambda a: (a * 2, a.sum()))
    kept = [compiled(torch.full((3,), float(k))) for k in range(5)]
    assert [t[1].item() for t in kept] == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert [t[0][0].item() for t in kept] == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_constants_and_scalars_as_results():
    alike(
        lambda a: (torch.arange(3), torch.eye(2) * 2, torch.zeros(()), torch.tensor([1, 2]), a),
        (x(1),),
        (x(1),),
        (x(1),),
    )
    alike(lambda: torch.arange(4) + 1, (), (), ())


# ---- tensors of every kind ------------------------------------------------------------------------


def everything(a):
    b = a + a
    return b, a * 2, b.sum(), a.reshape(-1), torch.cat([a, b]), a[:1] * 3, torch.where(a == b, a, b), a.clone()


@pytest.mark.parametrize(
    "dtype", "float64 float16 bfloat16 int64 int32 int8 uint8 int16 bool complex64 complex128".split()
)
def test_dtypes(dtype):
    kind = getattr(torch, dtype)
    alike(everything, *[((x(3, 4, seed=k) * 3).abs().to(kind),) for k in range(3)], tolerance=1e-3)
    if kind.is_floating_point:
        alike(
            lambda a: (a.softmax(-1), a @ a.t(), a.mean(), a.exp()),
            *[(x(3, 4, seed=k).to(kind),) for k in range(3)],
            tolerance=2e-2 if kind.itemsize == 2 else 1e-5,
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_state_of_other_dtypes_is_written(dtype):
    state, twin = (x(3, 4).to(getattr(torch, dtype)) for _ in range(2))

    def make(s):
        def function(a):
            s.mul_(0.5).add_(a.to(s.dtype))
            s[0] = 1.0
            return s.abs().sum()

        return function

    compiled, eager = torch.compile(make(state)), make(twin)
    for k in range(4):
        assert_same([compiled(x(3, 4, seed=k)), state], [eager(x(3, 4, seed=k)), twin], 1e-2)
    assert_native(compiled)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1,), (1, 1), (1, 3), (2, 0, 3)])
def test_empty_and_single(shape):
    def function(a, b):
        return (
            a + b,
            a.sum(),
            (a * b).sum(0),
            a.reshape(-1),
            torch.cat([a, b]),
            a.relu().mean(),
            a.exp().t() if a.ndim == 2 else a,
        )

    alike(function, *[(x(*shape, seed=k), x(*shape, seed=k + 5)) for k in range(3)])


def test_empty_leaf_gets_an_empty_gradient():
    def function(a):
        (a * 2).sum().backward()
        return a.grad

    compiled = torch.compile(function)
    for _ in range(3):
        a = torch.zeros(0, 3, requires_grad=True)
        assert compiled(a).shape == (0, 3)


def test_numbers():
    alike(
        lambda a, b: (a + b, a * 2, -a, a / b, a.reshape(1), a.expand(3), torch.stack([a, b])),
        *[(x(1, seed=k)[0], x(1, seed=k + 3)[0]) for k in range(3)],
    )


def test_layouts_of_arguments():
    def function(a, b):
        return a + b, a @ b.t(), a.sum(1), b.softmax(1), a.contiguous(), a * a.t()

    made = [
        lambda t: t,
        lambda t: t.t(),
        lambda t: torch.cat([t, t])[::2],
        lambda t: t[:1].expand(4, 4),
        lambda t: t.flip(0),
    ]
    for left in made:
        alike(function, *[(left(x(4, 4, seed=k)), x(4, 4, seed=k + 7)) for k in range(3)])


def test_one_compiled_function_for_many_layouts():
    compiled = torch.compile(lambda a: (a * 2).sum(1))
    for k in range(3):
        for made in (
            x(4, 4, seed=k),
            x(4, 4, seed=k).t(),
            x(8, 4, seed=k)[::2],
            x(1, 4, seed=k).expand(4, 4),
            x(4, 8, seed=k)[:, 3:7],
        ):
            assert_same(compiled(made), (made * 2).sum(1))
    assert_native(compiled, 4)  # two of them have the same strides


def test_channels_last():
    layer = nn.Conv2d(3, 4, 3)

    def function(a):
        return layer(a).relu()

    compiled = torch.compile(function)
    for k in range(3):
        for format in (torch.contiguous_format, torch.channels_last):
            a = x(2, 3, 6, 6, seed=k).contiguous(memory_format=format)
            found, expected = compiled(a), function(a)
            assert_same(found, expected)
            assert found.stride() == expected.stride()


def test_not_a_number_and_infinity():
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, 3e38, -1.0])

    def function(a):
        return (
            a.relu(),
            a.clamp(-1, 1),
            a.max(),
            a.sum(),
            a.exp(),
            a.sigmoid(),
            a.tanh(),
            a.abs(),
            a * 0,
            a == a,
            a.sign(),
            a.softmax(0),
            F.leaky_relu(a),
            a.sqrt(),
            1 / a,
            a.maximum(a.flip(0)),
            a.amin(0),
            a.log(),
            F.gelu(a),
            a.round(),
        )

    alike(function, (values,), (values.flip(0),), (values * 2,), (torch.ones(8),))
    alike(lambda a: (a > 0).any() & (a == a).all(), (values,), (values,), (torch.ones(8),))
