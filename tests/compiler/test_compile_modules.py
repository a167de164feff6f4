"""A compiled module is the module: gradients, modes of grad and autocast, parametrizations, hooks."""

import warnings

import pytest

import flambeau as torch
from flambeau import nn
from tests.compiler.comparing import alike, assert_native, assert_same


def x(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- modules ----------------------------------------------------------------------------------------------


def test_a_compiled_module_is_the_module():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    compiled = torch.compile(net)
    assert list(compiled.state_dict()) == ["_orig_mod." + key for key in net.state_dict()] or (
        list(compiled.state_dict()) == list(net.state_dict())
    )
    assert compiled.get_submodule("0") is net[0] and len(list(compiled.parameters())) == 2
    compiled.eval()
    assert not net.training and not net[0].training
    for k in range(3):
        assert_same(compiled(x(2, 3, seed=k)), net(x(2, 3, seed=k)))
    assert_native(compiled)


def test_forward_then_backward_outside():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    compiled = torch.compile(net)
    for k in range(4):
        both = []
        for run in (net, compiled):
            net.zero_grad()
            a = x(5, 3, seed=k).requires_grad_()
            out = run(a)
            (out * x(5, 2, seed=k)).sum().backward()
            both.append([out, a.grad, *[p.grad for p in net.parameters()]])
        assert_same(both[1], both[0])
    assert_native(compiled)


def test_backward_through_several_results():
    def function(a, b):
        c = a * b
        return c, (c.exp(), a.detach()), c.sum()

    compiled = torch.compile(function)
    for k in range(4):
        both = []
        for run in (function, compiled):
            a, b = x(3, seed=k).requires_grad_(), x(3, seed=k + 5).requires_grad_()
            one, (two, three), four = run(a, b)
            assert not three.requires_grad
            (one.sum() * 2 + (two.sum() if k % 2 else 0) + four * 3).backward()
            both.append([one, two, four, a.grad, b.grad])
        assert_same(both[1], both[0])
    assert_native(compiled)


def test_backward_twice_and_retained():
    compiled = torch.compile(lambda a: (a * a).sum())
    for _ in range(3):
        a = x(3).requires_grad_()
        out = compiled(a)
        out.backward(retain_graph=True)
        out.backward()
        assert_same(a.grad, x(3) * 4)
        with pytest.raises(RuntimeError, match="second time"):
            out.backward()


def test_second_derivatives_are_refused_with_a_reason():
    compiled = torch.compile(lambda a: (a**3).sum())
    for k in range(3):
        a = x(3).requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = compiled(a)
            if k == 0:
                continue
            with pytest.raises(RuntimeError, match="create_graph"):
                torch.autograd.grad(out, a, create_graph=True)


def test_saved_tensors_that_were_changed():
    compiled = torch.compile(lambda a, w: (a * w).sum())
    for _ in range(3):
        a, w = x(3).requires_grad_(), x(3, seed=1)
        out = compiled(a, w)
        w.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.backward()


def test_arguments_with_history():
    def function(a):
        return a.exp() * 2

    compiled = torch.compile(function)
    for k in range(3):
        both = []
        for run in (function, compiled):
            w = x(3, seed=k).requires_grad_()
            run(run(w * 2)).sum().backward()
            both.append(w.grad)
        assert_same(both[1], both[0])
    assert_native(compiled)


def test_history_given_to_an_argument():
    w = x(3).requires_grad_()

    def function(a):
        return a.mul_(w)

    compiled = torch.compile(function)
    for k in range(4):
        both = []
        for run in (function, compiled):
            w.grad = None
            a = x(3, seed=k)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(a)
            a.sum().backward()
            both.append(w.grad)
        assert_same(both[1], both[0])


def test_grad_modes():
    layer = nn.Linear(3, 3)
    compiled = torch.compile(lambda a: layer(a) * 2)
    for _ in range(3):
        assert compiled(x(2, 3)).requires_grad
        with torch.no_grad():
            assert not compiled(x(2, 3)).requires_grad
        with torch.inference_mode():
            assert not compiled(x(2, 3)).requires_grad
    assert_native(compiled, None)
    alike(lambda a: (torch.no_grad()(layer)(a), layer(a).detach()), *[(x(2, 3, seed=k),) for k in range(3)])


def test_autocast():
    layer = nn.Linear(4, 4)

    def inside(a):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(a), a + 1

    alike(inside, *[(x(2, 4, seed=k),) for k in range(3)], tolerance=1e-2)
    compiled = torch.compile(layer)
    for k in range(3):
        assert compiled(x(2, 4, seed=k)).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert compiled(x(2, 4, seed=k)).dtype == torch.bfloat16


def test_default_dtype():
    compiled = torch.compile(lambda a: a + torch.zeros(3, dtype=None).sum())
    for _ in range(3):
        assert compiled(torch.ones(3, dtype=torch.int64)).dtype == torch.float32
        torch.set_default_dtype(torch.float64)
        try:
            assert compiled(torch.ones(3, dtype=torch.int64)).dtype == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)


