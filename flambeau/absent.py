"""What stands where flambeau has nothing: modules, classes and functions that raise at their use, naming themselves.

Packages written for PyTorch name many things at import that they never use afterwards, or ask `isinstance` about
classes of which no object exists. Both work with a stand-in; making or calling one raises, with the page that lists
what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

PAGE = "docs/running-pytorch-scripts.md"


def explain(name: str, opening: str = "") -> str:
    """The message about a missing name."""
    return f"{opening}'{name}': flambeau does not have it ({PAGE} lists what is missing)"


class MissingModule(ModuleType):
    """Stands for a module of PyTorch that flambeau lacks; any use of it raises AttributeError.

    `from torch.onnx import export` may mean a module, too, and brings one of these; calling it raises.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, f"{name} is not in flambeau; {PAGE} lists what is missing.")
        self.__path__: list[str] = []  # a package, so that `import torch.a.b` gets as far as its own name

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(explain(f"{self.__name__}.{name}"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(explain(self.__name__))


class _MissingClass(type):
    """The type of stand-ins for classes: nothing is an instance, and making one raises."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(explain(cls.__missing_name__))  # type: ignore[attr-defined]


def missing_class(name: str) -> type:
    """A class nobody can make an object of; `isinstance` answers False. `name` is PyTorch's, in full."""
    module, _, short = name.rpartition(".")
    return _MissingClass(short, (), {"__module__": module, "__missing_name__": name, "__doc__": explain(name)})


def missing_function(name: str) -> Callable[..., Any]:
    """A function that raises NotImplementedError when it is called. `name` is PyTorch's, in full."""

    def function(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(explain(name))

    function.__name__ = function.__qualname__ = name.rpartition(".")[2]
    function.__doc__ = explain(name)
    return function
