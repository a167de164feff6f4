"""What a function reads outside of its arguments may change between calls; threads, forks and copies."""

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


results = None


def test_an_attribute_named_like_a_global_is_not_that_global(monkeypatch):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.results = nn.Linear(3, 2)

        def forward(self, x):
            return self.results(x)

    model = Scaled()
    compiled = torch.compile(model)
    for number in range(3):
        monkeypatch.setitem(globals(), "results", (compiled(torch.ones(1, 3)), number))
    assert compiled._compiled.captures == 1


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
