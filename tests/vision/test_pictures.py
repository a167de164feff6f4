"""Grids, saved pictures, boxes and masks drawn on images; images in files."""

import io
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau.vision import io as vio
from flambeau.vision import utils

Image = pytest.importorskip("PIL.Image")


def test_make_grid_takes_nrow_and_padding_in_this_order():
    x = torch.arange(7.0).reshape(7, 1, 1, 1).expand(7, 1, 4, 3)
    grid = utils.make_grid(x, 5, 2)
    assert tuple(grid.shape) == (3, 2 * 6 + 2, 5 * 5 + 2)  # grey becomes three channels
    assert torch.equal(grid[0], grid[2])
    assert grid[0, 2:6, 2:5].unique().tolist() == [0.0] and grid[0, 8:12, 7:10].unique().tolist() == [6.0]
    assert grid[0, 8:12, 12:].abs().sum() == 0
    assert tuple(utils.make_grid(torch.zeros(30, 3, 8, 8), 10, 5).shape) == (3, 3 * 13 + 5, 10 * 13 + 5)
    assert utils.make_grid(x, padding=1, pad_value=9.0)[1, 0, 0] == 9.0


def test_make_grid_of_one_image_and_of_lists():
    assert tuple(utils.make_grid(torch.zeros(4, 3)).shape) == (3, 4, 3)
    assert tuple(utils.make_grid(torch.zeros(1, 1, 4, 3)).shape) == (3, 4, 3)
    assert tuple(utils.make_grid([torch.zeros(3, 4, 4)] * 2, padding=0).shape) == (3, 4, 8)


def test_normalize_covers_the_whole_batch_unless_each_is_scaled():
    x = torch.tensor([0.0, 1.0, 2.0, 4.0]).reshape(2, 1, 1, 2)
    assert utils.make_grid(x, normalize=True, padding=0)[0].tolist() == [[0.0, 0.25, 0.5, 1.0]]
    assert utils.make_grid(x, normalize=True, scale_each=True, padding=0)[0].tolist() == [[0.0, 1.0, 0.0, 1.0]]
    assert utils.make_grid(x, normalize=True, value_range=(0, 2), padding=0)[0].tolist() == [[0.0, 0.5, 1.0, 1.0]]
    assert x.max() == 4.0  # the batch itself is kept
    with pytest.raises(TypeError, match="tuple"):
        utils.make_grid(x, normalize=True, value_range=[0, 1])
    with pytest.raises(TypeError, match="tensor or list of tensors expected, got <class 'str'>"):
        utils.make_grid("cat")


def test_save_image_rounds_to_the_nearest_level(tmp_path):
    x = torch.tensor([0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 2, 2)
    utils.save_image(x, tmp_path / "x.png")
    saved = np.asarray(Image.open(tmp_path / "x.png"))
    assert saved[..., 0].tolist() == [[0, 128], [255, 255]] and saved.shape == (2, 2, 3)
    buffer = io.BytesIO()
    utils.save_image(torch.rand(3, 3, 4, 4, requires_grad=True), buffer, format="png", nrow=3, padding=0)
    assert Image.open(buffer).size == (12, 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_bounding_boxes_are_drawn(dtype):
    white = 255 if dtype == torch.uint8 else 1.0
    image = torch.zeros(1, 20, 30, dtype=dtype)
    boxes = torch.tensor([[2, 3, 10, 12], [15, 5, 28, 18]])
    drawn = utils.draw_bounding_boxes(image, boxes, colors=["red", (0, 255, 0)], labels=["a", None], width=1)
    assert drawn.dtype == dtype and tuple(drawn.shape) == (3, 20, 30)
    assert drawn[:, 3, 2].tolist() == [white, 0, 0] and drawn[:, 18, 28].tolist() == [0, white, 0]
    assert drawn[:, 0, 0].tolist() == [0, 0, 0]
    filled = utils.draw_bounding_boxes(image, boxes, colors="blue", fill=True)
    assert 0 < filled[2, 8, 20].item() < white


def test_segmentation_masks_are_painted():
    image = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2] = True
    painted = utils.draw_segmentation_masks(image, mask, alpha=0.5, colors="red")
    assert painted[:, 0, 0].tolist() == [177, 50, 50] and painted[:, 3, 3].tolist() == [100, 100, 100]
    half = utils.draw_segmentation_masks(torch.zeros(3, 4, 4), mask, alpha=0.5, colors=[(255, 0, 0)])
    assert half[:, 0, 0].tolist() == [0.5, 0.0, 0.0]
    both = utils.draw_segmentation_masks(image, torch.stack([mask, mask.T]), alpha=0.5, colors=["red", "blue"])
    assert both[:, 0, 0].tolist() == [50, 50, 50]  # black where they overlap
    assert both[:, 0, 3].tolist() == [177, 50, 50]
    with pytest.warns(UserWarning, match="No mask was drawn"):
        assert utils.draw_segmentation_masks(image, mask[None][:0]) is image


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda i, b: utils.draw_bounding_boxes(i.numpy(), b), TypeError, "Tensor expected"),
        (lambda i, b: utils.draw_bounding_boxes(i[None], b), ValueError, "individual images"),
        (lambda i, b: utils.draw_bounding_boxes(i, b.flip(-1)), ValueError, "xmin, ymin, xmax, ymax"),
        (lambda i, b: utils.draw_bounding_boxes(i, b, labels=["a", "b"]), ValueError, r"boxes \(1\) and labels \(2\)"),
        (lambda i, b: utils.draw_bounding_boxes(i, b, colors=[]), ValueError, "Number of colors"),
        (lambda i, b: utils.draw_segmentation_masks(i, i[0]), ValueError, "dtype bool"),
        (lambda i, b: utils.draw_segmentation_masks(i, i[0, :2] > 0), ValueError, "same height and width"),
    ],
)
def test_drawing_errors(draw, error, message):
    with pytest.raises(error, match=message):
        draw(torch.zeros(3, 8, 8), torch.tensor([[1, 2, 3, 4]]))


