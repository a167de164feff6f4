"""`torch.jit.script`: branches and loops on values survive, with gradients, and in files without their source."""

import io
import json
import math
import zipfile
from typing import NamedTuple

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.jit.frontend import UnsupportedNodeError
from flambeau.nn import functional as F


def through_file(script):
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def both(function):
    """The script of a function, and the same from a file."""
    script = torch.jit.script(function)
    return script, through_file(script)


def collatz(x: torch.Tensor) -> torch.Tensor:
    steps = torch.zeros(1, dtype=torch.int64)
    while bool(x != 1):
        if bool(x % 2 == 0):
            x = x // 2
        else:
            x = 3 * x + 1
        steps += 1
    return steps


def test_loops_and_branches_on_values_of_tensors():
    for script in both(collatz):
        for start in (27, 1, 97):
            assert script(torch.tensor(start)).item() == collatz(torch.tensor(start)).item()


def power(x, n: int):
    for i in range(n):
        if x.sum() < 0:
            return -x
        x = x * (i + 1)
    return x


def test_gradients_go_through_control_flow():
    for script in both(power):
        for sign in (1.0, -1.0):
            a = torch.full((3,), sign, requires_grad=True)
            b = torch.full((3,), sign, requires_grad=True)
            power(a, 4).sum().backward()
            script(b, n=4).sum().backward()
            assert a.grad.tolist() == b.grad.tolist()


def straight(x, y):
    z = torch.tanh(x @ y) + 1
    return (z * z).sum(1), z


def test_straight_code_runs_natively_where_no_gradients_are_wanted():
    x, y = torch.randn(3, 4), torch.randn(4, 5)
    for script in both(straight):
        for _ in range(3):
            for found, expected in zip(script(x, y), straight(x, y)):
                torch.testing.assert_close(found, expected)
        if script.program.native.compiled is not None:  # not where there is no llvmlite
            assert script.program.native.compiled.captures == 1


def collections(x, names: list[str], options: dict[str, float]) -> tuple[torch.Tensor, list[int], dict[str, int]]:
    lengths = [len(name) for name in names if name != "skip"]
    table = {name: i for i, name in enumerate(names)}
    total = x.new_zeros(2)
    for a, (b, c) in zip(x, [(1, 2.5), (3, 4.5)]):
        total += a * b - c
    first, *rest = lengths
    rest.append(first)
    rest[0] += 10
    table["more"] = -1 if x.dim() > 1 and "scale" in options else 0
    total[0] = options.get("scale", 1.0)
    del table[names[0]]
    return total[None, :, ...], rest[::-1] + [max(rest), *lengths], table


def test_lists_dicts_tuples_and_comprehensions():
    arguments = (torch.arange(4.0).view(2, 2), ["one", "skip", "three"], {"scale": 2.0})
    expected = collections(*arguments)
    for script in both(collections):
        found = script(*arguments)
        assert found[0].tolist() == expected[0].tolist() and found[1:] == expected[1:]


def numbers(a: int, b: float = 2.0, *, flag: bool | None = None):
    if flag is None:
        text = "none"
    elif not flag:
        text = f"no {a:03d} {b!r}"
    else:
        text = "yes"
    i = 0
    while True:
        i += 1
        if i % 2 == 0:
            continue
        if i > 6 or a == i:
            break
    return a // 2, a**2, b / 3, math.sqrt(b), 0 < i < 10, i, text, -a, a & 3, float(a), int(b), math.pi


@pytest.mark.parametrize("arguments", [{"a": 7}, {"a": 3, "b": 9.0, "flag": False}, {"a": 2, "flag": True}])
def test_arithmetic_of_numbers(arguments):
    for script in both(numbers):
        assert script(**arguments) == numbers(**arguments)


def refusing(x, limit: float):
    assert x.dim() == 1, "expected a vector"
    if x.max() > limit:
        raise ValueError(f"more than {limit}: {x.max().item():.1f}")
    return x


