"""Inner activations of a network by the names of its nodes (torchvision's `feature_extraction`).

A node is a call that the network makes: of a layer, named by the layer's path ("layer1.0.conv1"), or of a function,
named by the path of the module that calls it and the function's name ("layer1.0.add"); repeated ones are numbered
("layer1.0.relu_1"). A path above several nodes ("layer1") means the last of them.
"""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

from flambeau import nn
from flambeau.vision import ops
from flambeau.vision.models._tracing import Step, TraceError, Tracer, replace

__all__ = ["TraceError", "create_feature_extractor", "get_graph_node_names"]


def get_graph_node_names(
    model: nn.Module, tracer_kwargs: dict[str, Any] | None = None, suppress_diff_warning: bool = False,
    concrete_args: dict[str, Any] | None = None,
) -> tuple[list[str], list[str]]:
    """The names of the nodes in the order of their calls, in training mode and in evaluation mode.

    Arguments as for `create_feature_extractor`. Raises: TraceError (a ValueError) where the network's course depends
    on a tensor's value or size.
    """
    train, evaluate = _both_modes(model, tracer_kwargs, concrete_args, suppress_diff_warning)
    return list(train.names.values()), list(evaluate.names.values())


def create_feature_extractor(
    model: nn.Module, return_nodes: list[str] | dict[str, str] | None = None,
    train_return_nodes: list[str] | dict[str, str] | None = None,
    eval_return_nodes: list[str] | dict[str, str] | None = None, tracer_kwargs: dict[str, Any] | None = None,
    suppress_diff_warning: bool = False, concrete_args: dict[str, Any] | None = None,
) -> FeatureExtractor:
    """A network that computes the wanted nodes of `model` and no more, and returns them in a dict.

    It shares the model's parameters, under their names. A result that the model overwrites in place is
    overwritten here, too.

    Args:
        return_nodes: names of nodes (see `get_graph_node_names`) or of modules above them; a dict gives the names that
            the results shall have.
        train_return_nodes, eval_return_nodes: instead of it, for either mode.
        tracer_kwargs: `leaf_modules` (classes), `autowrap_functions` and `autowrap_modules` that become one node each.
        suppress_diff_warning: do not warn where the two modes have different nodes.
        concrete_args: values of arguments of `forward` that are to be fixed.

    Raises:
        ValueError: a node is not there, or the wrong mixture of node arguments was given.
        TraceError (a ValueError): the network's course depends on a tensor's value or size.

    >>> body = create_feature_extractor(resnet18(), {"layer2": "half", "layer4": "low"})
    >>> body(torch.zeros(1, 3, 64, 64))["low"].shape
    torch.Size([1, 512, 2, 2])
    """
    if (train_return_nodes is None) != (eval_return_nodes is None) or (
        (return_nodes is None) == (train_return_nodes is None)
    ):
        raise ValueError(
            "Specify either return_nodes, or both train_return_nodes and eval_return_nodes, of the feature extractor"
        )
    wanted = (train_return_nodes, eval_return_nodes) if return_nodes is None else (return_nodes, return_nodes)
    traced = _both_modes(model, tracer_kwargs, concrete_args, suppress_diff_warning)
    return FeatureExtractor(model, *(Plan(one, _named(nodes)) for one, nodes in zip(traced, wanted, strict=True)))


def _named(nodes: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in (nodes.items() if isinstance(nodes, dict) else zip(nodes, nodes, strict=True))}


def _both_modes(
    model: nn.Module, tracer_kwargs: dict[str, Any] | None, concrete_args: dict[str, Any] | None, quiet: bool
) -> tuple[Tracer, Tracer]:
    """The model traced in training and in evaluation mode; it is left in the mode it was in."""
    settings = {key: list(value) for key, value in (tracer_kwargs or {}).items()}
    settings["leaf_modules"] = [*settings.get("leaf_modules", ()), *_layers_of(ops)]
    settings["autowrap_modules"] = [*settings.get("autowrap_modules", ()), math, ops]
    was = {module: module.training for module in model.modules()}
    try:
        train = Tracer(model.train(), **settings).run(concrete_args)
        evaluate = Tracer(model.eval(), **settings).run(concrete_args)
    finally:
        for module, mode in was.items():
            module.training = mode
    if not quiet and list(train.names.values()) != list(evaluate.names.values()):
        warnings.warn(
            "The nodes of the model in training mode are not those in evaluation mode. Specify train_return_nodes and "
            "eval_return_nodes if you want nodes that only one of them has; get_graph_node_names lists both.",
            stacklevel=3,
        )
    return train, evaluate


def _layers_of(space: Any) -> list[type]:
    return [value for value in vars(space).values() if isinstance(value, type) and issubclass(value, nn.Module)]


