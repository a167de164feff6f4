"""Switching history on and off: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`, anomaly mode."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

from flambeau.autograd.engine import anomaly
from flambeau.core.modes import modes


class _Switch:
    """A context manager that also decorates functions and generators."""

    def __enter__(self) -> Any:
        raise NotImplementedError

    def __exit__(self, *error: Any) -> None:
        raise NotImplementedError

    def clone(self) -> Any:
        return type(self)()

    def __call__(self, function: Any) -> Any:
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)

        return call

    def _wrap_generator(self, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            running = function(*args, **kwargs)
            value, failure = None, None
            while True:  # the switch is on while the generator runs, off while its caller does
                try:
                    with self.clone():
                        item = running.throw(failure) if failure is not None else running.send(value)
                except StopIteration as stop:
                    return stop.value
                failure = None
                try:
                    value = yield item
                except GeneratorExit:
                    with self.clone():
                        running.close()
                    raise
                except BaseException as error:
                    failure = error

        return call


class _History(_Switch):
    """A switch to one value of the grad mode; also usable as a decorator without parentheses."""

    value: bool

    def __new__(cls, function: Any = None) -> Any:
        made = object.__new__(cls)
        return made if function is None else made(function)

    def __init__(self, function: Any = None) -> None:
        self.before = True

    def __enter__(self) -> None:
        self.before = modes.grad
        modes.grad = self.value

    def __exit__(self, *error: Any) -> None:
        modes.grad = self.before


class no_grad(_History):
    """Within it (as context manager or decorator) no history is recorded."""

    value = False


class enable_grad(_History):
    """Within it history is recorded, also inside `no_grad`."""

    value = True


class set_grad_enabled(_Switch):
    """Switch history on or off from now on, or for the length of a `with` block."""

    def __init__(self, mode: bool) -> None:
        self.before = modes.grad
        self.mode = mode
        modes.grad = mode

    def __call__(self, function: Any) -> Any:
        modes.grad = self.before
        return super().__call__(function)

    def clone(self) -> Any:
        return type(self)(self.mode)

    def __enter__(self) -> None:
        modes.grad = self.mode

    def __exit__(self, *error: Any) -> None:
        modes.grad = self.before


class inference_mode(_Switch):
    """Like `no_grad`; tensors made within it are for inference only."""

    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode):
            return object.__new__(cls)._init(True)(mode)
        return object.__new__(cls)

    def __init__(self, mode: Any = True) -> None:
        self._init(mode)

    def _init(self, mode: Any) -> inference_mode:
        self.mode = mode
        self.before = (True, False)
        return self

    def clone(self) -> Any:
        return type(self)(self.mode)

    def __enter__(self) -> None:
        self.before = (modes.grad, modes.inference)
        if self.mode:
            modes.grad, modes.inference = False, True
        else:
            modes.inference = False

    def __exit__(self, *error: Any) -> None:
        modes.grad, modes.inference = self.before


def is_grad_enabled() -> bool:
    """Whether operations are recorded at the moment."""
    return modes.grad


def is_inference_mode_enabled() -> bool:
    """Whether inference mode is on."""
    return modes.inference


class set_detect_anomaly:
    """Nodes remember their forward line, and a gradient that becomes nan raises; from now on or in a `with` block."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = (anomaly.enabled, anomaly.check_nan)
        anomaly.set(mode, check_nan)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: Any) -> None:
        anomaly.set(*self.before)


class detect_anomaly(set_detect_anomaly):
    """`with detect_anomaly():` a failing or nan derivative names the forward line that recorded it."""

    def __init__(self, check_nan: bool = True) -> None:
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
            "debugging.",
            stacklevel=2,
        )
        super().__init__(True, check_nan)


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on."""
    return anomaly.enabled
