"""Writing in place: the history of the tensor, of its base and of other views, and what is refused."""

import pytest

import flambeau as torch


def leaf(*values):
    return torch.tensor(values, requires_grad=True)


def grid():
    """A leaf of shape (2, 3) and an intermediate with its values."""
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    return x, x * 1


def test_in_place_returns_the_same_object_and_keeps_history():
    x = leaf(2.0, 3.0)
    y = x * 1
    z = y.mul_(x)
    assert z is y and y.grad_fn.name() == "MulBackward0"
    y.sum().backward()
    assert x.grad.tolist() == [4.0, 6.0]


@pytest.mark.parametrize("write", [
    lambda y: y.mul(0.5).exp_(), lambda y: (y * 2).sigmoid_(), lambda y: y.clone().tanh_(), lambda y: y.clone().sqrt_(),
    lambda y: y.clone().div_(y), lambda y: y.clone().clamp_(0.5, 2), lambda y: y.clone().pow_(3),
    lambda y: y.clone().addcmul_(y, y, value=2), lambda y: y.clone().lerp_(y * y, 0.3), lambda y: y.clone().relu_(),
    lambda y: y.clone().masked_fill_(y > 1, 3.0), lambda y: y.clone().zero_(), lambda y: y.clone().fill_(2.0),
    lambda y: y.clone().neg_().abs_().log1p_(), lambda y: y.clone().index_add_(0, torch.tensor([1]), y[:1]),
    lambda y: y.clone().copy_(y * y), lambda y: y.clone().transpose_(0, 1), lambda y: y.clone().unsqueeze_(0),
    lambda y: y.clone().squeeze_(0), lambda y: y.clone().t_(), lambda y: y.clone().cumsum_(0),
    lambda y: y.clone().triu_(),
])  # fmt: skip
def test_derivatives_of_in_place_ops(write):
    x = torch.tensor([[0.3, 0.8], [1.2, 2.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: write(x * 1), (x,))


def test_writing_to_a_view_changes_the_base_and_its_history():
    x, y = grid()
    y[0].mul_(10)
    assert y.grad_fn.name().endswith("CopySlices")
    assert y.tolist() == [[0.0, 10.0, 20.0], [3.0, 4.0, 5.0]]
    (y * y).sum().backward()
    assert x.grad.tolist() == [[0.0, 200.0, 400.0], [6.0, 8.0, 10.0]]


def test_writing_to_the_base_changes_its_views_and_their_history():
    x, y = grid()
    row = y[0]
    y.mul_(10)
    assert row.tolist() == [0.0, 10.0, 20.0]
    row.sum().backward()
    assert x.grad.tolist() == [[10.0] * 3, [0.0] * 3]


def test_other_views_see_the_write_and_its_history():
    x, y = grid()
    row, column = y[0], y[:, 0]
    row.mul_(10)
    column.sum().backward()
    assert x.grad.tolist() == [[10.0, 0.0, 0.0], [1.0, 0.0, 0.0]]


def test_a_view_of_a_view():
    x, y = grid()
    inner = y.view(3, 2)[1:].t()
    inner.mul_(3)
    assert y.tolist() == [[0.0, 1.0, 6.0], [9.0, 12.0, 15.0]]
    y.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 3.0], [3.0, 3.0, 3.0]]


def test_writing_a_value_with_history_into_a_tensor_without():
    buffer = torch.zeros(2, 3)
    value = leaf(1.0, 2.0, 3.0)
    buffer[1] = value * 2
    assert buffer.requires_grad and not buffer.is_leaf
    (buffer * torch.arange(6.0).reshape(2, 3)).sum().backward()
    assert value.grad.tolist() == [6.0, 8.0, 10.0]


def test_writing_through_a_view_of_a_tensor_without_history():
    buffer = torch.zeros(2, 3)
    row = buffer[0]
    row.add_(leaf(1.0))
    assert buffer.requires_grad and row.requires_grad
    assert buffer.grad_fn.name().endswith("CopySlices")


