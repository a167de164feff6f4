"""`torch.jit.script`: functions and modules as programs that keep their branches and loops.

The source is read once (syntax.py) and run as a tree (machine.py), which can be saved. Where no gradients are wanted
and nothing depends on values, a call becomes a native program; otherwise operations run one by one, with gradients as
in eager code.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable
from typing import Any

from flambeau import nn
from flambeau.core import recording
from flambeau.core.tensor import Tensor
from flambeau.jit.frontend import NotSupportedError
from flambeau.jit.library import LibraryProgram, adopted, bare_library, is_library
from flambeau.jit.machine import MYSELF, Builder, Returned
from flambeau.jit.modules import RecursiveScriptModule, ScriptFunction, ScriptModule
from flambeau.jit.names import container_of
from flambeau.jit.native import Native
from flambeau.jit.plain import NotPlain, decode, encode
from flambeau.jit.recorder import Recorder
from flambeau.jit.state import doing
from flambeau.jit.syntax import Translator

_EFFECTS = ('["builtin", "print"]', '["torch", "warnings.warn"]')


class Function:
    """One function of a script: `run(owner, args, kwargs)`."""

    _script_value = True

    def __init__(self, entry: dict[str, Any], functions: list[Any]):
        self.entry = entry
        self.name = entry["name"]
        self.parameters = [(name, kind, default) for name, kind, default in entry["parameters"]]
        if not all(type(name) is str and kind in ("plain", "star", "named") for name, kind, _ in self.parameters):
            raise RuntimeError(f"the parameters of {self.name!r:.60} are not valid")
        for _, _, default in self.parameters:
            if default is not None:
                decode(default[0])
        self.body = Builder(functions).block(entry["body"])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(None, args, kwargs)

    def run(self, owner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run the body on these arguments."""
        frame = self.bound(args, kwargs)
        frame[MYSELF] = owner
        try:
            signal = self.body(frame)
        except Exception as error:
            line = getattr(error, "_script_line", None)
            if line is not None and hasattr(error, "add_note"):
                error.add_note(f'in the script {self.name}, "{self.entry.get("file")}", line {line}')
                del error._script_line  # type: ignore[attr-defined]
            raise
        return signal.value if type(signal) is Returned else None

    def bound(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name. RuntimeError for calls that do not fit."""
        frame: dict[str, Any] = {}
        rest, given = list(args), dict(kwargs)
        for name, kind, default in self.parameters:
            if kind == "star":
                frame[name], rest = tuple(rest), []
            elif kind == "plain" and rest:
                frame[name] = rest.pop(0)
            elif name in given:
                frame[name] = given.pop(name)
            elif default is not None:
                frame[name] = decode(default[0])
            else:
                raise RuntimeError(f"{self.name}() is missing value for argument '{name}'")
        if rest:
            most = len(args) - len(rest)
            raise RuntimeError(f"{self.name}() expected at most {most} argument(s) but received {len(args)}")
        if given:
            raise RuntimeError(f"{self.name}() got an unexpected keyword argument '{next(iter(given))}'")
        return frame


class Ignored:
    """A function marked with `@torch.jit.ignore` (it stays in Python) or `unused` (calling it raises)."""

    _script_value = True

    def __init__(self, function: Callable[..., Any] | None, name: str, reason: str = "it is marked as unused"):
        self.function = function
        self.name = name
        self.reason = reason

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            raise RuntimeError(f"{self.name} cannot be called in a script: {self.reason}")
        return self.function(*args, **kwargs)


class Nested:
    """A function that was scripted or traced before, called from a script."""

    _script_value = True

    def __init__(self, program: Any):
        self.program = program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(None, args, kwargs)


class Scripted:
    """The program of a scripted function or method: `functions[0]`, and what it calls."""

    def __init__(self) -> None:
        self.functions: list[Any] = []
        self.native = Native()
        self.steady = True  # whether calls leave nothing behind but their results

    def settled(self) -> Scripted:
        """Called when all functions are there."""
        for function in self.functions:
            if isinstance(function, Function):
                text = json.dumps(function.entry["body"])
                if any(effect in text for effect in _EFFECTS) or _sets_attributes(function.entry["body"]):
                    self.steady = False
            elif isinstance(function, Ignored):
                self.steady = False
        return self

    def __call__(self, owner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        main: Function = self.functions[0]
        recorder = recording.recorder
        if isinstance(recorder, Recorder) and recorder.mine():
            with doing("scripting"):
                return recorder.script(self, owner, args, kwargs, lambda: main.run(owner, args, kwargs))
        with doing("scripting"):
            if not self.steady or any(isinstance(a, (list, dict)) for a in (*args, *kwargs.values())):
                return main.run(owner, args, kwargs)
            state, key = ([], ()) if owner is None else _state(owner)
            run = lambda *args, **kwargs: main.run(owner, args, kwargs)
            return self.native.call(run, args, state, key, kwargs)

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(self.functions[0].name)

    @property
    def graph(self) -> Scripted:
        """Itself: it prints as text."""
        return self

    def __str__(self) -> str:
        return "\n\n".join(f.entry["source"] for f in self.functions if isinstance(f, Function))

    # ---- files ---------------------------------------------------------------------------------------------

    def written(self, add: Callable[[Tensor], int]) -> dict[str, Any]:
        """The JSON form. RuntimeError for a script that calls into Python."""
        from flambeau.jit.programs import write_program

        found: list[dict[str, Any]] = []
        for function in self.functions:
            if isinstance(function, Function):
                found.append({**function.entry, "file": ""})
            elif isinstance(function, Nested):
                found.append({"program": write_program(function.program, add)})
            elif function.function is None:
                found.append({"unused": function.name})
            else:
                raise RuntimeError(f"Could not export Python function call '{function.name}': it is marked with "
                                   "torch.jit.ignore. Remove the call, or mark it with torch.jit.unused")
        return {"kind": "script", "functions": found}

    @classmethod
    def read(cls, entry: Any, tensor: Callable[[Any], Tensor]) -> Scripted:
        """The program of a JSON form."""
        from flambeau.jit.programs import read_program

        made = cls()
        for part in entry["functions"]:
            if "program" in part:
                made.functions.append(Nested(read_program(part["program"], tensor, None)))
            elif "unused" in part:
                made.functions.append(Ignored(None, str(part["unused"])))
            else:
                made.functions.append(None)
        for number, part in enumerate(entry["functions"]):
            if made.functions[number] is None:
                if type(part["name"]) is not str or type(part["source"]) is not str:
                    raise RuntimeError("a function of the script has no name")
                made.functions[number] = Function(part, made.functions)
        if not made.functions or not isinstance(made.functions[0], Function):
            raise RuntimeError("a script in the file has no function")
        return made.settled()


def _sets_attributes(body: Any) -> bool:
    """Whether statements assign to `self.name`."""
    if type(body) is not list:
        return False
    if body and body[0] in ("assign", "update") and len(body) > 2:
        targets = body[2] if body[0] == "assign" else [body[2]]
        if any(type(t) is list and t and (t[0] == "self" or (t[0] == "tuple" and '["self"' in json.dumps(t)))
               for t in targets):
            return True
    return any(_sets_attributes(part) for part in body)


def _state(owner: Any) -> tuple[list[Tensor], tuple]:
    """The tensors of a module, and what else its programs depend on."""
    modules = list(owner.modules())
    tensors = [t for m in modules for r in (m._parameters, m._buffers) for t in r.values() if t is not None]
    key = tuple(m.training for m in modules) + tuple(
        _held(v) for m in modules for v in m.__dict__.get("_constants", {}).values())
    return tensors, key


def _held(value: Any) -> tuple[type, Any]:
    """What tells a plain attribute from another one: it may have been replaced, or changed if it is a container."""
    return type(value), repr(value) if isinstance(value, (list, dict, tuple)) else value


# ---- making scripts --------------------------------------------------------------------------------------------


class Maker:
    """Makes one program: functions are added when they are named."""

    def __init__(self, module: Any = None, method: Callable[[str], None] | None = None,
                 attributes: set[str] | None = None):
        self.program = Scripted()
        self.module, self.method, self.attributes = module, method, attributes
        self.known: dict[int, int] = {}
        self.kept: list[Any] = []

    def add(self, function: Any) -> int:
        """The number of a function in the script."""
        if id(function) in self.known:
            return self.known[id(function)]
        number = self.known[id(function)] = len(self.program.functions)
        self.kept.append(function)
        self.program.functions.append(None)
        mark = getattr(function, "_jit_mark", None)
        if isinstance(function, ScriptFunction):
            made: Any = Nested(function.program)
        elif mark in ("ignore", "unused"):
            made = Ignored(function if mark == "ignore" else None, function.__name__)
        else:
            made = self.translated(function, None)
        self.program.functions[number] = made
        return number

    def translated(self, function: Any, module: Any) -> Function:
        method = self.method if module is not None else None
        entry = Translator(function, self.add, module, method, self.attributes).translated()
        return Function(entry, self.program.functions)

    def main(self, function: Any) -> Scripted:
        """The program of a function or method."""
        self.known[id(function)] = 0
        self.program.functions.append(None)
        self.program.functions[0] = self.translated(function, self.module)
        return self.program.settled()


def script(obj: Any, optimize: Any = None, _frames_up: int = 0, _rcb: Any = None, example_inputs: Any = None) -> Any:
    """A ScriptFunction or ScriptModule that runs, and can be saved, without Python; also a decorator.

    Branches and loops stay as they are, on values of tensors too. A script may use: arithmetic, comparisons, `and`,
    `or`, public functions and methods of tensors, `math`, other functions (they become part of it), submodules, tuples,
    lists and dicts, comprehensions, `range`, `enumerate`, `zip`, `len`, `assert`, `raise`, f-strings, and
    `with torch.no_grad()`.
    Of a module `forward` becomes a program, methods marked with `torch.jit.export`, and all that these call; parameters
    and buffers are shared with the original. Annotations of types are accepted and change nothing.

    Raises: UnsupportedNodeError (a RuntimeError) for other Python, with its line; OSError without source.
    """
    if isinstance(obj, (ScriptModule, ScriptFunction)):
        return obj
    if isinstance(obj, nn.Module):
        modules = Modules()
        made = modules.scripted(obj)
        modules.translate_asked()
        return made if isinstance(made, ScriptModule) else wrapped(made)
    if isinstance(obj, type):
        if issubclass(obj, nn.Module):
            raise RuntimeError(f"Type '{obj.__name__}' cannot be compiled since it inherits from nn.Module, consider "
                               "passing an instance instead")
        return obj
    if not callable(obj):
        raise TypeError(f"torch.jit.script: expected a function or a module, not {type(obj).__name__}")
    return ScriptFunction(Maker().main(obj), getattr(obj, "__name__", "forward"), getattr(obj, "__doc__", None))


def wrapped(module: nn.Module) -> ScriptModule:
    """A ScriptModule around a module of flambeau.nn, whose parameters, buffers and submodules are its own."""
    made = RecursiveScriptModule()
    made.__dict__["original_name"] = type(module).__name__
    made.__dict__["training"] = module.training
    made.__dict__["_container"] = container_of(module)
    adopted(made, module)
    made.__dict__["_programs"]["forward"] = LibraryProgram(module)
    return made


class Modules:
    """Makes the scripted form of a tree of modules."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}
        self.translated: list[tuple[nn.Module, ScriptModule]] = []
        self.attributes: set[str] = set()  # names that the scripts read of other objects than self

    def scripted(self, module: nn.Module) -> nn.Module:
        """Modules of flambeau.nn are copied, with the same parameters; others translated."""
        if id(module) in self.known:
            return self.known[id(module)]
        if isinstance(module, ScriptModule):
            return module
        _check_hooks(module)
        made: Any
        if is_library(module):
            made = self.known[id(module)] = type(module).__new__(type(module))
            nn.Module.__init__(made)
            fresh = set(made.__dict__) - {"training"}
            made.__dict__.update({k: v for k, v in module.__dict__.items() if k not in fresh})
        else:
            made = self.known[id(module)] = RecursiveScriptModule()
            made.__dict__["original_name"] = type(module).__name__
            made.__dict__["training"] = module.training
        for name, parameter in module._parameters.items():
            made.register_parameter(name, parameter)
        for name, buffer in module._buffers.items():
            made.register_buffer(name, buffer, persistent=name not in module._non_persistent_buffers_set)
        for name, part in module._modules.items():
            made.add_module(name, None if part is None else self.scripted(part))
        if isinstance(made, ScriptModule):
            for name, value in module.__dict__.items():
                if isinstance(value, Tensor) and not hasattr(nn.Module, name):
                    made.register_buffer(name, value, persistent=False)
            made.__dict__["_container"] = container_of(module)
            made.__dict__["_constants"] = constants_of(module)
            base = next((kind for kind in type(module).__mro__ if "forward" in vars(kind)), nn.Module)
            if base is not nn.Module and base is getattr(nn, base.__name__, None):  # a subclass that computes the same
                inner = bare_library(base.__name__, {})
                inner.__dict__.update({k: v for k, v in module.__dict__.items() if k not in nn.Module().__dict__})
                adopted(inner, made)
                made.__dict__["_programs"]["forward"] = LibraryProgram(inner)
            self.translated.append((module, made))
            kind = type(module)
            self.attributes.update(n for n in dir(kind) if isinstance(getattr(kind, n, None), property))
            marks = _marks(module)
            made.__dict__["_ignored"] = {name: getattr(module, name) for name, m in marks.items() if m == "ignore"}
            forward = ["forward"] if type(module).forward is not nn.Module.forward else []  # unless it is there already
            self.translate(module, made, [*forward, *(name for name, mark in marks.items() if mark == "export")])
        return made

    def translate(self, module: nn.Module, made: ScriptModule, methods: Iterable[str]) -> None:
        """Programs for methods, and for the methods that these call."""
        programs = made.__dict__["_programs"]
        waiting: list[str] = []

        def want(name: str) -> None:
            if name not in programs:
                programs[name] = None
                waiting.append(name)

        for name in methods:
            want(name)
        while waiting:
            name = waiting.pop()
            method = _method(module, name)
            mark = getattr(method, "_jit_mark", None)
            if mark in ("ignore", "unused"):
                programs[name] = IgnoredMethod(Ignored(method if mark == "ignore" else None, name))
            else:
                programs[name] = Maker(module, want, self.attributes).main(method)

    def translate_asked(self) -> None:
        """Programs for methods and properties of submodules whose names the scripts use.

        Which module a name is asked of is known when a script runs: every module that has such a method gets it. What
        cannot be translated there raises when it is called.
        """
        done: set[tuple[int, str]] = set()
        while True:
            found = [(module, made, name) for module, made in self.translated for name in sorted(self.attributes)
                     if (id(made), name) not in done and _own_method(module, name)]
            if not found:
                return
            for module, made, name in found:
                done.add((id(made), name))
                wanted = f"{name}.fget" if isinstance(getattr(type(module), name), property) else name
                programs = made.__dict__["_programs"]
                if wanted in programs:
                    continue
                try:
                    self.translate(module, made, [wanted])
                except (NotSupportedError, OSError) as error:
                    for unmade in [n for n, program in programs.items() if program is None]:
                        del programs[unmade]
                    programs[wanted] = IgnoredMethod(Ignored(None, name, str(error)))


def _check_hooks(module: nn.Module) -> None:
    """NotSupportedError for what is Python around `forward`."""
    kind = type(module).__name__
    if module._forward_hooks or module._forward_pre_hooks:
        raise NotSupportedError(f"{kind} has forward hooks, which are Python that a script would leave out: remove "
                                "them (those of weight_norm and spectral_norm with remove_…), or use torch.jit.trace")
    if "parametrizations" in module._modules:
        raise NotSupportedError(f"{kind} has parametrizations, which are Python: remove them with nn.utils.parametrize."
                                "remove_parametrizations, or use torch.jit.trace")


def _marks(module: nn.Module) -> dict[str, str]:
    """The methods that `export`, `ignore` and `unused` have marked."""
    found = {name: getattr(getattr(type(module), name, None), "_jit_mark", None) for name in dir(type(module))}
    return {name: mark for name, mark in found.items() if mark is not None}


def _own_method(module: nn.Module, name: str) -> bool:
    """Whether a module's class has a method or property of this name that not every module has."""
    return not hasattr(nn.Module, name) and isinstance(
        getattr(type(module), name, None), (types.FunctionType, property))


def _method(module: nn.Module, name: str) -> Any:
    """A method by its name, "Class.name" for one that `super()` means, or "name.fget" for a property."""
    kind, _, short = name.rpartition(".")
    if short == "fget":
        return types.MethodType(getattr(type(module), kind).fget, module)
    if not kind:
        return getattr(module, name)
    found = next(vars(c)[short] for c in type(module).__mro__ if c.__name__ == kind and short in vars(c))
    return types.MethodType(found, module)


def constants_of(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of a module and its classes."""
    bare = set(nn.Module().__dict__)
    found: dict[str, Any] = {}
    kinds = [kind for kind in reversed(type(module).__mro__) if issubclass(kind, nn.Module) and kind is not nn.Module]
    for space in (*map(vars, kinds), module.__dict__):
        for name, value in space.items():
            if name in bare or name.startswith("__") or hasattr(nn.Module, name):
                continue
            try:
                found[name] = decode(encode(value))
            except NotPlain:
                continue
    return found


class IgnoredMethod:
    """The program of a method marked with `ignore` or `unused`."""

    def __init__(self, function: Ignored):
        self.function = function

    def __call__(self, owner: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return self.function(*args, **kwargs)

    def written(self, add: Callable[[Tensor], int]) -> dict[str, Any]:
        """The JSON form. RuntimeError for a method that stays in Python."""
        if self.function.function is not None:
            raise RuntimeError(f"Could not export Python function call '{self.function.name}': it is marked with "
                               "torch.jit.ignore")
        return {"kind": "unused", "name": self.function.name}
