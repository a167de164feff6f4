"""The main job, small: train, look at what it wrote, stop it with Ctrl-C, predict."""

import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import flambeau as torch
from flambeau.cli import networks
from flambeau.cli.main import app
from flambeau.cli.runs import NotACheckpoint, load_checkpoint, written_whole
from flambeau.cli.trainer import Epoch, Trainer
from flambeau.vision.datasets import Digits

SMALL = ["--batch-size", "128", "--channels", "4", "8", "8"]
PICTURES = ("curves.png", "confusion.png", "predictions.png")


def flambeau(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The command sets the number of threads; other tests get theirs back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two epochs, and what the command printed."""
    out = tmp_path_factory.mktemp("runs")
    result = flambeau("train", "digits", "--epochs", 2, "--out", out, "--name", "small", "--seed", 3, *SMALL)
    assert result.exit_code == 0, result.output
    return out / "small", result.output


def metrics(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_training_shows_a_line_per_epoch(trained):
    _, output = trained
    for heading in ("epoch", "train loss", "train acc", "val loss", "val acc", "time"):
        assert heading in output
    lines = [line.split() for line in output.splitlines() if line.strip()[:1] in ("1", "2") and line.count("%") == 2]
    assert [line[0] for line in lines] == ["1", "2"]


def test_training_writes_its_files(trained):
    folder, _ = trained
    assert sorted(path.name for path in folder.iterdir()) == sorted(["checkpoint.pt", "metrics.csv", *PICTURES])
    rows = metrics(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    for name in PICTURES:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_checkpoint_describes_the_best_epoch(trained):
    folder, _ = trained
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    rows = metrics(folder)
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert checkpoint["epoch"] == best["epoch"] and checkpoint["seed"] == 3
    assert checkpoint["metrics"]["val_accuracy"] == best["val_accuracy"]
    assert checkpoint["classes"] == list("0123456789")

    model = networks.build(checkpoint["architecture"])
    model.load_state_dict(checkpoint["model"])
    digits = Digits(train=False)
    mean, std = checkpoint["normalisation"]["mean"], checkpoint["normalisation"]["std"]
    model.eval()
    with torch.no_grad():
        answers = model((digits.data.unsqueeze(1).float() / 16 - mean) / std).argmax(1)
    assert (answers == digits.targets).float().mean().item() == pytest.approx(best["val_accuracy"], abs=1e-6)


def test_the_same_seed_gives_the_same_numbers(trained, tmp_path):
    folder, _ = trained
    found = {}
    for seed in (3, 4):
        result = flambeau("train", "digits", "--epochs", 2, "--out", tmp_path, "--name", seed, "--seed", seed, *SMALL)
        assert result.exit_code == 0, result.output
        found[seed] = [row["val_loss"] for row in metrics(tmp_path / str(seed))]
    for first, again in zip(metrics(folder), metrics(tmp_path / "3"), strict=True):
        assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert found[3] != found[4]


def interrupted(out, *, until):
    """Start a long training, send Ctrl-C once a line holding `until` was printed; the process and its output."""
    command = [sys.executable, "-m", "flambeau.cli", "train", "digits", "--epochs", "500", "--out", str(out), *SMALL]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        for line in process.stdout:
            if until in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process, rest


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a POSIX signal")
@pytest.mark.parametrize(("until", "kept"), [("epoch   train loss", "weights"), ("★", "best weights so far: epoch")])
def test_ctrl_c_leaves_a_checkpoint_that_loads(tmp_path, until, kept):
    process, output = interrupted(tmp_path, until=until)
    assert process.returncode == 130, output
    assert "Stopped." in output and kept in output and "Traceback" not in output
    checkpoint = load_checkpoint(tmp_path / "digits" / "checkpoint.pt")
    networks.build(checkpoint["architecture"]).load_state_dict(checkpoint["model"])
    assert not [path for path in (tmp_path / "digits").iterdir() if path.name.startswith(".")]


def test_predict_prints_five_classes(trained, tmp_path):
    folder, _ = trained
    digits = Digits(train=False)
    paths = []
    for index in (0, 1):
        image, target = digits[index]
        paths.append(tmp_path / f"digit{target}.png")
        image.save(paths[-1])
    result = flambeau("predict", folder / "checkpoint.pt", *paths)
    assert result.exit_code == 0, result.output
    shares = [float(word[:-1]) for word in result.output.split() if word.endswith("%")]
    assert len(shares) == 10
    for ranked in (shares[:5], shares[5:]):
        assert ranked == sorted(ranked, reverse=True) and sum(ranked) <= 100.03


@pytest.mark.parametrize("broken", ["missing", "text", "list", "foreign", "unknown network"])
def test_predict_says_what_is_wrong_with_a_checkpoint(trained, tmp_path, broken):
    path = tmp_path / "weights.pt"
    if broken == "text":
        path.write_text("not a checkpoint")
    elif broken == "list":
        torch.save([1, 2], path)
    elif broken == "foreign":
        torch.save({"weight": torch.zeros(2)}, path)
    elif broken == "unknown network":
        checkpoint = load_checkpoint(trained[0] / "checkpoint.pt")
        torch.save({**checkpoint, "architecture": {"name": "Nobody", "arguments": {}}}, path)
    result = flambeau("predict", path, tmp_path / "image.png")
    assert result.exit_code == 1 and "weights.pt" in result.output
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit)


def test_predict_says_which_image_is_none(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("seven")
    result = flambeau("predict", trained[0] / "checkpoint.pt", tmp_path / "notes.txt")
    assert result.exit_code == 1 and "notes.txt is not an image" in result.output


def test_version():
    result = flambeau("--version")
    assert result.exit_code == 0 and result.output.startswith("flambeau ")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_damaged_checkpoint_is_refused(trained, tmp_path):
    content = (trained[0] / "checkpoint.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(NotACheckpoint, match=r"half\.pt is not a checkpoint"):
        load_checkpoint(tmp_path / "half.pt")


def test_better_epochs_have_more_right_then_less_loss():
    def epoch(accuracy, loss):
        return Epoch(1, 0.0, 0.0, loss, accuracy, 0.0, 0.0)

    assert epoch(0.9, 1.0).better_than(None)
    assert epoch(0.9, 1.0).better_than(epoch(0.8, 0.1))
    assert epoch(0.9, 0.1).better_than(epoch(0.9, 0.2))
    assert not epoch(0.9, 0.2).better_than(epoch(0.9, 0.2))


def test_trainer_learns_and_evaluation_changes_nothing():
    torch.manual_seed(0)
    inputs = torch.randn(64, 5)
    targets = (inputs[:, 0] > 0).long()
    model = torch.nn.Sequential(torch.nn.Linear(5, 2))
    batches = [(inputs[:32], targets[:32]), (inputs[32:], targets[32:])]
    seen = []
    trainer = Trainer(model, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=1.0))
    epochs = list(
        trainer.run(batches, batches, 20, on_batch=lambda number, tally: seen.append((number, tally.examples)))
    )
    assert seen[:3] == [(1, 32), (1, 64), (2, 32)]
    assert epochs[-1].val_accuracy > 0.95 and epochs[-1].train_loss < epochs[0].train_loss
    before = [parameter.detach().numpy().copy() for parameter in model.parameters()]
    first, second = trainer.evaluate(batches), trainer.evaluate(batches)
    assert first.loss == second.loss and first.accuracy == epochs[-1].val_accuracy
    assert all(np.array_equal(old, new.detach().numpy()) for old, new in zip(before, model.parameters(), strict=True))