def test_assertions_and_errors_are_pythons():
    for script in both(refusing):
        assert script(torch.ones(2), 3.0).tolist() == [1, 1]
        with pytest.raises(ValueError, match=r"more than 3.0: 4\.0"):
            script(torch.full((2,), 4.0), 3.0)
        with pytest.raises(AssertionError, match="expected a vector"):
            script(torch.ones(2, 2), 3.0)
        with pytest.raises(RuntimeError, match="missing value for argument 'limit'"):
            script(torch.ones(2))


@torch.jit.script
def doubled(x):
    return x + x


def plain_helper(x, by: int = 3):
    return doubled(x) * by


def calling(x):
    with torch.no_grad():
        y = plain_helper(x)
    return F.relu(y - torch.nn.functional.softmax(x, dim=0)), y


def test_scripts_call_functions_and_other_scripts():
    traced = torch.jit.trace(lambda x: x * 5, torch.ones(2))

    def with_trace(x):
        return traced(x) + doubled(x)

    x = torch.randn(4, requires_grad=True)
    for script in both(calling):
        found, expected = script(x), calling(x)
        torch.testing.assert_close(found[0], expected[0])
        assert not found[1].requires_grad and found[0].requires_grad
    for script in both(with_trace):
        assert script(torch.ones(2)).tolist() == [7, 7]


class Block(nn.Module):
    factor = 3

    def __init__(self, down=None):
        super().__init__()
        self.layer, self.act, self.down = nn.Linear(4, 4), F.relu, down

    def forward(self, x):
        y = self.act(self.layer(x))
        if self.down is not None:
            x = self.down(x)
        return y + self.scaled(x)

    def scaled(self, x):
        return x * self.factor


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))])
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.limit = 50.0

    def forward(self, x, depth: int = 2):
        for i, block in enumerate(self.blocks):
            if i == depth or bool(x.norm() > self.limit):
                break
            x = block(x)
        self.calls += 1
        if self.training:
            x = self.norm(x)
        if torch.jit.is_scripting():
            return x
        return (lambda: x)()

    @torch.jit.export
    def halved(self, x):
        return self.forward(x) / 2

    @torch.jit.ignore
    def plotted(self, x):
        return str(x)

    @torch.jit.unused
    def never(self, x):
        yield x


