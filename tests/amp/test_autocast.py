"""Products in the lower type, losses in float32, and switches that are restored."""

import pytest

import flambeau as torch
import flambeau.nn.functional as F
from flambeau.amp import GradScaler, autocast, custom_bwd, custom_fwd

LOWER = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", LOWER)
def test_products_run_in_the_lower_type(dtype):
    x, w = torch.randn(4, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    with autocast("cpu", dtype=dtype):
        assert (x @ w.t()).dtype is dtype
        assert torch.addmm(torch.randn(5), x, w.t()).dtype is dtype
        assert F.conv2d(torch.randn(1, 3, 5, 5), torch.randn(2, 3, 3, 3)).dtype is dtype
        out = F.linear(x, w)
        assert F.linear(out, torch.randn(3, 5)).dtype is dtype      # half-width input, float32 weight
        assert (x.double() @ w.double().t()).dtype is torch.float64
    assert (x @ w.t()).dtype is torch.float32
    out.float().sum().backward()
    assert x.grad.dtype is torch.float32
    assert torch.allclose(w.grad, x.detach().sum(0).expand(5, 6), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("loss", [
    lambda out: F.cross_entropy(out, torch.tensor([0, 1])),
    lambda out: F.mse_loss(out, torch.zeros(2, 3)),
    lambda out: F.binary_cross_entropy_with_logits(out, torch.ones(2, 3)),
])  # fmt: skip
def test_losses_run_in_float32(loss):
    layer = torch.nn.Linear(4, 3)
    with autocast("cpu"):
        out = layer(torch.randn(2, 4))
        value = loss(out)
    assert out.dtype is torch.bfloat16 and value.dtype is torch.float32
    value.backward()
    assert layer.weight.grad.dtype is torch.float32


def test_blocks_nest():
    x = torch.randn(2, 2)
    with autocast("cpu", dtype=torch.bfloat16):
        with autocast("cpu", enabled=False):
            assert (x @ x).dtype is torch.float32
            with autocast("cpu", dtype=torch.float16):
                assert (x @ x).dtype is torch.float16
        assert (x @ x).dtype is torch.bfloat16


def test_the_decorator_and_the_exit_by_an_error():
    @autocast("cpu")
    def product(x):
        assert torch.is_autocast_enabled("cpu")
        if x is None:
            raise KeyError
        return x @ x

    assert product(torch.ones(2, 2)).dtype is torch.bfloat16
    with pytest.raises(KeyError):
        product(None)
    assert not torch.is_autocast_enabled("cpu")


def test_weights_are_cast_once():
    layer = torch.nn.Linear(3, 3, bias=False)
    x = torch.randn(1, 3)
    with autocast("cpu"):
        first, second = layer(x), layer(x)
        assert first.grad_fn.next_functions[1][0] is second.grad_fn.next_functions[1][0]


def test_devices_that_are_not_there_warn():
    with pytest.warns(UserWarning, match="CUDA"), autocast("cuda"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    with pytest.raises(RuntimeError):
        autocast("toaster")
    with pytest.warns(UserWarning, match="dtype"):
        autocast("cpu", dtype=torch.float64)


def test_custom_functions_choose():
    class Double(torch.autograd.Function):
        @staticmethod
        @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx, x):
            assert not torch.is_autocast_enabled("cpu")
            return x * 2

        @staticmethod
        @custom_bwd(device_type="cpu")
        def backward(ctx, grad):
            return grad * 2

    x = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    with autocast("cpu"):
        y = Double.apply(x)
    assert y.dtype is torch.float32
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


def make_step(scaler, weight, loss_of):
    optimizer = torch.optim.SGD([weight], lr=0.5)
    optimizer.zero_grad()
    scaler.scale(loss_of(weight)).backward()
    scaler.step(optimizer)
    scaler.update()


def test_the_scaler_leaves_good_steps_alone_and_grows():
    weight = torch.nn.Parameter(torch.ones(2))
    scaler = GradScaler("cpu", init_scale=8.0, growth_interval=2)
    for _ in range(2):
        make_step(scaler, weight, lambda w: (w * w).sum())
    assert weight.tolist() == [0, 0] and scaler.get_scale() == 16.0


def test_the_scaler_skips_steps_with_infinities():
    weight = torch.nn.Parameter(torch.ones(2))
    scaler = GradScaler("cpu", init_scale=8.0)
    make_step(scaler, weight, lambda w: (w * float("inf")).sum())
    assert weight.tolist() == [1, 1] and scaler.get_scale() == 4.0
    other = GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    assert other.get_scale() == 4.0


def test_the_scaler_refuses_the_wrong_order():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scaler = GradScaler("cpu")
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="already"):
        scaler.step(optimizer)


def test_a_disabled_scaler_does_nothing():
    scaler = GradScaler(enabled=False)
    x = torch.ones(2)
    assert scaler.scale(x) is x and scaler.get_scale() == 1.0 and scaler.state_dict() == {}
