"""`torch.jit.trace`: a function of tensors as the list of operations that one run of it performs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau import nn
from flambeau.core.tensor import Tensor
from flambeau.jit.modules import (
    ScriptFunction,
    ScriptModule,
    TopLevelTracedModule,
    TracedModule,
    attribute_of,
    tensors_of,
)
from flambeau.jit.native import Native
from flambeau.jit.printing import tape_text
from flambeau.jit.recorder import TracerWarning, record
from flambeau.jit.state import doing
from flambeau.jit.tape import Tape, fits, nest
from flambeau.random import get_rng_state, set_rng_state

VARIANTS = 32  # tapes of one program, for inputs of different shapes


class TracingCheckError(Exception):
    """A trace does not compute what the function computes."""


class Traced:
    """The program of a traced function: a tape for each signature that it was recorded with.

    As long as the function itself is there, inputs of other shapes are recorded when they come. A program that was
    loaded runs the tapes it has: for other shapes too, where the operations do not depend on them.
    """

    def __init__(self, tapes: list[Tape], recorder: Callable[..., Tape] | None = None, names: list[str] | None = None):
        self.tapes = tapes
        self.recorder = recorder  # (args, kwargs) -> tape
        self.names = names or []  # of the parameters that may come by position
        self.natives: dict[int, Native] = {}  # by id of the tape

    def __call__(self, owner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        tape, tensors = self.find(*by_position(self.names, args, kwargs))
        attributes = {name: attribute_of(owner, name) for name in tape.names()}

        def run(*tensors: Tensor) -> Any:
            return tape.run(tensors, attributes.__getitem__, owner)

        if tape.has_scripts:
            return run(*tensors)
        native = self.natives.setdefault(id(tape), Native())
        return native.call(run, tensors, [*attributes.values(), *tape.constants.values()])

    def find(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Tape, list[Tensor]]:
        """The tape for these arguments, and their tensors in its order."""
        found = self.matching(args, kwargs)
        if found is None and self.recorder is not None and len(self.tapes) < VARIANTS:
            self.tapes.append(self.recorder(args, kwargs))
            found = self.matching(args, kwargs)
        found = found or self.matching(args, kwargs, exact=False)
        if found is not None:
            return found
        tensors: list[Tensor] = []
        nest((args, kwargs), lambda t: tensors.append(t) or 0)  # type: ignore[func-returns-value]
        raise RuntimeError(
            f"this trace was made for {signature(self.tapes[0])}; it got arguments of another kind: "
            + (", ".join(f"{t._array.dtype.name}{list(t.shape)}" for t in tensors) or "no tensors"))

    def matching(self, args: tuple, kwargs: dict[str, Any], exact: bool = True) -> tuple[Tape, list[Tensor]] | None:
        """A tape that was recorded for such arguments; unless `exact`, only the ranks of their shapes must be equal."""
        for tape in self.tapes:
            found: dict[int, Tensor] = {}
            if fits(tape.arguments, (args, kwargs), found):
                tensors = [found[number] for number in range(len(found))]
                shapes = [tuple(t.shape) for t in tensors]
                if tape.dtypes == [t._array.dtype.name for t in tensors] and (
                        shapes == tape.shapes if exact else [*map(len, shapes)] == [*map(len, tape.shapes)]):
                    return tape, tensors
        return None

    def __deepcopy__(self, memo: Any) -> Traced:
        return Traced(list(self.tapes), names=self.names)

    def __getstate__(self) -> Any:
        return {"tapes": self.tapes, "names": self.names}

    def __setstate__(self, state: Any) -> None:
        self.__init__(state["tapes"], names=state["names"])  # type: ignore[misc]

    @property
    def graph(self) -> Traced:
        """Itself: it prints as text."""
        return self

    def __str__(self) -> str:
        return "\n\n".join(map(tape_text, self.tapes))


def by_position(names: list[str], args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The same call with named arguments moved to their places, as far as those before them are given."""
    rest = dict(kwargs)
    while len(args) < len(names) and names[len(args)] in rest:
        args = (*args, rest.pop(names[len(args)]))
    return args, rest


