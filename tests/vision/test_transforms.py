"""Transforms: sizes, rounding and values of torchvision's, the order of its random draws, and its errors."""

import subprocess
import sys

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.utils.data import DataLoader
from flambeau.vision import transforms as T
from flambeau.vision.transforms import functional as F

Image = pytest.importorskip("PIL.Image")
I = T.InterpolationMode


def picture(height=41, width=53):
    """A smooth RGB image, the same every time."""
    y, x = np.mgrid[:height, :width]
    levels = [x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)]
    return Image.fromarray(np.stack(levels, -1).astype(np.uint8))


@pytest.fixture
def pil():
    return picture()


@pytest.fixture
def image(pil):
    return F.to_tensor(pil)


# Parameters drawn by PyTorch's generator after manual_seed(0): RandomCrop(20), RandomResizedCrop, RandomAffine,
# RandomPerspective, RandomErasing and ColorJitter, one after the other on a 53×41 image.
def test_random_parameters_are_drawn_in_the_order_of_torchvision(image):
    torch.manual_seed(0)
    assert T.RandomCrop.get_params(image, (20, 20)) == (10, 3, 20, 20)
    assert T.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) == (1, 27, 21, 17)
    angle, move, scale, shear = T.RandomAffine.get_params([-10, 10], (0.2, 0.3), (0.5, 2), (1, 2, 3, 4), (53, 41))
    assert angle == -0.19813179969787598 and move == (8, -1) and scale == 1.4484593868255615
    assert shear == (1.348893404006958, 3.401717185974121)
    corners = [[8, 5], [41, 6], [43, 40], [4, 40]]
    assert T.RandomPerspective.get_params(53, 41, 0.5) == ([[0, 0], [52, 0], [52, 40], [0, 40]], corners)
    assert T.RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] == (1, 14, 37, 14)
    order, *factors = T.ColorJitter.get_params((0.6, 1.4), (0.6, 1.4), None, (-0.1, 0.1))
    assert order.tolist() == [0, 3, 1, 2]
    assert factors == [0.6289318799972534, 0.748184859752655, None, -0.025316525250673294]


def test_resize_sets_the_shorter_side_and_rounds_the_other_down():
    assert T.Resize(256)(picture(300, 401)).size == (342, 256)  # 256 * 401 / 300 = 342.19
    assert T.Resize(20)(picture(41, 53)).size == (25, 20)  # 25.85
    assert T.Resize((30, 60))(picture()).size == (60, 30)
    assert T.Resize(20, max_size=22)(picture()).size == (22, 17)
    assert tuple(T.Resize(20)(torch.zeros(3, 53, 41)).shape) == (3, 25, 20)
    same = picture()
    assert T.Resize(41)(same) is same


def test_center_crop_rounds_half_to_even():
    for width, left in ((341, 58), (343, 60)):
        columns = torch.arange(width).expand(1, 224, width)
        assert T.CenterCrop(224)(columns)[0, 0, 0].item() == left
        wide = Image.fromarray((np.arange(width)[None].repeat(224, 0) % 256).astype(np.uint8))
        assert T.CenterCrop(224)(wide).getpixel((0, 0)) == left


def test_center_crop_pads_a_smaller_image_with_black(pil, image):
    assert T.CenterCrop((50, 30))(pil).size == (30, 50)
    cropped = T.CenterCrop((50, 30))(image)
    assert tuple(cropped.shape) == (3, 50, 30)
    assert cropped[:, :4].abs().sum() == 0 and cropped[:, -5:].abs().sum() == 0 and cropped[:, 20].sum() > 0


def test_normalize_takes_plain_numbers_and_sequences(image):
    expected = (image.numpy() - 0.5) / 0.5
    assert np.allclose(T.Normalize(mean=(0.5), std=(0.5))(image).numpy(), expected)
    assert np.allclose(T.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(image).numpy(), expected)
    before = image.clone()
    T.Normalize(0.5, 0.5, inplace=True)(image)
    assert np.allclose(image.numpy(), (before.numpy() - 0.5) / 0.5)
    with pytest.raises(TypeError, match=r"float tensor. Got torch.uint8"):
        T.Normalize(0.5, 0.5)(torch.zeros(3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="std evaluated to zero"):
        T.Normalize([0.5], [0.0])(before)


def test_a_loader_over_pil_images_fails_at_the_batch_and_says_what_to_add(pil):
    loader = DataLoader([(pil, 0), (pil, 1)], batch_size=2)
    with pytest.raises(TypeError, match="ToTensor"):
        next(iter(loader))


def test_to_tensor_of_every_mode(pil):
    levels = np.asarray(pil)
    tensor = T.ToTensor()(pil)
    assert tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), levels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert np.array_equal(T.ToTensor()(levels).numpy(), tensor.numpy())
    assert np.array_equal(T.PILToTensor()(pil).numpy(), levels.transpose(2, 0, 1))
    assert T.ToTensor()(pil.convert("1")).unique().tolist() == [0.0, 1.0]
    assert T.ToTensor()(pil.convert("I")).dtype == torch.int32
    assert T.ToTensor()(pil.convert("F")).dtype == torch.float32
    assert tuple(T.ToTensor()(pil.convert("L")).shape) == (1, 41, 53)
    assert T.ToTensor()(levels.astype(np.float64)).dtype == torch.float64
    with pytest.raises(TypeError, match=r"PIL Image or ndarray. Got <class 'str'>"):
        T.ToTensor()("cat.jpg")
    with pytest.raises(ValueError, match=r"2/3 dimensional. Got 1"):
        T.ToTensor()(levels[0, 0])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I", "F"])