def test_frozen_parameters():
    layer = nn.Linear(3, 3)
    compiled = torch.compile(layer)
    for needed in (True, False, True, False):
        layer.weight.requires_grad_(needed)
        layer.bias.requires_grad_(needed)
        assert compiled(x(2, 3)).requires_grad is needed
    assert_native(compiled, None)


def test_checkpoint_and_custom_functions():
    from flambeau.utils.checkpoint import checkpoint

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a**3

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            return g * 3 * a * a

    net = nn.Linear(3, 3)

    def function(a):
        a = a.clone().requires_grad_()
        loss = Cube.apply(checkpoint(lambda t: net(t).tanh(), a, use_reentrant=False)).sum()
        return loss.detach(), torch.autograd.grad(loss, a)[0]

    alike(function, *[(x(2, 3, seed=k),) for k in range(3)])


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "parametrization"])
def test_parametrizations(kind):
    def make():
        torch.manual_seed(0)
        layer = nn.Linear(3, 4)
        if kind == "weight_norm":
            return nn.utils.parametrizations.weight_norm(layer)
        if kind == "spectral_norm":
            return nn.utils.parametrizations.spectral_norm(layer)

        class Twice(nn.Module):
            def forward(self, w):
                return w * 2

        nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
        return layer

    one, two = make(), make()
    compiled = torch.compile(two)
    for k in range(4):
        both = []
        for run, net in ((one, one), (compiled, two)):
            net.zero_grad()
            out = run(x(2, 3, seed=k))
            out.square().sum().backward()
            both.append([out, *[p.grad for p in net.parameters()], *net.state_dict().values()])
        assert_same(both[1], both[0])


# ---- hooks ------------------------------------------------------------------------------------------------------


def test_forward_hooks():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    factor = 2.0
    compiled = torch.compile(net)

    def agrees():
        for k in range(2):
            assert_same(compiled(x(2, 3, seed=k)), net(x(2, 3, seed=k)))

    agrees()
    handle = net[0].register_forward_hook(lambda module, given, out: out * factor)
    agrees()
    factor = 5.0
    agrees()
    before = net.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    agrees()
    handle.remove()
    agrees()
    before.remove()
    agrees()
    assert_native(compiled, None)


def test_hooks_that_keep_activations():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    seen = {}
    net[0].register_forward_hook(lambda module, given, out: seen.update(out=out.detach()))
    compiled = torch.compile(net)
    with pytest.warns(UserWarning, match="eagerly"):
        for k in range(5):
            compiled(x(2, 3, seed=k))
            assert_same(seen["out"], net[0](x(2, 3, seed=k)).detach())


def test_tensor_hooks():
    w = x(3).requires_grad_()

    def make(run):
        def step(a):
            w.grad = None
            b = w * a
            b.register_hook(lambda g: g * 2)
            b.exp().sum().backward()
            return w.grad

        return torch.compile(step) if run else step

    eager_step, compiled = make(False), make(True)

    def agrees():
        for k in range(3):
            assert_same(compiled(x(3, seed=k)), eager_step(x(3, seed=k)))

    agrees()
    handle = w.register_hook(lambda g: g.clamp(-0.1, 0.1))
    agrees()
    handle.remove()
    agrees()
    after = w.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(3))
    agrees()
    after.remove()
    agrees()


def test_leaf_hooks_run_once_behind_a_compiled_forward():
    w = x(3).requires_grad_()
    compiled = torch.compile(lambda a: (w * a).sum())
    handle = w.register_hook(lambda g: g * 2)
    for k in range(3):
        w.grad = None
        compiled(x(3, seed=k)).backward()
        assert_same(w.grad, x(3, seed=k) * 2)
    handle.remove()


def test_gradients_at_entry():
    w = x(3).requires_grad_()

    def step(a):
        had = w.grad is not None
        (w * a).sum().backward()
        return w.grad.clone() if had else w.grad.clone() + 100

    def run(function):
        w.grad = None
        found = [function(x(3, seed=k)) for k in range(4)]
        w.grad = x(3, seed=8)
        return [*found, function(x(3)), function(x(3)), w.grad.clone()]

    assert_same(run(torch.compile(step)), run(step))
