"""What a function reads outside of its arguments may change between calls; hooks, modes, threads and copies."""

import concurrent.futures
import copy
import functools
import io
import pickle
import sys
import types
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn
from flambeau.compiler import api
from tests.compiler.comparing import alike, assert_native, assert_same, compiled_of, entries

F = nn.functional
SCALE = 2.0
FACTORS = [1.0, 2.0]
CONFIG = types.SimpleNamespace(power=2, nested=types.SimpleNamespace(shift=1.0))
TENSOR = None


def x(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def follows(function, *changes, captures=None):
    """After each change the compiled function still agrees with the function."""
    compiled = torch.compile(function)
    for change in (None, *changes):
        if change is not None:
            change()
        for k in range(3):
            assert_same(compiled(x(3, seed=k)), function(x(3, seed=k)))
    assert_native(compiled, captures)
    return compiled


# ---- what is outside ----------------------------------------------------------------------------------


def test_closures_over_numbers():
    n = 2.0

    def set_to(value):
        nonlocal n
        n = value

    follows(
        lambda a: a * n, lambda: set_to(3.0), lambda: set_to(3), lambda: set_to(True), lambda: set_to(2.0), captures=4
    )


def test_closures_over_lists_and_dicts():
    numbers, names, mixed = [1.0, 2.0], {"a": 1.0}, [1.0, [2.0, {"k": 3.0}]]

    def function(a):
        total = a * 0
        for n in numbers:
            total = total + n * a
        return total + names["a"] + sum(names.values()) + mixed[1][1]["k"] + mixed[1][0]

    follows(
        function,
        lambda: numbers.append(4.0),
        lambda: numbers.__setitem__(0, 7.0),
        lambda: names.update(b=2.0),
        lambda: names.__setitem__("a", 5.0),
        lambda: mixed[1][1].__setitem__("k", 9.0),
        lambda: mixed[1].__setitem__(0, 8.0),
    )


def test_long_lists():
    numbers = [float(n) for n in range(1000)]
    follows(lambda a: a * numbers[900], lambda: numbers.__setitem__(900, -1.0))


def test_closures_over_tensors():
    shift, others = x(3), [x(3), x(3)]

    def assign(value):
        nonlocal shift
        shift = value

    follows(
        lambda a: a + shift + others[1],
        lambda: shift.add_(1),
        lambda: assign(x(3, seed=9)),
        lambda: assign(x(1, seed=9)),
        lambda: others.__setitem__(1, x(3, seed=4)),
        lambda: assign(x(3, seed=2).double()),
    )


def test_arrays_of_numpy():
    values = np.ones(3, np.float32)
    follows(lambda a: a * torch.tensor(values), lambda: values.__setitem__(1, 5.0), lambda: values.fill(2.0))
    compiled = torch.compile(lambda array, a: torch.tensor(array) + a)
    for k in range(3):
        values[:] = k
        assert_same(compiled(values, x(3)), x(3) + k)


def test_iterators_stay_eager():
    batches = [x(3, seed=k) for k in range(6)]
    stream = iter(batches)
    compiled = torch.compile(lambda a: a + next(stream))
    with pytest.warns(UserWarning, match="iterator"):
        found = [compiled(x(3)) for _ in range(6)]
    assert_same(found, [x(3) + b for b in batches])


def test_globals(monkeypatch):
    here = sys.modules[__name__]

    def helper(a):
        return a * FACTORS[1] + CONFIG.power

    def function(a):
        return helper(a) * SCALE + next(CONFIG.nested.shift for _ in range(1))

    follows(
        function,
        lambda: monkeypatch.setattr(here, "SCALE", 3.0),
        lambda: monkeypatch.setattr(here, "FACTORS", [5.0, 6.0]),
        lambda: FACTORS.__setitem__(1, 7.0),
        lambda: monkeypatch.setattr(CONFIG, "power", 3),
        lambda: monkeypatch.setattr(CONFIG.nested, "shift", -1.0),
    )


def test_attributes_of_modules_of_python(monkeypatch):
    settings = types.ModuleType("settings_of_this_test")
    settings.__file__ = __file__
    settings.scale = 2.0
    monkeypatch.setitem(sys.modules, settings.__name__, settings)
    space = {"settings": settings}
    exec("def function(a): return a * settings.scale", space)
    follows(space["function"], lambda: setattr(settings, "scale", 5.0))


class Trainer:
    rate = 0.5

    def __init__(self):
        self.scale = 2.0
        self.options = {"shift": 1.0}

    def helper(self, a):
        return a * self.scale * self.rate * SCALE + self.options["shift"]

    def step(self, a):
        return self.helper(a) + self.fixed()

    @staticmethod
    def fixed():
        return FACTORS[0]

    def __call__(self, a):
        return self.helper(a)


@pytest.mark.parametrize("kind", ["method", "object", "lambda"])
def test_methods_and_objects(kind, monkeypatch):
    trainer = Trainer()
    function = {"method": trainer.step, "object": trainer, "lambda": lambda a: trainer.step(a)}[kind]
    here = sys.modules[__name__]
    follows(
        function,
        lambda: setattr(trainer, "scale", 3.0),
        lambda: trainer.options.update(shift=4.0),
        lambda: monkeypatch.setattr(Trainer, "rate", 7.0),
        lambda: monkeypatch.setattr(here, "SCALE", 9.0),
    )


def test_methods_decorated_in_the_class():
    class Net:
        def __init__(self, scale):
            self.scale = scale

        @torch.compile
        def run(self, a):
            return a * self.scale

    one, two = Net(2.0), Net(3.0)
    for k in range(3):
        assert_same([one.run(x(3, seed=k)), two.run(x(3, seed=k))], [x(3, seed=k) * 2, x(3, seed=k) * 3])
    one.scale = 5.0
    assert_same([one.run(x(3)), two.run(x(3))], [x(3) * 5, x(3) * 3])


def test_default_arguments_and_partial():
    table = {"n": 2.0}

    def function(a, n=2.0, *, shift=table):
        return a * n + shift["n"]

    follows(function, lambda: table.update(n=5.0))
    follows(functools.partial(function, n=4.0), lambda: table.update(n=6.0))


def test_decorator_with_options():
    @torch.compile(fullgraph=True, mode="max-autotune", dynamic=False)
    def function(a):
        """Twice."""
        return a * 2

    assert function.__name__ == "function" and function.__doc__ == "Twice."
    for k in range(3):
        assert_same(function(x(3, seed=k)), x(3, seed=k) * 2)
    assert torch.compile(lambda a: a, disable=True)(3) == 3


def test_objects_as_arguments():
    holder = types.SimpleNamespace(t=x(3), n=2.0)

    def function(h, a):
        return h.t * h.n + a

    compiled = torch.compile(function)
    for k in range(6):
        if k % 2:
            holder.t = x(3, seed=k)
        if k == 4:
            holder.n = 3.0
        assert_same(compiled(holder, x(3, seed=k)), function(holder, x(3, seed=k)))


def test_what_always_changes_is_eager_in_the_end():
    count = 0

    def function(a):
        return a * count

    compiled = torch.compile(function)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for count in range(14):
            assert_same(compiled(x(3)), x(3) * count)
    assert len(caught) == 1 and "captured" in str(caught[0].message)


def test_many_signatures_end_eagerly_with_one_warning(monkeypatch):
    monkeypatch.setattr(api, "SIGNATURES", 6)
    compiled = torch.compile(lambda a, n: a + n)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(10):
            assert compiled(torch.zeros(2), n)[0] == n
    assert len(caught) == 1


# ---- side effects ---------------------------------------------------------------------------------------


def eager(function, match, calls=4):
    """The function stays eager, says so once, and is right."""
    compiled = torch.compile(function)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(calls):
            assert_same(compiled(x(3, seed=k)), function(x(3, seed=k)))
    assert [match in str(w.message) for w in caught] == [True], [str(w.message) for w in caught]


def test_reads_of_values():
    eager(lambda a: a * a.sum().item(), "reads the values")
    eager(lambda a: a if (a > 0).all() else -a, "reads the values")
    eager(lambda a: a[a > 0].sum() * a.nonzero().numel(), "reads the values")
    eager(lambda a: a + float(a[0]), "reads the values")
    eager(lambda a: a + a.numpy().sum(), "reads the values")
    eager(lambda a: a * len(a.tolist()), "reads the values")
    eager(lambda a: a + a.unique().numel(), "")
    eager(lambda a: a * torch.allclose(a, a), "reads the values")
    eager(lambda a: a * (3.0 in a), "reads the values")
    eager(lambda a: a * torch.equal(a, a), "reads the values")
    eager(lambda a: (print(a, file=io.StringIO()), a)[1], "reads the values")
    eager(lambda a: a * len(f"{a}"), "reads the values")
    eager(lambda a: torch.tensor([a[0], a[1]]), "reads the values")
    eager(lambda a: torch.arange(a[0].abs().long() + 1), "reads the values")


def test_the_warning_names_the_line():
    def function(a):
        b = a * 2
        return b * b.sum().item()

    line = function.__code__.co_firstlineno + 2
    with pytest.warns(UserWarning, match=rf"test_compile_state\.py:{line}\)"):
        torch.compile(function)(x(3))


def test_tensors_kept_outside():
    kept, holder = [], types.SimpleNamespace()

    def append(a):
        kept.append(a * 2)
        return a

    def assign(a):
        holder.last = a * 3
        return a

    for function in (append, assign):
        compiled = torch.compile(function)
        with pytest.warns(UserWarning, match="eagerly"):
            for k in range(5):
                compiled(x(3, seed=k))
    assert len(kept) == 5
    assert_same(kept[4], x(3, seed=4) * 2)
    assert_same(holder.last, x(3, seed=4) * 3)


def test_numbers_kept_outside():
    holder = types.SimpleNamespace(count=0)
    log = []

    def count(a):
        holder.count += 1
        return a + holder.count

    def note(a):
        log.append(len(log))
        return a + len(log)

    for function in (count, note):
        compiled = torch.compile(function)
        with pytest.warns(UserWarning, match="eagerly"):
            assert [compiled(torch.zeros(1)).item() for _ in range(6)] == [1, 2, 3, 4, 5, 6]


def test_attributes_of_a_module_written_inside():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, a):
            self.calls += 1
            self.seen = self.seen + a
            return a * self.calls

    net = Net()
    compiled = torch.compile(net)
    with pytest.warns(UserWarning, match="eagerly"):
        found = [compiled(torch.ones(3))[0].item() for _ in range(5)]
    assert found == [1, 2, 3, 4, 5] and net.seen[0] == 5


