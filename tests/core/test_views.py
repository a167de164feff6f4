"""Views share memory; strides, offsets and pointers tell the truth; channels-last stays a secret."""

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F


def grid():
    return torch.arange(24.0).reshape(2, 3, 4)


VIEWS = {
    "view": (lambda x: x.view(6, 4), (6, 4), (4, 1), 0),
    "reshape": (lambda x: x.reshape(-1), (24,), (1,), 0),
    "transpose": (lambda x: x.transpose(0, 2), (4, 3, 2), (1, 4, 12), 0),
    "permute": (lambda x: x.permute(1, 2, 0), (3, 4, 2), (4, 1, 12), 0),
    "select": (lambda x: x[1], (3, 4), (4, 1), 12),
    "negative index": (lambda x: x[-1, -2], (4,), (1,), 16),
    "slice": (lambda x: x[:, 1:, ::2], (2, 2, 2), (12, 4, 2), 4),
    "new dimension": (lambda x: x[:, None], (2, 1, 3, 4), (12, 12, 4, 1), 0),
    "ellipsis": (lambda x: x[..., 1], (2, 3), (12, 4), 1),
    "narrow": (lambda x: x.narrow(1, 1, 2), (2, 2, 4), (12, 4, 1), 4),
    "expand": (lambda x: x[:1].expand(5, 3, 4), (5, 3, 4), (0, 4, 1), 0),
    "diagonal": (lambda x: x.diagonal(0, 1, 2), (2, 3), (12, 5), 0),
    "unfold": (lambda x: x.unfold(2, 2, 1), (2, 3, 3, 2), (12, 4, 1, 1), 0),
    "unsqueeze": (lambda x: x.unsqueeze(1), (2, 1, 3, 4), (12, 12, 4, 1), 0),
    "squeeze": (lambda x: x[:1].squeeze(), (3, 4), (4, 1), 0),
    "as_strided": (lambda x: x.as_strided((2, 2), (3, 1), 5), (2, 2), (3, 1), 5),
    "unbind": (lambda x: x.unbind(1)[2], (2, 4), (12, 1), 8),
    "split": (lambda x: x.split(2, 1)[1], (2, 1, 4), (12, 4, 1), 8),
    "movedim": (lambda x: x.movedim(0, -1), (3, 4, 2), (4, 1, 12), 0),
    "flatten": (lambda x: x.flatten(1), (2, 12), (12, 1), 0),
    "detach": (lambda x: x.detach(), (2, 3, 4), (12, 4, 1), 0),
    "data": (lambda x: x.data, (2, 3, 4), (12, 4, 1), 0),
}
COPIES = {
    "clone": lambda x: x.clone(),
    "list": lambda x: x[[0, 1]],
    "mask": lambda x: x[x > 3],
    "repeat": lambda x: x.repeat(1, 1, 1),
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1),
    "contiguous of a view": lambda x: x.transpose(0, 1).contiguous(),
    "reshape of a view": lambda x: x.transpose(0, 1).reshape(-1),
    "index tensor": lambda x: x[torch.tensor(0), torch.tensor([1])],
}


@pytest.mark.parametrize("name", VIEWS)
def test_geometry(name):
    take, shape, stride, offset = VIEWS[name]
    x = grid()
    v = take(x)
    assert (tuple(v.shape), v.stride(), v.storage_offset()) == (shape, stride, offset)
    assert v.data_ptr() == x.data_ptr() + 4 * offset
    assert v.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() == x.data_ptr()


@pytest.mark.parametrize("name", VIEWS)
def test_writing_reaches_the_base_and_back(name):
    x = grid()
    v = VIEWS[name][0](x)
    place = (0,) * v.dim()
    if name == "expand":
        x[0, 0, 0] = 99.0
        assert v[3, 0, 0].item() == 99.0
        return
    v[place] = -5.0
    assert (x == -5).sum().item() == 1
    x.zero_()
    assert v.abs().sum().item() == 0


@pytest.mark.parametrize("name", COPIES)
def test_copies_have_memory_of_their_own(name):
    x = grid()
    copy = COPIES[name](x)
    copy.fill_(-5.0)
    assert x.tolist() == grid().tolist()


def test_contiguous_returns_the_tensor_itself_when_it_can():
    x = grid()
    assert x.contiguous() is x
    assert not x.transpose(0, 1).is_contiguous() and x.transpose(0, 1).contiguous().is_contiguous()


def test_layouts_that_operations_keep():
    t = torch.zeros(3, 4).t()
    for kept in (t * 2, t.clone(), torch.zeros_like(t), torch.empty_like(t), t.double(), t + t, t.exp()):
        assert kept.stride() == (1, 4), kept.stride()


def test_iteration_and_unpacking_give_views():
    x = grid()
    a, b = x
    a.zero_()
    for row in b:
        row += 100
    assert x[0].sum().item() == 0 and x[1].min().item() == 112


def test_view_refuses_strides_that_do_not_fit():
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        grid().transpose(0, 1).view(-1)
    with pytest.raises(RuntimeError, match=r"shape '\[5, -1\]' is invalid for input of size 24"):
        grid().view(5, -1)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="step must be greater than zero"):
        grid()[::-1]


