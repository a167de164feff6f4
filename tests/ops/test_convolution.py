"""Convolution against plain loops, its layouts, dtypes and errors."""

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck


def loops(x, w, bias, stride, padding, dilation, groups):
    """Convolution by its definition, one output element at a time; `padding` in pairs."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation)]
    out = np.zeros((x.shape[0], w.shape[0], *size), x.dtype)
    per_group = w.shape[0] // groups
    for n, o, *place in np.ndindex(*out.shape):
        first = o // per_group * w.shape[1]
        window = tuple(
            slice(p * s, p * s + d * (w.shape[2 + i] - 1) + 1, d)
            for i, (p, s, d) in enumerate(zip(place, stride, dilation))
        )
        assert len(window) == rank
        out[(n, o, *place)] = (x[(n, slice(first, first + w.shape[1]), *window)] * w[o]).sum()
    return out + bias.reshape(-1, *(1,) * rank)


GEOMETRIES = [
    # x, w, stride, padding, dilation, groups
    ((2, 3, 9), (4, 3, 3), (1,), (1,), (1,), 1),
    ((2, 4, 9), (6, 2, 4), (3,), (2,), (2,), 2),
    ((2, 3, 8, 7), (5, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((1, 3, 9, 8), (16, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((2, 6, 8, 7), (6, 1, 3, 2), (2, 1), (0, 1), (1, 2), 6),
    ((2, 8, 5, 5), (4, 8, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 16, 6, 6), (32, 8, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((1, 2, 5, 4, 6), (3, 2, 2, 3, 3), (1, 2, 1), (1, 0, 1), (1, 1, 2), 1),
]


def operands(x_shape, w_shape, dtype=np.float64):
    draw = np.random.default_rng(0)
    arrays = [draw.standard_normal(shape) for shape in (x_shape, w_shape, w_shape[:1])]
    return [(a * 4).astype(dtype) if np.dtype(dtype).kind == "i" else a.astype(dtype) for a in arrays]


@pytest.mark.parametrize("x_shape, w_shape, stride, padding, dilation, groups", GEOMETRIES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_values(x_shape, w_shape, stride, padding, dilation, groups, dtype, engine):
    x, w, b = operands(x_shape, w_shape, dtype)
    conv = (F.conv1d, F.conv2d, F.conv3d)[len(x_shape) - 3]
    out = conv(*map(torch.tensor, (x, w, b)), stride, padding, dilation, groups)
    expected = loops(x, w, b, stride, [(p, p) for p in padding], dilation, groups)
    assert out.numpy().dtype == dtype
    tolerance = 1e-4 if dtype is np.float32 else 1e-10
    np.testing.assert_allclose(out.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("x_shape, w_shape, stride, padding, dilation, groups", GEOMETRIES)
def test_transposed_is_the_adjoint(x_shape, w_shape, stride, padding, dilation, groups, engine):
    """<conv(x), y> = <x, conv_transpose(y)> = <w, weight gradient>, in float32 through every kernel."""
    x, w, _ = (torch.tensor(a).requires_grad_() for a in operands(x_shape, w_shape, np.float32))
    rank = len(x_shape) - 2
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    out = conv(x, w, None, stride, padding, dilation, groups)
    y = torch.tensor(np.random.default_rng(1).standard_normal(tuple(out.shape)).astype(np.float32))
    product = (out * y).sum()
    product.backward()
    extra = [
        n - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, m, s, p, d, k in zip(x_shape[2:], out.shape[2:], stride, padding, dilation, w_shape[2:])
    ]
    back = transpose(y, w.detach(), None, stride, padding, extra, groups, dilation)
    np.testing.assert_allclose(back.numpy(), x.grad.numpy(), rtol=1e-4, atol=1e-4)
    for tensor in (x, w):
        assert (tensor.detach() * tensor.grad).sum().item() == pytest.approx(product.item(), rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 4), (5, 1)])
def test_same_padding_puts_the_odd_one_at_the_end(kernel, engine):
    x, w, b = operands((1, 2, 6, 7), (3, 2, *kernel))
    out = F.conv2d(*map(torch.tensor, (x, w, b)), padding="same")
    pairs = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in kernel]
    np.testing.assert_allclose(out.numpy(), loops(x, w, b, (1, 1), pairs, (1, 1), 1), atol=1e-10)
    assert F.conv2d(*map(torch.tensor, (x, w, b)), padding="valid").shape[2] == 7 - kernel[0]


def test_without_batch_and_with_an_empty_one(engine):
    x, w = torch.randn(3, 6, 5), torch.randn(4, 3, 3, 3, requires_grad=True)
    single = F.conv2d(x, w)
    assert single.shape == (4, 4, 3)
    assert torch.allclose(single, F.conv2d(x.unsqueeze(0), w).squeeze(0))
    none = F.conv2d(torch.zeros(0, 3, 6, 5), w)
    assert none.shape == (0, 4, 4, 3)
    none.sum().backward()
    assert w.grad.shape == w.shape and not w.grad.any().item()
    assert F.conv_transpose2d(torch.randn(4, 3, 2), w).shape == (3, 5, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_compute_in_float32(dtype):
    x, w, b = (torch.tensor(a, dtype=torch.float32) for a in operands((1, 4, 5, 5), (3, 4, 3, 3)))
    narrow = F.conv2d(x.to(dtype), w.to(dtype), b.to(dtype))
    assert narrow.dtype is dtype
    assert torch.allclose(narrow.float(), F.conv2d(x, w, b), rtol=0.05, atol=0.2)


def test_channels_last_is_kept_secret_or_open(engine):
    x, w = torch.randn(2, 3, 6, 6), torch.randn(8, 3, 3, 3)
    out = F.relu(F.conv2d(x, w))
    assert out.is_contiguous() and out.stride() == (128, 16, 4, 1)
    assert out.view(2, -1)[0, 16].item() == out[0, 1, 0, 0].item()
    asked = F.conv2d(x.contiguous(memory_format=torch.channels_last), w)
    assert torch.allclose(asked.relu(), out, atol=1e-5)


def test_second_derivatives():
    draw = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 4, 3), (4, 1, 2, 2), (4,))]
    assert gradcheck(lambda *t: F.conv2d(*t, stride=2, padding=1, groups=2), draw)
    assert gradgradcheck(lambda *t: F.conv2d(*t, stride=2, padding=1, groups=2), draw)
    # An output padding as large as the stride makes room that the convolution of the derivative must not use.
    wide = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 3), (2, 2, 3))]
    assert gradgradcheck(lambda *t: F.conv_transpose1d(*t, output_padding=1, dilation=2), wide)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: F.conv2d(torch.ones(2, 3, 8, 8), torch.ones(6, 5, 3, 3)),
            r"conv2d: expected 5 input channels, got 3 \(input 2×3×8×8, weight 6×5×3×3\)",
        ),
        (
            lambda: F.conv2d(torch.ones(3, 8), torch.ones(6, 3, 3, 3)),
            r"Expected 3D \(unbatched\) or 4D \(batched\) input to conv2d",
        ),
        (
            lambda: F.conv2d(torch.ones(1, 3, 3, 3), torch.ones(6, 3, 5, 5)),
            r"kernel \(5 x 5\) can't be greater .* \(3 x 3\)",
        ),
        (
            lambda: F.conv2d(torch.ones(1, 3, 8, 8).double(), torch.ones(6, 3, 5, 5)),
            r"input type \(double\) and weight type \(float\)",
        ),
        (
            lambda: F.conv1d(torch.ones(1, 4, 8), torch.ones(5, 2, 3), groups=2),
            "5 output channels do not divide into 2 groups",
        ),
        (
            lambda: F.conv1d(torch.ones(1, 4, 8), torch.ones(5, 4, 3), stride=2, padding="same"),
            "'same' is not supported",
        ),
        (lambda: F.conv1d(torch.ones(1, 4, 8), torch.ones(5, 4, 3), stride=0), "stride must be at least 1"),
        (lambda: F.conv1d(torch.ones(1, 4, 8), torch.ones(5, 4, 3), padding=-1), "negative padding"),
        (
            lambda: F.conv1d(torch.ones(1, 4, 8), torch.ones(5, 4, 3), torch.ones(4)),
            "expected a bias of 5 elements, got 4",
        ),
        (
            lambda: F.conv_transpose2d(torch.ones(1, 4, 8, 8), torch.ones(5, 4, 3, 3)),
            "expected 5 input channels, got 4",
        ),
        (
            lambda: F.conv_transpose1d(torch.ones(1, 4, 8), torch.ones(4, 4, 3), output_padding=1),
            "output padding must be smaller",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()


def test_what_is_no_tensor():
    with pytest.raises(TypeError, match=r"conv2d\(\): argument 'weight' must be Tensor, not list"):
        F.conv2d(torch.ones(1, 3, 8, 8), [1.0])


CHANGES = {
    "copy_": lambda w: w.copy_(w + 1),
    "in place": lambda w: w.add_(1),
    "data": lambda w: w.data.add_(1),
    "numpy": lambda w: np.add(w.detach().numpy(), 1, out=w.detach().numpy()),
    "a view": lambda w: w[2:].add_(1),
    "storage": lambda w: w.untyped_storage().copy_((w + 1).untyped_storage()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_kept_weight_follows_what_is_written(change, engine):
    layer, x = torch.nn.Conv2d(16, 24, 3), torch.randn(1, 16, 9, 9)
    with torch.no_grad():
        before = [layer(x) for _ in range(3)][-1]  # the reordered weight is kept from the second use on
        change(layer.weight)
        after = [layer(x) for _ in range(3)]
        expected = F.conv2d(x, layer.weight.clone(), layer.bias)
    assert not torch.equal(after[0], before)
    for y in after:
        assert torch.equal(y, expected)


def test_weights_in_memory_of_others_are_not_kept(engine):
    array = np.random.default_rng(0).standard_normal((8, 16, 3, 3), np.float32)
    x = torch.randn(1, 16, 9, 9)
    for weight in (torch.from_numpy(array), torch.nn.Parameter(torch.from_numpy(array)), torch.from_dlpack(array),
                   torch.frombuffer(memoryview(array).cast("B"), dtype=torch.float32).view(8, 16, 3, 3)):
        with torch.no_grad():
            before = [F.conv2d(x, weight) for _ in range(3)][-1]
            array *= 2
            torch.testing.assert_close(F.conv2d(x, weight), 2 * before)


def test_an_exchanged_weight_is_seen(engine):
    layer, x = torch.nn.Conv2d(16, 24, 3, bias=False), torch.randn(1, 16, 9, 9)
    with torch.no_grad():
        before = [layer(x) for _ in range(3)][-1]
        layer.weight.data = 2 * layer.weight
        torch.testing.assert_close(layer(x), 2 * before)
        layer.weight = torch.nn.Parameter(layer.weight / 4)
        torch.testing.assert_close(layer(x), before / 2)


def test_training_between_evaluations(engine):
    layer, x = torch.nn.Conv2d(16, 24, 3), torch.randn(1, 16, 9, 9)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        with torch.no_grad():
            kept = [layer(x) for _ in range(3)][-1]
            assert torch.equal(kept, F.conv2d(x, layer.weight.clone(), layer.bias))
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()