class Plan:
    """The steps that lead to some nodes, in order, and after which of them which values are no longer needed."""

    def __init__(self, traced: Tracer, wanted: dict[str, str]) -> None:
        self.inputs = [step for step in traced.steps if step.kind == "input"]
        self.outputs = {name: _last(traced.names, node) for node, name in wanted.items()}
        needed = set(self.outputs.values()) | {step for step in traced.steps if _checks(step)}
        for step in reversed(traced.steps):
            if step in needed:
                needed.update(step.inputs())
        self.steps = [step for step in traced.steps if step in needed and step.kind != "input"]
        kept = set(self.outputs.values())
        last = {value: step for step in self.steps for value in step.inputs()}
        self.freed: dict[Step, list[Step]] = {step: [] for step in self.steps}
        for value, step in last.items():
            if value not in kept:
                self.freed[step].append(value)
        # Nothing after the last wanted node is run.
        places = {step: place for place, step in enumerate(self.steps)}
        end = max((places[step] for step in kept if step in places), default=-1)
        self.steps = self.steps[: end + 1]

    def run(self, network: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        """The wanted values, computed with the layers and parameters of `network`."""
        values: dict[Step, Any] = {step: arguments[step.target[0]] for step in self.inputs}
        for step in self.steps:
            args, kwargs = replace((step.args, step.kwargs), values.__getitem__)
            if step.kind == "module":
                values[step] = network.get_submodule(step.target)(*args, **kwargs)
            elif step.kind == "attribute":
                values[step] = _at(network, step.target)
            elif step.kind == "method":
                values[step] = getattr(args[0], step.target)(*args[1:], **kwargs)
            else:
                values[step] = step.target(*args, **kwargs)
            for value in self.freed[step]:
                values.pop(value, None)
        return {name: values[step] for name, step in self.outputs.items()}


def _checks(step: Step) -> bool:
    return step.kind == "function" and getattr(step.target, "__name__", "") == "_assert"


def _last(names: dict[Step, str], node: str) -> Step:
    """The last step with that name or below that path."""
    for step, name in reversed(names.items()):
        if name == node or name.startswith(f"{node}."):
            return step
    near = [name for name in names.values() if name.rpartition(".")[2] == node.rpartition(".")[2]][:5]
    raise ValueError(
        f"node: '{node}' is not present in model. Hint: get_graph_node_names lists the nodes there are"
        + (f"; {', '.join(near)} have that last name" if near else "")
        + ". It may be that train_return_nodes and eval_return_nodes must differ."
    )


def _at(network: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)


class FeatureExtractor(nn.Module):
    """The part of a network that leads to some of its nodes; `forward` returns their values in a dict."""

    def __init__(self, model: nn.Module, train_plan: Plan, eval_plan: Plan) -> None:
        super().__init__()
        self._plans = {True: train_plan, False: eval_plan}
        self._title = type(model).__name__
        self._arguments = inspect.signature(model.forward)
        for plan in self._plans.values():
            for step in plan.steps:
                if step.kind in ("module", "attribute"):
                    _share(model, self, step.target)
        self.train(model.training)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = self._arguments.bind(*args, **kwargs)
        bound.apply_defaults()
        return self._plans[self.training].run(self, bound.arguments)

    def _get_name(self) -> str:
        return self._title


def _share(model: nn.Module, copy: nn.Module, path: str) -> None:
    """Give `copy` the model's module, parameter or buffer at `path`, inside empty modules of the same names."""
    *above, name = path.split(".")
    for part in above:
        model = getattr(model, part)
        if part not in copy._modules:
            copy.add_module(part, nn.Module())
        copy = copy._modules[part]
        if copy is model:  # shared as a whole already
            return
    value = getattr(model, name)
    if isinstance(value, nn.Module):
        copy.add_module(name, value)
    elif name in model._buffers:
        copy.register_buffer(name, value, persistent=name not in model._non_persistent_buffers_set)
    else:
        copy.register_parameter(name, value)


class IntermediateLayerGetter(nn.ModuleDict):
    """The model's children, one after the other, up to the last of `return_layers`; the results of those in a dict.

    `return_layers` maps names of direct children to the names that their results shall have.
    Raises: ValueError for a name that is no child.
    """

    _version = 2

    def __init__(self, model: nn.Module, return_layers: dict[str, str]) -> None:
        children = dict(model.named_children())
        if not set(return_layers) <= set(children):
            raise ValueError(f"return_layers are not present in model: {sorted(set(return_layers) - set(children))}")
        self_layers = {str(k): str(v) for k, v in return_layers.items()}
        last = max(list(children).index(name) for name in self_layers)
        super().__init__(dict(list(children.items())[: last + 1]))
        self.return_layers = self_layers

    def forward(self, x: Any) -> dict[str, Any]:
        out = {}
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                out[self.return_layers[name]] = x
        return out
