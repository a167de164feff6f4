"""From Python source to the tree of a script: nested lists of names and plain values, which JSON can hold.

Expressions are ["kind", …], statements ["kind", line, …]. Names that are not local are resolved now: to a public
function (["torch", path]), one of Python's own (["builtin", name]), a function of the user's, which becomes part of the
script (["function", number]), or a constant. What scripts do not have raises UnsupportedNodeError with the line.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import inspect
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any, get_origin

from flambeau.core.tensor import Tensor
from flambeau.jit import names
from flambeau.jit import types as kinds
from flambeau.jit.frontend import NotSupportedError, UnsupportedNodeError
from flambeau.jit.modules import ScriptFunction
from flambeau.jit.plain import NotPlain, encode
from flambeau.jit.state import is_scripting, is_tracing

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
           ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>"}
_COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
            ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"}
_UNARY = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Not: "not"}


class Source:
    """The definition of a Python function, with the file and line where it stands."""

    def __init__(self, function: Callable[..., Any]):
        try:
            lines, self.first = inspect.getsourcelines(function)
        except (OSError, TypeError) as error:
            raise OSError(f"torch.jit.script: the source of {function!r} must be in a file that can be read") from error
        self.file = inspect.getsourcefile(function) or "?"
        self.text = textwrap.dedent("".join(lines))
        try:
            tree = ast.parse(self.text).body[0]
        except SyntaxError as error:
            raise NotSupportedError(f"the source of {function!r} cannot be read by itself ({self.file})") from error
        if not isinstance(tree, ast.FunctionDef):
            raise NotSupportedError(f"{self.file}:{self.first}: expected a function defined with def")
        self.tree = tree

    def line(self, node: Any) -> int:
        return int(self.first + getattr(node, "lineno", 1) - 1)

    def error(self, node: Any, what: str) -> UnsupportedNodeError:
        """The error for a part of the source, which it shows."""
        line = self.text.splitlines()[getattr(node, "lineno", 1) - 1]
        mark = " " * getattr(node, "col_offset", 0) + "^" * 4
        return UnsupportedNodeError(f"{what}\n  {self.file}:{self.line(node)}\n    {line}\n    {mark} <--- HERE")


def _closure(function: Any) -> dict[str, Any]:
    """The variables of surrounding functions, as far as they have values."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        with contextlib.suppress(ValueError):  # an empty cell
            found[name] = cell.cell_contents
    return found