def test_modules_keep_state_modes_and_exported_methods():
    torch.manual_seed(0)
    model, x = Net(), torch.randn(6, 4)
    scripted = torch.jit.script(model)
    assert scripted.state_dict().keys() == model.state_dict().keys()
    assert all(a is b for a, b in zip(scripted.parameters(), model.parameters()))
    loaded = through_file(scripted)
    for script in (scripted, loaded):
        assert isinstance(script, torch.jit.ScriptModule)
        for mode in (True, False):
            for depth in (0, 1, 2):
                torch.manual_seed(depth)
                expected = model.train(mode)(x, depth)
                torch.manual_seed(depth)
                torch.testing.assert_close(script.train(mode)(x, depth), expected)
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(script(x), model(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(script.halved(x), model(x) / 2)
        script(x).sum().backward()
        assert script.blocks[0].layer.weight.grad is not None
        assert "for i, block in enumerate(self.blocks)" in script.code
    assert loaded.calls.item() > 0 and loaded.original_name == "Net"
    assert scripted.blocks[0].original_name == "Block"


def test_modules_of_the_library_are_scripted_as_they_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Sequential(nn.BatchNorm1d(5), nn.GELU())).eval()
    scripted, x = torch.jit.script(model), torch.randn(2, 3)
    loaded = through_file(scripted)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    expected = model(x)
    for script in (scripted, loaded):
        torch.testing.assert_close(script(x), expected)
        script.train()
        assert script(x).shape == (2, 5)
    lstm = nn.LSTM(4, 8, batch_first=True)
    x = torch.ones(1, 2, 4)
    torch.testing.assert_close(through_file(torch.jit.script(lstm))(x)[0], lstm(x)[0])


class Ignoring(nn.Module):
    def forward(self, x):
        return x + self.aside(x)

    @torch.jit.ignore
    def aside(self, x):
        return float(next(iter(x.tolist())))


def test_ignored_methods_run_in_python_and_cannot_be_saved():
    scripted = torch.jit.script(Ignoring())
    assert scripted(torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="aside"):
        through_file(scripted)


def with_lambda(x):
    return (lambda: x)()


def with_try(x):
    try:
        return x
    finally:
        x += 1


def with_undefined(x):
    return undefined_name(x)  # noqa: F821


def with_file(x):
    return open("data")


def with_with(x):
    with torch.enable_grad():
        return x


WEIGHT = torch.ones(2)


def with_global(x):
    return x * WEIGHT


@pytest.mark.parametrize("function, what", [
    (with_lambda, "Lambda"), (with_try, "Try"), (with_undefined, "undefined value undefined_name"), (with_file, "open"),
    (with_with, "no_grad"), (with_global, "tensor from outside"),
])  # fmt: skip
def test_what_scripts_do_not_have_is_an_error_with_its_line(function, what):
    with pytest.raises(UnsupportedNodeError, match=what) as error:
        torch.jit.script(function)
    assert "test_script.py:" in str(error.value) and "<--- HERE" in str(error.value)
    assert isinstance(error.value, RuntimeError)


def test_private_names_and_foreign_objects_are_out_of_reach():
    def private(x):
        return x.__class__

    with pytest.raises(RuntimeError, match="private"):
        torch.jit.script(private)(torch.ones(1))

    def memory(x):
        return x.data_ptr()

    with pytest.raises(RuntimeError, match="cannot use 'data_ptr'"):
        torch.jit.script(memory)(torch.ones(1))


def changed(script, change):
    """The file of a script with its first function changed."""
    buffer, made = io.BytesIO(), io.BytesIO()
    torch.jit.save(script, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("program.json"):
                program = json.loads(data)
                change(program["function"]["functions"][0])
                data = json.dumps(program).encode()
            new.writestr(name, data)
    made.seek(0)
    return made


@pytest.mark.parametrize("body", [
    [["return", 1, ["torch", "save"]]],
    [["return", 1, ["builtin", "eval"]]],
    [["return", 1, ["function", 7]]],
    [["exec", 1, "import os"]],
    [["return", 1, ["binary", "or 1", ["const", 1], ["const", 2]]]],
    [["return", 1]],
    [["raise", 1, "SystemExit", []]],
    "return",
    [["return", 1, ["const", {"object": "x"}]]],
    [["assign", 1, [["const", 3]], ["const", 4]]],
], ids=range(10))  # fmt: skip
def test_a_script_that_was_tampered_with_is_refused(body):
    with pytest.raises(RuntimeError):
        torch.jit.load(changed(torch.jit.script(doubled), lambda function: function.update(body=body)))


def test_a_module_of_a_file_gets_plain_attributes_only():
    buffer, made = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(2, 2))), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b'"in_features"', b'"forward"') if name.endswith(".json") else data)
    made.seek(0)
    with pytest.raises(RuntimeError, match="no attribute 'forward'"):
        torch.jit.load(made)


class Pair(NamedTuple):
    first: torch.Tensor
    second: int


class Doubling(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Chain(nn.Sequential):
    """A container that computes as its class does."""


class Table(nn.ModuleDict):
    def forward(self, x):
        from flambeau import cat

        return cat([layer(x) for name, layer in self.items()], 1)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.chain, self.table = Chain(Doubling(3, 4), nn.ReLU()), Table({"a": nn.Linear(4, 2), "b": Doubling(4, 1)})

    def forward(self, x):
        x = self.table(self.chain(x))
        if hasattr(self, "missing"):
            x = self.missing(x)
        return Pair(x, len(self.chain) + getattr(self, "extra", 5))


def test_containers_of_ones_own_inheritance_and_named_tuples():
    torch.manual_seed(0)
    model, x = Mixed(), torch.randn(2, 3)
    expected = model(x)
    for script in both(model):
        found = script(x)
        torch.testing.assert_close(found.first, expected.first)
        assert found.second == 7 and script.state_dict().keys() == model.state_dict().keys()
        assert len(script.chain) == 2 and list(script.table) == ["a", "b"]


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_vision_models_are_scripts(name):
    models = pytest.importorskip("flambeau.vision.models")
    torch.manual_seed(0)
    model, x = getattr(models, name)().eval(), torch.randn(1, 3, 40, 40)
    loaded = through_file(torch.jit.script(model))
    torch.testing.assert_close(loaded(x), model(x))