def test_buffers_written_in_place():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, a):
            self.seen.mul_(0.9).add_(a)
            return a + self.seen

    one, two = Net(), Net()
    compiled = torch.compile(two)
    for k in range(4):
        assert_same([compiled(x(3, seed=k)), two.seen], [one(x(3, seed=k)), one.seen])
    assert_native(compiled)


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


# ---- compilation inside, transforms, threads, copies --------------------------------------------------------------


def test_compiled_inside_compiled():
    inner = torch.compile(lambda a: a * 2)
    outer = torch.compile(lambda a: inner(a) + 1)
    for k in range(3):
        assert_same([outer(x(3, seed=k)), inner(x(3, seed=k))], [x(3, seed=k) * 2 + 1, x(3, seed=k) * 2])
    assert_native(outer)


def test_transforms_of_compiled_functions():
    def function(a):
        return (a**2).sum()

    compiled = torch.compile(function)
    for k in range(3):
        a = x(4, 3, seed=k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_same(torch.func.vmap(compiled)(a), torch.func.vmap(function)(a))
            assert_same(torch.func.grad(compiled)(a), a * 2)
            assert_same(torch.func.vmap(torch.func.grad(compiled))(a), a * 2)
    assert_same(alike(torch.func.grad(function), *[(x(3, seed=k),) for k in range(3)])(x(3)), x(3) * 2)


def test_two_threads_at_once():
    layer = nn.Linear(16, 16)
    compiled = torch.compile(lambda a: layer(a).tanh().sum(1))
    data = [x(8, 16, seed=k) for k in range(40)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(pool.map(compiled, data))
    for a, out in zip(data, found):
        assert_same(out, layer(a).tanh().sum(1))


@pytest.mark.parametrize("threads", [1, 2])
def test_numbers_of_threads(threads):
    before = torch.get_num_threads()
    compiled = torch.compile(lambda a, b: (a @ b, (a * b).sum(0), a.softmax(1)))
    try:
        for count in (threads, 3 - threads, threads):
            torch.set_num_threads(count)
            for k in range(2):
                a, b = x(200, 200, seed=k), x(200, 200, seed=k + 5)
                assert_same(compiled(a, b), (a @ b, (a * b).sum(0), a.softmax(1)), 1e-4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork():
    import os

    compiled = torch.compile(lambda a: (a @ a).relu().sum(0))
    a = x(64, 64)
    expected = compiled(a), compiled(a)
    process = os.fork()
    if process == 0:
        try:
            right = torch.allclose(compiled(a), expected[1], rtol=1e-4, atol=1e-4)
            os._exit(0 if right else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_copies():
    net = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    for k in range(3):
        net(x(2, 3, seed=k))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(2)
    for k in range(3):
        assert_same(twin(x(2, 3, seed=k)), twin._orig_mod(x(2, 3, seed=k)))
        assert_same(net(x(2, 3, seed=k)), net._orig_mod(x(2, 3, seed=k)))
    loaded = pickle.loads(pickle.dumps(net))
    for k in range(3):
        assert_same(loaded(x(2, 3, seed=k)), net(x(2, 3, seed=k)))


def test_programs_do_not_keep_arguments():
    import gc
    import weakref

    compiled = torch.compile(lambda a: a * 2)
    watched = []
    for _ in range(3):
        a = x(100)
        watched.append(weakref.ref(a))
        compiled(a)
    del a
    gc.collect()
    assert [ref() for ref in watched] == [None] * 3
    assert entries(compiled) and compiled_of(compiled).captures == 1


def test_switched_off():
    import subprocess

    code = "import flambeau as t; f = t.compile(lambda a: a * 2); f(t.ones(2)); f(t.ones(2)); print(f.captures)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**__import__("os").environ, "FLAMBEAU_COMPILE": "0"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "0", done.stderr
