"""Losses: reductions, older arguments, corners, second derivatives, errors."""

import math
import warnings

import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.autograd import gradcheck, gradgradcheck


def numbers(*shape, seed=0):
    torch.manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


WEIGHTS = torch.tensor([0.3, 1.2, 0.8], dtype=torch.float64)
LOSSES = {
    "mse_loss": lambda a, b: F.mse_loss(a, b),
    "mse_loss none": lambda a, b: F.mse_loss(a, b, reduction="none"),
    "smooth_l1_loss": lambda a, b: F.smooth_l1_loss(a, b, beta=0.5),
    "huber_loss": lambda a, b: F.huber_loss(a, b, delta=0.7),
    "kl_div": lambda a, b: F.kl_div(a, b.abs(), reduction="sum"),
    "soft_margin_loss": lambda a, b: F.soft_margin_loss(a, WEIGHTS.sign().expand(3, 3)) * b.sum(),
    "binary_cross_entropy": lambda a, b: F.binary_cross_entropy(torch.sigmoid(a), torch.sigmoid(b)),
    "binary_cross_entropy_with_logits": lambda a, b: F.binary_cross_entropy_with_logits(a, torch.sigmoid(b)),
    "cross_entropy of classes": lambda a, b: F.cross_entropy(a, torch.tensor([1, 0, 2]), WEIGHTS) * b.sum(),
    "cross_entropy of probabilities": lambda a, b: F.cross_entropy(a, F.softmax(b, 1), label_smoothing=0.1),
    "nll_loss": lambda a, b: F.nll_loss(a * a, torch.tensor([1, 0, 2]), reduction="none") * b[0, 0],
    "gaussian_nll_loss": lambda a, b: F.gaussian_nll_loss(a, b, a * a + 1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_first_and_second_derivatives(name):
    inputs = (numbers(3, 3), numbers(3, 3, seed=1))
    assert gradcheck(LOSSES[name], inputs)
    assert gradgradcheck(LOSSES[name], inputs)


# ---- arguments ---------------------------------------------------------------------------------------


def test_reductions_and_their_older_spelling():
    x, y = torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3)
    assert F.l1_loss(x, y, reduction="none").tolist() == [1.0, 2.0, 4.0]
    assert F.l1_loss(x, y, reduction="sum").item() == 7.0
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert F.mse_loss(x, y, size_average=False).item() == 21.0
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert F.mse_loss(x, y, reduce=False).tolist() == [1.0, 4.0, 16.0]
    with pytest.warns(UserWarning, match="reduction='mean'"):
        assert F.mse_loss(x, y, reduce=True).item() == 7.0
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.soft_margin_loss, F.poisson_nll_loss):
        with pytest.raises(ValueError, match="median is not a valid value"):
            loss(x, y, reduction="median")


def test_shapes_that_differ():
    with pytest.warns(UserWarning, match="different to the input size"):
        assert F.mse_loss(torch.ones(3), torch.zeros(2, 3)).item() == 1.0
    with (
        pytest.warns(UserWarning, match="different to the input size"),
        pytest.raises(RuntimeError, match=r"tensor a \(3\) must match the size of tensor b \(2\)"),
    ):
        F.mse_loss(torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="same size"):
        F.l1_loss(torch.ones(3), torch.ones(3), weight=torch.ones(2))
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        F.soft_margin_loss(torch.ones(4), torch.ones(4, 1))
    with pytest.raises(RuntimeError, match="same dimension"):
        F.margin_ranking_loss(torch.ones(3), torch.ones(3, 1), torch.ones(3))
    with pytest.raises(RuntimeError, match="multi-target"):
        F.cosine_embedding_loss(torch.ones(3, 4), torch.ones(3, 4), torch.ones(3, 1))
    with pytest.raises(RuntimeError, match="negative 2D"):
        F.triplet_margin_loss(torch.ones(4), torch.ones(4), torch.ones(3, 4))


def test_options_out_of_range():
    x = torch.ones(2)
    with pytest.raises(RuntimeError, match="beta"):
        F.smooth_l1_loss(x, x, beta=-1)
    with pytest.raises(RuntimeError, match="delta"):
        F.huber_loss(x, x, delta=0)
    with pytest.raises(ValueError, match="margin must be greater than 0"):
        F.triplet_margin_loss(x, x, x, margin=-1)
    with pytest.raises(ValueError, match="incorrect size"):
        F.gaussian_nll_loss(torch.ones(4, 2), torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match="negative"):
        F.gaussian_nll_loss(x, x, -x)
    with pytest.raises(NotImplementedError, match="Long"):
        F.mse_loss(torch.ones(2).long(), torch.ones(2).long())


