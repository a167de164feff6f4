"""`import torch` means flambeau: an import hook for scripts and packages written for PyTorch.

Only the process that calls `as_torch()` sees it, and the worker processes that it starts through `multiprocessing`.
`torch.nn.functional` and `flambeau.nn.functional` are one module object, so classes, state and patches are shared.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from flambeau import version
from flambeau.absent import MissingModule, explain
from flambeau.torch_version import RELEASE, RELEASE_OF_VISION, pose

PACKAGES = {"torch": "flambeau", "torchvision": "flambeau.vision"}
RELEASES = {"torch": RELEASE, "torchvision": RELEASE_OF_VISION}

# Modules PyTorch has and scripts import at their top whether they use them or not. Where flambeau lacks one (or a part
# of one), importing it works and using it raises. Any other unknown name is an ordinary ModuleNotFoundError.
OPTIONAL = frozenset(
    f"torch.{name}"
    for name in (
        "amp", "ao", "backends", "compiler", "cpu", "cuda", "distributed", "distributions", "export", "fx", "hub",
        "jit", "library", "mps", "multiprocessing", "nested", "nn.attention", "nn.parallel", "nn.quantized", "onnx",
        "package", "profiler", "quantization", "sparse", "testing", "utils.bundled_inputs", "utils.checkpoint",
        "utils.cpp_extension", "utils.mobile_optimizer", "utils.tensorboard", "xpu",
    )
)
# Where torchvision has a module and flambeau keeps the same names one level up.
FOLDED = {f"torchvision.ops.{part}": "flambeau.vision.ops"
          for part in ("boxes", "focal_loss", "misc", "roi_align", "stochastic_depth")}


class TorchFinder(importlib.metadata.DistributionFinder, importlib.abc.Loader):
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
            if spec.name in FOLDED:
                module = importlib.import_module(FOLDED[spec.name])
            elif _is_optional(spec.name):
                return MissingModule(spec.name)
            else:
                raise ModuleNotFoundError(explain(spec.name, "No module named "), name=spec.name) from None
        spec.loader_state = module.__spec__  # the import system is about to overwrite it
        _explain_missing_names(module, spec.name)
        if spec.name in PACKAGES:   # packages look at it to choose what to call
            module.__version__ = pose(RELEASES[spec.name])
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run already, under its own name: only give it its own spec back."""
        own = module.__spec__.loader_state if module.__spec__ else None
        if own is not None:
            module.__spec__ = own

    def find_distributions(self, context: Any = None) -> Iterator[importlib.metadata.Distribution]:
        """What `importlib.metadata.version("torch")` asks for: PyTorch's release, and who stands in for it."""
        wanted = getattr(context, "name", None)
        for name in PACKAGES:
            if wanted is None or wanted.lower() == name:
                yield _Distribution(name, pose(RELEASES[name]))


class _Distribution(importlib.metadata.Distribution):
    """The metadata of a package that is not installed under this name."""

    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError("flambeau stands in for this distribution; it has no files of its own")


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
        version.__version__ = pose(RELEASE)
        _tell_workers()


class _Hook:
    """Travels to a process that `multiprocessing` starts afresh; arriving there it calls `as_torch()`."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Code, not a function of ours: it is unpickled before the new process knows where flambeau is.
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        return exec, (f"import sys\nsys.path.append({home!r})\nfrom flambeau.torch_alias import as_torch\nas_torch()",)


def _tell_workers() -> None:
    """Let processes started by `spawn` and `forkserver` have the hook before they import the script's `torch`."""
    from multiprocessing import spawn

    prepare = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        return {**prepare(name), "flambeau": _Hook()}

    spawn.get_preparation_data = get_preparation_data


def _ours(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] == "flambeau"


def _twin(fullname: str) -> str | None:
    """The name of flambeau's module for one of PyTorch's: torch.nn -> flambeau.nn."""
    root, dot, rest = fullname.partition(".")
    return f"{PACKAGES[root]}{dot}{rest}" if root in PACKAGES else None


def _is_optional(fullname: str) -> bool:
    """Whether PyTorch has such a module, or one around it that scripts may import parts of in vain.

    A name with capitals is no module but a class: importing it is an ImportError, so that packages look elsewhere.
    """
    parts = fullname.split(".")
    if not parts[-1].islower():
        return False
    return any(".".join(parts[:count]) in OPTIONAL for count in range(2, len(parts) + 1))


def _explain_missing_names(module: ModuleType, torch_name: str) -> None:
    """Report an unknown attribute of `module` under PyTorch's name, with the page that lists what is missing."""
    own = module.__dict__.get("__getattr__")
    if getattr(own, "explains_missing_names", False):
        return

    message = f"module '{torch_name}' has no attribute " + explain("{}")

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
