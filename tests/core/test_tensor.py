"""Tensors as Python objects: numbers in and out, constructors old and new, sizes, devices, meta tensors."""

import math

import numpy as np
import pytest

import flambeau as torch


def test_numbers_of_one_element_tensors():
    x = torch.tensor(2.5)
    assert (float(x), int(x), bool(x), complex(x)) == (2.5, 2, True, 2.5 + 0j)
    assert f"{x:.1f}" == "2.5" and f"{torch.tensor([1.25])[0]:.3f}" == "1.250"
    assert x.item() == 2.5 and torch.tensor([[3]]).item() == 3 and type(torch.tensor(3).item()) is int
    assert math.sqrt(torch.tensor(4.0)) == 2.0 and x > 2 and torch.tensor(1) == 1


def test_indices_of_lists_and_ranges():
    classes, i = ["cat", "dog"], torch.tensor(1)
    assert classes[i] == "dog" and list(range(3))[i] == 1 and np.arange(4)[i] == 1
    with pytest.raises(TypeError):
        classes[torch.tensor(1.0)]
    with pytest.raises(TypeError, match="only integer tensors of a single element"):
        classes[torch.tensor([0, 1])]


@pytest.mark.parametrize("call, error, message", [
    (lambda x: bool(x), RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"),
    (lambda x: float(x), (RuntimeError, TypeError, ValueError), "a Tensor with 2 elements cannot be converted to Scalar"
     "|only one element tensors can be converted to Python scalars"),
    (lambda x: x.item(), RuntimeError, "a Tensor with 2 elements cannot be converted to Scalar"),
    (lambda x: len(torch.tensor(1.0)), TypeError, r"len\(\) of a 0-d tensor"),
    (lambda x: list(torch.tensor(1.0)), TypeError, "iteration over a 0-d tensor"),
    (lambda x: torch.tensor(1.0)[0], IndexError, "invalid index of a 0-dim tensor"),
    (lambda x: x.no_such_method(), AttributeError, "no_such_method"),
    (lambda x: x + "a", TypeError, ""),
    (lambda x: x @ torch.ones(3), RuntimeError, "inconsistent tensor size|size mismatch|2"),
    (lambda x: x + torch.ones(3), RuntimeError, r"size of tensor a \(2\) must match the size of tensor b \(3\)"),
])  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message or "."):
        call(torch.ones(2))


def test_tensor_infers_types():
    assert torch.tensor([1, 2]).dtype is torch.int64 and torch.tensor([1, 2.0]).dtype is torch.float32
    assert torch.tensor([True]).dtype is torch.bool and torch.tensor([1j]).dtype is torch.complex64
    assert torch.tensor([]).dtype is torch.float32 and torch.tensor([]).shape == (0,)
    assert torch.tensor([[1, 2], [3, 4]]).shape == (2, 2) and torch.tensor(5).dim() == 0
    assert torch.tensor([torch.tensor(1), torch.tensor(2)]).tolist() == [1, 2]
    assert torch.tensor(range(3)).tolist() == [0, 1, 2] and torch.tensor((1, 2)).tolist() == [1, 2]
    with pytest.raises(ValueError, match="expected sequence of length 2 at dim 1"):
        torch.tensor([[1, 2], [3]])
    with pytest.raises(ValueError, match="too many dimensions 'str'"):
        torch.tensor(["a"])


def test_legacy_constructors():
    assert torch.Tensor(2, 3).shape == (2, 3) and torch.Tensor(2, 3).dtype is torch.float32
    assert torch.Tensor([1, 2]).tolist() == [1.0, 2.0] and torch.Tensor().shape == (0,)
    assert torch.FloatTensor(2, 3).shape == (2, 3) and torch.FloatTensor([2, 3]).tolist() == [2.0, 3.0]
    assert torch.LongTensor([1, 0, 3]).dtype is torch.int64
    assert torch.LongTensor(np.array([1, 2])).tolist() == [1, 2]
    assert torch.DoubleTensor([1]).dtype is torch.float64 and torch.ByteTensor([1]).dtype is torch.uint8
    assert torch.BoolTensor([1, 0]).tolist() == [True, False] and torch.IntTensor(torch.Size([2])).shape == (2,)
    assert isinstance(torch.ones(2), torch.FloatTensor) and not isinstance(torch.ones(2), torch.LongTensor)
    assert torch.ones(2).type() == "torch.FloatTensor" and torch.ones(2).type("torch.LongTensor").dtype is torch.int64
    assert torch.ones(2).type(torch.DoubleTensor).dtype is torch.float64
    assert torch.ones(2).new(3).shape == (3,) and torch.ones(2).double().new([1.0]).dtype is torch.float64
    assert torch.ones(2).new_zeros(2, 2).tolist() == [[0.0, 0.0]] * 2
    assert torch.tensor([1.0]).type_as(torch.tensor([1])).dtype is torch.int64


def test_size():
    size = torch.ones(2, 3).shape
    assert isinstance(size, torch.Size) and isinstance(size, tuple) and size == (2, 3) and size.numel() == 6
    assert repr(size) == "torch.Size([2, 3])" and isinstance(size[:1], torch.Size) and size[-1] == 3
    assert isinstance(size + (4,), tuple) and torch.ones(2, 3).size(1) == 3 and torch.ones(2, 3).size() == size
    assert torch.zeros(size).shape == size and torch.zeros(*size, 2).shape == (2, 3, 2)
    rows, columns = size
    assert (rows, columns) == (2, 3) and torch.ones(2, 3).ndim == torch.ones(2, 3).dim() == 2


