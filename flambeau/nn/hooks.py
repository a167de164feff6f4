"""Hooks of modules: handles, global registries, and the slow path of `Module.__call__`."""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flambeau.autograd.function import Function
from flambeau.core import recording
from flambeau.core.modes import modes
from flambeau.core.tensor import Tensor

__all__ = ["RemovableHandle", "register_module_backward_hook", "register_module_buffer_registration_hook",
           "register_module_forward_hook", "register_module_forward_pre_hook", "register_module_full_backward_hook",
           "register_module_full_backward_pre_hook", "register_module_module_registration_hook",
           "register_module_parameter_registration_hook"]


class RemovableHandle:
    """Removes a hook again: `handle.remove()`, or leave `with handle:`."""

    __module__ = "flambeau.utils.hooks"                                 # where PyTorch's files look for it

    _ids = itertools.count()

    def __init__(self, hooks_dict: Any, *, extra_dict: Any = None) -> None:
        self.id = next(RemovableHandle._ids)
        self.hooks_dict_ref = weakref.ref(hooks_dict)
        extra = () if extra_dict is None else extra_dict if isinstance(extra_dict, (list, tuple)) else (extra_dict,)
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extra)

    def remove(self) -> None:
        """Takes the hook out; a second call does nothing."""
        recording.changed(self)
        for ref in (self.hooks_dict_ref, *self.extra_dict_ref):
            registry = ref()
            if registry is not None:
                registry.pop(self.id, None)

    def __getstate__(self) -> tuple:
        return self.hooks_dict_ref(), self.id, tuple(ref() for ref in self.extra_dict_ref)

    def __setstate__(self, state: tuple) -> None:
        hooks, self.id, extra = state
        self.hooks_dict_ref = weakref.ref(OrderedDict() if hooks is None else hooks)
        self.extra_dict_ref = tuple(weakref.ref(OrderedDict() if d is None else d) for d in extra)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()


class GlobalHooks:
    """The hooks that apply to every module."""

    def __init__(self) -> None:
        self.forward_pre: OrderedDict = OrderedDict()
        self.forward: OrderedDict = OrderedDict()
        self.forward_with_kwargs: OrderedDict = OrderedDict()
        self.forward_always: OrderedDict = OrderedDict()
        self.backward_pre: OrderedDict = OrderedDict()
        self.backward: OrderedDict = OrderedDict()
        self.is_full_backward: bool | None = None
        self.buffer_registration: OrderedDict = OrderedDict()
        self.parameter_registration: OrderedDict = OrderedDict()
        self.module_registration: OrderedDict = OrderedDict()


every_module = GlobalHooks()
# The ids of the global hooks that a call must run; the fast path of a call asks only whether this is empty.
called_everywhere: OrderedDict = OrderedDict()


def register(registry: OrderedDict, hook: Callable, *flags: OrderedDict, prepend: bool = False) -> RemovableHandle:
    """Adds a hook to a registry, marks its id in `flags`, and returns its handle."""
    recording.changed(registry)
    handle = RemovableHandle(registry, extra_dict=flags)
    registry[handle.id] = hook
    for flag in flags:
        flag[handle.id] = True
    if prepend:
        registry.move_to_end(handle.id, last=False)
    return handle


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, args)` runs before every module's forward and may replace the arguments."""
    return register(every_module.forward_pre, hook, called_everywhere)


def register_module_forward_hook(hook: Callable, *, with_kwargs: bool = False,
                                 always_call: bool = False) -> RemovableHandle:
    """`hook(module, args, output)` runs after every module's forward and may replace the output."""
    flags = [every_module.forward_with_kwargs] * with_kwargs + [every_module.forward_always] * always_call
    return register(every_module.forward, hook, called_everywhere, *flags)


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, grad_output)` runs before the gradients of every module are computed."""
    return register(every_module.backward_pre, hook, called_everywhere)


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, grad_input, grad_output)` runs when the gradients of a module's inputs are known."""
    if every_module.is_full_backward is False:
        raise RuntimeError("Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
                           "Please use only one of them.")
    every_module.is_full_backward = True
    return register(every_module.backward, hook, called_everywhere)


