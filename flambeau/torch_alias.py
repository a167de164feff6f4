"""`import torch` means flambeau: an import hook for scripts and packages written for PyTorch.

Only the process that calls `as_torch()` sees it, and only from then on. `torch.nn.functional` and
`flambeau.nn.functional` are one module object, so classes, state and patches are shared.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

PACKAGES = {"torch": "flambeau", "torchvision": "flambeau.vision"}
MISSING_PAGE = "docs/differences.md"

# Modules PyTorch has and scripts import at their top whether they use them or not. Where flambeau lacks one,
# importing it works and using it raises. Any other unknown name is an ordinary ModuleNotFoundError.
OPTIONAL = frozenset(
    f"torch.{name}"
    for name in (
        "amp", "ao", "backends.cuda", "backends.cudnn", "backends.mkl", "backends.mkldnn", "backends.mps",
        "backends.openmp", "compiler", "cpu", "cuda", "cuda.amp", "distributed", "distributed.nn", "distributions",
        "export", "fx", "hub", "jit", "library", "mps", "multiprocessing", "nested", "onnx", "profiler",
        "quantization", "sparse", "testing", "utils.checkpoint", "utils.cpp_extension", "utils.tensorboard",
        "nn.parallel", "nn.quantized", "nn.attention", "xpu",
    )
)


class MissingModule(ModuleType):
    """Stands for a module of PyTorch that flambeau lacks; any use of it raises AttributeError."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"{name} is not in flambeau; {MISSING_PAGE} lists what is missing.")
        self.__path__: list[str] = []  # a package, so that `import torch.cuda.amp` gets as far as its own name

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_missing(f"{self.__name__}.{name}"))


class TorchFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torch…` and `torchvision…` among flambeau's own modules."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if _twin(fullname) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        twin = _twin(spec.name)
        assert twin is not None
        try:
            module = importlib.import_module(twin)
        except ModuleNotFoundError as error:
            # Only the twin's own absence (or its parent's) is ours to explain; what it imports may be missing too.
            if error.name is None or not f"{twin}.".startswith(f"{error.name}."):
                raise
            if spec.name in OPTIONAL:
                return MissingModule(spec.name)
            raise ModuleNotFoundError(_missing(spec.name, "No module named "), name=spec.name) from None
        spec.loader_state = module.__spec__  # the import system is about to overwrite it
        _explain_missing_names(module, spec.name)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run already, under its own name: only give it its own spec back."""
        own = module.__spec__.loader_state if module.__spec__ else None
        if own is not None:
            module.__spec__ = own


def as_torch() -> None:
    """Make `import torch` and `import torchvision` mean flambeau from here on, in this process only.

    Calling it again changes nothing. A name that flambeau lacks raises AttributeError where it is used.

    Raises:
        RuntimeError: PyTorch or torchvision itself was imported before.
    """
    for name in PACKAGES:
        loaded = sys.modules.get(name)
        if loaded is not None and not _ours(loaded):
            raise RuntimeError(
                f"as_torch(): {name} itself is already imported (from {getattr(loaded, '__file__', None)}); "
                "call flambeau.as_torch() before anything imports it"
            )
    if not any(isinstance(finder, TorchFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchFinder())


def _ours(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] == "flambeau"


def _twin(fullname: str) -> str | None:
    """The name of flambeau's module for one of PyTorch's: torch.nn -> flambeau.nn."""
    root, dot, rest = fullname.partition(".")
    return f"{PACKAGES[root]}{dot}{rest}" if root in PACKAGES else None


def _missing(name: str, opening: str = "") -> str:
    return f"{opening}'{name}': flambeau does not have it ({MISSING_PAGE} lists what is missing)"


def _explain_missing_names(module: ModuleType, torch_name: str) -> None:
    """Report an unknown attribute of `module` under PyTorch's name, with the page that lists what is missing."""
    own = module.__dict__.get("__getattr__")
    if getattr(own, "explains_missing_names", False):
        return

    message = f"module '{torch_name}' has no attribute " + _missing("{}")

    def __getattr__(name: str) -> Any:
        try:
            if own is not None:
                return own(name)
        except AttributeError as error:
            if not str(error).endswith(f"has no attribute '{name}'"):  # something else went wrong on the way
                raise
        raise AttributeError(message.format(name))

    __getattr__.explains_missing_names = True  # type: ignore[attr-defined]
    module.__dict__["__getattr__"] = __getattr__