def parameter_names(function: Callable[..., Any]) -> list[str]:
    """The parameters that may come by position, in order; none for functions that do not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] if all(
        p.kind is not p.POSITIONAL_ONLY for p in parameters) else []


def signature(tape: Tape) -> str:
    """Dtypes and shapes of a tape's arguments."""
    return ", ".join(f"{kind}{list(shape)}" for kind, shape in zip(tape.dtypes, tape.shapes)) or "no tensors"


def trace(func: Any, example_inputs: Any = None, optimize: Any = None, check_trace: bool = True,
          check_inputs: Any = None, check_tolerance: float = 1e-5, strict: bool = True,
          _force_outplace: bool = False, _module_class: Any = None, _compilation_unit: Any = None,
          example_kwarg_inputs: dict[str, Any] | None = None, _store_inputs: bool = True) -> Any:
    """A ScriptModule or ScriptFunction that performs the operations of one run on the example inputs.

    What Python does between the operations is not in it: branches are as the example took them, numbers that Python
    computed (sizes too) are constants; where Python reads a tensor's values a TracerWarning says so. Inputs of other
    shapes are recorded anew as long as the function is there. After `load` the recorded operations run for other sizes
    of a batch where they do not depend on them, else RuntimeError names the operation.

    `check_trace` runs function and trace once more and compares: `TracingCheckError` if they differ by more than
    `check_tolerance`. `strict` and the arguments with an underscore are accepted.
    """
    args, kwargs = arguments_of(example_inputs, example_kwarg_inputs)
    if isinstance(getattr(func, "__self__", None), nn.Module) and func.__name__ == "forward":
        func = func.__self__
    if isinstance(func, nn.Module):
        example = {"forward": kwargs or example_inputs}
        return trace_module(func, example, None, check_trace, check_inputs, check_tolerance, strict,
                            example_inputs_is_kwarg=bool(kwargs))
    if not callable(func):
        raise TypeError(f"torch.jit.trace: expected a function or a module, not {type(func).__name__}")
    program = traced(func, func, None, args, kwargs)
    if check_trace:
        for example in check_inputs or [args]:
            compare(program, func, None, arguments_of(example, None)[0], kwargs, check_tolerance)
    return ScriptFunction(program, getattr(func, "__name__", "forward"), getattr(func, "__doc__", None))


def trace_module(mod: nn.Module, inputs: dict[str, Any], optimize: Any = None, check_trace: bool = True,
                 check_inputs: Any = None, check_tolerance: float = 1e-5, strict: bool = True,
                 _force_outplace: bool = False, _module_class: Any = None, _compilation_unit: Any = None,
                 example_inputs_is_kwarg: bool = False, _store_inputs: bool = True) -> TopLevelTracedModule:
    """A ScriptModule with a traced program for each method named in `inputs`; parameters and buffers are shared."""
    made = mirror(mod, TopLevelTracedModule)
    for name, example in inputs.items():
        args, kwargs = ((), example) if example_inputs_is_kwarg else arguments_of(example, None)
        function = mod if name == "forward" else getattr(mod, name)
        program = traced(function, mod, mod, args, kwargs)
        made.__dict__["_programs"][name] = program
        if check_trace:
            for one in [args] if check_inputs is None else [arguments_of(c[name] if isinstance(c, dict) else c, None)[0]
                                                            for c in check_inputs]:
                compare(program, function, made, one, kwargs, check_tolerance)
    return made


