"""Writes flambeau/core/tensor.pyi: what editors and type checkers should know about `Tensor`.

The class gets most of its methods from the tables in `ops/methods.py`, `autograd/methods.py`, which static tools cannot
see. A test holds the file equal to what this script makes.

    python tools/make_stubs.py
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from flambeau.autograd import methods as autograd_methods
from flambeau.core import tensor as tensor_module
from flambeau.ops import methods

TARGET = Path(__file__).parent.parent / "flambeau" / "core" / "tensor.pyi"
HEADER = '''"""Made by tools/make_stubs.py from core/tensor.py and the method tables; do not edit."""

from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core import layout as layouts
from flambeau.core.storage import Storage, TypedStorage

'''
# Annotations that mean the same in the stub; anything else becomes Any.
BUILTINS = {"bool", "int", "float", "str", "None", "complex", "builtins.bool"}
RESULTS = {
    "Tensor",
    "tuple[Tensor, ...]",
    "Size",
    "Storage",
    "TypedStorage",
    "dtypes.dtype",
    "np.ndarray",
    "devices.device",
    "layouts.layout",
    "tuple[int, ...]",
}


def spelled(annotation: Any, results: bool = False) -> str:
    """An annotation as it may stand in the stub: methods called `bool`, `int`, `float` hide the builtins there."""
    text = str(annotation).strip("'\"") if annotation is not inspect.Parameter.empty else "Any"
    parts = [part.strip() for part in text.split("|")]
    if all(part in BUILTINS or (results and part in RESULTS) or part == "Tensor" for part in parts):
        text = " | ".join(parts).replace("builtins.bool", "bool")
        return re.sub(r"\b(bool|int|float)\b", r"_\1", text)
    return "Any"


def signature(function: Any) -> str:
    """`(self, dim: _int = ...) -> Tensor` of a function whose first argument is the tensor."""
    op = getattr(function, "op", None)
    found = inspect.signature(function)
    parameters, starred = ["self"], False
    for position, p in enumerate(found.parameters.values()):
        if position == 0 and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            continue
        if p.kind is p.VAR_POSITIONAL:
            parameters.append(f"*{p.name}: Any")
            starred = True
        elif p.kind is p.VAR_KEYWORD:
            parameters.append(f"**{p.name}: Any")
        else:
            if p.kind is p.KEYWORD_ONLY and not starred:
                parameters.append("*")
                starred = True
            default = "" if p.default is p.empty else " = ..."
            parameters.append(f"{p.name}: {spelled(p.annotation)}{default}")
    result = "Tensor" if op is not None else spelled(found.return_annotation, results=True)
    return f"({', '.join(parameters)}) -> {result}"


def own_members() -> list[str]:
    """The members that core/tensor.py itself defines, with the annotations written there."""
    lines: list[str] = []
    tree = ast.parse(Path(inspect.getfile(tensor_module)).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Tensor").body
    for node in body:
        if isinstance(node, ast.AnnAssign):
            lines.append(f"    {hide(ast.unparse(node))}")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            lines.extend(f"    {name.id} = {node.value.id}" for name in node.targets if isinstance(name, ast.Name))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for name in node.targets:
                lines.append(f"    @property\n    def {ast.unparse(name)}(self) -> _bool: ...")
        elif isinstance(node, ast.FunctionDef) and node.name not in ("__new__", "__init__"):
            decorators = "".join(f"    @{ast.unparse(d)}\n" for d in node.decorator_list)
            result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            arguments = re.sub(r"=[^,)]+", "=...", ast.unparse(node.args))
            lines.append(f"{decorators}    def {node.name}({hide(arguments)}){hide(result)}: ...")
    return lines


def hide(text: str) -> str:
    """Builtins under their stub names."""
    return re.sub(r"(?<![\w.])(?:builtins\.)?(bool|int|float)\b(?!\()", r"_\1", text)


def bound_members() -> list[str]:
    """The members from the method tables."""
    lines: dict[str, str] = {}

    def load(family: str, name: str) -> Any:
        return getattr(importlib.import_module(f"flambeau.ops.{family}"), name)

    for family, listing in methods.METHODS.items():
        for name, public in methods.entries(listing):
            lines[public] = f"    def {public}{signature(load(family, name))}: ..."
    for family, listing in methods.INPLACE.items():
        for name, public in methods.entries(listing):
            text = signature(load(family, name))
            lines[public + "_"] = f"    def {public}_{text[: text.rindex('->')]}-> Tensor: ..."
    for listing in methods.PROPERTIES.values():
        for name in listing.split():
            lines[name] = f"    @property\n    def {name}(self) -> Tensor: ..."
            if name in methods.WRITABLE:
                lines[name] += f"\n    @{name}.setter\n    def {name}(self, value: Any) -> None: ..."
    for name in load("casting", "CASTS"):
        lines[name] = f"    def {name}(self, memory_format: Any = ...) -> Tensor: ..."
    unary = ("__neg__", "__pos__", "__abs__", "__invert__")
    for name in [*methods.OPERATORS, *methods.IN_PLACE_OPERATORS]:
        if name == "__iter__":
            lines[name] = "    def __iter__(self) -> Iterator[Tensor]: ..."
        elif name == "__setitem__":
            lines[name] = "    def __setitem__(self, index: Any, value: Any) -> None: ..."
        elif name == "__contains__":
            lines[name] = "    def __contains__(self, element: Any) -> _bool: ..."
        elif name in unary:
            lines[name] = f"    def {name}(self) -> Tensor: ..."
        elif name in ("__eq__", "__ne__"):
            lines[name] = f"    def {name}(self, other: Any) -> Tensor: ...  # type: ignore[override]"
        elif name.startswith("__i") and name not in ("__invert__",):
            lines[name] = f"    def {name}(self, other: Any) -> Tensor: ..."
        else:
            lines[name] = f"    def {name}(self, other: Any) -> Tensor: ..."
    for name in autograd_methods.METHODS:
        lines[name] = f"    def {name}{signature(getattr(autograd_methods, name))}: ..."
    lines["grad"] = (
        "    @property\n    def grad(self) -> Tensor | None: ...\n    @grad.setter\n"
        "    def grad(self, value: Tensor | None) -> None: ...\n    @grad.deleter\n    def grad(self) -> None: ..."
    )
    lines["retains_grad"] = "    @property\n    def retains_grad(self) -> _bool: ..."
    return [lines[name] for name in sorted(lines)]


def module_functions() -> list[str]:
    """The functions and the other class of core/tensor.py."""
    lines = []
    tree = ast.parse(Path(inspect.getfile(tensor_module)).read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            arguments = re.sub(r"=[^,)]+", "=...", ast.unparse(node.args))
            result = ast.unparse(node.returns) if node.returns else "Any"
            lines.append(f"def {node.name}({hide(arguments)}) -> {hide(result)}: ...")
        elif isinstance(node, ast.ClassDef) and node.name == "Size":
            lines.append("class Size(tuple[_int, ...]):\n    def numel(self) -> _int: ...\n")
    return lines


def make() -> str:
    """The text of the stub."""
    constructor = "    def __init__(self, *data: Any, device: Any = ..., **unused: Any) -> None: ...\n"
    own = own_members()
    taken = {match.group(1) for line in own for match in re.finditer(r"def (\w+)\(", line)}
    bound = [line for line in bound_members() if (m := re.search(r"def (\w+)\(", line)) and m.group(1) not in taken]
    return (
        HEADER
        + "modes_of_reading: Any\nndarray = np.ndarray\n\n"
        + "\n".join(module_functions())
        + "\n\nclass Tensor:\n"
        + constructor
        + "    __hash__: ClassVar[Any]\n"
        + "\n".join(own)
        + "\n"
        + "\n".join(bound)
        + "\n"
    )


if __name__ == "__main__":
    TARGET.write_text(make())
