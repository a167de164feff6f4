"""What a network does, as a list of steps found by calling it with stand-ins for tensors.

`trace(module)` calls `module.forward` with proxies. Layers of `flambeau.nn` and functions of `flambeau` that meet a
proxy are not run: each becomes a step, and its result another proxy. Steps are named as torchvision's feature
extraction names them, by the path of the module in which they happen. Control flow that asks for a tensor's value or
size cannot be followed and raises TraceError.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib
import inspect
import operator
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeVar

import flambeau
from flambeau import nn
from flambeau.ops import public

Function = TypeVar("Function", bound=Callable[..., Any])
_active: Tracer | None = None
_lock = threading.RLock()


class TraceError(ValueError):
    """The network does something that depends on a tensor's value."""


class Step:
    """One call: `kind` is input, attribute, module, function or method, `target` what is called or read."""

    __slots__ = ("args", "kind", "kwargs", "path", "target")

    def __init__(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> None:
        self.kind = kind
        self.target = target
        self.args = args
        self.kwargs = kwargs
        self.path = path

    def inputs(self) -> list[Step]:
        """The steps whose results this one needs."""
        found: list[Step] = []
        replace((self.args, self.kwargs), found.append)
        return found

    def __repr__(self) -> str:
        return f"Step({self.kind} {self.path!r})"


def replace(value: Any, change: Callable[[Step], Any]) -> Any:
    """The nested lists, tuples, dicts and slices of `value` with each Step in them changed."""
    if isinstance(value, Step):
        return change(value)
    if isinstance(value, (list, tuple)):
        parts = [replace(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: replace(part, change) for key, part in value.items()}
    if isinstance(value, slice):
        return slice(replace(value.start, change), replace(value.stop, change), replace(value.step, change))
    return value


class Proxy:
    """Stands for a value that is not there yet."""

    def __init__(self, step: Step, tracer: Tracer) -> None:
        self._step = step
        self._tracer = tracer

    @property
    def step(self) -> Step:
        """The step that makes the value."""
        return self._step

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Attribute(self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Proxy:
        return self._tracer.add("method", "__call__", (self, *args), kwargs, "call")

    def __iter__(self) -> Iterator[Proxy]:
        frame = inspect.currentframe()
        assert frame is not None and frame.f_back is not None
        caller = frame.f_back
        # `a, b = value` says in the caller's code how many parts it takes.
        for instruction in dis.get_instructions(caller.f_code):
            if instruction.offset == caller.f_lasti and instruction.opname == "UNPACK_SEQUENCE":
                step = self._tracer.add
                places = range(instruction.arg or 0)
                return (step("function", operator.getitem, (self, i), {}, "getitem") for i in places)
        raise TraceError("how often a loop over a tensor or its sizes runs cannot be known without the tensor")

    def __repr__(self) -> str:
        return f"Proxy({self.step.path})"

    def __bool__(self) -> bool:
        raise TraceError("a condition depends on a tensor's value or size, which is not known without the tensor")

    def __len__(self) -> int:
        raise TraceError("len() of a tensor is not known without the tensor")

    def __index__(self) -> int:
        raise TraceError("an integer is taken from a tensor's value or size, which is not known without the tensor")

    def __float__(self) -> float:
        raise TraceError("a number is taken from a tensor, whose value is not known without the tensor")

    __hash__ = object.__hash__


class Attribute(Proxy):
    """`proxy.name`: a step of its own only if it is not called at once as a method."""

    def __init__(self, owner: Proxy, name: str) -> None:
        self._owner = owner
        self._name = name
        self._tracer = owner._tracer
        self._made: Proxy | None = None

    @property
    def step(self) -> Step:
        """The step that reads the attribute."""
        if self._made is None:
            self._made = self._tracer.add("function", getattr, (self._owner, self._name), {}, "getattr")
        return self._made.step

    def __call__(self, *args: Any, **kwargs: Any) -> Proxy:
        return self._tracer.add("method", self._name, (self._owner, *args), kwargs, self._name.strip("_"))


def _operators() -> None:
    """Give Proxy the operators of tensors."""
    both = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift"
    for name in (*both.split(), *"eq ne lt le gt ge neg pos invert getitem".split()):
        function = getattr(operator, name)
        plain = name.strip("_")

        def forward(self: Proxy, *others: Any, function: Any = function, plain: str = plain) -> Proxy:
            return self._tracer.add("function", function, (self, *others), {}, plain)

        setattr(Proxy, f"__{plain}__", forward)
        if name in both.split():

            def backward(self: Proxy, other: Any, function: Any = function, plain: str = plain) -> Proxy:
                return self._tracer.add("function", function, (other, self), {}, plain)

            setattr(Proxy, f"__r{plain}__", backward)


_operators()


def leaf(function: Function) -> Function:
    """Make a function one step of its own, into which tracing does not look."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _active is not None and _has_proxy((args, kwargs)):
            return _active.add("function", function, args, kwargs, function.__name__)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def _has_proxy(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_proxy, value))
    if isinstance(value, dict):
        return any(map(_has_proxy, value.values()))
    if isinstance(value, slice):
        return _has_proxy((value.start, value.stop, value.step))
    return isinstance(value, Proxy)


def _assert(condition: Any, message: Any) -> None:
    """AssertionError with the message unless the condition holds, by PyTorch's name for it."""
    if not condition:
        raise AssertionError(message)


require = leaf(_assert)


class Tracer:
    """The steps of one call of `root`; `names` has each step's name, in order, without constants."""

    def __init__(
        self, root: nn.Module, leaf_modules: Iterable[type] = (), autowrap_functions: Iterable[Callable[..., Any]] = (),
        autowrap_modules: Iterable[Any] = (),
    ) -> None:
        self.root = root
        self.leaf_modules = tuple(leaf_modules)
        self.functions = set(autowrap_functions)
        self.modules = tuple(autowrap_modules)
        self.steps: list[Step] = []
        self.names: dict[Step, str] = {}
        self.output: Any = None
        self._counts: dict[str, int] = {}
        self._path = ""
        self._paths = {id(module): name for name, module in reversed(list(root.named_modules()))}
        self._parameters = {id(parameter): name for name, parameter in root.named_parameters()}
        self._buffers = {id(buffer): name for name, buffer in root.named_buffers()}
        self._buffer_steps: dict[str, Step] = {}
        self._read: dict[str, Proxy] = {}

    def run(self, concrete_args: dict[str, Any] | None = None) -> Tracer:
        """Trace `root.forward`; arguments in `concrete_args` have those values."""
        global _active
        given = dict(concrete_args or {})
        with _lock, contextlib.ExitStack() as undo:
            outer, _active = _active, self
            undo.callback(lambda: globals().__setitem__("_active", outer))
            for owner, name, value in self._replacements():
                undo.callback(_restore, owner, name, owner.__dict__.get(name, _restore))
                setattr(owner, name, value)
            positional, keywords = [], {}
            for name, parameter in inspect.signature(self.root.forward).parameters.items():
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    continue
                value = given[name] if name in given else self.add("input", (name, parameter.default), (), {}, name)
                if parameter.kind is parameter.KEYWORD_ONLY:
                    keywords[name] = value
                else:
                    positional.append(value)
            self.output = self.settled(self.root.forward(*positional, **keywords))
        return self

    def add(self, kind: str, target: Any, args: Any, kwargs: Any, name: str) -> Proxy:
        """Record a step called `name` (for a module: nothing, its path is its name) and return its result's proxy."""
        args, kwargs = self.settled(args), self.settled(kwargs)
        base = target if kind == "module" else f"{self._path}.{name}" if self._path else name
        base = re.sub(r"_[0-9]+$", "", base) if re.search(r".+_[0-9]+$", base) else base
        count = self._counts.get(base, 0)
        self._counts[base] = count + 1
        step = Step(kind, target, args, kwargs, f"{base}_{count}" if count else base)
        self.steps.append(step)
        self.names[step] = step.path
        return Proxy(step, self)

    def call_module(self, module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A leaf becomes a step; others are entered."""
        path = self._paths.get(id(module))
        if path is None:
            raise TraceError(f"{type(module).__name__} is called but is no submodule of the traced network")
        outer, self._path = self._path, path
        try:
            if self.is_leaf(module):
                return self.add("module", path, args, kwargs, "")
            return call(module, *args, **kwargs)
        finally:
            self._path = outer

    def is_leaf(self, module: nn.Module) -> bool:
        """Layers of `flambeau.nn` (but no Sequential) and those asked for."""
        if isinstance(module, self.leaf_modules):
            return True
        return type(module).__module__.startswith("flambeau.nn") and not isinstance(module, nn.Sequential)

    def read(self, value: Any) -> Any:
        """A parameter's stand-in; anything else is itself."""
        name = self._parameters.get(id(value))
        if name is None:
            return value
        if name not in self._read:
            self._read[name] = self.add("attribute", name, (), {}, name.replace(".", "_"))
        return self._read[name]

    def settled(self, value: Any) -> Any:
        """`value` with each Proxy in it as its Step, and buffers of the network as steps that read them."""
        if isinstance(value, Proxy):
            return value.step
        if isinstance(value, flambeau.Tensor):
            name = self._buffers.get(id(value))
            return value if name is None else self._buffer(name)
        if isinstance(value, (list, tuple)):
            parts = [self.settled(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if isinstance(value, dict):
            return {key: self.settled(part) for key, part in value.items()}
        if isinstance(value, slice):
            return slice(self.settled(value.start), self.settled(value.stop), self.settled(value.step))
        return value

    def _buffer(self, name: str) -> Step:
        """The step that reads a buffer: among the steps, but as in torchvision no node that has a name."""
        if name not in self._buffer_steps:
            self._buffer_steps[name] = Step("attribute", name, (), {}, name.replace(".", "_"))
            self.steps.append(self._buffer_steps[name])
        return self._buffer_steps[name]

    def _replacements(self) -> Iterator[tuple[Any, str, Any]]:
        """(owner, attribute, stand-in) of everything that must notice proxies."""
        call, read = nn.Module.__call__, nn.Module.__getattr__
        yield nn.Module, "__call__", lambda module, *args, **kwargs: self.call_module(module, call, args, kwargs)
        yield nn.Module, "__getattr__", lambda module, name: self.read(read(module, name))
        for space, names in _public_names():
            for name in names:
                yield space, name, self._noticing(getattr(space, name), name)
        for space in {sys.modules[type(module).__module__] for module in self.root.modules()}:
            if space.__name__.startswith("flambeau.nn"):
                continue
            for name, value in vars(space).copy().items():
                if self._is_step(value):
                    yield space, name, self._noticing(value, value.__name__)
        for space in self.modules:
            for name, value in vars(space).copy().items():
                if isinstance(value, (FunctionType, BuiltinFunctionType)) and not name.startswith("_"):
                    yield space, name, self._noticing(value, name)

    def _is_step(self, value: Any) -> bool:
        """Whether a name in a network's own module is bound to a function that is a step."""
        if not isinstance(value, (FunctionType, BuiltinFunctionType)):
            return False
        home = getattr(value, "__module__", None) or ""
        return value in self.functions or home.startswith("flambeau.ops") or home in {m.__name__ for m in self.modules}

    def _noticing(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _has_proxy((args, kwargs)):
                return self.add("function", function, args, kwargs, name)
            return function(*args, **kwargs)

        return call


def _restore(owner: Any, name: str, value: Any) -> None:
    """Put an attribute back; this very function means that there was none."""
    if value is _restore:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


@functools.lru_cache(maxsize=1)
def _public_names() -> list[tuple[Any, list[str]]]:
    """The modules from which networks take functions, with the functions' names."""
    found = [(flambeau, sorted({*public.SOURCES, "einsum"}))]
    for name in ("nn.functional", "linalg", "special", "fft"):
        space = importlib.import_module(f"flambeau.{name}")
        names = [n for n in getattr(space, "__all__", dir(space)) if not isinstance(getattr(space, n), type)]
        found.append((space, [n for n in names if callable(getattr(space, n))]))
    return found