class Translator:
    """Translates one function.

    `add(function)` makes a function of the user's part of the script and gives its number, `method(name)` a method of
    the module; both are called when the function names them. `attributes` gets the names that it reads of other
    objects, among them methods of submodules.
    """

    def __init__(self, function: Callable[..., Any], add: Callable[[Any], int], module: Any = None,
                 method: Callable[[str], None] | None = None, attributes: set[str] | None = None):
        self.attributes = set() if attributes is None else attributes
        self.function = inspect.unwrap(function) if not isinstance(function, types.MethodType) else function.__func__
        self.source = Source(self.function)
        self.add, self.module, self.method = add, module, method
        self.outside: dict[str, Any] = {**self.function.__globals__, **_closure(self.function)}
        own = self.source.tree.name
        if self.outside.get(own) is None or isinstance(self.outside[own], ScriptFunction):
            self.outside[own] = self.function  # a decorator's function that calls itself has no name yet, or an old one
        self.local: set[str] = set()
        for node in ast.walk(self.source.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.local.add(node.id)

    def translated(self) -> dict[str, Any]:
        """The JSON form of the function."""
        tree = self.source.tree
        arguments = tree.args
        ordered = [*arguments.posonlyargs, *arguments.args]
        self.myself = ordered[0].arg if self.module is not None and ordered else None
        if self.myself is not None:
            ordered = ordered[1:]
        signature = inspect.signature(self.function)
        parameters = []
        for kind, listed in (("plain", ordered), ("star", [arguments.vararg] if arguments.vararg else []),
                             ("named", arguments.kwonlyargs)):
            for a in listed:
                default = signature.parameters[a.arg].default
                self.local.add(a.arg)
                made = None if default is inspect.Parameter.empty else [self.constant(tree, default)]
                parameters.append([a.arg, kind, made])
        if arguments.kwarg is not None:
            raise self.source.error(tree, "Compiled functions can't take variable number of named arguments")
        return {"name": tree.name, "file": self.source.file, "source": ast.unparse(tree), "parameters": parameters,
                "body": self.block(tree.body)}

    def constant(self, node: Any, value: Any) -> Any:
        try:
            return encode(value)
        except NotPlain as error:
            raise self.source.error(node, f"python value of type '{type(value).__name__}' cannot be used as a value"
                                    ) from error

    # ---- statements --------------------------------------------------------------------------------------

    def block(self, nodes: list[ast.stmt]) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            found += self.statement(node)
            if found and found[-1][0] in ("return", "raise", "break", "continue"):
                break  # what comes after is never reached, and may be any Python
        return found

    def statement(self, node: ast.stmt) -> list[Any]:
        """The statements that one of Python's becomes: none for `pass` and docstrings."""
        line = self.source.line(node)
        make = getattr(self, f"_{type(node).__name__}", None)
        if make is None:
            raise self.source.error(node, f"{type(node).__name__} statements aren't supported")
        made = make(node, line)
        return made if made and isinstance(made[0], list) else [made] if made else []

    def _Expr(self, node: ast.Expr, line: int) -> Any:
        if isinstance(node.value, ast.Constant):
            return []
        return ["do", line, self.value(node.value)]

    def _Pass(self, node: ast.Pass, line: int) -> Any:
        return []

    def _ImportFrom(self, node: ast.ImportFrom, line: int) -> Any:
        if node.level or (node.module or "").partition(".")[0] not in ("flambeau", "torch", "math"):
            raise self.source.error(node, "imports other than those of torch and math aren't supported")
        module = importlib.import_module(node.module or "")
        for name in node.names:
            self.outside[name.asname or name.name] = getattr(module, name.name)
        return []

    def _Assign(self, node: ast.Assign, line: int) -> Any:
        return ["assign", line, [self.target(t) for t in node.targets], self.value(node.value)]

    def _AnnAssign(self, node: ast.AnnAssign, line: int) -> Any:
        return [] if node.value is None else ["assign", line, [self.target(node.target)], self.value(node.value)]

    def _AugAssign(self, node: ast.AugAssign, line: int) -> Any:
        return ["update", line, self.target(node.target), _BINARY[type(node.op)], self.value(node.value)]

    def _Delete(self, node: ast.Delete, line: int) -> Any:
        return ["delete", line, [self.target(t) for t in node.targets]]

    def _Return(self, node: ast.Return, line: int) -> Any:
        return ["return", line, ["const", None] if node.value is None else self.value(node.value)]

    def _Break(self, node: ast.Break, line: int) -> Any:
        return ["break", line]

    def _Continue(self, node: ast.Continue, line: int) -> Any:
        return ["continue", line]

    def _If(self, node: ast.If, line: int) -> Any:
        known = self.known(node.test)
        if known is not None:  # what scripts never reach may be any Python
            return self.block(node.body if known else node.orelse)
        return ["if", line, self.value(node.test), self.block(node.body), self.block(node.orelse)]

    def known(self, node: ast.expr) -> bool | None:
        """The value of a test that asks whether this is a script, or None."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.known(node.operand)
            return None if inner is None else not inner
        if isinstance(node, ast.BoolOp):
            found = [self.known(value) for value in node.values]
            decisive = isinstance(node.op, ast.Or)
            if decisive in found:
                return decisive
            return None if None in found else not decisive
        if isinstance(node, ast.Call) and len(node.args) == 2 and self.static(node.func) is hasattr:
            return bool(self.asked(node, hasattr)[1])
        if isinstance(node, ast.Call) and not node.args:
            thing = self.static(node.func)
            if thing is is_scripting or getattr(thing, "__name__", None) == "is_scripting":
                return True
            if thing is is_tracing:
                return False
        return None

    def _While(self, node: ast.While, line: int) -> Any:
        if node.orelse:
            raise self.source.error(node.orelse[0], "else branches of while loops aren't supported")
        return ["while", line, self.value(node.test), self.block(node.body)]

    def _For(self, node: ast.For, line: int) -> Any:
        if node.orelse:
            raise self.source.error(node.orelse[0], "else branches of for loops aren't supported")
        return ["for", line, self.target(node.target), self.value(node.iter), self.block(node.body)]

    def _Assert(self, node: ast.Assert, line: int) -> Any:
        return ["assert", line, self.value(node.test), None if node.msg is None else self.value(node.msg)]

    def _Raise(self, node: ast.Raise, line: int) -> Any:
        thing = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        kind = None if thing is None else self.static(thing)
        if not isinstance(kind, type) or kind.__name__ not in names.ERRORS:
            raise self.source.error(node, f"scripts raise one of {', '.join(names.ERRORS)}")
        given = node.exc.args if isinstance(node.exc, ast.Call) else []
        return ["raise", line, kind.__name__, [self.value(a) for a in given]]

    def _With(self, node: ast.With, line: int) -> Any:
        for item in node.items:
            call = item.context_expr
            thing = self.static(call.func) if isinstance(call, ast.Call) else None
            if getattr(thing, "__name__", None) != "no_grad" or item.optional_vars is not None:
                raise self.source.error(node, "with statements other than torch.no_grad() aren't supported")
        return ["no_grad", line, self.block(node.body)]

    def target(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return ["name", node.id]
        if isinstance(node, (ast.Tuple, ast.List)):
            return ["tuple", [self.target(item) for item in node.elts]]
        if isinstance(node, ast.Starred):
            return ["star", self.target(node.value)]
        if isinstance(node, ast.Subscript):
            return ["item", self.value(node.value), self.index(node.slice)]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self.myself:
            return ["self", node.attr]
        raise self.source.error(node, f"assignment to {type(node).__name__} isn't supported")

    # ---- expressions -------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """The tree of an expression."""
        make = getattr(self, f"_{type(node).__name__}", None)
        if make is None:
            raise self.source.error(node, f"{type(node).__name__} expressions aren't supported")
        return make(node)

    def static(self, node: ast.expr) -> Any:
        """The Python object that a name, a chain of attributes of modules or a generic type stands for, or Ellipsis."""
        if isinstance(node, ast.Name):
            if node.id in self.local or node.id == self.myself:
                return ...
            return self.outside.get(node.id, getattr(builtins, node.id, ...))
        if isinstance(node, ast.Attribute):
            holder = self.static(node.value)
            if isinstance(holder, (types.ModuleType, type)):
                return getattr(holder, node.attr, ...)
        if isinstance(node, ast.Subscript):
            holder = self.static(node.value)
            if isinstance(holder, type) or getattr(holder, "__module__", None) == "typing":
                parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                found = [part.value if isinstance(part, ast.Constant) else self.static(part) for part in parts]
                return holder[tuple(found) if isinstance(node.slice, ast.Tuple) else found[0]]
        return ...

    def resolved(self, node: ast.expr, thing: Any) -> Any:
        """The tree for an object from outside of the function."""
        path = names.paths().get(id(thing)) if callable(thing) else None
        if path is not None:
            return ["torch", path]
        for name, known in names.BUILTINS.items():
            if thing is known:
                return ["builtin", name]
        if isinstance(thing, ScriptFunction) or isinstance(thing, types.FunctionType):
            return ["function", self.add(thing)]
        if isinstance(thing, type) and issubclass(thing, tuple) and hasattr(thing, "_fields"):
            defaults = [self.constant(node, value) for value in getattr(thing, "_field_defaults", {}).values()]
            return ["namedtuple", thing.__name__, list(thing._fields), *([defaults] if defaults else [])]
        if isinstance(thing, type) or get_origin(thing) is not None:
            try:
                return ["type", kinds.entry_of(thing)]
            except KeyError:
                raise self.source.error(node, f"the class '{getattr(thing, '__name__', thing)}' cannot be used in a "
                                        "script: of classes there are tensors, Python's own and named tuples") from None
        if isinstance(thing, Tensor):
            raise self.source.error(node, "a tensor from outside of the script cannot be used: pass it as an argument "
                                    "or make it a buffer of the module")
        return ["const", self.constant(node, thing)]

    def _Constant(self, node: ast.Constant) -> Any:
        return ["const", self.constant(node, node.value)]

    def _Name(self, node: ast.Name) -> Any:
        if node.id == self.myself:
            return ["myself"]
        if node.id in self.local:
            return ["name", node.id]
        thing = self.static(node)
        if thing is ... and node.id != "Ellipsis":
            raise self.source.error(node, f"undefined value {node.id}")
        return self.resolved(node, thing)

    def _Attribute(self, node: ast.Attribute) -> Any:
        thing = self.static(node)
        if thing is not ...:
            return self.resolved(node, thing)
        if isinstance(node.value, ast.Name) and node.value.id == self.myself:
            return self.own(node)
        if isinstance(node.value, ast.Call) and self.static(node.value.func) is super and self.module is not None:
            return self.inherited(node.attr)
        holder = self.static(node.value)
        if isinstance(holder, types.ModuleType):
            raise self.source.error(node, f"module '{holder.__name__}' has no '{node.attr}'")
        self.attributes.add(node.attr)
        return ["attr", self.value(node.value), node.attr]

    def inherited(self, name: str) -> Any:
        """The tree of `super().name`: a method of the module under the name of its class."""
        line = type(self.module).__mro__
        mine = next((i for i, kind in enumerate(line) if any(
            getattr(f, "__code__", None) is self.function.__code__ for f in vars(kind).values())), -1)
        kind = next((kind for kind in line[mine + 1 :] if name in vars(kind)), None)
        if kind is None or self.method is None:
            raise self.source.error(self.source.tree, f"super() has no method '{name}'")
        self.method(f"{kind.__name__}.{name}")
        return ["self", f"{kind.__name__}.{name}"]

    def own(self, node: ast.Attribute) -> Any:
        """`self.name`: a method becomes part of the script, a public function in an attribute is known now."""
        name = node.attr
        registries = (self.module._parameters, self.module._buffers, self.module._modules)
        if any(name in registry for registry in registries) or name == "training":
            return ["self", name]
        if isinstance(getattr(type(self.module), name, None), property):
            assert self.method is not None
            self.method(f"{name}.fget")
            return ["self", name]
        found = getattr(self.module, name, ...)
        if names.container_of(self.module) is not None and name in ("items", "keys", "values"):
            return ["attr", ["myself"], name]
        if isinstance(found, types.MethodType) and found.__self__ is self.module:
            assert self.method is not None
            self.method(name)
        elif found is not ... and callable(found) and not isinstance(found, type):
            return self.resolved(node, found)
        return ["self", name]

    def _BinOp(self, node: ast.BinOp) -> Any:
        return ["binary", _BINARY[type(node.op)], self.value(node.left), self.value(node.right)]

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        return ["unary", _UNARY[type(node.op)], self.value(node.operand)]

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        return ["and" if isinstance(node.op, ast.And) else "or", [self.value(v) for v in node.values]]

    def _Compare(self, node: ast.Compare) -> Any:
        return ["compare", self.value(node.left), [_COMPARE[type(o)] for o in node.ops],
                [self.value(c) for c in node.comparators]]

    def _IfExp(self, node: ast.IfExp) -> Any:
        return ["choose", self.value(node.test), self.value(node.body), self.value(node.orelse)]

    def _Call(self, node: ast.Call) -> Any:
        known = self.known(node)
        if known is not None:
            return ["const", known]
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.source.error(node, "keyword-arg expansion isn't supported")
        thing = self.static(node.func)
        if thing is not ... and thing is getattr(sys.modules.get("flambeau.jit"), "annotate", None):
            return self.value(node.args[1])
        if thing in (getattr, hasattr) and len(node.args) > 1:
            return self.asked(node, thing)
        return ["call", self.value(node.func), [self.value(a) for a in node.args],
                [[k.arg, self.value(k.value)] for k in node.keywords]]

    def asked(self, node: ast.Call, function: Any) -> Any:
        """`getattr(self, "name", default)` and `hasattr(self, "name")`: whether it is there is known now."""
        holder, name = node.args[:2]
        if not (isinstance(holder, ast.Name) and holder.id == self.myself and isinstance(name, ast.Constant)):
            raise self.source.error(node, f"{function.__name__} is for attributes of self that are named by a constant")
        there = hasattr(self.module, str(name.value))
        if function is hasattr:
            return ["const", there]
        if there or len(node.args) < 3:
            return self.own(ast.copy_location(ast.Attribute(holder, str(name.value), ast.Load()), node))
        return self.value(node.args[2])

    def _Starred(self, node: ast.Starred) -> Any:
        return ["star", self.value(node.value)]

    def _Tuple(self, node: ast.Tuple) -> Any:
        return ["tuple", [self.value(item) for item in node.elts]]

    def _List(self, node: ast.List) -> Any:
        return ["list", [self.value(item) for item in node.elts]]

    def _Dict(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise self.source.error(node, "expansions in dicts aren't supported")
        return ["dict", [[self.value(k), self.value(v)] for k, v in zip(node.keys, node.values) if k is not None]]

    def _ListComp(self, node: ast.ListComp) -> Any:
        return self._comprehension(node, "listcomp", node.elt)

    def _GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        return self._comprehension(node, "listcomp", node.elt)

    def _DictComp(self, node: ast.DictComp) -> Any:
        return self._comprehension(node, "dictcomp", ast.Tuple([node.key, node.value], ast.Load()))

    def _comprehension(self, node: Any, kind: str, element: ast.expr) -> Any:
        if len(node.generators) != 1:
            raise self.source.error(node, "comprehensions with several loops aren't supported")
        (generator,) = node.generators
        return [kind, self.value(element), self.target(generator.target), self.value(generator.iter),
                [self.value(test) for test in generator.ifs]]

    def _Subscript(self, node: ast.Subscript) -> Any:
        thing = self.static(node)
        if thing is not ...:
            return self.resolved(node, thing)
        return ["item", self.value(node.value), self.index(node.slice)]

    def index(self, node: Any) -> Any:
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return ["slice", *[None if part is None else self.value(part) for part in parts]]
        if isinstance(node, ast.Tuple):
            return ["tuple", [self.index(item) for item in node.elts]]
        return self.value(node)

    def _JoinedStr(self, node: ast.JoinedStr) -> Any:
        parts: list[Any] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                pieces = getattr(part.format_spec, "values", ())
                if any(isinstance(piece, ast.FormattedValue) for piece in pieces):
                    raise self.source.error(node, "formats that depend on values aren't supported")
                spec = "".join(piece.value for piece in pieces)
                parts.append([self.value(part.value), chr(part.conversion) if part.conversion > 0 else "", spec])
            elif isinstance(part, ast.Constant):
                parts.append(part.value)
        return ["format", parts]
