"""Attributes, methods and properties of scripted modules, and what their scripts may name."""

import io
from typing import Any, List, NamedTuple  # noqa: UP035

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.jit.frontend import NotSupportedError, UnsupportedNodeError


def reloaded(script):
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2
        self.seen = [0]
        self.offset = torch.ones(3)

    @property
    def doubled(self) -> int:
        return self.scale * 2

    def forward(self, x):
        return x * self.scale + self.offset

    def twice(self, x):
        return self.forward(self.forward(x))

    @torch.jit.export
    def count(self, x):
        self.seen.append(1)
        return x * len(self.seen)

    @torch.jit.ignore
    def in_python(self, x):
        return sorted(vars(self)) and x

    def unscriptable(self, x):
        return self.twice_in_python(x)

    def twice_in_python(self, x):
        return (lambda: self.helper(x))()

    def helper(self, x):
        return x

    without_source = property(lambda self: 3)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Scaled()
        self.more = nn.ModuleList([Scaled(), Scaled()])

    def forward(self, x, deep: bool = False):
        x = self.inner.twice(x) + self.inner.doubled
        for part in self.more:
            x = part.twice(x)
        if deep:
            x = self.inner.unscriptable(x)
        return x


X = torch.tensor([1.0, 2.0, 3.0])


def test_attributes_are_read_and_set_from_outside():
    script = torch.jit.script(Scaled())
    assert (script.scale, script.doubled, script.offset.tolist()) == (2, 4, [1.0, 1.0, 1.0])
    assert script(X).tolist() == script(X).tolist() == [3.0, 5.0, 7.0]
    script.scale = 3
    assert script(X).tolist() == reloaded(script)(X).tolist() == [4.0, 7.0, 10.0]
    whole = torch.tensor([1, 2, 3])
    script.offset = torch.zeros(3, dtype=torch.int64)
    script.scale = 1
    assert script(whole).dtype == torch.int64
    script.scale = 1.0  # equal, and another program
    assert script(whole).dtype == torch.float32
    assert list(script.state_dict()) == []


def test_lists_that_scripts_change_keep_their_changes():
    script = torch.jit.script(Scaled())
    assert [script.count(X)[0].item() for _ in range(4)] == [2.0, 3.0, 4.0, 5.0]
    assert script.seen == [0, 1, 1, 1, 1]


def test_ignored_methods_are_there_in_python():
    script = torch.jit.script(Scaled())
    assert script.in_python(X) is X
    reloaded(script)  # nothing in the script calls it


def test_methods_and_properties_of_submodules():
    model = Outer()
    script = torch.jit.script(model)
    for one in (script, reloaded(script)):
        assert one(X).tolist() == model(X).tolist()
    with pytest.raises(RuntimeError, match="unscriptable cannot be called in a script: Lambda"):
        script(X, True)
    with pytest.raises(RuntimeError, match=r"without_source cannot be called in a script: .*expected a function"):
        _ = script.inner.without_source


def test_a_module_of_the_library_shows_its_numbers():
    script = torch.jit.script(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    assert script[0].in_features == 3 and len(script) == 2
    assert torch.jit.script(nn.Linear(3, 2)).out_features == 2


def test_python_around_forward_is_refused():
    hooked = nn.Sequential(nn.Linear(3, 3))
    hooked[0].register_forward_hook(lambda module, given, made: made * 10)
    with pytest.raises(NotSupportedError, match=r"Linear has forward hooks.*torch\.jit\.trace"):
        torch.jit.script(hooked)
    with pytest.raises(NotSupportedError, match="Linear has forward hooks"):
        torch.jit.script(nn.utils.spectral_norm(nn.Linear(3, 3)))
    with pytest.raises(NotSupportedError, match="parametrizations"):
        torch.jit.script(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))


class Point(NamedTuple):
    x: torch.Tensor
    scale: int = 3


class Plain:
    pass


def point(x):
    return Point(x)


def kind_of(x: Any) -> int:
    if torch.jit.isinstance(x, List[int]):  # noqa: UP006  (the spelling of older scripts)
        return 1
    if torch.jit.isinstance(x, tuple[int, str]):
        return 2
    return 3 if isinstance(x, (float, torch.Tensor)) else 0


def text(n: int) -> str:
    return "{} of {total:.1f}".format(n, total=2 * n)  # noqa: UP032  (the method is what is tested)


def look_inside(n: int) -> str:
    return "{.__class__}".format(n)  # noqa: UP032


def look_inside_a_specification(n: int) -> str:
    return "{0:{0.real}}".format(n)


def total(numbers: list[int]) -> int:
    return sum(n * n for n in numbers if n > 1)


@torch.jit.script
def factorial(n: int) -> int:
    return 1 if n <= 1 else n * factorial(n - 1)


class Sometimes(nn.Module):
    def forward(self, x):
        if hasattr(self, "missing"):
            import os

            return os.environ(x)
        return x + 1


def test_what_scripts_may_name():
    for script in (torch.jit.script(point), reloaded(torch.jit.script(point))):
        assert script(X).scale == 3
    for script in (torch.jit.script(kind_of), reloaded(torch.jit.script(kind_of))):
        assert [script([1]), script((1, "a")), script(X), script(1.0), script("a")] == [1, 2, 3, 3, 0]
    assert torch.jit.script(text)(3) == reloaded(torch.jit.script(text))(3) == "3 of 6.0"
    assert torch.jit.script(total)([1, 2, 3]) == 13
    assert factorial(5) == reloaded(factorial)(5) == 120
    assert torch.jit.script(Sometimes())(X).tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("function", [look_inside, look_inside_a_specification])
def test_formats_do_not_look_into_objects(function):
    with pytest.raises(RuntimeError, match="look into objects"):
        torch.jit.script(function)(1)


def uses_a_class(n: int):
    return Plain() if n else n


def forks(x):
    return torch.jit.fork(kind_of, x)


def changes_the_process(n: int):
    torch.set_num_threads(n)


@pytest.mark.parametrize(("function", "what"), [
    (uses_a_class, "the class 'Plain' cannot be used"), (forks, "module 'flambeau.jit' has no 'fork'"),
    (changes_the_process, "set_num_threads|aren.t supported|cannot be used")])
def test_what_scripts_may_not_name(function, what):
    with pytest.raises(UnsupportedNodeError, match=what):
        torch.jit.script(function)


def test_parameter_lists():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.factors = nn.ParameterList([nn.Parameter(torch.ones(3) * n) for n in (2, 3)])

        def forward(self, x):
            for factor in self.factors:
                x = x * factor
            return x

    script = torch.jit.script(Product())
    assert script(X).tolist() == reloaded(script)(X).tolist() == [6.0, 12.0, 18.0]