def test_no_boxes_leave_the_image_with_a_warning():
    image = torch.zeros(3, 8, 8)
    with pytest.warns(UserWarning, match="No box was drawn"):
        assert utils.draw_bounding_boxes(image, torch.zeros(0, 4)) is image


@pytest.fixture
def image():
    return torch.arange(3 * 8 * 9).reshape(3, 8, 9).to(torch.uint8)


def test_png_files_come_back_as_they_were(tmp_path, image):
    vio.write_png(image, tmp_path / "x.png")
    assert torch.equal(vio.read_image(tmp_path / "x.png"), image)
    assert torch.equal(vio.decode_png(vio.encode_png(image, 9)), image)
    assert torch.equal(vio.decode_image(tmp_path / "x.png"), image)
    for mode, channels in (("GRAY", 1), (vio.ImageReadMode.GRAY_ALPHA, 2), ("RGB", 3), ("RGB_ALPHA", 4)):
        assert vio.read_image(tmp_path / "x.png", mode).shape[0] == channels


def test_jpeg_files_are_close_and_formats_are_checked(tmp_path):
    smooth = torch.arange(64).reshape(1, 1, 64).expand(3, 16, 64).to(torch.uint8)
    vio.write_jpeg(smooth, tmp_path / "x.jpg", quality=95)
    read = vio.read_image(str(tmp_path / "x.jpg"))
    assert (read.to(torch.int32) - smooth.to(torch.int32)).abs().max() <= 2
    data = vio.read_file(tmp_path / "x.jpg")
    assert torch.equal(vio.decode_jpeg(data), read)
    with pytest.raises(RuntimeError, match="cannot decode"):
        vio.decode_png(data)
    vio.write_file(tmp_path / "cut.jpg", data[:-200])
    with pytest.raises(RuntimeError, match=r"cannot decode the image in .*cut.jpg"):
        vio.read_image(tmp_path / "cut.jpg")
    with pytest.raises(RuntimeError, match="1 or 3 channels"):
        vio.encode_jpeg(torch.zeros(2, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="between 1 and 100"):
        vio.encode_jpeg(smooth, quality=0)


def test_orientation_and_animations(tmp_path, image):
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    assert tuple(vio.read_image(tmp_path / "turned.png").shape) == (3, 8, 9)
    assert tuple(vio.read_image(tmp_path / "turned.png", apply_exif_orientation=True).shape) == (3, 9, 8)
    picture.save(tmp_path / "x.gif", save_all=True, append_images=[picture])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuple(vio.decode_gif(vio.read_file(tmp_path / "x.gif")).shape) == (3, 8, 9)
