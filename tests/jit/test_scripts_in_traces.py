"""Scripts that traced functions and modules call keep their branches."""

import io
import json
import zipfile

import pytest

import flambeau as torch
from flambeau import nn


def saved(script):
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return buffer


def reloaded(script):
    return torch.jit.load(saved(script))


@torch.jit.script
def positive(x):
    return x if bool(x.sum() > 0) else -x


@torch.jit.script
def grown(x, n: int):
    y = x
    while bool(y.abs().sum() < 100):
        y = y * n
    return y, x


@torch.jit.script
def counted(x):
    n = 0
    while bool(x.abs().sum() < 10):
        x, n = x * 2, n + 1
    return x, n


@torch.jit.script
def doubled(x):
    return x * 2


def twice(x):
    return positive(x * 2) + positive(-x) * x


def of_two(x):
    return grown(x, 2)[0] + grown(x, 3)[1]


def viewed(x):
    return positive(positive(x).view(-1))


X = torch.tensor([1.0, 2.0])


@pytest.mark.parametrize("function", [positive, twice, of_two, viewed])
def test_branches_are_those_of_the_values(function):
    traced = torch.jit.trace(function, X)  # (warnings are errors here: nothing is frozen)
    for script in (traced, reloaded(traced)):
        for x in (X, -X, X * -0.1, torch.tensor([-3.0, 1.0])):
            assert script(x).tolist() == function(x).tolist()
        found, wanted = (x.clone().requires_grad_() for x in (-X, -X))
        script(found).sum().backward()
        function(wanted).sum().backward()
        assert found.grad.tolist() == wanted.grad.tolist()


def test_scripts_without_branches_on_values_are_traced():
    traced = torch.jit.trace(lambda x: doubled(x) + 1, X)
    assert [call.name for call in traced.program.tapes[0].calls] == ["mul", "add"]
    assert "positive(%0)" in torch.jit.trace(lambda x: positive(x) + 1, X).code


class Signed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.weight if bool(x.sum() > 0) else -x


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.signed = torch.jit.script(Signed())

    def forward(self, x):
        return self.signed(self.layer(x)) + 1


def test_scripted_submodules_keep_branches_parameters_and_buffers():
    torch.manual_seed(0)
    model = Outer()
    traced = torch.jit.trace(model, X)
    assert traced.signed.weight is model.signed.weight and model.signed.calls.item() == 0
    loaded = reloaded(traced)
    assert sorted(loaded.state_dict()) == sorted(model.state_dict())
    with torch.no_grad():
        for x in (X, -X, X * 5, X * -5):
            wanted = model(x)
            assert torch.equal(traced(x), wanted) and torch.equal(loaded(x), wanted)
        loaded.signed.weight.zero_()
        x = next(x for x in (X, -X) if model.layer(x).sum() > 0)
        assert loaded(x).tolist() == [1.0, 1.0]
    assert loaded.signed.calls.item() == 5
    frozen = torch.jit.freeze(traced.eval())
    assert torch.equal(frozen(-X), model(-X))


def test_numbers_that_a_script_returns_are_those_of_the_example_or_an_error():
    traced = torch.jit.trace(lambda x: counted(x)[0] * counted(x)[1], X)
    assert traced(X).tolist() == [8.0, 16.0]
    with pytest.raises(RuntimeError, match="the script counted returned something of another kind"):
        traced(X * 100)


def changed(change):
    archive = zipfile.ZipFile(saved(torch.jit.trace(Outer(), X)))
    files = {name: archive.read(name) for name in archive.namelist()}
    key = next(name for name in files if name.endswith("program.json"))
    found = json.loads(files[key])
    change(next(c for c in found["module"]["programs"]["forward"]["tapes"][0]["calls"] if c["kind"] == "script"))
    files[key] = json.dumps(found).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    made.seek(0)
    return made


@pytest.mark.parametrize("change", [
    lambda call: call.update(owner="layer"),
    lambda call: call.update(owner="nowhere"),
    lambda call: call.update(owner=3),
    lambda call: call.update(name="__class__"),
    lambda call: call.update(inputs={"tuple": []}),
    lambda call: call.update(inputs={"tuple": [{"tuple": [{"var": 99}]}, {"dict": []}]}),
    lambda call: call.update(result={"var": 0}),
    lambda call: call.update(program={"kind": "script", "functions": []}),
])  # fmt: skip
def test_files_that_were_tampered_with_are_refused(change):
    with pytest.raises(RuntimeError):
        torch.jit.load(changed(change))
