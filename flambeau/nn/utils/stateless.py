"""Calling a module with other tensors than its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.nn.layers.batchnorm import _BatchNorm
from flambeau.nn.module import Module
from flambeau.ops.joining import stack

__all__ = ["functional_call", "replace_all_batch_norm_modules_", "stack_module_state"]


def _tied(module: Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors, also under the other names of parameters that the module has under several."""
    names: dict[int, list[str]] = {}
    for members in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in members:
            names.setdefault(id(tensor), []).append(name)
    out = dict(given)
    for group in names.values():
        tensors = {id(given[name]): given[name] for name in group if name in given}
        if len(tensors) > 1:
            raise ValueError(f"functional_call got multiple values for keys {sorted(n for n in group if n in given)}, "
                             "which are tied. Consider using tie_weights=False")
        for tensor in tensors.values():
            out.update(dict.fromkeys(group, tensor))
    return out


@contextmanager
def swapped(module: Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The module with these parameters and buffers in place of its own, while the block runs."""
    places = []
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        registry = next((r for r in (owner._parameters, owner._buffers) if last in r), None)
        if registry is None:
            raise AttributeError(f"{type(owner).__name__} has no parameter or buffer '{last}'")
        places.append((registry, last, registry[last]))
        registry[last] = tensor
    try:
        yield
    finally:
        for registry, last, before in reversed(places):
            registry[last] = before


def functional_call(module: Module, parameters_and_buffers: Any, args: Any = None, kwargs: dict | None = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """module(*args, **kwargs) with the given tensors instead of the module's own.

    parameters_and_buffers: a dictionary by dotted name, or a tuple of disjoint ones. `tie_weights`: a tensor given for
    one name of a shared parameter stands for all its names. `strict`: RuntimeError unless exactly all are given.
    """
    given = parameters_and_buffers
    if isinstance(given, (tuple, list)):
        merged: dict[str, Tensor] = {}
        for part in given:
            repeated = merged.keys() & part.keys()
            if repeated:
                raise ValueError(f"{sorted(repeated)} appeared in multiple dictionaries; behavior of functional call "
                                 "is ambiguous")
            merged.update(part)
        given = merged
    if strict:
        own = {name for name, _ in module.named_parameters()} | {name for name, _ in module.named_buffers()}
        missing, unexpected = sorted(own - given.keys()), sorted(given.keys() - own)
        if missing or unexpected:
            raise RuntimeError("Error(s) in reparametrizing module for functional_call: "
                               f"missing keys {missing}, unexpected keys {unexpected}")
    tensors = _tied(module, given) if tie_weights else dict(given)
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with swapped(module, tensors):
        return module(*args, **(kwargs or {}))


def stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and buffers of several models of one architecture, each stacked along a new first dimension.

    RuntimeError for no models, models of different classes, or a mix of training and evaluation mode.
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if not (all(m.training for m in models) or all(not m.training for m in models)):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if any(type(m) is not type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")

    def stacked(entries: list[dict[str, Tensor]], requires_grad: bool) -> dict[str, Tensor]:
        made = {}
        for name, first in entries[0].items():
            t = stack([e[name].detach() for e in entries])
            made[name] = t.requires_grad_() if requires_grad and first.requires_grad else t
        return made

    return (stacked([dict(m.named_parameters()) for m in models], True),
            stacked([dict(m.named_buffers()) for m in models], False))


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Let every batch norm below `root` forget its running statistics and use those of the batch; returns `root`."""
    for module in root.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root