@pytest.mark.parametrize("index, error, message", [
    (5, IndexError, "index 5 is out of bounds for dimension 0 with size 2"),
    ((0, 0, 0, 0), IndexError, "too many indices for tensor of dimension 3"),
    (1.5, (TypeError, IndexError), r"only integers, slices \(`:`\)"),
])  # fmt: skip
def test_wrong_indices(index, error, message):
    with pytest.raises(error, match=message):
        grid()[index]


def test_view_of_another_type():
    x = torch.tensor([1.0, -2.0])
    bits = x.view(torch.int32)
    assert bits.tolist() == [0x3F800000, -0x40000000]
    bits[1] = 0x3F800000
    assert x.tolist() == [1.0, 1.0]
    assert x.view(torch.uint8).shape == (8,)


def test_real_and_imaginary_parts_are_views():
    z = torch.zeros(2, dtype=torch.complex64)
    z.real[0], z.imag[1] = 3.0, 4.0
    assert z.tolist() == [3 + 0j, 4j]
    torch.view_as_real(z)[0, 1] = 1.0
    assert z[0].item() == 3 + 1j


def test_is_view():
    x = torch.zeros(2, 3, 4)
    v = x[0][1:]
    assert v._is_view() and not x._is_view() and not x.clone()._is_view()


def test_as_strided_sees_the_whole_storage():
    x = torch.arange(10.0)
    assert x[5:].as_strided((2,), (1,), 0).tolist() == [0.0, 1.0]
    with pytest.raises(RuntimeError, match="out of bounds"):
        x.as_strided((3, 5), (5, 1))


def test_set_and_resize():
    x = torch.arange(4.0)
    x.resize_(2, 3)
    assert x.shape == (2, 3) and x.flatten()[:4].tolist() == [0.0, 1.0, 2.0, 3.0]
    y = torch.empty(0)
    y.set_(x)
    y[0, 0] = 9.0
    assert x[0, 0].item() == 9.0


# ---- channels-last is a secret -------------------------------------------------------------------------------


def pictures():
    torch.manual_seed(0)
    return torch.randn(2, 3, 8, 8), torch.randn(16, 3, 3, 3)


def through_layers(x, w):
    return F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)


@pytest.mark.parametrize("make", [
    lambda x, w: F.conv2d(x, w), through_layers, lambda x, w: through_layers(x, w) * 2 + 1,
    lambda x, w: F.batch_norm(F.conv2d(x, w), None, None, training=True), lambda x, w: F.conv2d(x, w).clone(),
    lambda x, w: F.conv2d(x, w) + F.conv2d(x, w), lambda x, w: torch.zeros_like(F.conv2d(x, w)),
])  # fmt: skip
def test_results_of_layers_look_contiguous(make):
    y = make(*pictures())
    n, c, h, width = y.shape
    assert y.stride() == (c * h * width, h * width, width, 1)
    assert y.is_contiguous() and y.contiguous() is y and y.storage_offset() == 0
    values = np.array(y.tolist(), np.float32)
    assert y.view(n, -1).tolist() == values.reshape(n, -1).tolist()
    assert y.flatten().tolist() == values.reshape(-1).tolist()
    assert y.numpy().flags.c_contiguous and y.numpy().tolist() == values.tolist()
    assert y.numpy().ctypes.data == y.data_ptr()
    assert y.untyped_storage().nbytes() == 4 * values.size
    assert y.as_strided((4,), (1,), 0).tolist() == values.reshape(-1)[:4].tolist()
    assert y[0, 1].stride() == (width, 1) and y.permute(0, 2, 3, 1).stride() == (c * h * width, width, 1, h * width)


def test_writing_to_results_of_layers():
    y = F.conv2d(*pictures())
    y[0, 1].fill_(7.0)
    row = y.view(2, -1)[0]
    row[0] = 5.0
    assert y[0, 1].unique().tolist() == [7.0] and y[0, 0, 0, 0].item() == 5.0
    shared = y.numpy()
    y.add_(1)
    assert shared[0, 0, 0, 0] == 6.0 and shared[0, 1, 0, 0] == 8.0


def test_pointers_shared_before_the_layer_stay_shared():
    x, w = pictures()
    x.requires_grad_()
    y = F.conv2d(x, w)
    flat = y.view(-1)
    assert y.data_ptr() == flat.data_ptr()
    flat.sum().backward()
    assert x.grad.is_contiguous() and x.grad.stride() == x.stride()


def test_channels_last_on_request_is_no_secret():
    x = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert x.stride() == (60, 1, 15, 3)
    assert x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    y = x.contiguous()
    assert y.stride() == (60, 20, 5, 1)


def test_the_parts_of_a_complex_tensor_can_be_set():
    z = torch.zeros(2, dtype=torch.complex64)
    z.real = 1.5
    z.imag = torch.tensor([1.0, 2.0])
    assert z.tolist() == [1.5 + 1j, 1.5 + 2j]
    leaf = torch.ones(2, dtype=torch.complex64, requires_grad=True)
    y = leaf * 2
    y.real = torch.zeros(2)
    y.imag.sum().backward()
    assert leaf.grad.tolist() == [2j, 2j]
    with pytest.raises(RuntimeError, match="non-complex"):
        torch.ones(2).imag = 2
