"""Where ops meet oneDNN: `accelerated` registers a fast kernel beside the NumPy body of an op.

The backend's modules are imported, and the library loaded, when the first op that could use it runs.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.dispatch import kernel


@functools.cache
def onednn(module: str = "") -> Any:
    """The package `flambeau.backends.onednn`, or one of its modules."""
    return importlib.import_module("flambeau.backends.onednn" + module)


def usable(*arrays: Any, **attrs: Any) -> bool:
    """Whether all arrays are non-empty float32 and oneDNN is there."""
    first = arrays[0]
    return type(first) is np.ndarray and first.dtype == np.float32 and onednn().usable(*arrays)


# Below this many elements a call of the library costs more than NumPy's own loop.
FEW = 4096


def large(*arrays: Any, **attrs: Any) -> bool:
    """Whether the arrays are worth a pass of oneDNN's elementwise kernels: one shape, many elements, `usable`."""
    first = arrays[0]
    return first.size >= FEW and all(a.shape == first.shape for a in arrays[1:]) and usable(*arrays)


def accelerated(op: Any, when: Callable[..., bool] = usable) -> Callable[[Any], Any]:
    """Register a oneDNN kernel of an op for the arguments that `when` accepts; shapes it refuses go to the body."""
    body = op.op.kernel

    def register(fast: Any) -> Any:
        @functools.wraps(fast)
        def run(*arrays: Any, **attrs: Any) -> Any:
            try:
                return fast(*arrays, **attrs)
            except onednn().Unsupported:
                return body(*arrays, **attrs)

        kernel(op.op.name, when)(run)
        return fast

    return register
