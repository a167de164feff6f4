"""Pictures of many kinds come out as the same 8×8 pixels."""

import numpy as np
import pytest
from PIL import Image

from flambeau.cli.images import NotAnImage, read_digit

# A seven that touches all four sides of its 8×8 square.
SEVEN = np.zeros((8, 8), np.uint8)
SEVEN[0, :] = SEVEN[1, :] = 255
SEVEN[2:, 5] = 255
SEVEN[2:, 4] = 128


def saved(tmp_path, image, name="digit.png"):
    image.save(tmp_path / name)
    return tmp_path / name


def enlarged(border):
    return np.pad(np.kron(SEVEN, np.ones((9, 9), np.uint8)), border)


def test_eight_by_eight_is_taken_as_it_is(tmp_path):
    ink = read_digit(saved(tmp_path, Image.fromarray(SEVEN)))
    assert ink.dtype == np.float32 and ink.shape == (8, 8)
    assert np.allclose(ink, SEVEN / 255)


@pytest.mark.parametrize("bright_paper", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_larger_pictures_are_cut_and_averaged(tmp_path, bright_paper, mode):
    picture = 255 - enlarged(20) if bright_paper else enlarged(20)
    ink = read_digit(saved(tmp_path, Image.fromarray(picture).convert(mode)))
    atol = 0.01 if mode != "1" else 0.2  # 1-bit pictures are dithered
    assert np.allclose(ink, SEVEN / 255, atol=atol)


def test_margins_do_not_matter(tmp_path):
    narrow = read_digit(saved(tmp_path, Image.fromarray(enlarged(9)), "narrow.png"))
    wide = read_digit(saved(tmp_path, Image.fromarray(enlarged(((5, 60), (33, 1)))), "wide.png"))
    assert np.array_equal(narrow, wide)


def test_transparent_paper_is_white(tmp_path):
    picture = np.zeros((80, 80, 4), np.uint8)
    picture[10:70, 35:45, 3] = 255  # a black stroke on nothing
    ink = read_digit(saved(tmp_path, Image.fromarray(picture)))
    assert ink[:, 3:5].min() > 0.6 and ink[:, [0, 1, 6, 7]].max() == 0


def test_a_blank_page_is_no_error(tmp_path):
    assert read_digit(saved(tmp_path, Image.new("L", (30, 20), "white"))).max() == 0


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("seven")
    with pytest.raises(NotAnImage, match=r"notes\.txt is not an image"):
        read_digit(tmp_path / "notes.txt")
    with pytest.raises(NotAnImage, match=r"no image at .*nothing\.png"):
        read_digit(tmp_path / "nothing.png")
