"""`torch.jit.save` and `load`: programs and weights in one zip file (docs/scripts.md describes the format).

Nothing in a file is run or unpickled: programs are JSON made of names of primitives and plain values, tensors are raw
bytes. Everything is checked while it is read; a file that is damaged or made up raises RuntimeError.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.core.storage import Storage
from flambeau.core.tensor import Tensor, wrap
from flambeau.jit.modules import RecursiveScriptModule, ScriptFunction, ScriptModule, TopLevelTracedModule, TracedModule
from flambeau.jit.plain import KINDS
from flambeau.jit.programs import read_program, write_program
from flambeau.nn.parameter import Parameter
from flambeau.serialization.files import written
from flambeau.serialization.locations import restorer
from flambeau.serialization.rebuild import MetaStorage, rebuild_meta_tensor
from flambeau.serialization.torch_zip import ZipReader, ZipWriter

FORMAT, VERSION = "flambeau.jit", 1
_CLASSES = {c.__name__: c for c in (RecursiveScriptModule, TopLevelTracedModule, TracedModule)}
_DEEPEST = 100  # modules within modules


class Tensors:
    """The tensors of a file: each once."""

    def __init__(self) -> None:
        self.table: list[dict[str, Any]] = []
        self.arrays: list[np.ndarray] = []
        self.known: dict[int, int] = {}

    def add(self, t: Tensor) -> int:
        """The number of a tensor in the file."""
        if id(t) not in self.known:
            array = t._array
            if t.is_meta:
                raise RuntimeError("a module on the meta device has no values to save")
            order = sorted(range(array.ndim), key=lambda d: (-array.strides[d], d))
            self.known[id(t)] = len(self.arrays)
            self.arrays.append(np.ascontiguousarray(array.transpose(order)))
            self.table.append({"dtype": array.dtype.name, "shape": list(array.shape), "order": order,
                               "requires_grad": t.requires_grad, "parameter": isinstance(t, Parameter)})
        return self.known[id(t)]


def save(m: Any, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
    """Write a ScriptModule or ScriptFunction to a path or an open binary file.

    A file given by path is replaced in one step. `_extra_files` maps names to texts or bytes that go along.
    Raises: RuntimeError for what is not a script, or holds values that no file can (a generator of its own).
    """
    tensors = Tensors()
    if isinstance(m, ScriptModule):
        found: dict[str, Any] = {"module": _written_module(m, tensors)}
    elif isinstance(m, ScriptFunction):
        found = {"function": write_program(m.program, tensors.add), "name": m.name, "doc": m.__doc__}
    else:
        raise RuntimeError(f"torch.jit.save: expected what jit.script or jit.trace returned, not a {type(m).__name__}")
    found["tensors"] = tensors.table
    text = json.dumps(found, separators=(",", ":"), allow_nan=False).encode()
    with written(f) as (file, folder):
        archive = ZipWriter(file, folder)
        archive.write("format.json", json.dumps({"format": FORMAT, "version": VERSION}).encode())
        archive.write("program.json", text)
        for number, array in enumerate(tensors.arrays):
            archive.write(f"tensors/{number}", array.reshape(-1).view(np.uint8).data if array.size else b"")
        for name, content in (_extra_files or {}).items():
            archive.write(f"extra/{name}", content.encode() if isinstance(content, str) else bytes(content))
        archive.finish()


def save_to_buffer(m: Any) -> bytes:
    """The bytes of the file that `save` writes."""
    buffer = io.BytesIO()
    save(m, buffer)
    return buffer.getvalue()


def _written_module(module: ScriptModule, tensors: Tensors) -> dict[str, Any]:
    parts: list[list[Any]] = []
    for name, part in module._modules.items():
        if part is None:
            parts.append([name, None])
        else:
            parts.append([name, _written_part(part, tensors)])
    return {
        "class": next((k for k, c in _CLASSES.items() if type(module) is c), "RecursiveScriptModule"),
        "original_name": module.original_name,
        "training": module.training,
        "container": module.__dict__.get("_container"),
        "parameters": [[name, None if t is None else tensors.add(t)] for name, t in module._parameters.items()],
        "buffers": [[name, None if t is None else tensors.add(t), name not in module._non_persistent_buffers_set]
                    for name, t in module._buffers.items()],
        "modules": parts,
        "programs": {name: write_program(p, tensors.add) for name, p in module.__dict__["_programs"].items()},
        "attributes": module.__dict__.get("_constants", {}) and _constants(module.__dict__["_constants"]),
    }


def _written_part(part: Any, tensors: Tensors) -> dict[str, Any]:
    from flambeau.jit.library import write_library

    if isinstance(part, ScriptModule):
        return _written_module(part, tensors)
    return write_library(part, tensors.add, lambda inner: _written_part(inner, tensors))


def _constants(values: dict[str, Any]) -> dict[str, Any]:
    from flambeau.jit.plain import encode

    return {name: encode(value) for name, value in values.items()}


# ---- reading -----------------------------------------------------------------------------------------


def load(f: Any, map_location: Any = None, _extra_files: dict[str, Any] | None = None,
         _restore_shapes: bool = False) -> Any:
    """The ScriptModule or ScriptFunction in a file that `save` wrote.

    `map_location` as for `torch.load`. The names in `_extra_files` get their contents (bytes; none for what the file
    does not have).
    Raises: RuntimeError for a file that is damaged, of another kind (PyTorch's own scripts too) or of a later version.
    """
    if isinstance(f, (str, os.PathLike)):
        if not os.path.exists(f):
            raise ValueError(f"The provided filename {f} does not exist")
        if os.path.isdir(f):
            raise ValueError(f"The provided filename {f} is a directory")
        with open(f, "rb") as file:
            return _load(file, map_location, _extra_files)
    return _load(f, map_location, _extra_files)


def _load(file: Any, map_location: Any, extra: dict[str, Any] | None) -> Any:
    archive = ZipReader(file)
    try:
        return _read(archive, map_location, extra)
    except RecursionError as error:
        raise RuntimeError("the file is nested too deeply") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise RuntimeError(f"the file is not a valid script: {type(error).__name__}: {error}") from error


def _read(archive: ZipReader, map_location: Any, extra: dict[str, Any] | None) -> Any:
    if not archive.has("format.json"):
        torchs = " (a script of PyTorch is in a language of its own)" if archive.has("constants.pkl") else ""
        raise RuntimeError(f"the file has no format.json: torch.jit.save of flambeau did not write it{torchs}")
    form = json.loads(archive.read("format.json"))
    if type(form) is not dict or form.get("format") != FORMAT or type(form.get("version")) is not int:
        raise RuntimeError("the file is no script of flambeau")
    if form["version"] > VERSION:
        raise RuntimeError(f"the file has version {form['version']} of the format; this flambeau reads up to {VERSION}")
    found = json.loads(archive.read("program.json"))
    tensors = _tensors(archive, found["tensors"], restorer(map_location))
    for name in extra or ():
        assert extra is not None
        extra[name] = archive.read(f"extra/{name}") if archive.has(f"extra/{name}") else b""

    def tensor(number: Any) -> Tensor:
        if type(number) is not int or not 0 <= number < len(tensors):
            raise RuntimeError(f"the file has no tensor number {number!r:.20}")
        return tensors[number]

    if "module" in found:
        return _module(found["module"], tensor, 0)
    return ScriptFunction(read_program(found["function"], tensor, None), _text(found["name"]), found.get("doc"))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise RuntimeError(f"expected a text in the file, not {value!r:.40}")
    return value


def _tensors(archive: ZipReader, table: Any, restore: Callable[..., Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for number, entry in enumerate(table):
        dtype, shape, order = KINDS[entry["dtype"]], entry["shape"], entry["order"]
        if any(type(n) is not int or n < 0 for n in shape) or sorted(order) != list(range(len(shape))):
            raise RuntimeError(f"tensor {number} of the file has no valid shape")
        data = archive.record(f"tensors/{number}")
        if data.size != math.prod(shape) * dtype.itemsize:
            raise RuntimeError(f"tensor {number} of the file has {data.size} bytes; its shape {shape} wants "
                               f"{math.prod(shape) * dtype.itemsize}")
        memory = np.empty([shape[d] for d in order], dtype)
        memory.reshape(-1).view(np.uint8)[...] = data
        array = memory.transpose(np.argsort(order)) if order else memory
        if dtype == np.bool_ and memory.size and memory.view(np.uint8).max() > 1:
            raise RuntimeError(f"tensor {number} of the file has bools that are neither 0 nor 1")
        t = wrap(array)
        placed = restore(Storage(array), "cpu")
        if isinstance(placed, MetaStorage):
            from flambeau.core.dtype import from_numpy

            t = rebuild_meta_tensor(from_numpy(dtype), tuple(shape), None, False)
        needs = entry.get("requires_grad") is True
        found.append(Parameter(t, requires_grad=needs) if entry.get("parameter") is True else t.requires_grad_(needs))
    return found


def _part(entry: Any, tensor: Callable[[Any], Tensor], depth: int) -> Any:
    from flambeau.jit.library import read_library

    if depth > _DEEPEST:
        raise RuntimeError("the modules of the file are nested too deeply")
    if "library" in entry:
        return read_library(entry, tensor, lambda inner: _part(inner, tensor, depth + 1))
    return _module(entry, tensor, depth)


def _module(entry: Any, tensor: Callable[[Any], Tensor], depth: int) -> ScriptModule:
    from flambeau.jit.plain import decode

    made = _CLASSES[entry["class"]]()
    made.__dict__["original_name"] = _text(entry["original_name"])
    made.__dict__["training"] = entry["training"] is True
    for name, number in entry["parameters"]:
        parameter = None if number is None else tensor(number)
        if parameter is not None and not isinstance(parameter, Parameter):
            raise RuntimeError(f"tensor {number} of the file is no parameter")
        made.register_parameter(_text(name), parameter)
    for name, number, persistent in entry["buffers"]:
        made.register_buffer(_text(name), None if number is None else tensor(number), persistent is True)
    for name, part in entry["modules"]:
        if part is None:
            made.add_module(_text(name), None)
        else:
            made.add_module(_text(name), _part(part, tensor, depth + 1))
    constants = {_text(name): decode(value) for name, value in (entry.get("attributes") or {}).items()}
    if constants:
        made.__dict__["_constants"] = constants
    if entry.get("container") is not None:
        if entry["container"] not in ("Sequential", "ModuleList", "ModuleDict"):
            raise RuntimeError("a container of unknown kind in the file")
        made.__dict__["_container"] = entry["container"]
    for name, program in entry["programs"].items():
        made.__dict__["_programs"][name] = read_program(program, tensor, made)
    return made
