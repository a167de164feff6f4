"""Scaling of losses, so that small float16 gradients do not vanish."""

from __future__ import annotations

import warnings
from typing import Any

import flambeau as fl
from flambeau.core import recording
from flambeau.core.tensor import Tensor


class GradScaler:
    """Multiply the loss before `backward`, divide the gradients before the step, skip steps with inf or nan.

    The scale grows by `growth_factor` after `growth_interval` good steps and shrinks by `backoff_factor` after a bad
    one. With `enabled=False`, and for devices that are not there (with a warning), everything passes through.

    Inside `compile` the whole of scale, step and update is part of the program: nobody looks at the gradients.
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True):
        self._device = device
        if enabled and device == "cuda":
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.", stacklevel=2)
            enabled = False
        self._enabled = enabled
        if enabled:
            if growth_factor <= 1.0:
                raise AssertionError("The growth factor must be > 1.0.")
            if backoff_factor >= 1.0:
                raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale, self._growth_factor, self._backoff_factor = init_scale, growth_factor, backoff_factor
        self._growth_interval, self._init_growth_tracker = growth_interval, 0
        self._scale: Tensor | None = None
        self._growth_tracker: Tensor | None = None      # good steps since the scale changed
        self._stages: dict[int, str] = {}               # optimizer -> "unscaled" or "stepped", until update()
        self._found_inf: dict[int, Tensor] = {}         # optimizer -> whether a gradient was inf or nan

    def is_enabled(self) -> bool:
        """Whether this scaler does anything."""
        return self._enabled

    def _current(self) -> Tensor:
        if self._scale is None:
            self._scale = fl.full((), float(self._init_scale), dtype=fl.float32)
            self._growth_tracker = fl.full((), self._init_growth_tracker, dtype=fl.int32)
        return self._scale

    def scale(self, outputs: Any) -> Any:
        """A tensor, or a nest of lists and tuples of them, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._current()
        if isinstance(outputs, (list, tuple)):
            scaled = [self.scale(item) for item in outputs]
            return type(outputs)(*scaled) if hasattr(outputs, "_fields") else type(outputs)(scaled)
        raise ValueError(f"outputs must be a Tensor or an iterable of Tensors, not {type(outputs).__name__}")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, e.g. before clipping them.

        RuntimeError when called twice between updates, or after the step. ValueError for float16 gradients.
        """
        if not self._enabled:
            return
        if self._scale is None:
            raise AssertionError("Attempted unscale_ but _scale is None.  This may indicate your script did not use "
                                 "scaler.scale(loss or outputs) earlier in the iteration.")
        stage = self._stages.get(id(optimizer))
        if stage == "unscaled":
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage == "stepped":
            raise RuntimeError("unscale_() is being called after step().")
        inverse = self._scale.double().reciprocal().float()
        finite = fl.tensor(True)
        with fl.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is None:
                        continue
                    if parameter.grad.dtype is fl.float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    finite = finite & fl.isfinite(parameter.grad).all()
                    parameter.grad.mul_(inverse)
        self._found_inf[id(optimizer)] = ~finite
        self._stages[id(optimizer)] = "unscaled"

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(...)`, unless a gradient is inf or nan; what it returns, or None."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if self._stages.get(id(optimizer)) == "stepped":
            raise RuntimeError("step() has already been called since the last update().")
        if self._stages.get(id(optimizer)) is None:
            self.unscale_(optimizer)
        self._stages[id(optimizer)] = "stepped"
        found = self._found_inf[id(optimizer)]
        if recording.recorder is not None:
            return _step_unless(found, optimizer, args, kwargs)
        return None if found.item() else optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Adapt the scale to what the steps since the last update found, or set it."""
        if not self._enabled:
            return
        if self._scale is None:
            raise AssertionError("Attempted update but _scale is None.  This may indicate your script did not use "
                                 "scaler.scale(loss or outputs) earlier in the iteration.")
        if new_scale is not None:
            self._scale.fill_(float(new_scale))
        else:
            if not self._found_inf:
                raise AssertionError("No inf checks were recorded prior to update.")
            self._adapt(fl.stack(list(self._found_inf.values())).any())
        self._stages.clear()
        self._found_inf.clear()

    def _adapt(self, overflow: Tensor) -> None:
        """The new scale and the number of good steps, as tensors: a program computes them too."""
        scale, streak = self._scale, self._growth_tracker
        assert scale is not None and streak is not None
        grown, shrunk = ((scale.double() * factor).float() for factor in (self._growth_factor, self._backoff_factor))
        due = streak + 1 == self._growth_interval
        scale.copy_(fl.where(overflow, shrunk, fl.where(due & fl.isfinite(grown), grown, scale)))
        streak.copy_(fl.where(overflow | due, fl.zeros_like(streak), streak + 1))

    def get_scale(self) -> float:
        """The scale; 1.0 when disabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self) -> float:
        """By what the scale grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Change by what the scale grows."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """By what the scale shrinks."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Change by what the scale shrinks."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many good steps the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Change after how many good steps the scale grows."""
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """What to save; {} when disabled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor,
                "backoff_factor": self._backoff_factor, "growth_interval": self._growth_interval,
                "_growth_tracker": self._good_steps()}

    def _good_steps(self) -> int:
        return self._init_growth_tracker if self._growth_tracker is None else int(self._growth_tracker.item())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state. RuntimeError for an empty one, as a disabled scaler saves it."""
        if not self._enabled:
            return
        if len(state_dict) == 0:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance "
                               "of GradScaler.")
        self._init_scale = state_dict["scale"]
        if self._scale is not None:
            self._scale.fill_(state_dict["scale"])
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._growth_tracker is not None:
            self._growth_tracker.fill_(state_dict["_growth_tracker"])


def _step_unless(found: Tensor, optimizer: Any, args: Any, kwargs: Any) -> Any:
    """`optimizer.step(...)` in a record, whose effects are taken back where `found` holds."""
    recorder = recording.recorder
    moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    states = [optimizer.state[p] for p in moved if p in optimizer.state]
    written = [*moved, *(value for state in states for value in state.values() if isinstance(value, Tensor))]
    known = len(optimizer.state), sum(map(len, states))
    with fl.no_grad():
        before = [t.detach().clone() for t in written]
        recorder.undecided = True
        result = optimizer.step(*args, **kwargs)
        recorder.undecided = False
        for t, old in zip(written, before):
            t.copy_(fl.where(found, old, t))
    states = [optimizer.state[p] for p in moved if p in optimizer.state]
    if (len(optimizer.state), sum(map(len, states))) != known and any(states):
        skipped = bool(found._array)
        recorder.unready("an optimizer makes its state", not skipped)
        if skipped:  # as if there had been no step
            for state in states:
                state.clear()
    return result
