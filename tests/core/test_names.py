"""Dimension names: creation, changes, order, propagation through ops, errors, as PyTorch's documentation says."""

import subprocess
import sys

import pytest

import flambeau as torch
from flambeau.core import dispatch


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Names switch a listener on for good; other tests run without it."""
    monkeypatch.setattr(dispatch, "interceptor", dispatch.interceptor)


@pytest.fixture
def images():
    return torch.randn(2, 3, 4, 4, names=["batch", "channels", "rows", "columns"])


def test_nothing_listens_before_the_first_name():
    program = (
        "import flambeau as torch; from flambeau.core import dispatch; x = torch.zeros(2, 3); "
        "assert x.names == (None, None) and not x.has_names() and (x + x).sum().item() == 0; "
        "assert dispatch.interceptor is None"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_creation_and_text(images):
    assert images.names == ("batch", "channels", "rows", "columns") and images.has_names()
    assert repr(torch.zeros(2, names=("N",))) == "tensor([0., 0.], names=('N',))"
    for made in (torch.tensor([1.0], names=("a",)), torch.ones(1, names=("a",)), torch.full((1,), 2.0, names=("a",)),
                 torch.rand(1, names=("a",)), torch.empty(1, names=("a",))):
        assert made.names == ("a",)


def test_assigning_names():
    x = torch.zeros(2, 3)
    x.names = ["A", None]
    assert x.names == ("A", None)
    x.names = None
    assert not x.has_names()


def test_rename(images):
    assert images.rename(batch="N").names == ("N", "channels", "rows", "columns")
    assert images.rename("N", "C", "H", "W").names == ("N", "C", "H", "W")
    assert images.rename("...", "W").names == ("batch", "channels", "rows", "W")
    assert images.rename(None).names == (None,) * 4
    view = images.rename(None)
    view[0, 0, 0, 0] = 7
    assert images[0, 0, 0, 0].item() == 7
    assert images.rename_(rows="H") is images and images.names[2] == "H"


def test_refine_and_align(images):
    x = torch.zeros(2, 3, names=("N", None))
    assert x.refine_names("N", "C").names == ("N", "C")
    assert torch.zeros(2, 3, 4).refine_names("A", ..., "B").names == ("A", None, "B")
    assert images.align_to("columns", ...).names == ("columns", "batch", "channels", "rows")
    assert images.align_to("rows", "columns", "batch", "channels").shape == (4, 4, 2, 3)
    bias = torch.arange(3.0).refine_names("channels")
    assert bias.align_as(images).shape == (1, 3, 1, 1)
    assert (images + bias.align_as(images)).names == images.names
    assert [t.shape for t in torch.align_tensors(bias, images)] == [(1, 3, 1, 1), (2, 3, 4, 4)]


def test_reductions_by_name(images):
    assert images.sum("batch").names == ("channels", "rows", "columns")
    assert images.sum(("batch", "rows")).shape == (3, 4)
    assert images.mean("rows", keepdim=True).names == images.names
    assert images.max("channels")[1].names == ("batch", "rows", "columns")
    for name in ("prod", "std", "var", "logsumexp", "argmax", "amin", "median"):
        result = getattr(images, name)("channels")
        result = result[0] if isinstance(result, tuple) else result
        assert result.names == ("batch", "rows", "columns") and result.shape == (2, 4, 4), name
    assert images.sum().names == ()


def test_positions_by_name(images):
    assert images.size("channels") == 3
    assert images.select("batch", 0).names == ("channels", "rows", "columns")
    assert images.transpose("rows", "columns").names == ("batch", "channels", "columns", "rows")
    assert images.unbind("batch")[0].names == ("channels", "rows", "columns")
    assert images.split(1, "batch")[0].names == images.chunk(2, "rows")[1].names == images.names
    assert images.softmax("channels").names == images.cumsum("rows").names == images.names
    assert images.sort("rows")[0].names == images.names
    assert torch.cat([images, images], "batch").shape == (4, 3, 4, 4)
    assert images.narrow("channels", 0, 2).shape == (2, 2, 4, 4)


def test_indexing_and_views(images):
    assert images[0].names == ("channels", "rows", "columns")
    assert images[:, 0, None].names == ("batch", None, "rows", "columns")
    assert images[..., 1:3].names == images.names
    assert images.permute(0, 2, 3, 1).names == ("batch", "rows", "columns", "channels")
    assert images.unsqueeze(1).names == ("batch", None, "channels", "rows", "columns")
    assert images[:1].squeeze().names == ("channels", "rows", "columns")
    assert images.rename(None).expand(5, 2, 3, 4, 4).names == (None,) * 5
    assert images.expand(5, 2, 3, 4, 4).names == (None, *images.names)


def test_flatten_and_unflatten(images):
    flat = images.flatten(["rows", "columns"], "pixels")
    assert flat.names == ("batch", "channels", "pixels") and flat.shape == (2, 3, 16)
    assert images.flatten("channels", "columns", "features").names == ("batch", "features")
    back = flat.unflatten("pixels", (("rows", 4), ("columns", 4)))
    assert back.names == images.names and back.rename(None).equal(images.rename(None))
    with pytest.raises(RuntimeError, match="must be consecutive"):
        images.flatten(["batch", "rows"], "z")


def test_pointwise_ops_unify(images):
    named, other = torch.zeros(2, 3, names=("N", None)), torch.zeros(2, 3, names=(None, "C"))
    assert (named + other).names == ("N", "C")
    assert (images * 2).exp().relu().names == images.names
    assert (images + torch.zeros(4)).names == images.names
    assert (images > 0).names == images.clone().names == images.double().names == images.detach().names == images.names
    assert images.masked_fill(images > 0, 0).names == torch.where(images > 0, images, images).names == images.names
    z = images.clone()
    assert z.add_(1).names == images.names


def test_matrix_products():
    a, w, b = torch.ones(2, 3, names=("N", "in")), torch.ones(3, 5, names=("in", "out")), torch.ones(5, names=("out",))
    assert (a @ w).names == torch.addmm(b, a, w).names == ("N", "out")
    assert torch.mv(a, torch.ones(3)).names == ("N",)
    assert a.t().names == ("in", "N")
    left, right = torch.ones(2, 3, 4, names=("B", "i", "j")), torch.ones(2, 4, 5, names=("B", "j", "k"))
    assert torch.bmm(left, right).names == ("B", "i", "k")
    assert torch.nn.functional.linear(a, torch.ones(5, 3), torch.ones(5)).names == ("N", None)


def test_gradients_have_no_names():
    x = torch.ones(2, 3, names=("N", "C"), requires_grad=True)
    w = torch.ones(3, 2, names=("C", "N2"), requires_grad=True)
    ((x @ w).sum("N2") * x.mean("C")).sum().backward()
    assert x.grad.names == (None, None) and x.grad.tolist() == [[4.0] * 3] * 2
    assert w.grad.tolist() == [[2.0, 2.0]] * 3


@pytest.mark.parametrize("call, message", [
    (lambda x: torch.zeros(2, 3, names=("N",)), r"Number of names \(1\) and number of dimensions in tensor \(2\)"),
    (lambda x: torch.zeros(2, 3, names=("N", "N")), "duplicate names"),
    (lambda x: torch.zeros(2, names=("1",)), "Invalid name"),
    (lambda x: x.sum("foo"), r"Name 'foo' not found in Tensor\['batch', 'channels', 'rows', 'columns'\]"),
    (lambda x: x + torch.zeros(4, 4, names=("columns", "rows")), "dim 'rows' and dim 'columns' are at the same "
                                                                 "position"),
    (lambda x: x + torch.zeros(4, names=("rows",)), "dim 'rows' appears in a different position from the right"),
    (lambda x: x.rename(foo="bar"), "dim 'foo' does not exist"),
    (lambda x: x.rename("a", "b"), "do not match"),
    (lambda x: x.refine_names("N", ...), "'batch' is different from 'N' at index 0"),
    (lambda x: x.align_to("columns", "batch"), "Cannot find dim 'channels'"),
    (lambda x: torch.zeros(2, 2).align_to("a", "b"), "must be named"),
    (lambda x: torch.cat([x, x.rename(batch="N")], 0), "'batch' and dim 'N'"),
    (lambda x: torch.ones(2, 3, names=("N", "a")) @ torch.ones(3, 2, names=("b", "N")), "duplicate names"),
])
def test_errors(images, call, message):
    with pytest.raises(RuntimeError, match=message):
        call(images)


def test_parameters_can_be_written_without_history_while_names_are_passed_on(images):
    weight = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        weight.fill_(2.0)
        weight.zero_()
        weight[weight == 0] = 4.0
        weight[0] = 5.0
        weight.index_fill_(0, torch.tensor([2]), 6.0)
    assert weight.tolist() == [5.0, 4.0, 6.0]
    with pytest.raises(RuntimeError, match="leaf"):
        weight.fill_(0.0)
