"""Arguments of traced functions: by name, twice the same, of another layout, of another kind."""

import io

import pytest

import flambeau as torch
from flambeau import nn


def reloaded(script):
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


class Difference(nn.Module):
    def forward(self, x, y, scale=None):
        return (x - y) * (1 if scale is None else scale)


def test_one_tensor_may_come_twice():
    traced = torch.jit.trace(lambda a, b: a * 2 + b, (torch.ones(2), torch.ones(2)))
    x = torch.tensor([0.0, 1.0])
    for script in (traced, reloaded(traced)):
        assert script(x, x).tolist() == [0.0, 3.0]
        assert script(x, x + 1).tolist() == [1.0, 4.0]
    assert len(traced.program.tapes) == 1


def test_arguments_by_name_and_by_position_are_one_call():
    traced = torch.jit.trace(Difference(), (torch.ones(2), torch.zeros(2)))
    x, y = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 1.0])
    for script in (traced, reloaded(traced)):
        assert script(x, y).tolist() == script(x, y=y).tolist() == script(y=y, x=x).tolist() == [2.0, 3.0]
    named = torch.jit.trace(Difference(), example_kwarg_inputs={"y": x, "x": y, "scale": x})
    for script in (named, reloaded(named)):
        assert script(scale=y, x=x, y=y).tolist() == script(x, y, y).tolist() == [2.0, 3.0]
    with pytest.raises(RuntimeError, match=r"made for float32\[2\], float32\[2\]; it got .*: float32\[2\]$"):
        reloaded(traced)(x)


def test_order_of_a_dict_says_nothing():
    traced = torch.jit.trace(lambda d: {"sum": d["a"] + 2 * d["b"]}, ({"a": torch.ones(1), "b": torch.ones(1)},))
    a, b = torch.tensor([1.0]), torch.tensor([10.0])
    for script in (traced, reloaded(traced)):
        assert script({"a": a, "b": b})["sum"].item() == script({"b": b, "a": a})["sum"].item() == 21.0
    assert len(traced.program.tapes) == 1


def test_numbers_that_are_equal_but_of_another_kind_are_other_arguments():
    traced = torch.jit.trace(lambda x, n: x * n, (torch.tensor([2]), 1), check_trace=False)
    assert traced(torch.tensor([2]), 1).dtype == torch.int64
    assert traced(torch.tensor([2]), 1.0).dtype == torch.float32
    assert traced(torch.tensor([True]), True).dtype == torch.bool
    nan = torch.jit.trace(lambda x, n: x * n, (torch.tensor([2.0]), float("nan")), check_trace=False)
    nan(torch.tensor([2.0]), float("nan"))
    assert len(nan.program.tapes) == 1


@pytest.mark.parametrize("function", [lambda x: x.reshape(-1) * 1, lambda x: x.contiguous().view(-1) * 1,
                                      lambda x: x.flatten() * 1])
def test_memory_in_another_order(function):
    traced = torch.jit.trace(function, torch.ones(2, 3))
    x = torch.arange(6.0).reshape(3, 2).t()
    for script in (traced, reloaded(traced)):
        assert script(x).tolist() == [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
        leaf = x.clone().requires_grad_()
        (script(leaf.t().contiguous().t()) * torch.arange(6.0)).sum().backward()
        assert leaf.grad.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_forward_of_a_module_is_the_module():
    model = nn.Linear(2, 2)
    traced = torch.jit.trace(model.forward, torch.ones(1, 2))
    assert isinstance(traced, torch.jit.TopLevelTracedModule)
    assert traced.weight is model.weight
    assert torch.equal(traced(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_extra_files_that_are_not_there_are_empty():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Difference(), (torch.ones(1), torch.ones(1))), buffer, _extra_files={"a": "text"})
    buffer.seek(0)
    extra = {"a": "", "b": "before"}
    torch.jit.load(buffer, _extra_files=extra)
    assert extra == {"a": b"text", "b": b""}
