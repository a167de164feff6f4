"""What ordinary scripts rely on about tensors, line by line of the project's list of semantics."""

import io
import math
import warnings

import numpy as np
import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn

# ---- iterating, indexing, converting ---------------------------------------------------------------------------


def test_unpacking_a_tensor_gives_views_with_history():
    params = torch.tensor([2.0, 3.0], requires_grad=True)
    w, b = params
    (w * 5 + b).backward()
    assert params.grad.tolist() == [5.0, 1.0]


def test_iterating_gives_views_that_write_to_the_base():
    image, mean, std = torch.ones(3, 2, 2), (0.5, 0.25, 0.0), (0.5, 0.5, 2.0)
    for t, m, s in zip(image, mean, std, strict=True):
        t.mul_(s).add_(m)
    assert image[:, 0, 0].tolist() == [1.0, 0.75, 2.0]


def test_lists_and_arrays_take_a_0_d_integer_tensor_as_index():
    classes, idx = ["ant", "bee"], torch.tensor([0.1, 0.9]).argmax()
    assert classes[idx] == "bee" and np.array([10, 20])[idx] == 20


def test_formatting_rounding_comparing_and_converting_0_d_tensors():
    t = torch.tensor(0.12345)
    assert "{:.4f}".format(t) == "0.1235" and f"{t:.2f}" == "0.12" and f"{t:8.3f}" == "   0.123"  # noqa: UP032
    assert round(t, 2) == pytest.approx(0.12) and round(torch.tensor(2.6)) == 3
    assert t < 1 and t > 0.1 and max(t, torch.tensor(3.0)) == 3 and (t == t.item())
    assert (
        float(t) == pytest.approx(0.12345) and int(torch.tensor(3.9)) == 3 and math.floor(torch.tensor(3.9).item()) == 3
    )


def test_format_of_integers_and_bools():
    assert f"{torch.tensor(7):03d}" == "007" and f"{torch.tensor(True)}" == "True" and f"{torch.tensor(7)}" == "7"


def test_matplotlib_takes_tensors_through_array():
    x = torch.linspace(0, 1, 5)
    assert np.asarray(x, dtype=float).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert np.ma.asarray(x).shape == (5,) and np.atleast_1d(x).shape == (5,) and np.isfinite(x).all()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_storage_and_untyped_storage_exist():
    x = torch.arange(3.0)
    assert x.storage()[1] == 1.0 and len(x.storage()) == 3 and x.untyped_storage().nbytes() == 12


# ---- constructors of old -------------------------------------------------------------------------------------------


def test_numbers_are_a_size_and_sequences_are_values():
    assert torch.FloatTensor(2, 3).shape == (2, 3)
    assert torch.LongTensor([1, 0, 3]).tolist() == [1, 0, 3]
    assert torch.LongTensor(np.array([4, 5])).tolist() == [4, 5]


def test_every_tensor_is_a_variable():
    x = torch.ones(2)
    assert isinstance(x, torch.autograd.Variable)
    v = torch.autograd.Variable(x, requires_grad=True)
    assert isinstance(v, torch.Tensor) and v.requires_grad and v.data_ptr() == x.data_ptr()


def test_data_is_a_detached_alias():
    w = torch.ones(2, requires_grad=True)
    w.data -= 0.5
    assert w.tolist() == [0.5, 0.5] and not w.data.requires_grad and w.data.data_ptr() == w.data_ptr()


# ---- in place on intermediates -------------------------------------------------------------------------------------


def test_in_place_operations_on_intermediates_keep_gradients_right():
    """The reparameterisation of a variational autoencoder, with and without in-place operations."""
    found = []
    for inplace in (True, False):
        mu = torch.tensor([0.3, -0.2], requires_grad=True)
        logvar = torch.tensor([0.1, 0.4], requires_grad=True)
        eps = torch.tensor([1.5, -0.5])
        if inplace:
            std = logvar.mul(0.5).exp_()
            z = eps.mul(std).add_(mu)
        else:
            z = mu + eps * torch.exp(0.5 * logvar)
        (z * z).sum().backward()
        found.append([*mu.grad.tolist(), *logvar.grad.tolist()])
    assert found[0] == pytest.approx(found[1])