def register_module_backward_hook(hook: Callable) -> RemovableHandle:
    """The old name of `register_module_full_backward_hook`."""
    if every_module.is_full_backward is True:
        raise RuntimeError("Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
                           "Please use only one of them.")
    every_module.is_full_backward = False
    return register(every_module.backward, hook, called_everywhere)


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, name, buffer)` runs at every register_buffer and may replace the buffer."""
    return register(every_module.buffer_registration, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, name, submodule)` runs at every registered submodule and may replace it."""
    return register(every_module.module_registration, hook)


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """`hook(module, name, parameter)` runs at every registered parameter and may replace it."""
    return register(every_module.parameter_registration, hook)


def registered(registry: OrderedDict, module: Any, name: str, value: Any) -> Any:
    """What the registration hooks make of a value."""
    for hook in registry.values():
        replaced = hook(module, name, value)
        if replaced is not None:
            value = replaced
    return value


# ------------------------------------------------------------------------------------------------ calling

def call(module: Any, forward: Callable, args: tuple, kwargs: dict) -> Any:
    """`module(*args, **kwargs)` with all hooks."""
    called: set[int] = set()                                            # always_call hooks that ran
    result = None
    try:
        args, kwargs = _run_pre_hooks(module, args, kwargs)
        watch = _Watch(module) if _has_backward_hooks(module) and modes.grad else None
        if watch is not None:
            args = watch.inputs(args)
        result = forward(*args, **kwargs)
        for key, hook, with_kwargs in _forward_hooks(module):
            called.add(key)
            replaced = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
            if replaced is not None:
                result = replaced
        return result if watch is None else watch.outputs(result)
    except Exception:
        _run_always_hooks(module, args, kwargs, result, called)
        raise


def _run_pre_hooks(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    for hook in tuple(every_module.forward_pre.values()):
        replaced = hook(module, args)
        if replaced is not None:
            args = replaced if isinstance(replaced, tuple) else (replaced,)
    for key, hook in tuple(module._forward_pre_hooks.items()):
        if key in module._forward_pre_hooks_with_kwargs:
            replaced = hook(module, args, kwargs)
            if replaced is not None:
                if not (isinstance(replaced, tuple) and len(replaced) == 2):
                    raise RuntimeError("forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                                       f"but got {replaced}.")
                args, kwargs = replaced
        else:
            replaced = hook(module, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
    return args, kwargs


def _forward_hooks(module: Any) -> list[tuple[int, Callable, bool]]:
    shared = [(key, hook, key in every_module.forward_with_kwargs) for key, hook in every_module.forward.items()]
    own = [(key, hook, key in module._forward_hooks_with_kwargs) for key, hook in module._forward_hooks.items()]
    return shared + own


def _run_always_hooks(module: Any, args: tuple, kwargs: dict, result: Any, called: set[int]) -> None:
    """Runs the hooks asked for with always_call after a failure; what they raise is only warned about."""
    for key, hook, with_kwargs in _forward_hooks(module):
        if key in called or not (key in module._forward_hooks_always_called or key in every_module.forward_always):
            continue
        try:
            replaced = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
            result = result if replaced is None else replaced
        except Exception as error:
            warnings.warn("module forward hook with ``always_call=True`` raised an exception that was silenced as "
                          f"another error was raised in forward: {error}", stacklevel=4)


def _has_backward_hooks(module: Any) -> bool:
    return bool(module._backward_hooks or module._backward_pre_hooks or every_module.backward
                or every_module.backward_pre)


class _Watch:
    """Sees the gradients of one call's outputs and inputs pass, and hands them to the module's hooks."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.pre_hooks = [*every_module.backward_pre.values(), *module._backward_pre_hooks.values()]
        self.hooks = [*every_module.backward.values(), *module._backward_hooks.values()]
        self.input_places: list[int] = []                               # of the tensors among the arguments
        self.input_count = 0
        self.output_places: list[int] = []
        self.output_count = 1
        self.sees_inputs = False
        self.grad_output: Any = None

    def inputs(self, args: tuple) -> tuple:
        """The arguments, with an identity behind the tensors whose derivative is the input hook."""
        self.input_places = [i for i, arg in enumerate(args) if isinstance(arg, Tensor)]
        self.input_count = len(args)
        tensors = [args[i] for i in self.input_places]
        if not any(t.requires_grad for t in tensors) or not self.hooks:
            return args
        self.sees_inputs = True
        return tuple(_replaced(args, self.input_places, _Passage.apply(self._on_input, True, *tensors)))

    def outputs(self, result: Any) -> Any:
        """The result, with an identity behind its tensors whose derivative is the output hook."""
        items = [result] if isinstance(result, Tensor) else list(result) if isinstance(result, (tuple, list)) else []
        self.output_places = [i for i, item in enumerate(items) if isinstance(item, Tensor)]
        self.output_count = len(items)
        if not any(items[i].requires_grad for i in self.output_places):
            return result
        passed = _Passage.apply(self._on_output, False, *(items[i] for i in self.output_places))
        items = _replaced(items, self.output_places, passed)
        if isinstance(result, Tensor):
            return items[0]
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)

    def _on_output(self, grads: tuple) -> tuple:
        grad_output = tuple(_replaced([None] * self.output_count, self.output_places, grads))
        for hook in self.pre_hooks:
            replaced = hook(self.module, grad_output)
            if replaced is not None:
                grad_output = self._same_length(replaced, grad_output)
        self.grad_output = grad_output
        if self.hooks and not self.sees_inputs:
            # Nobody asks for the inputs' gradients: the hooks still see the outputs'.
            for hook in self.hooks:
                if hook(self.module, (None,) * self.input_count, grad_output) is not None:
                    raise RuntimeError("backward hook for Modules where no input requires gradient should always "
                                       "return None or None for all gradients.")
            self.grad_output = None
        return tuple(grad_output[i] for i in self.output_places)

    def _on_input(self, grads: tuple) -> tuple:
        if self.grad_output is None:
            return grads        # the gradient did not come through the outputs: a second derivative
        grad_input = tuple(_replaced([None] * self.input_count, self.input_places, grads))
        for hook in self.hooks:
            replaced = hook(self.module, grad_input, self.grad_output)
            if replaced is not None:
                grad_input = self._same_length(replaced, grad_input)
        self.grad_output = None
        return tuple(grad_input[i] for i in self.input_places)

    @staticmethod
    def _same_length(replaced: Any, grads: tuple) -> tuple:
        replaced = replaced if isinstance(replaced, tuple) else (replaced,)
        if len(replaced) != len(grads):
            raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(replaced)}, but "
                               f"expected {len(grads)}")
        return replaced


def _replaced(items: Any, places: list[int], new: Any) -> list:
    """The items with new ones at these places; a single new one need not be in a tuple."""
    items = list(items)
    for place, item in zip(places, (new,) if isinstance(new, Tensor) else new):
        items[place] = item
    return items


class _Passage(Function):
    """The identity on tensors; its derivative shows the gradients to a callback, which may replace them."""

    @staticmethod
    def forward(ctx: Any, callback: Callable, with_zeros: bool, *tensors: Tensor) -> Any:
        ctx.callback = callback
        ctx.set_materialize_grads(with_zeros)
        passed = tuple(t.view_as(t) for t in tensors)
        ctx.mark_non_differentiable(*(new for new, t in zip(passed, tensors) if not t.requires_grad))
        return passed[0] if len(passed) == 1 else passed

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple:
        return (None, None, *ctx.callback(grads))
