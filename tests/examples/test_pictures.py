"""The examples on pictures reach what their docstrings promise, on few pictures and small settings."""

import csv
import os
import runpy
from pathlib import Path

import pytest

import flambeau as torch
from flambeau.vision.datasets import Digits

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = Path(os.environ.get("FLAMBEAU_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS = DATA / "squeezenet1_0.pth"
needs_weights = pytest.mark.skipif(not WEIGHTS.exists(), reason="the pretrained SqueezeNet is not in ../shared/data")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder of 128 + 32 drawn pictures, and 8 without labels."""
    pytest.importorskip("PIL", reason="the pictures are drawn with Pillow")
    draw_folder = runpy.run_path(str(EXAMPLES / "shapes.py"))["draw_folder"]
    return draw_folder(tmp_path_factory.mktemp("shapes"), train=32, val=8, test=8)


def test_shapes_are_the_same_every_time(shapes, tmp_path):
    draw_folder = runpy.run_path(str(EXAMPLES / "shapes.py"))["draw_folder"]
    again = draw_folder(tmp_path, train=2, val=1, test=1)
    for name in ("train/circle/000.png", "train/circle/001.png"):
        assert (again / name).read_bytes() == (shapes / name).read_bytes()


def test_image_folder_learns_and_resumes_exactly(run_example, picture, shapes, tmp_path):
    straight = run_example("image_folder", "--data", shapes, "--epochs", 5)
    assert straight["accuracy"] > 0.5  # by chance: 0.25
    assert straight["losses"][-1] < 0.8 * straight["losses"][0]
    picture("samples.png")
    picture("predictions.png")

    run_example("image_folder", "--data", shapes, "--epochs", 3, out=tmp_path / "halves")
    resumed = run_example("image_folder", "--data", shapes, "--epochs", 5, "--resume", out=tmp_path / "halves")
    assert resumed["losses"] == straight["losses"]
    one, two = (torch.load(folder / "checkpoint.pt") for folder in (tmp_path, tmp_path / "halves"))
    assert one["epoch"] == two["epoch"] == 5
    assert one["best"]["accuracy"] == two["best"]["accuracy"]
    assert all(torch.equal(tensor, two["model"][name]) for name, tensor in one["model"].items())
    for index, state in one["optimizer"]["state"].items():
        assert all(torch.equal(value, two["optimizer"]["state"][index][name]) for name, value in state.items())
    assert (tmp_path / "submission.csv").read_text() == (tmp_path / "halves" / "submission.csv").read_text()

    with open(tmp_path / "submission.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "circle", "square", "star", "triangle"]
    assert [row[0] for row in rows] == [f"{number:03}" for number in range(8)]
    assert all(sum(map(float, row[1:])) == pytest.approx(1, abs=1e-4) for row in rows)


def test_transfer_learning_trains_the_head_and_then_the_last_block_only(run_example, picture, shapes):
    result = run_example(
        "transfer_learning", "--data", shapes, "--weights", "none", "--network", "resnet18", "--size", 64,
        "--epochs", 3, "--finetune-epochs", 1,
    )  # fmt: skip
    picture("result.png")
    torch.manual_seed(0)
    before = runpy.run_path(str(EXAMPLES / "transfer_learning.py"))["models"].resnet18().state_dict()
    after = result["network"].state_dict()
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"layer4"}  # the old head is not in use, the new one is no part of the network
    assert result["losses"][2] < result["losses"][0]
    assert max(result["accuracies"]) > 0.3


@needs_weights
def test_transfer_learning_tells_ants_from_bees(run_example, picture, tmp_path):
    if not (DATA / "ants_bees").is_dir():
        pytest.skip("the photographs of ants and bees are not in ../shared/data")
    root = tmp_path / "few"
    for split, count in (("train", 20), ("val", 12)):
        for name in ("ants", "bees"):
            (root / split / name).mkdir(parents=True)
            for path in sorted((DATA / "ants_bees" / split / name).iterdir())[:count]:
                (root / split / name / path.name).write_bytes(path.read_bytes())
    result = run_example("transfer_learning", "--data", root, "--weights", WEIGHTS, "--size", 160,
                         "--epochs", 6, "--finetune-epochs", 2)  # fmt: skip
    assert result["accuracies"][5] > 0.75
    assert result["accuracies"][-1] > 0.75
    picture("result.png")


@needs_weights
def test_recognition(run_example, picture):
    photographs = [DATA / "imagenet" / name for name in ("388_giant_panda.jpg", "949_strawberry.jpg")]
    if not all(path.exists() for path in photographs):
        pytest.skip("the sample photographs are not in ../shared/data")
    panda, strawberry = run_example("recognition", *photographs, "--weights", WEIGHTS)
    assert (panda[0][0], strawberry[0][0]) == (388, 949)
    for best in (panda, strawberry):
        probabilities = [probability for _, probability in best]
        assert len(best) == 5 and probabilities == sorted(probabilities, reverse=True) and sum(probabilities) < 1.0001
    picture("recognition.png")


def test_features_find_digits_of_the_same_class(run_example, picture):
    result = run_example("features", "--limit", 300)
    assert result["shape"] == (300, 512)
    assert result["nearest"] > 0.85
    picture("neighbours.png")


def test_vae(run_example, picture):
    result = run_example("vae", "--epochs", 6)
    assert result["losses"][-1] < 27.5 < result["losses"][0]
    for name in ("reconstructions.png", "walk.png"):
        picture(name)
    model = result["model"]
    with torch.no_grad():
        images = Digits(train=False).data[:64].float().unsqueeze(1) / 16
        again = torch.sigmoid(model.decoder(model.encode(images)[0]))
    # Better than answering with the mean picture: the plane carries something.
    assert ((again - images) ** 2).mean() < 0.95 * ((images.mean(0) - images) ** 2).mean()


def test_conditional_gan(run_example, picture):
    result = run_example("conditional_gan", "--epochs", 12)
    assert result["agreement"] > 0.5  # by chance: 0.1
    assert result["variety"] > 0.2  # not the same drawing again and again
    picture("samples.png")