def test_corners():
    empty = torch.zeros(0, 2)
    assert math.isnan(F.mse_loss(empty, empty).item()) and F.mse_loss(empty, empty, reduction="sum").item() == 0.0
    assert F.smooth_l1_loss(torch.tensor([1.0]), torch.tensor([0.5]), beta=0).item() == 0.5
    with pytest.warns(UserWarning, match="batchmean"):
        assert F.kl_div(torch.zeros(2), torch.zeros(2)).item() == 0.0
    var = torch.zeros(2, requires_grad=True)
    F.gaussian_nll_loss(torch.ones(2), torch.ones(2), var, eps=0.5).backward()
    assert var.grad.tolist() == [0.5, 0.5]  # the lower bound on var lets its gradient pass


# ---- classes -----------------------------------------------------------------------------------------


def test_cross_entropy_counts_what_is_not_ignored():
    logits = torch.zeros(3, 2)
    target = torch.tensor([0, -100, 1])
    assert F.cross_entropy(logits, target).item() == pytest.approx(math.log(2))
    assert F.cross_entropy(logits, target, reduction="none").tolist()[1] == 0.0
    assert math.isnan(F.cross_entropy(logits, torch.full((3,), -100)).item())
    uint8 = F.cross_entropy(logits, torch.tensor([0, 1, 1], dtype=torch.uint8))
    assert uint8.item() == pytest.approx(math.log(2))
    assert F.cross_entropy(torch.zeros(4), torch.tensor(2)).item() == pytest.approx(math.log(4))


def test_cross_entropy_mistakes():
    logits = torch.zeros(3, 5)
    for target, error, match in (
        (torch.tensor([1, 2]), ValueError, r"batch_size \(3\) to match target batch_size \(2\)"),
        (torch.tensor([1, 2, 9]), IndexError, "Target 9 is out of bounds"),
        (torch.tensor([1, 2, -1]), IndexError, "Target -1"),
        (torch.tensor([1.0, 2.0, 3.0]), RuntimeError, "Float"),
        (torch.tensor([1, 2, 3], dtype=torch.int32), RuntimeError, "Int"),
        (torch.tensor([[1], [2], [3]]), RuntimeError, "multi-target"),
        (torch.zeros(3, 5).long(), RuntimeError, "floating point type"),
    ):
        with pytest.raises(error, match=match):
            F.cross_entropy(logits, target)
    good = torch.tensor([1, 2, 3])
    with pytest.raises(RuntimeError, match="all 5 classes"):
        F.cross_entropy(logits, good, weight=torch.ones(4))
    with pytest.raises(RuntimeError, match="label_smoothing"):
        F.cross_entropy(logits, good, label_smoothing=2.0)
    with pytest.raises(RuntimeError, match="ignore_index"):
        F.cross_entropy(logits, logits, ignore_index=1)
    with pytest.raises(RuntimeError, match="Expected target size"):
        F.cross_entropy(torch.zeros(3, 5, 2, 2), torch.zeros(3, 2, 3).long())
    with pytest.raises(ValueError, match="1 or more dimensions"):
        F.nll_loss(torch.tensor(1.0), torch.tensor(0))


def test_linear_cross_entropy_is_linear_then_cross_entropy():
    x, weight, bias = numbers(4, 3), numbers(5, 3, seed=1), numbers(5, seed=2)
    target = torch.tensor([0, 4, 2, 2])
    expected = F.cross_entropy(F.linear(x, weight, bias), target)
    assert F.linear_cross_entropy(x, weight, target, linear_bias=bias).item() == pytest.approx(expected.item())