# ---- names of dimensions -------------------------------------------------------------------------------------------

named = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")


@named
def test_names_are_kept_and_reduced_by():
    x = torch.randn(2, 3, 4, 4, names=["batch", "channels", "rows", "columns"])
    assert x.names == ("batch", "channels", "rows", "columns")
    assert x.sum("batch").names == ("channels", "rows", "columns")
    assert x.mean(["rows", "columns"]).shape == (2, 3) and (x * 2).names == x.names and x.relu().names == x.names


@named
def test_names_can_be_renamed_and_aligned():
    x = torch.zeros(2, 3, names=("N", "C"))
    assert x.rename(N="batch").names == ("batch", "C") and x.rename(None).names == (None, None)
    assert x.align_to("C", "N").shape == (3, 2) and x.align_to("C", ..., "N").names == ("C", "N")


@named
def test_names_that_do_not_match_are_an_error():
    with pytest.raises(RuntimeError, match="match"):
        torch.zeros(2, 3, names=("N", "C")) + torch.zeros(2, 3, names=("N", "D"))
    with pytest.raises(RuntimeError, match="not found"):
        torch.zeros(2, 3, names=("N", "C")).sum("X")


# ---- defaults of functions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("shape, dim", [((5,), 0), ((2, 3), 1), ((2, 3, 4), 0)])
def test_softmax_without_dim_chooses_one_and_warns(function, shape, dim):
    x = torch.randn(*shape)
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        found = function(x)
    assert torch.equal(found, function(x, dim=dim))


def test_softmax_modules_without_dim_do_the_same():
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        assert torch.equal(nn.Softmax()(torch.eye(2)), F.softmax(torch.eye(2), dim=1))


def test_kl_div_averages_over_elements():
    log_p, q = torch.log(torch.tensor([[0.4, 0.6], [0.5, 0.5]])), torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = nn.KLDivLoss()(log_p, q)
    assert loss.item() == pytest.approx((q * (q.log() - log_p)).sum().item() / 4)


def test_bce_counts_the_logarithm_of_0_as_minus_100():
    assert nn.BCELoss()(torch.tensor([0.0]), torch.tensor([1.0])).item() == 100.0
    assert nn.BCELoss()(torch.tensor([1.0]), torch.tensor([0.0])).item() == 100.0


def test_functional_dropout_trains_by_default():
    torch.manual_seed(0)
    dropped = F.dropout(torch.ones(1000))
    assert 400 < (dropped == 0).sum().item() < 600 and dropped.max().item() == 2.0
    assert F.dropout(torch.ones(10), training=False).tolist() == [1.0] * 10


# ---- gradients -----------------------------------------------------------------------------------------------------


def test_grad_of_a_non_leaf_is_none_with_a_warning_unless_retained():
    x = torch.ones(2, requires_grad=True)
    y, kept = x * 2, x * 3
    kept.retain_grad()
    (y + kept).sum().backward()
    with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed"):
        assert y.grad is None
    assert kept.grad.tolist() == [1.0, 1.0]


def test_gradients_accumulate_and_zero_grad_sets_none():
    layer = nn.Linear(2, 1, bias=False)
    for expected in (1.0, 2.0):
        layer(torch.ones(1, 2)).sum().backward()
        assert layer.weight.grad.tolist() == [[expected] * 2]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    optimizer.zero_grad()
    assert layer.weight.grad is None
    layer(torch.ones(1, 2)).sum().backward()
    layer.zero_grad()
    assert layer.weight.grad is None
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0.0, 0.0]]


def test_loss_printing():
    loss = (torch.ones(2, requires_grad=True) * 1.5).mean()
    out = io.StringIO()
    print("loss:", loss.item(), float(loss), loss.data, file=out)
    assert out.getvalue() == "loss: 1.5 1.5 tensor(1.5000)\n"
    assert "%.2f" % loss == "1.50" and str(loss) == "tensor(1.5000, grad_fn=<MeanBackward0>)"  # noqa: UP031
