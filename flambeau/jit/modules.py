"""ScriptModule and ScriptFunction: what `trace`, `script` and `load` return."""

from __future__ import annotations

from typing import Any

from flambeau import nn
from flambeau.core.tensor import Tensor


class ScriptModule(nn.Module):
    """A module made by `script`, `trace` or `load`: parameters and buffers as in the original, methods as programs."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_programs"] = {}  # name of a method -> its program
        self.__dict__["original_name"] = type(self).__name__

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the program of `forward`."""
        program = self.__dict__["_programs"].get("forward")
        if program is None:
            raise RuntimeError(f"{self.original_name} has no program for forward: only the module that was traced or "
                               "scripted as a whole can be called")
        return program(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        space = self.__dict__
        programs = space.get("_programs", {})
        if programs.get(name) is not None:
            return Method(self, programs[name], name)
        if f"{name}.fget" in programs:
            return programs[f"{name}.fget"](self, (), {})
        for plain in (space.get("_constants", {}), space.get("_ignored", {}),
                      getattr(programs.get("forward"), "attributes", {})):
            if name in plain:
                return plain[name]
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_constants", {}):
            self.__dict__["_constants"][name] = value
        else:
            super().__setattr__(name, value)

    def __len__(self) -> int:
        return len(self._members())

    def __getitem__(self, key: Any) -> Any:
        members = self._members()
        if isinstance(key, str):
            return self._modules[key]
        return members[key]

    def __iter__(self) -> Any:
        return iter(self._modules if self.__dict__.get("_container") == "ModuleDict" else self._members())

    def __bool__(self) -> bool:
        return True

    def _members(self) -> list[Any]:
        """The members of a container. TypeError for other modules."""
        if self.__dict__.get("_container") is None:
            raise TypeError(f"the scripted {self.original_name} is no container")
        return list(self._modules.values())

    def _get_name(self) -> str:
        return f"{type(self).__name__}(original_name={self.__dict__['original_name']})" if not self._modules else \
            type(self).__name__

    @property
    def code(self) -> str:
        """The program of `forward` as text."""
        return str(self.__dict__["_programs"]["forward"])

    @property
    def graph(self) -> Any:
        """The program of `forward`; it prints as text."""
        return self.__dict__["_programs"]["forward"].graph

    inlined_graph = graph

    def save(self, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
        """Write the module to a path; see `torch.jit.save`."""
        from flambeau.jit.files import save

        save(self, f, _extra_files)


class RecursiveScriptModule(ScriptModule):
    """The class of the modules that `script` and `load` return."""


class TopLevelTracedModule(ScriptModule):
    """The class of the modules that `trace` returns."""


class TracedModule(ScriptModule):
    """A module inside of a traced one: it holds parameters, and is not called by itself."""


class Method:
    """A program bound to its module."""

    def __init__(self, owner: ScriptModule, program: Any, name: str):
        self.owner, self.program, self.name = owner, program, name
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(self.owner, args, kwargs)

    @property
    def code(self) -> str:
        """The program as text."""
        return str(self.program)

    @property
    def graph(self) -> Any:
        """The program; it prints as text."""
        return self.program.graph


class ScriptFunction:
    """A function made by `script` or `trace`."""

    def __init__(self, program: Any, name: str, doc: str | None = None):
        self.program = program
        self.name = self.__name__ = self.__qualname__ = name
        self.__doc__ = doc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(None, args, kwargs)

    @property
    def code(self) -> str:
        """The program as text."""
        return str(self.program)

    @property
    def graph(self) -> Any:
        """The program; it prints as text."""
        return self.program.graph

    def save(self, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
        """Write the function to a path; see `torch.jit.save`."""
        from flambeau.jit.files import save

        save(self, f, _extra_files)


def attribute_of(owner: Any, path: str) -> Tensor:
    """The parameter or buffer with a dotted name. RuntimeError if the module has none."""
    *parents, name = path.split(".")
    module = owner
    for parent in parents:
        module = module._modules[parent]
    found = module._parameters.get(name)
    if found is None:
        found = module._buffers.get(name)
    if found is None:
        raise RuntimeError(f"the module has no parameter or buffer named '{path}'")
    return found


def tensors_of(module: nn.Module) -> dict[int, tuple[str, Tensor]]:
    """All parameters and buffers by id, with their dotted names."""
    found: dict[int, tuple[str, Tensor]] = {}
    for prefix, part in module.named_modules():
        for registry in (part._parameters, part._buffers):
            for name, t in registry.items():
                if t is not None:
                    found.setdefault(id(t), (f"{prefix}.{name}" if prefix else name, t))
    return found