def test_binary_cross_entropy_clamps_its_logarithms():
    loss = F.binary_cross_entropy(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), reduction="none")
    assert loss.tolist() == [100.0, 100.0]
    logits = F.binary_cross_entropy_with_logits(torch.tensor([-300.0]), torch.tensor([1.0]))
    assert logits.item() == 300.0
    with pytest.raises(RuntimeError, match="input should be between 0 and 1"):
        F.binary_cross_entropy(torch.tensor([1.5]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="target size"):
        F.binary_cross_entropy(torch.rand(3), torch.rand(2))
    with pytest.raises(ValueError, match="same as input size"):
        F.binary_cross_entropy_with_logits(torch.rand(3), torch.rand(2))
    with pytest.raises(RuntimeError, match="broadcast"):
        F.binary_cross_entropy(torch.rand(3), torch.rand(3), weight=torch.rand(4))


def test_margin_losses_of_classes():
    with pytest.raises(ValueError, match="p == 1 and p == 2"):
        F.multi_margin_loss(torch.zeros(2, 3), torch.tensor([0, 1]), p=3)
    with pytest.raises(RuntimeError, match="target out of range"):
        F.multi_margin_loss(torch.zeros(2, 3), torch.tensor([0, 7]))
    with pytest.raises(RuntimeError, match=r"Expected target size \[2\]"):
        F.multi_margin_loss(torch.zeros(2, 3), torch.tensor([0]))
    with pytest.raises(RuntimeError, match="inconsistent target size"):
        F.multilabel_margin_loss(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match="out of range"):
        F.multilabel_margin_loss(torch.zeros(1, 3), torch.tensor([[0, 5, -1]]))
    # Only the labels before the first -1 count.
    loss = F.multilabel_margin_loss(torch.tensor([0.0, 0.5, 0.2]), torch.tensor([1, -1, 2]))
    assert loss.item() == pytest.approx((0.5 + 0.7) / 3)


# ---- sequences ---------------------------------------------------------------------------------------


def test_ctc_sums_over_all_alignments():
    probs = torch.tensor([[[0.6, 0.4]], [[0.3, 0.7]]], dtype=torch.float64)  # two times, blank and "a"
    loss = F.ctc_loss(probs.log(), torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]))
    # "-a", "a-" and "aa" spell "a"
    assert loss.item() == pytest.approx(-math.log(0.6 * 0.7 + 0.4 * 0.3 + 0.4 * 0.7))
    impossible = F.ctc_loss(probs.log(), torch.tensor([[1, 1]]), (2,), (2,))
    assert impossible.item() == math.inf
    assert F.ctc_loss(probs.log(), torch.tensor([[1, 1]]), (2,), (2,), zero_infinity=True).item() == 0.0
    unbatched = F.ctc_loss(probs[:, 0].log(), torch.tensor([1]), torch.tensor(2), torch.tensor(1), reduction="none")
    assert unbatched.shape == () and unbatched.item() == pytest.approx(loss.item())


def test_ctc_gradient_of_the_logits():
    logits = numbers(5, 2, 4)
    targets = torch.tensor([[1, 1, 2], [3, 0, 0]])

    def loss(logits):
        return F.ctc_loss(F.log_softmax(logits, 2), targets, (5, 4), (3, 1), reduction="sum")

    assert gradcheck(loss, (logits,))


def test_ctc_mistakes():
    probs = torch.zeros(4, 2, 3)
    with pytest.raises(RuntimeError, match="blank"):
        F.ctc_loss(probs, torch.ones(2, 2).long(), (4, 4), (2, 2), blank=3)
    with pytest.raises(RuntimeError, match="input_lengths"):
        F.ctc_loss(probs, torch.ones(2, 2).long(), (4, 5), (2, 2))
    with pytest.raises(RuntimeError, match="target_lengths"):
        F.ctc_loss(probs, torch.ones(2, 2).long(), (4, 4), (2,))
    with pytest.raises(RuntimeError, match="sum of target_lengths"):
        F.ctc_loss(probs, torch.ones(5).long(), (4, 4), (2, 2))
    with pytest.raises(RuntimeError, match="target_lengths to be between 0 and 2"):
        F.ctc_loss(probs, torch.ones(2, 2).long(), (4, 4), (2, 3))
    with pytest.raises(RuntimeError, match="for 2 samples"):
        F.ctc_loss(probs, torch.ones(1, 4).long(), (4, 4), (2, 2))


def test_no_loss_warns_without_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = torch.ones(2, 3, requires_grad=True)
        F.cross_entropy(x, torch.tensor([0, 1])).backward()
        F.mse_loss(x, torch.zeros(2, 3)).backward()
        F.kl_div(x, torch.ones(2, 3), reduction="batchmean").backward()


def test_losses_of_the_top_level_take_numbers_for_reductions():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]])
    target = torch.ones(1, 2)
    assert torch.margin_ranking_loss(x, y, target, 1.0).tolist() == [[0.5, 0.0]]
    assert torch.margin_ranking_loss(x, y, target, 1.0, 1).item() == 0.25
    assert torch.hinge_embedding_loss(x, target, 1.0, 2).item() == 3.0
    assert torch.kl_div(x, y, 1).item() == pytest.approx(F.kl_div(x, y, reduction="sum").item() / 2)
    assert torch.embedding(y.T, torch.tensor([1])).tolist() == [[1.0]]
    with pytest.raises(RuntimeError, match="got 5"):
        torch.triplet_margin_loss(x, y, y, reduction=5)
