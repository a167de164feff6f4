"""The examples on tables, digits and words reach what their docstrings promise."""

import pytest


def test_temperature(run_example, picture):
    result = run_example("temperature", "--epochs", 1500)
    losses = result["losses"]
    # After 5,000 epochs it is 2.93, the least that a line can do.
    assert losses["by hand"] == pytest.approx(3.09, abs=0.02)
    assert losses["autograd"] == pytest.approx(losses["by hand"], rel=1e-5)
    assert losses["nn"] == pytest.approx(losses["by hand"], rel=1e-5)
    assert losses["network"] < 2.5
    assert (result["w"], result["b"]) == (pytest.approx(5.13, abs=0.05), pytest.approx(-15.9, abs=0.2))
    picture("fit.png")


def test_feed_forward(run_example, picture):
    result = run_example("feed_forward", "--epochs", 6, "--num-hidden", 1, "--hidden-dim", 32, "--dropout", 0)
    assert result["accuracy"] > 0.93
    picture("result.png")


def test_regularisation(run_example, picture):
    result = run_example("regularisation", "--steps", 400)
    assert result["L1"]["accuracy"] > result["none"]["accuracy"] + 0.03
    assert result["L1"]["loss"] < result["L2"]["loss"] < result["none"]["loss"]
    assert result["L1"]["frame_zeros"] > 0.6 > 0.1 > result["none"]["frame_zeros"]
    assert result["L2"]["norm"] < 0.9 * result["none"]["norm"]
    picture("weights.png")


def test_text_lstm(run_example, picture):
    result = run_example("text_lstm", "--epochs", 6, "--limit", 200)
    assert result["losses"][-1] < 0.7 * result["losses"][0]
    assert result["accuracy"] > 0.5  # by chance: 0.25
    picture("result.png")


def test_lstm_cell(run_example, picture):
    result = run_example("lstm_cell", "--epochs", 3)
    assert all(difference < 1e-5 for difference in result["differences"].values())
    by_hand, library = result["losses"]
    assert by_hand == pytest.approx(library, rel=1e-3)
    assert by_hand[-1] < 0.5 * by_hand[0]
    assert result["accuracy"] > 0.7
    picture("cell.png")