def test_tensors_and_pil_images_convert_both_ways(pil, mode):
    source = pil.convert(mode)
    back = F.to_pil_image(F.pil_to_tensor(source), mode="F" if mode == "F" else None)
    assert back.mode == mode and np.array_equal(np.asarray(back), np.asarray(source))


def test_to_pil_image_refuses_what_is_no_image():
    with pytest.raises(ValueError, match="2/3 dimensional"):
        F.to_pil_image(torch.zeros(2, 3, 4, 5))
    with pytest.raises(ValueError, match="> 4 channels"):
        F.to_pil_image(torch.zeros(5, 4, 4))
    with pytest.raises(TypeError, match="Tensor or ndarray"):
        F.to_pil_image([1])
    with pytest.raises(ValueError, match="Incorrect mode"):
        F.to_pil_image(torch.zeros(3, 4, 4), mode="L")


def test_convert_image_dtype_keeps_white_white():
    levels = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    assert F.convert_image_dtype(levels, torch.float32).tolist() == [[[0.0, np.float32(1 / 255), 1.0]]]
    assert F.convert_image_dtype(torch.tensor([[[0.0, 1.0]]]), torch.uint8).tolist() == [[[0, 255]]]
    assert F.convert_image_dtype(levels, torch.int16).tolist() == [[[0, 128, 255 * 128]]]
    assert F.convert_image_dtype(torch.tensor([[[256 * 128 - 1]]], dtype=torch.int16), torch.uint8).item() == 255
    with pytest.raises(RuntimeError, match="cannot be performed safely"):
        F.convert_image_dtype(torch.zeros(1, 1, 1), torch.int32)


@pytest.mark.parametrize("mode", [I.BILINEAR, I.BICUBIC])
def test_resizing_a_tensor_agrees_with_pillow(pil, mode):
    """Pillow works with 8-bit weights, so smooth results may differ by a level or two."""
    by_pillow = np.asarray(T.Resize((20, 25), mode)(pil)).astype(int)
    by_tensor = T.Resize((20, 25), mode)(F.pil_to_tensor(pil)).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(by_pillow - by_tensor).max() <= 2


@pytest.mark.parametrize(
    "change",
    [
        lambda x: F.rotate(x, 30.0),
        lambda x: F.rotate(x, 90.0, expand=True),
        lambda x: F.affine(x, 10.0, [3, -2], 1.2, [5.0, 0.0]),
        lambda x: F.perspective(
            x, [[0, 0], [52, 0], [52, 40], [0, 40]], [[5, 3], [50, 2], [48, 36], [2, 40]], I.NEAREST
        ),
        lambda x: F.adjust_brightness(x, 1.3),
        lambda x: F.adjust_contrast(x, 0.6),
        lambda x: F.adjust_saturation(x, 1.7),
        lambda x: F.adjust_hue(x, 0.2),
        lambda x: F.adjust_gamma(x, 1.5),
        lambda x: F.adjust_sharpness(x, 2.0),
        lambda x: F.rgb_to_grayscale(x, 3),
        F.invert,
        F.equalize,
        F.autocontrast,
        lambda x: F.posterize(x, 3),
        lambda x: F.solarize(x, 100),
        lambda x: F.pad(x, (1, 2, 3, 4), padding_mode="symmetric"),
        lambda x: F.pad(x, (1, 2), padding_mode="reflect"),
        lambda x: F.pad(x, 3, fill=7),
        lambda x: F.gaussian_blur(x, 5),
        F.hflip,
        F.vflip,
        lambda x: F.crop(x, -2, 40, 30, 30),
    ],
)
def test_tensors_and_pil_images_are_changed_alike(pil, change):
    by_pillow = np.asarray(change(pil)).astype(int)
    by_tensor = change(F.pil_to_tensor(pil)).permute(1, 2, 0).numpy().astype(int)
    assert by_pillow.shape == by_tensor.shape
    # Rounding moves levels by one or two; on a rotated edge a few pixels fall on the other side.
    assert np.mean(np.abs(by_pillow - by_tensor) > 5) < 0.02


