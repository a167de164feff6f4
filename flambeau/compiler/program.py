"""Programs: graphs made executable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flambeau.compiler import interpreter
from flambeau.compiler.graph import Graph


def program(graph: Graph) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    return lambda arrays: interpreter.run(graph, arrays)