def test_setitem_overwrites_the_gradient_of_what_was_there():
    x, y = grid()
    y[:, 1] = 7.0
    y[0, torch.tensor([0, 2])] = leaf(1.0) * 5
    (y * 2).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0, 0.0], [2.0, 0.0, 2.0]]


def test_unbind_and_iteration_give_views_that_accept_writes():
    """Normalising channel by channel: `for t, m, s in zip(image, mean, std): t.sub_(m).div_(s)`."""
    image = torch.ones(2, 3)
    for t, m in zip(image, (1.0, 2.0), strict=True):
        t.sub_(m).div_(2)
    assert image.tolist() == [[0.0] * 3, [-0.5] * 3]


@pytest.mark.parametrize("views", [
    lambda y: y.unbind(0), lambda y: y.split(1), lambda y: y.chunk(2), list, lambda y: torch.split(y, [1, 1]),
])  # fmt: skip
def test_one_of_several_views_with_history_may_not_be_written(views):
    _, y = grid()
    part = views(y)[0]
    with pytest.raises(RuntimeError, match="multiple views"):
        part.mul_(2)


@pytest.mark.parametrize("write", [
    lambda x: x.add_(1), lambda x: x.__setitem__(0, 1.0), lambda x: x.zero_(), lambda x: x.copy_(torch.ones(2)),
    lambda x: x.unsqueeze_(0).add_(1), lambda x: x.uniform_(), lambda x: x.__iadd__(1), lambda x: x.clamp_(0, 1),
])  # fmt: skip
def test_a_leaf_that_requires_grad_may_not_be_written(write):
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        write(leaf(1.0, 2.0))


def test_a_view_of_such_a_leaf_neither():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[:1].mul_(2)


def test_views_taken_under_no_grad_may_be_written_under_no_grad():
    x = leaf(1.0, 2.0)
    with torch.no_grad():
        x[:1].mul_(5)
        x.view(2, 1)[1] = 8.0
    assert x.tolist() == [5.0, 8.0]


def test_out_of_tensors_with_history_is_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"out=.*arguments don't support automatic differentiation"):
        torch.add(x, 1, out=torch.zeros(2))


def test_the_result_must_fit():
    with pytest.raises(RuntimeError, match=r"output with shape \[2\] doesn't match the broadcast shape \[3, 2\]"):
        torch.ones(2).add_(torch.ones(3, 2))
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        torch.ones(2, dtype=torch.int64).add_(1.5)
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.ones(2, dtype=torch.int64).div_(2)
    with pytest.raises(RuntimeError, match="can't be cast"):
        torch.ones(2, dtype=torch.bool).add_(1)


def test_expanded_tensors_may_not_be_written():
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        torch.zeros(1, 3).expand(2, 3).add_(1)


def test_in_place_with_itself():
    x = torch.tensor([1.0, 2.0])
    x.add_(x).mul_(x)
    assert x.tolist() == [4.0, 16.0]
    y = torch.arange(4.0)
    y[1:] = y[:-1].clone()
    assert y.tolist() == [0.0, 0.0, 1.0, 2.0]


def test_overlapping_copy_reads_before_it_writes():
    y = torch.arange(4.0)
    y.copy_(y.flip(0))
    assert y.tolist() == [3.0, 2.0, 1.0, 0.0]


def test_the_reparameterisation_trick_in_place():
    mean, log_variance = leaf(0.5), leaf(0.2)
    std = log_variance.mul(0.5).exp_()
    noise = torch.tensor([1.5])
    sample = noise.mul(std).add_(mean)
    sample.backward()
    assert mean.grad.item() == 1.0
    assert log_variance.grad.item() == pytest.approx(0.5 * 1.5 * std.item())


def test_set_data_keeps_the_object_a_leaf():
    w = leaf(1.0, 2.0)
    w.data = torch.zeros(3)
    assert w.shape == (3,) and w.requires_grad and w.is_leaf
    w.data += 1
    assert w.tolist() == [1.0, 1.0, 1.0]
