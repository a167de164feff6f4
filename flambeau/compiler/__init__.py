"""compile: a function of tensors as one native program."""

import importlib
from typing import Any

from flambeau.compiler.markers import (
    allow_in_graph,
    assume_constant_result,
    cudagraph_mark_step_begin,
    disable,
    is_compiling,
    is_dynamo_compiling,
    is_exporting,
)


def __getattr__(name: str) -> Any:
    if name in ("explain", "Explanation"):
        return getattr(importlib.import_module("flambeau.compiler.explain"), name)
    if name == "compile":
        return importlib.import_module("flambeau.nn.compiled").compile
    raise AttributeError(f"module 'flambeau.compiler' has no attribute '{name}'")
