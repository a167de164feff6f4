"""What all optimizers share: parameter groups, state, hooks, checkpoints, and the walk over the gradients."""

from __future__ import annotations

import copy
import functools
import itertools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from flambeau.autograd.modes import enable_grad, set_grad_enabled
from flambeau.core import recording
from flambeau.core.dtype import default_dtype, float32, float64
from flambeau.core.tensor import Tensor
from flambeau.nn.hooks import RemovableHandle
from flambeau.ops.complex import view_as_real
from flambeau.ops.creation import tensor

__all__ = ["Optimizer", "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook"]

ParamsT = Iterable[Any]  # tensors, (name, tensor) pairs, or dicts that describe parameter groups


class _Required:
    """The default of an option that every parameter group must state itself."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()

# Options that older checkpoints lack, and what they meant before they existed.
_OLDER_CHECKPOINTS = {
    "amsgrad": False,
    "capturable": False,
    "centered": False,
    "decoupled_weight_decay": False,
    "differentiable": False,
    "foreach": None,
    "fused": None,
    "maximize": False,
    "nesterov": False,
}
_COUNTERS = ("step", "eta", "mu", "mu_product")  # 0-d float tensors; plain numbers in older checkpoints

_step_pre_hooks: OrderedDict[int, Callable] = OrderedDict()  # of every optimizer
_step_post_hooks: OrderedDict[int, Callable] = OrderedDict()


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` before `step` of every optimizer; it may return new (args, kwargs)."""
    return _register(_step_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` after `step` of every optimizer."""
    return _register(_step_post_hooks, hook)


def _register(hooks: OrderedDict[int, Callable], hook: Callable, prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def _with_step_hooks(step: Callable) -> Callable:
    """`step`, with the hooks of this optimizer and of all optimizers around it."""

    @functools.wraps(step)
    def hooked_step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        before, after = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        if not (before or after or _step_pre_hooks or _step_post_hooks):
            return step(self, *args, **kwargs)
        arguments: tuple[tuple, dict] = (self, *args), kwargs
        for hook in [*_step_pre_hooks.values(), *before.values()]:
            changed = hook(self, *arguments)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"a step pre-hook must return None or a tuple of (new_args, new_kwargs), got {changed}"
                    )
                arguments = changed
        result = step(*arguments[0], **arguments[1])
        for hook in [*after.values(), *_step_post_hooks.values()]:
            hook(self, *arguments)
        return result

    hooked_step.hooked = True  # type: ignore[attr-defined]
    return hooked_step


class Optimizer:
    """Base class of all optimizers.

    `params` is an iterable of tensors, of (name, tensor) pairs, or of dicts, each a parameter group with its own
    options; `defaults` holds the options of groups that do not state them. `param_groups` is a list of dicts,
    `state` maps a parameter to its own dict.

    Raises: TypeError if params is a tensor or holds something else than tensors; ValueError if it is empty, holds
    non-leaf tensors or the same tensor in two groups.
    """

    _optimizer_step_pre_hooks: OrderedDict[int, Callable]
    _optimizer_step_post_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable]

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params must be an iterable of tensors or dicts, such as model.parameters() or [tensor], "
                f"but got one tensor of shape {tuple(params.shape)}"
            )
        self.defaults = defaults
        self._add_hook_tables()
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_step_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients; returns what `closure` returned, if there is one."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters: set them to None, or fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad.detach_().zero_()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Append a group: a dict with "params" (a tensor or an ordered iterable of them) and options.

        Raises: TypeError, ValueError as the constructor; ValueError if some parameters have names and some have not.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        _list_params(param_group)
        for param in param_group["params"]:
            if not isinstance(param, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {_type_name(param)}")
            if not (self.defaults.get("differentiable") or param.is_leaf or param.retains_grad):
                raise ValueError(f"can't optimize a non-leaf Tensor (shape {tuple(param.shape)})")
        for option, default in self.defaults.items():
            if default is required and option not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {option}")
            param_group.setdefault(option, default)
        self._check_against_groups(param_group)
        recording.changed(self)
        self.param_groups.append(param_group)

    def _check_against_groups(self, param_group: dict[str, Any]) -> None:
        new = {id(param) for param in param_group["params"]}
        if len(new) != len(param_group["params"]):
            warnings.warn("optimizer contains a parameter group with duplicate parameters", stacklevel=4)
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                with_or_without = "with" if "param_names" in param_group else "without"
                raise ValueError(
                    "all optimizer param groups should be with/without names. "
                    f"cannot add param group {with_or_without} names to the optimizer"
                )
            if not new.isdisjoint(id(param) for param in group["params"]):
                raise ValueError("some parameters appear in more than one parameter group")

    # ---- hooks ------------------------------------------------------------------------------

    def _add_hook_tables(self) -> None:
        for event in ("step", "state_dict", "load_state_dict"):
            for when in ("pre", "post"):
                self.__dict__.setdefault(f"_optimizer_{event}_{when}_hooks", OrderedDict())

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return new (args, kwargs)."""
        return _register(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return _register(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before `state_dict` collects the state."""
        return _register(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` on the collected dict; it may return another one."""
        return _register(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before loading; it may change the dict or return another one."""
        return _register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` after loading."""
        return _register(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    # ---- checkpoints ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number of a parameter: its state}, "param_groups": [options and parameter numbers]}.

        The tensors are the optimizer's own, not copies. Parameters are numbered through all groups.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        for position, param in enumerate(itertools.chain(*(group["params"] for group in self.param_groups))):
            numbers.setdefault(id(param), position)
        saved: dict[str, Any] = {
            "state": {numbers[id(key)] if isinstance(key, Tensor) else key: value for key, value in self.state.items()},
            "param_groups": [
                {
                    **{option: value for option, value in group.items() if option != "params"},
                    "params": [numbers[id(param)] for param in group["params"]],
                }
                for group in self.param_groups
            ],
        }
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, saved)
            saved = saved if changed is None else changed
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a dict made by `state_dict`, casting state to the dtype and device of the parameters.

        Raises: ValueError if the number of groups, or of parameters in a group, differs.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved_groups = copy.deepcopy(state_dict["param_groups"])
        self._check_saved_groups(saved_groups)
        owners = {
            number: (param, saved)
            for group, saved in zip(self.param_groups, saved_groups)
            for param, number in zip(group["params"], saved["params"])
        }
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owners:
                param, saved = owners[key]
                state[param] = _cast_state(value, param, saved)
            else:
                state[key] = value
        for group, saved in zip(self.param_groups, saved_groups):
            saved["params"] = group["params"]
            if "param_names" in group:
                saved.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _check_saved_groups(self, saved_groups: list[dict[str, Any]]) -> None:
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                "loaded state dict has a different number of parameter groups "
                f"({len(saved_groups)}, the optimizer has {len(self.param_groups)})"
            )
        for i, (group, saved) in enumerate(zip(self.param_groups, saved_groups)):
            if len(saved["params"]) != len(group["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group "
                    f"(group {i}: {len(saved['params'])} parameters saved, {len(group['params'])} in the optimizer)"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        recording.changed(self)
        self.__dict__.update(state)
        self._add_hook_tables()
        for group in self.param_groups:
            for option, value in _OLDER_CHECKPOINTS.items():
                if option in self.defaults:
                    group.setdefault(option, value)
        for values in self.state.values():
            for name in _COUNTERS:
                if isinstance(values, dict) and isinstance(values.get(name), (int, float)):
                    values[name] = counter(values[name])

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {option}: {group[option]}\n" for option in sorted(group) if option != "params")
        return text + ")"


class Algorithm(Optimizer):
    """An optimizer that treats one parameter after the other: subclasses say what happens in one group.

    `update(group)` does the step of the parameters of a group; `initial_state(param, group)` makes the state of a
    parameter that gets its first gradient.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        `closure`, if given, evaluates the model again with gradients enabled and returns the loss, which `step`
        passes on.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with set_grad_enabled(self.defaults.get("differentiable", False)):
            for group in self.param_groups:
                self.update(group if recording.recorder is None else recording.recorder.options(self, group))
        return loss

    def update(self, group: dict[str, Any]) -> None:
        """Move the parameters of one group."""
        raise NotImplementedError

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The state of a parameter before its first step."""
        raise NotImplementedError

    def gradients(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """(parameter, direction to descend) for each parameter of the group that has a gradient."""
        if group.get("capturable"):
            raise AssertionError(
                "capturable=True needs parameters on a device that records graphs, they are on the CPU"
            )
        maximize = group.get("maximize")
        for param in group["params"]:
            grad = param.grad
            if grad is not None:
                yield param, -grad if maximize else grad

    def slots(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor, dict[str, Any]]]:
        """(parameter, direction, state) for each parameter with a gradient; complex tensors as pairs of reals."""
        states = self.state
        differentiable = group.get("differentiable")
        for param, grad in self.gradients(group):
            state = states[param]
            if not state:
                state.update(self.initial_state(param, group))
                if state:
                    recording.state_made()
            if differentiable:  # the graph of the step before keeps the tensors that are written to now
                state.update((name, value.clone()) for name, value in state.items() if value.requires_grad)
            if param.is_complex():
                yield view_as_real(param), view_as_real(grad), {name: _as_real(value) for name, value in state.items()}
            else:
                yield param, grad, state


def counter(value: float) -> Tensor:
    """A 0-d tensor that counts steps: float32, as in checkpoints (float64 where that is the default dtype)."""
    return tensor(float(value), dtype=float64 if default_dtype() is float64 else float32)


def advance(step: Tensor) -> float:
    """Count one step more; the number of the step, from 1."""
    return value_of(step.add_(1))


def value_of(t: Tensor) -> float:
    """The number a 0-d tensor holds; while a step is recorded, one that stands for what it will hold."""
    return t.item() if recording.recorder is None else recording.recorder.number(t)


def number(option: Any) -> float:
    """The value of an option that may be a tensor of one element."""
    return value_of(option) if isinstance(option, Tensor) else option


def sqrt_plus(x: Tensor, eps: float) -> Tensor:
    """sqrt(x) + eps in a new tensor."""
    root = x.sqrt()
    return root + eps if root.requires_grad else root.add_(eps)  # sqrt's derivative needs its result


def check_lr(lr: Any, message: str = "Invalid learning rate: {}") -> None:
    """ValueError unless the learning rate is a number >= 0 or a tensor of one element."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"Tensor lr must be 1-element, got shape {tuple(lr.shape)}")
    if not 0.0 <= lr:
        raise ValueError(message.format(lr))


def check_not_negative(label: str, value: Any) -> None:
    """ValueError that names the option if its value is below zero, or nan."""
    if not 0.0 <= value:
        raise ValueError(f"Invalid {label} value: {value}")


def check_betas(betas: tuple[Any, Any]) -> None:
    """ValueError unless both decay rates lie in [0, 1)."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def check_fused(fused: bool | None, foreach: bool | None, differentiable: bool) -> None:
    """RuntimeError for combinations of implementations that exclude each other."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def _list_params(group: dict[str, Any]) -> None:
    """Make group["params"] a list of tensors, and group["param_names"] of the names that came with them."""
    params = group["params"]
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
            "will change between runs. Please use a list instead."
        )
    params = [params] if isinstance(params, Tensor) else list(params)
    names = [param[0] for param in params if isinstance(param, tuple)]
    if names:
        if len(names) != len(params):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        group["param_names"] = names
        params = [param for _, param in params]
    group["params"] = params


def _cast_state(value: Any, param: Tensor, saved: dict[str, Any], key: Hashable = None) -> Any:
    """A saved state value for `param`: floating tensors get its dtype, except counters, which keep theirs."""
    if isinstance(value, Tensor):
        if key == "step":
            return value.to(dtype=float32) if saved.get("capturable") or saved.get("fused") else value
        return value.to(dtype=param.dtype) if param.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _cast_state(item, param, saved, name) for name, item in value.items()}
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, Iterable):
        return type(value)(_cast_state(item, param, saved) for item in value)  # type: ignore[call-arg]
    return value


def _as_real(value: Any) -> Any:
    return view_as_real(value) if isinstance(value, Tensor) and value.is_complex() else value


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
