"""PyTorch's `torch.fx`, as far as models name it: marks and types. There is no symbolic tracing here."""

from __future__ import annotations

from typing import TypeVar

from flambeau.absent import missing_class, missing_function

__all__ = ["Graph", "GraphModule", "Interpreter", "Node", "Proxy", "Tracer", "symbolic_trace", "wrap"]

T = TypeVar("T")

Graph = missing_class("torch.fx.Graph")
GraphModule = missing_class("torch.fx.GraphModule")
Interpreter = missing_class("torch.fx.Interpreter")
Node = missing_class("torch.fx.Node")
Proxy = missing_class("torch.fx.Proxy")
Tracer = missing_class("torch.fx.Tracer")
symbolic_trace = missing_function("torch.fx.symbolic_trace")


def wrap(fn_or_name: T) -> T:
    """Mark a function as one that tracing does not look into. Returns it."""
    return fn_or_name