def arguments_of(example_inputs: Any, example_kwarg_inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Positional and named arguments; a single tensor or dict stands for a call with one argument."""
    if example_kwarg_inputs is not None:
        if not isinstance(example_kwarg_inputs, dict):
            raise RuntimeError("example_kwarg_inputs should be a dict")
        return (), dict(example_kwarg_inputs)
    if example_inputs is None:
        raise RuntimeError("torch.jit.trace: example_inputs or example_kwarg_inputs is needed")
    if isinstance(example_inputs, (Tensor, dict)):
        return (example_inputs,), {}
    return tuple(example_inputs), {}


def mirror(module: nn.Module, kind: Any = TracedModule) -> Any:
    """A ScriptModule with the parameters, buffers and submodules of another, which it shares."""
    if isinstance(module, ScriptModule) and kind is TracedModule:
        return module  # a script keeps its programs
    made = kind()
    made.__dict__["original_name"] = getattr(module, "original_name", type(module).__name__)
    made.__dict__["training"] = module.training
    for name, parameter in module._parameters.items():
        made.register_parameter(name, parameter)
    for name, buffer in module._buffers.items():
        made.register_buffer(name, buffer, persistent=name not in module._non_persistent_buffers_set)
    for name, part in module._modules.items():
        made.add_module(name, None if part is None else mirror(part))
    return made


class Untouched:
    """Within the block the state of a module and the random stream may change; afterwards they are as before."""

    def __init__(self, module: nn.Module | None):
        self.buffers = [] if module is None else list(module.buffers())

    def __enter__(self) -> None:
        self.values = [b._array.copy() for b in self.buffers]
        self.stream: Any = get_rng_state()

    def __exit__(self, *error: Any) -> None:
        for buffer, values in zip(self.buffers, self.values):
            buffer._array[...] = values
        set_rng_state(self.stream)


def copied(tree: Any) -> Any:
    """Copies of the tensors of a nesting: what is done to them in place stays there."""
    if isinstance(tree, Tensor):
        made = tree.detach().clone()
        return made.requires_grad_(tree.requires_grad) if tree.is_floating_point() else made
    if type(tree) in (tuple, list):
        return type(tree)(copied(item) for item in tree)
    if type(tree) is dict:
        return {key: copied(item) for key, item in tree.items()}
    return tree


def traced(function: Callable[..., Any], holder: Any, module: nn.Module | None, args: tuple,
           kwargs: dict[str, Any]) -> Traced:
    """The program of a function, recorded on these arguments."""
    modes_then = {} if module is None else {part: part.training for part in module.modules()}

    def recorder(args: tuple, kwargs: dict[str, Any]) -> Tape:
        now = {part: part.training for part in modes_then}
        for part, training in modes_then.items():
            part.__dict__["training"] = training
        try:
            with Untouched(module), doing("tracing"):
                scripts = {} if module is None else {
                    name: part for name, part in module.named_modules() if isinstance(part, ScriptModule)}
                names = {} if module is None else tensors_of(module)
                return record(function, copied(args), copied(kwargs), names, scripts)
        finally:
            for part, training in now.items():
                part.__dict__["training"] = training

    names = parameter_names(function.forward if isinstance(function, nn.Module) else function)
    return Traced([recorder(*by_position(names, args, kwargs))], recorder, names)


def compare(program: Traced, function: Callable[..., Any], owner: Any, args: tuple, kwargs: dict[str, Any],
            tolerance: float) -> None:
    """Run both; TracingCheckError if they do not agree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        with Untouched(owner):
            expected = function(*copied(args), **copied(kwargs))
        with Untouched(owner):
            found = program(owner, copied(args), copied(kwargs))
    left: list[Tensor] = []
    right: list[Tensor] = []
    nest(expected, lambda t: left.append(t) or 0)  # type: ignore[func-returns-value]
    nest(found, lambda t: right.append(t) or 0)  # type: ignore[func-returns-value]
    for number, (a, b) in enumerate(zip(left, right)):
        x, y = a._array, b._array
        if x.shape != y.shape or x.dtype != y.dtype:
            raise TracingCheckError(f"output {number} of the trace is {y.dtype}{list(y.shape)}, of the function "
                                    f"{x.dtype}{list(x.shape)}")
        if not np.allclose(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64),
                           y.astype(np.complex128 if x.dtype.kind == "c" else np.float64),
                           rtol=tolerance, atol=tolerance, equal_nan=True):
            raise TracingCheckError(
                f"output {number} of the trace differs from that of the function: it is not the same in every run, or "
                "depends on something that is not an operation")