def test_gradients_pass_through_tensor_transforms(image):
    x = image.clone().requires_grad_()
    y = T.Compose([T.Resize(20), T.ColorJitter(0.2, 0.2), T.RandomRotation(20, I.BILINEAR), T.Normalize(0.5, 0.5)])(x)
    y.sum().backward()
    assert tuple(x.grad.shape) == (3, 41, 53) and x.grad.abs().sum() > 0


def test_five_and_ten_crops(pil, image):
    for source in (pil, image):
        crops = T.FiveCrop(16)(source)
        assert len(crops) == 5 and F.get_dimensions(crops[4]) == [3, 16, 16]
        assert len(T.TenCrop((10, 12))(source)) == 10
    assert torch.equal(T.FiveCrop(16)(image)[3], image[:, -16:, -16:])
    with pytest.raises(ValueError, match=r"size \(60, 60\) is bigger than input size \(41, 53\)"):
        T.FiveCrop(60)(image)


def test_random_erasing_fills_a_rectangle(image):
    torch.manual_seed(0)
    erased = T.RandomErasing(p=1, value=(7.0, 8.0, 9.0))(image)
    changed = (erased != image).all(0)
    assert 0 < changed.sum() < 41 * 53 and set(erased[1][changed].tolist()) == {8.0}
    assert not (image > 1).any()  # the source is kept
    with pytest.raises(ValueError, match="single value or 3"):
        T.RandomErasing(p=1, value=(1.0, 2.0))(image)


def test_containers_apply_choose_and_shuffle(image):
    add, double = T.Lambda(lambda x: x + 1), T.Lambda(lambda x: x * 2)
    zero = torch.zeros(1)
    assert T.Compose([add, double])(zero).item() == 2
    assert T.RandomApply([add, double], p=1.0)(zero).item() == 2
    assert T.RandomApply(nn.ModuleList([T.CenterCrop(4)]), p=0.0)(image) is image
    assert {T.RandomChoice([add, double])(zero).item() for _ in range(50)} == {0, 1}
    assert {T.RandomOrder([add, double])(zero).item() for _ in range(50)} == {1, 2}
    assert T.RandomChoice([add, double], p=[1, 0])(zero).item() == 1
    assert (
        repr(T.Compose([T.CenterCrop(4), T.ToTensor()])) == "Compose(\n    CenterCrop(size=(4, 4))\n    ToTensor()\n)"
    )
    assert tuple(nn.Sequential(T.CenterCrop(10), T.Normalize(0.5, 0.5))(image).shape) == (3, 10, 10)
    with pytest.raises(TypeError, match="callable"):
        T.Lambda(3)


@pytest.mark.parametrize("seed", range(6))
def test_policies_keep_size_and_type(pil, seed):
    for make in (*(lambda p=p: T.AutoAugment(p) for p in T.AutoAugmentPolicy), T.RandAugment, T.TrivialAugmentWide):
        torch.manual_seed(seed)
        out = make()(pil)
        assert out.size == pil.size and out.mode == "RGB"
        tensor = make()(F.pil_to_tensor(pil))
        assert tensor.dtype == torch.uint8 and tuple(tensor.shape) == (3, 41, 53)


def test_policies_have_25_pairs():
    assert all(len(T.AutoAugment(policy).policies) == 25 for policy in T.AutoAugmentPolicy)
    assert T.AutoAugment().policies[0] == (("Posterize", 0.4, 8), ("Rotate", 0.6, 9))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: T.Resize(2.5), TypeError, "Size should be int or sequence"),
        (lambda: T.Resize(3, interpolation="billinear"), TypeError, "InterpolationMode"),
        (lambda: T.Pad(1, padding_mode="wrap"), ValueError, "constant, edge, reflect or symmetric"),
        (lambda: T.ColorJitter(hue=0.7), ValueError, "hue values should be between"),
        (lambda: T.ColorJitter(brightness=-1), ValueError, "non negative"),
        (lambda: T.GaussianBlur(4), ValueError, "odd and positive"),
        (lambda: T.RandomRotation(-5), ValueError, "degrees is a single number"),
        (lambda: T.RandomErasing(p=2), ValueError, "between 0 and 1"),
        (lambda: T.RandomCrop(60)(picture()), ValueError, r"\(60, 60\) is larger than input image size \(41, 53\)"),
        (lambda: T.CenterCrop(3)(np.zeros((4, 4))), TypeError, "PIL Image or Tensor. Got <class 'numpy.ndarray'>"),
        (lambda: F.adjust_hue(picture(), 0.6), ValueError, "not in"),
    ],
)
def test_errors_are_those_of_torchvision(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_pillow_is_loaded_with_the_first_image_only():
    code = "import sys, flambeau.vision.transforms; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
