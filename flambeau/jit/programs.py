"""Programs as JSON and back, with every part checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.core.tensor import Tensor
from flambeau.jit.library import LibraryProgram
from flambeau.jit.modules import attribute_of
from flambeau.jit.plain import KINDS, decode, encode
from flambeau.jit.tape import DRAWS, Call, Tape, Var, find_op, vars_in

# Primitives that do not look at what they are told: their callers do. (A trace has none of these.)
_TRUSTING = frozenset({"as_strided", "as_strided_backward", "view_dtype", "lstm_scan_backward", "gru_scan_backward",
                       "rnn_scan_backward", "max_pool_select", "weight_gradient"})
_POSITIVE = frozenset({"kernel", "stride", "dilation", "groups"})
_ERRORS = ("IndexError", "ValueError", "RuntimeError")


def write_program(program: Any, add: Callable[[Tensor], int]) -> dict[str, Any]:
    """The JSON form; `add` gives each tensor its number in the file."""
    from flambeau.jit.tracing import Traced

    if isinstance(program, Traced):
        return {"kind": "trace", "tapes": [_written_tape(tape, add) for tape in program.tapes], "names": program.names}
    return program.written(add)


def read_program(entry: Any, tensor: Callable[[Any], Tensor], owner: Any) -> Any:
    """The program of a JSON form, for a module (None for a function). RuntimeError for a form that is not valid."""
    from flambeau.jit.tracing import Traced

    if entry["kind"] == "trace":
        tapes = [_tape(tape, tensor, owner) for tape in entry["tapes"]]
        if not tapes:
            raise RuntimeError("a trace in the file is empty")
        names = entry.get("names", [])
        if type(names) is not list or not all(type(name) is str for name in names):
            raise RuntimeError("the parameters of a trace in the file are not valid")
        return Traced(tapes, names=names)
    if entry["kind"] == "script":
        from flambeau.jit.script import Scripted

        return Scripted.read(entry, tensor)
    if entry["kind"] == "library":
        return LibraryProgram.read(entry, owner)
    if entry["kind"] == "unused":
        from flambeau.jit.script import Ignored, IgnoredMethod

        return IgnoredMethod(Ignored(None, str(entry["name"])))
    raise RuntimeError(f"a program of unknown kind {entry['kind']!r:.40}")


def _written_tree(tree: Any) -> Any:
    """A nesting with variables: {"var": 3} beside the forms of plain.py."""
    if type(tree) is Var:
        return {"var": tree.number}
    if type(tree) in (tuple, list):
        return {"tuple" if type(tree) is tuple else "list": [_written_tree(item) for item in tree]}
    if type(tree) is dict:
        return {"dict": [[encode(key), _written_tree(item)] for key, item in tree.items()]}
    return encode(tree)


def _tree(entry: Any, var: Callable[[Any], Var], depth: int = 0) -> Any:
    if depth > 100:
        raise RuntimeError("a nesting in the file is too deep")
    if type(entry) is dict and len(entry) == 1:
        ((kind, body),) = entry.items()
        if kind == "var":
            return var(body)
        if kind in ("tuple", "list"):
            return (tuple if kind == "tuple" else list)(_tree(item, var, depth + 1) for item in body)
        if kind == "dict":
            return {decode(key): _tree(item, var, depth + 1) for key, item in body}
    return decode(entry)


def _written_tape(tape: Tape, add: Callable[[Tensor], int]) -> dict[str, Any]:
    calls: list[dict[str, Any]] = []
    for call in tape.calls:
        if call.kind == "script":
            calls.append({
                "kind": "script", "name": call.name, "inputs": _written_tree(call.inputs[0]), "quiet": call.quiet,
                "result": _written_tree(call.result), "owner": call.owner,
                "program": None if call.program is None else write_program(call.program, add),
            })  # fmt: skip
            continue
        calls.append({
            "kind": call.kind, "name": call.name, "inputs": [_written_tree(x) for x in call.inputs],
            "attrs": {name: encode(value) for name, value in call.attrs.items()}, "outputs": call.outputs,
            "quiet": call.quiet, "plain": call.plain, "shapes": [None if s is None else list(s) for s in call.shapes],
        })  # fmt: skip
    return {
        "arguments": _written_tree(tape.arguments), "shapes": [list(s) for s in tape.shapes], "dtypes": tape.dtypes,
        "attributes": [[n, name] for n, name in tape.attributes.items()],
        "constants": [[n, add(t), n in tape.fresh] for n, t in tape.constants.items()],
        "calls": calls, "result": _written_tree(tape.result), "count": tape.count,
    }  # fmt: skip


def _whole(number: Any, what: str) -> int:
    if type(number) is not int or not 0 <= number < 1 << 31:
        raise RuntimeError(f"expected {what} in the file, not {number!r:.40}")
    return number


def _shape(entry: Any) -> tuple[int, ...]:
    return tuple(_whole(n, "a size") for n in entry)


def _tape(entry: Any, tensor: Callable[[Any], Tensor], owner: Any) -> Tape:
    made = Tape(shapes=[_shape(s) for s in entry["shapes"]], dtypes=list(entry["dtypes"]))
    if len(made.dtypes) != len(made.shapes) or not all(kind in KINDS for kind in made.dtypes):
        raise RuntimeError("the arguments of a trace in the file are not valid")
    known = set(range(len(made.shapes)))

    def var(number: Any) -> Var:
        if _whole(number, "a value") not in known:
            raise RuntimeError(f"a trace in the file reads value {number}, which nothing has made")
        return Var(number)

    def new(number: Any) -> int:
        if _whole(number, "a value") in known:
            raise RuntimeError(f"a trace in the file makes value {number} twice")
        known.add(number)
        return number

    made.arguments = _tree(entry["arguments"], var)
    if sorted(v.number for v in vars_in(made.arguments)) != list(range(len(made.shapes))):
        raise RuntimeError("the arguments of a trace in the file are not each of its tensors once")
    for number, name in entry["attributes"]:
        if owner is None or type(name) is not str:
            raise RuntimeError("a trace in the file reads parameters of a module that is not there")
        try:
            attribute_of(owner, name)
        except (KeyError, AttributeError) as error:
            raise RuntimeError(f"a trace in the file reads the parameter {name!r:.60}, which is not there") from error
        made.attributes[new(number)] = name
    for number, index, fresh in entry["constants"]:
        made.constants[new(number)] = tensor(index)
        if fresh is True:
            made.fresh.add(number)
    for call in entry["calls"]:
        made.calls.append(_script(call, var, new, tensor, owner) if call["kind"] == "script" else _call(call, var, new))
    made.result = _tree(entry["result"], var)
    made.count = max(known, default=-1) + 1
    return made


def _script(entry: Any, var: Callable[[Any], Var], new: Callable[[Any], int], tensor: Callable[[Any], Tensor],
            owner: Any) -> Call:
    given = _tree(entry["inputs"], var)
    _expect(type(given) is tuple and len(given) == 2 and type(given[0]) is tuple and type(given[1]) is dict,
            entry["name"])
    program = None
    if entry["program"] is None:
        programs = owner.get_submodule(entry["owner"]).__dict__.get("_programs", {})
        _expect(owner is not None and entry["name"] in programs, entry["name"])
    else:
        program = read_program(entry["program"], tensor, None)
    result = _tree(entry["result"], lambda number: Var(new(number)))
    return Call("script", str(entry["name"]), [given], {}, [v.number for v in vars_in(result)], entry["quiet"] is True,
                program=program, owner=str(entry["owner"]), result=result)


def _call(entry: Any, var: Callable[[Any], Var], new: Callable[[Any], int]) -> Call:
    kind, name = entry["kind"], entry["name"]
    inputs = [_tree(x, var) for x in entry["inputs"]]
    attrs = {key: decode(value) for key, value in entry["attrs"].items()}
    outputs = [None if n is None else new(n) for n in entry["outputs"]]
    if kind == "op":
        _checked_op(name, inputs, attrs, outputs)
    elif kind == "assign":
        _expect(len(inputs) == 2 and all(type(x) is Var for x in inputs) and not attrs and not outputs, name)
    elif kind == "detach":
        _expect(len(inputs) == len(outputs) == 1 and type(inputs[0]) is Var and outputs[0] is not None, name)
    elif kind == "draw":
        _expect(name in DRAWS and len(inputs) == 1 and type(inputs[0]) is Var and not outputs, name)
    elif kind == "check":
        _expect(set(attrs) == {"low", "high", "but", "error", "message"} and attrs["error"] in _ERRORS
                and len(inputs) == 1 and type(inputs[0]) is Var and not outputs, name)
    else:
        raise RuntimeError(f"a call of unknown kind {kind!r:.40} in the file")
    shapes = [None if s is None else _shape(s) for s in entry["shapes"]]
    plain = [flag is True for flag in entry["plain"]]
    _expect(len(plain) in (0, len(outputs)), name)
    return Call(kind, name, inputs, attrs, outputs, entry["quiet"] is True, shapes, plain)


def _numbers(value: Any) -> list[int]:
    """The numbers of an attribute that is one, or a sequence of them."""
    found = list(value) if type(value) in (tuple, list) else [value]
    if not all(type(n) is int for n in found):
        raise RuntimeError(f"expected whole numbers in the file, not {value!r:.60}")
    return found


def _expect(fine: bool, name: Any) -> None:
    if not fine:
        raise RuntimeError(f"a call of {name!r:.60} in the file is not valid")


def _checked_op(name: Any, inputs: list[Any], attrs: dict[str, Any], outputs: list[Any]) -> None:
    _expect(type(name) is str, name)
    op = find_op(name)
    _expect(name not in _TRUSTING, name)
    _expect("replay" not in op.attributes and set(attrs) <= set(op.attributes), name)
    _expect(all(n >= 1 for key in _POSITIVE & set(attrs) for n in _numbers(attrs[key])), name)
    _expect(op.variadic or len(inputs) == len(op.parameters), name)
    _expect(op.outputs is None or len(outputs) == op.outputs, name)
    _expect(all(type(x) in (Var, int, float, bool, complex, type(None)) for x in inputs), name)
