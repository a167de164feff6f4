"""Padding, interpolation, folding and grids: what recorded values do not show. Values are in test_recorded.py."""

import itertools

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.ops.resampling import resample, resample_backward


@pytest.mark.parametrize("mode, numpy_mode", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_modes_are_numpys(mode, numpy_mode, rank):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)[: 2 + rank])
    pairs = [(2, 1), (0, 3), (3, 2)][:rank]
    amounts = [n for pair in reversed(pairs) for n in pair]
    expected = np.pad(x, [(0, 0), (0, 0), *pairs], mode=numpy_mode)
    np.testing.assert_array_equal(F.pad(torch.tensor(x), amounts, mode=mode).numpy(), expected)
    np.testing.assert_array_equal(F.pad(torch.tensor(x[0]), amounts, mode=mode).numpy(), expected[0])


def test_constant_padding_takes_any_dimensions_and_dtypes():
    x = torch.arange(6).reshape(2, 3)
    assert F.pad(x, (1, -2, 0, 1), value=9).tolist() == [[9, 0], [9, 3], [9, 9]]
    assert F.pad(torch.tensor([True]), (1, 1)).tolist() == [False, True, False]
    assert F.pad(torch.tensor(3.0), ()).item() == 3
    assert F.pad(x, (0, 0)) is not x
    assert torch.constant_pad_nd(x, (1, 0), 7)[0].tolist() == [7, 0, 1, 2]


PLANS = [
    (("reflect", 2, 1),),
    (("circular", 1, -1),),
    (("nearest", 9, None, False, False),),
    (("linear", 9, 1.7, False, False),),
    (("cubic", 3, None, True, False),),
    (("linear", 2, None, False, True),),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_backward_is_the_adjoint(plan):
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, 5)))
    out = resample(x, plan=plan)
    y = torch.tensor(np.random.default_rng(1).standard_normal(tuple(out.shape)))
    back = resample_backward(y, plan=plan, size=(5,))
    assert (out * y).sum().item() == pytest.approx((x * back).sum().item())


def test_nearest_and_nearest_exact_differ():
    x = torch.arange(5.0).reshape(1, 1, 5)
    assert F.interpolate(x, 3, mode="nearest").tolist() == [[[0, 1, 3]]]
    assert F.interpolate(x, 3, mode="nearest-exact").tolist() == [[[0, 2, 4]]]


def test_the_scale_factor_is_used_as_given():
    x = torch.arange(4.0).reshape(1, 1, 4)
    given = F.interpolate(x, scale_factor=1.6, mode="linear")
    recomputed = F.interpolate(x, scale_factor=1.6, mode="linear", recompute_scale_factor=True)
    assert given.shape == recomputed.shape == (1, 1, 6)
    assert not torch.allclose(given, recomputed)
    assert torch.allclose(recomputed, F.interpolate(x, 6, mode="linear"))


def test_bytes_are_rounded():
    x = torch.tensor([[[[0, 255], [1, 2]]]], dtype=torch.uint8)
    out = F.interpolate(x, (3, 3), mode="bilinear", align_corners=True)
    assert out.dtype is torch.uint8 and out.tolist() == [[[[0, 128, 255], [1, 65, 129], [1, 2, 2]]]]


def test_old_names_warn():
    x = torch.ones(1, 1, 2, 2)
    with pytest.warns(UserWarning, match="upsample_nearest.*deprecated"):
        assert F.upsample_nearest(x, scale_factor=2).shape == (1, 1, 4, 4)
    with pytest.warns(UserWarning, match="deprecated"):
        assert F.upsample_bilinear(x, 3).shape == (1, 1, 3, 3)
    with pytest.warns(UserWarning, match="deprecated"):
        assert F.upsample(x, 3).shape == (1, 1, 3, 3)


@pytest.mark.parametrize(
    "kernel, dilation, padding, stride", list(itertools.product((2, (2, 3)), (1, 2), (0, 1), (1, 2)))
)
def test_fold_counts_how_often_unfold_shows_an_element(kernel, dilation, padding, stride):
    x = torch.randn(2, 3, 6, 7)
    columns = F.unfold(x, kernel, dilation, padding, stride)
    shown = F.fold(
        F.unfold(torch.ones(2, 3, 6, 7), kernel, dilation, padding, stride), (6, 7), kernel, dilation, padding, stride
    )
    assert torch.allclose(F.fold(columns, (6, 7), kernel, dilation, padding, stride), x * shown, atol=1e-5)
    assert torch.allclose(F.unfold(x[0], kernel, dilation, padding, stride), columns[0])