def test_devices():
    cpu = torch.device("cpu")
    assert torch.ones(2).device == cpu and cpu.type == "cpu" and cpu.index is None and str(cpu) == "cpu"
    gpu = torch.device("cuda:1")
    assert (gpu.type, gpu.index) == ("cuda", 1) and gpu == torch.device("cuda", 1) and gpu != torch.device("cuda")
    assert repr(gpu) == "device(type='cuda', index=1)" and len({gpu, torch.device("cuda:1")}) == 1
    x = torch.ones(2)
    assert x.to("cpu") is x and x.cpu() is x and not x.is_cuda
    with pytest.raises(RuntimeError, match="device"):
        torch.device("spaceship")


def test_cuda_tensors_are_refused_as_pytorch_does():
    calls = (lambda x: x.cuda(), lambda x: torch.ones(2, device="cuda"), lambda x: x.to("cuda:0"))
    for call in calls:
        with pytest.raises((AssertionError, RuntimeError), match=r"not compiled with CUDA|NVIDIA driver"):
            call(torch.ones(2))


def test_meta_tensors_have_shapes_only():
    x = torch.empty(2, 3, device="meta")
    y = torch.empty(3, 4, device="meta")
    assert x.is_meta and x.device.type == "meta"
    assert (x @ y).shape == (2, 4) and (x + 1).shape == (2, 3) and x.sum(0).shape == (3,)
    assert x.stride() == (3, 1) and x.t().shape == (3, 2) and x.reshape(-1).shape == (6,) and (x + 1).is_meta
    assert torch.nn.Linear(3, 5, device="meta")(x).shape == (2, 5)
    assert x.clone().is_meta and x.t().contiguous().is_meta and x.mean().is_meta and torch.zeros_like(x).is_meta
    assert x.add_(1) is x and torch.nn.BatchNorm1d(3, device="meta")(x).is_meta
    x[0] = 1.0
    with pytest.raises((NotImplementedError, RuntimeError)):
        x.tolist()
    with pytest.raises((NotImplementedError, RuntimeError)):
        x.cpu()


def test_to():
    x = torch.ones(2)
    assert x.to(torch.float32) is x and x.to(torch.float64).dtype is torch.float64
    assert x.to(torch.ones(1, dtype=torch.int8)).dtype is torch.int8
    assert x.to(torch.float32, copy=True) is not x and x.to("cpu", torch.float16).dtype is torch.float16
    assert x.float() is x and x.half().dtype is torch.float16 and x.bool().tolist() == [True, True]
    assert torch.tensor([1.9, -1.9]).int().tolist() == [1, -1] and torch.tensor([300.0]).to(torch.int64).item() == 300
    x.requires_grad_()
    assert x.double().requires_grad


def test_operators():
    x = torch.tensor([1, 2, 3])
    assert (2 - x).tolist() == [1, 0, -1] and (-x).tolist() == [-1, -2, -3] and (2**x).tolist() == [2, 4, 8]
    assert (x % 2 == 1).tolist() == [True, False, True] and (7 // x).tolist() == [7, 3, 2]
    assert (x & 1).tolist() == [1, 0, 1] and (x | 4).tolist() == [5, 6, 7] and (x ^ 1).tolist() == [0, 3, 2]
    assert (x << 1).tolist() == [2, 4, 6] and (x >> 1).tolist() == [0, 1, 1] and (~x).tolist() == [-2, -3, -4]
    assert (~(x > 1)).tolist() == [True, False, False] and abs(-x).tolist() == [1, 2, 3] and (+x).tolist() == [1, 2, 3]
    assert (1 / torch.tensor([2.0])).item() == 0.5 and (5 % x).tolist() == [0, 1, 2]
    assert 2 in x and 9 not in x and x.eq(2).any() and len(x) == 3 and next(iter(reversed(x))).item() == 3
    y = x
    y += 1
    y *= 2
    y -= 1
    assert x.tolist() == [3, 5, 7]


def test_parameters_are_tensors_and_their_results_plain_ones():
    p = torch.nn.Parameter(torch.ones(2))
    assert isinstance(p, torch.Tensor) and p.requires_grad and type(p * 2) is torch.Tensor


def test_is_tensor_and_variable():
    assert torch.is_tensor(torch.ones(1)) and not torch.is_tensor([1])
    assert isinstance(torch.ones(1), torch.autograd.Variable)
    assert isinstance(torch.autograd.Variable(torch.ones(1), requires_grad=True), torch.Tensor)


def test_tolist():
    assert torch.tensor([[True, False]]).tolist() == [[True, False]] and torch.tensor(1.5).tolist() == 1.5
    assert torch.zeros(2, 0).tolist() == [[], []]


def test_broadcasting():
    assert (torch.ones(3, 1) + torch.ones(4)).shape == (3, 4)
    assert (torch.ones(0, 1) + torch.ones(1, 5)).shape == (0, 5)
    a, b = torch.broadcast_tensors(torch.ones(3, 1), torch.ones(4))
    assert a.shape == b.shape == (3, 4) and a.stride() == (1, 0)
    assert torch.broadcast_shapes((3, 1), (4,)) == (3, 4)


def test_inplace_arithmetic_of_integers_with_floats_is_refused():
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        torch.tensor([1]).mul_(1.5)
    x = torch.tensor([1.0])
    x += torch.tensor([2], dtype=torch.float64)
    assert x.dtype is torch.float32