def test_rearrangements_undo_each_other_and_copy():
    x = torch.randn(2, 8, 3, 4)
    assert (F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) == x).all().item()
    assert (F.channel_shuffle(F.channel_shuffle(x, 2), 4) == x).all().item()
    for same in (F.pixel_shuffle(x, 1), F.pixel_unshuffle(x, 1), F.channel_shuffle(x, 1)):
        assert same.data_ptr() != x.data_ptr() and (same == x).all().item()


def test_the_identity_grid_gives_the_image_back():
    x = torch.randn(2, 3, 4, 5)
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]).expand(2, 2, 3)
    for align_corners in (False, True):
        grid = F.affine_grid(theta, x.shape, align_corners)
        for mode in ("bilinear", "nearest", "bicubic"):
            assert torch.allclose(F.grid_sample(x, grid, mode, "border", align_corners), x, atol=1e-5)
    with pytest.warns(UserWarning, match="align_corners"):
        F.affine_grid(theta, x.shape)


def test_positions_far_outside_count_as_zero():
    x, grid = torch.ones(1, 1, 3, 3), torch.tensor([[[[5.0, 0.0], [float("nan"), 0.0]]]])
    assert F.grid_sample(x, grid, align_corners=False)[0, 0, 0, 0].item() == 0
    assert F.grid_sample(x, grid, padding_mode="border", align_corners=False)[0, 0, 0, 0].item() == 1


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (
            lambda: F.pad(torch.ones(1, 1, 3), (4, 0), mode="reflect"),
            RuntimeError,
            r"padding \(4, 0\) at a dimension of size 3",
        ),
        (lambda: F.pad(torch.ones(1, 1, 3), (4, 0), mode="circular"), RuntimeError, "more than once"),
        (lambda: F.pad(torch.ones(3), (1, 1), mode="reflect"), NotImplementedError, "2 numbers for input 3"),
        (lambda: F.pad(torch.ones(1, 3), (1, 1), mode="mirror"), NotImplementedError, "mirror"),
        (lambda: F.pad(torch.ones(1, 3), (1,)), RuntimeError, "divisible by 2"),
        (lambda: F.pad(torch.ones(1, 3), (-2, -2)), RuntimeError, "negative size"),
        (
            lambda: F.interpolate(torch.ones(1, 1, 4, 4), size=8, scale_factor=2),
            ValueError,
            "only one of size or scale_factor",
        ),
        (lambda: F.interpolate(torch.ones(1, 1, 4, 4)), ValueError, "either size or scale_factor"),
        (lambda: F.interpolate(torch.ones(1, 1, 4, 4), 8, mode="bicubical"), NotImplementedError, "bicubical"),
        (
            lambda: F.interpolate(torch.ones(1, 1, 4), 8, mode="bilinear"),
            NotImplementedError,
            "got 3D input, but bilinear mode needs 4D",
        ),
        (lambda: F.interpolate(torch.ones(1, 1, 4), 8, align_corners=True), ValueError, "align_corners"),
        (lambda: F.interpolate(torch.ones(1, 1, 4), (8, 8)), ValueError, "same number of spatial dimensions"),
        (lambda: F.unfold(torch.ones(1, 1, 2, 2), 3), RuntimeError, r"windows \(3, 3\) do not fit"),
        (lambda: F.fold(torch.ones(1, 4, 5), (3, 3), 2), RuntimeError, "expected 2 \\* 2 = 4 columns, got 5"),
        (lambda: F.fold(torch.ones(1, 5, 4), (3, 3), 2), RuntimeError, "divisible by the product of kernel_size"),
        (lambda: F.pixel_shuffle(torch.ones(3, 2, 2), 2), RuntimeError, "not divisible by 4"),
        (lambda: F.channel_shuffle(torch.ones(1, 3, 2), 2), RuntimeError, "divisible by groups"),
        (
            lambda: F.grid_sample(torch.ones(1, 1, 2, 2), torch.ones(2, 1, 1, 2), align_corners=True),
            RuntimeError,
            "same batch size",
        ),
        (lambda: F.grid_sample(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 2), "cubic"), ValueError, "mode"),
        (lambda: F.affine_grid(torch.ones(1, 2, 4), (1, 1, 2, 2), True), ValueError, "Nx2x3"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
