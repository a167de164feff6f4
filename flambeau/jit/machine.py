"""Running a script: its tree becomes closures, one for each expression and statement.

The same code runs scripts that were just made and those from files, so everything is checked here: kinds, names,
numbers of parts. What is not known raises RuntimeError before anything runs.
"""

from __future__ import annotations

import operator
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from flambeau.core.modes import modes
from flambeau.jit import names, types
from flambeau.jit.plain import decode

Frame = dict[str, Any]
Run = Callable[[Frame], Any]
MYSELF = "self "  # the place of the module in a frame: no name that Python has
BREAK, CONTINUE = object(), object()
_DEEPEST = 200

BINARY: dict[str, Any] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
          "//": operator.floordiv, "%": operator.mod, "**": operator.pow, "@": operator.matmul, "&": operator.and_,
          "|": operator.or_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift}
UPDATE = {"+": operator.iadd, "-": operator.isub, "*": operator.imul, "/": operator.itruediv, "//": operator.ifloordiv,
          "%": operator.imod, "**": operator.ipow, "@": operator.imatmul, "&": operator.iand, "|": operator.ior,
          "^": operator.ixor, "<<": operator.ilshift, ">>": operator.irshift}
COMPARE: dict[str, Any] = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
           ">=": operator.ge, "is": operator.is_, "is not": operator.is_not, "in": lambda a, b: a in b,
           "not in": lambda a, b: a not in b}
UNARY: dict[str, Any] = {"-": operator.neg, "+": operator.pos, "~": operator.invert, "not": operator.not_}


class Returned:
    """What a `return` leaves."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class Builder:
    """Makes closures of a tree; `functions[n]` is what ["function", n] calls."""

    def __init__(self, functions: list[Any]):
        self.functions = functions
        self.depth = 0

    # ---- statements --------------------------------------------------------------------------------------

    def block(self, body: Any) -> Run:
        """Statements in order; what they return is None to go on, BREAK, CONTINUE or Returned."""
        if type(body) is not list:
            raise RuntimeError("a script has a block that is none")
        steps = [self.statement(entry) for entry in body]

        def run(frame: Frame) -> Any:
            for step in steps:
                signal = step(frame)
                if signal is not None:
                    return signal
            return None

        return run

    def statement(self, entry: Any) -> Run:
        kind, line, parts = self.opened(entry, "_do_", statement=True)
        inner = kind(self, *parts)
        self.depth -= 1

        def run(frame: Frame) -> Any:
            try:
                return inner(frame)
            except Exception as error:
                if not hasattr(error, "_script_line"):
                    error._script_line = line  # type: ignore[attr-defined]
                raise

        return run

    def opened(self, entry: Any, prefix: str, statement: bool = False) -> Any:
        if type(entry) is not list or not entry or type(entry[0]) is not str:
            raise RuntimeError(f"a script has a part that is none: {entry!r:.60}")
        kind = KINDS.get(prefix + entry[0])
        start = 2 if statement else 1
        if kind is None or (statement and (len(entry) < 2 or type(entry[1]) is not int)):
            raise RuntimeError(f"a script has a part of unknown kind: {entry[0]!r:.60}")
        most = kind.__code__.co_argcount - 1
        if not most - len(kind.__defaults__ or ()) <= len(entry) - start <= most:
            raise RuntimeError(f"a script has a part of kind {entry[0]} with a wrong number of parts")
        self.depth += 1
        if self.depth > _DEEPEST:
            raise RuntimeError("a script is nested too deeply")
        return kind, entry[1] if statement else 0, entry[start:]

    def _do_do(self, value: Any) -> Run:
        run = self.value(value)

        def do(frame: Frame) -> None:
            run(frame)

        return do

    def _do_assign(self, targets: Any, value: Any) -> Run:
        stores, run = [self.store(t) for t in targets], self.value(value)

        def assign(frame: Frame) -> None:
            found = run(frame)
            for store in stores:
                store(frame, found)

        return assign

    def _do_update(self, target: Any, sign: Any, value: Any) -> Run:
        if target and target[0] == "item":  # evaluated once
            holder, index, run, function = self.value(target[1]), self.value(target[2]), self.value(value), UPDATE[sign]

            def update_item(frame: Frame) -> None:
                held, at = holder(frame), index(frame)
                held[at] = function(held[at], run(frame))

            return update_item
        load, store, run, function = self.value(target), self.store(target), self.value(value), UPDATE[sign]

        def update(frame: Frame) -> None:
            store(frame, function(load(frame), run(frame)))

        return update

    def _do_delete(self, targets: Any) -> Run:
        removals: list[Any] = []
        for target in targets:
            if target[0] == "name":
                removals.append((None, _text(target[1])))
            elif target[0] == "item":
                removals.append((self.value(target[1]), self.value(target[2])))
            else:
                raise RuntimeError("a script deletes what cannot be")

        def delete(frame: Frame) -> None:
            for holder, key in removals:
                if holder is None:
                    del frame[key]
                else:
                    del holder(frame)[key(frame)]

        return delete

    def _do_return(self, value: Any) -> Run:
        run = self.value(value)
        return lambda frame: Returned(run(frame))

    def _do_break(self) -> Run:
        return lambda frame: BREAK

    def _do_continue(self) -> Run:
        return lambda frame: CONTINUE

    def _do_if(self, test: Any, body: Any, rest: Any) -> Run:
        asked, yes, no = self.value(test), self.block(body), self.block(rest)
        return lambda frame: yes(frame) if asked(frame) else no(frame)

    def _do_while(self, test: Any, body: Any) -> Run:
        asked, run = self.value(test), self.block(body)

        def loop(frame: Frame) -> Any:
            while asked(frame):
                signal = run(frame)
                if signal is BREAK:
                    break
                if type(signal) is Returned:
                    return signal
            return None

        return loop

    def _do_for(self, target: Any, over: Any, body: Any) -> Run:
        store, items, run = self.store(target), self.value(over), self.block(body)

        def loop(frame: Frame) -> Any:
            for item in names.iterable(items(frame)):
                store(frame, item)
                signal = run(frame)
                if signal is BREAK:
                    break
                if type(signal) is Returned:
                    return signal
            return None

        return loop

    def _do_assert(self, test: Any, message: Any) -> Run:
        asked, said = self.value(test), None if message is None else self.value(message)

        def check(frame: Frame) -> None:
            if not asked(frame):
                raise AssertionError(*([] if said is None else [said(frame)]))

        return check

    def _do_raise(self, kind: Any, given: Any) -> Run:
        if kind not in names.ERRORS:
            raise RuntimeError(f"a script raises {kind!r:.60}, which is no error it may raise")
        arguments = [self.value(a) for a in given]

        def fail(frame: Frame) -> None:
            raise names.ERRORS[kind](*[a(frame) for a in arguments])

        return fail

    def _do_no_grad(self, body: Any) -> Run:
        run = self.block(body)

        def quiet(frame: Frame) -> Any:
            before, modes.grad = modes.grad, False
            try:
                return run(frame)
            finally:
                modes.grad = before

        return quiet

    def store(self, target: Any) -> Callable[[Frame, Any], None]:
        """How a value is put into a target."""
        kind = target[0] if type(target) is list and target else None
        if kind == "name":
            name = _text(target[1])
            return lambda frame, value: frame.__setitem__(name, value)
        if kind == "self":
            attribute = _text(target[1])
            return lambda frame, value: _set_own(frame[MYSELF], attribute, value)
        if kind == "item":
            holder, index = self.value(target[1]), self.value(target[2])
            return lambda frame, value: holder(frame).__setitem__(index(frame), value)
        if kind == "tuple":
            return self._unpacking([t if t[0] != "star" else t[1] for t in target[1]],
                                   [i for i, t in enumerate(target[1]) if t[0] == "star"])
        raise RuntimeError(f"a script assigns to what cannot be assigned to: {target!r:.60}")

    def _unpacking(self, targets: list[Any], starred: list[int]) -> Callable[[Frame, Any], None]:
        stores = [self.store(t) for t in targets]

        def unpack(frame: Frame, value: Any) -> None:
            items = list(names.iterable(value))
            if starred:
                first, last = starred[0], len(stores) - starred[0] - 1
                if len(items) < first + last:
                    raise ValueError(f"expected at least {first + last} values to unpack, got {len(items)}")
                items = [*items[:first], items[first : len(items) - last], *items[len(items) - last :]]
            if len(items) != len(stores):
                raise ValueError(f"expected {len(stores)} values to unpack, got {len(items)}")
            for store, item in zip(stores, items):
                store(frame, item)

        return unpack

    # ---- expressions -------------------------------------------------------------------------------------

    def value(self, entry: Any) -> Run:
        """The closure of an expression."""
        kind, _, parts = self.opened(entry, "_get_")
        made: Run = kind(self, *parts)
        self.depth -= 1
        return made

    def _get_const(self, value: Any) -> Run:
        found = decode(value)
        if isinstance(found, (list, dict)):
            return lambda frame: decode(value)
        return lambda frame: found

    def _get_name(self, name: Any) -> Run:
        name = _text(name)

        def load(frame: Frame) -> Any:
            try:
                return frame[name]
            except KeyError:
                raise RuntimeError(f"{name} is not defined in the false branch or before the loop") from None

        return load

    def _get_myself(self) -> Run:
        return lambda frame: frame[MYSELF]

    def _get_self(self, name: Any) -> Run:
        name = _text(name)
        return lambda frame: names.module_attribute(frame[MYSELF], name)

    def _get_attr(self, value: Any, name: Any) -> Run:
        run, name = self.value(value), _text(name)
        return lambda frame: names.attribute(run(frame), name)

    def _get_torch(self, path: Any) -> Run:
        function = names.functions().get(path) if type(path) is str else None
        if function is None:
            raise RuntimeError(f"a script calls {path!r:.60}, which is no function it may call")
        return lambda frame: function

    def _get_builtin(self, name: Any) -> Run:
        function = names.BUILTINS.get(name) if type(name) is str else None
        if function is None:
            raise RuntimeError(f"a script calls {name!r:.60}, which is no function it may call")
        return lambda frame: function

    def _get_type(self, name: Any) -> Run:
        kind = types.type_of(name)
        return lambda frame: kind

    def _get_namedtuple(self, name: Any, fields: Any, defaults: Any = ()) -> Run:
        values = tuple(map(decode, defaults))
        kind: Any = namedtuple(_text(name), list(map(_text, fields)), defaults=values)  # type: ignore[misc]
        kind._script_value = True  # type: ignore[attr-defined]
        return lambda frame: kind

    def _get_function(self, number: Any) -> Run:
        if type(number) is not int or not 0 <= number < len(self.functions):
            raise RuntimeError("a script calls a function that it does not have")
        return lambda frame: self.functions[number]

    def _get_binary(self, sign: Any, left: Any, right: Any) -> Run:
        function, x, y = BINARY[sign], self.value(left), self.value(right)
        return lambda frame: function(x(frame), y(frame))

    def _get_unary(self, sign: Any, value: Any) -> Run:
        function, x = UNARY[sign], self.value(value)
        return lambda frame: function(x(frame))

    def _get_and(self, values: Any) -> Run:
        parts = [self.value(v) for v in values]

        def both(frame: Frame) -> Any:
            found: Any = True
            for part in parts:
                found = part(frame)
                if not found:
                    break
            return found

        return both

    def _get_or(self, values: Any) -> Run:
        parts = [self.value(v) for v in values]

        def either(frame: Frame) -> Any:
            found: Any = False
            for part in parts:
                found = part(frame)
                if found:
                    break
            return found

        return either

    def _get_compare(self, left: Any, signs: Any, others: Any) -> Run:
        first, rest = self.value(left), [(COMPARE[s], self.value(o)) for s, o in zip(signs, others, strict=True)]

        def compare(frame: Frame) -> Any:
            x = first(frame)
            result: Any = True
            for function, other in rest:
                y = other(frame)
                result = function(x, y)
                if len(rest) > 1 and not result:
                    break
                x = y
            return result

        return compare

    def _get_choose(self, test: Any, yes: Any, no: Any) -> Run:
        asked, x, y = self.value(test), self.value(yes), self.value(no)
        return lambda frame: x(frame) if asked(frame) else y(frame)

    def _get_call(self, function: Any, given: Any, named: Any) -> Run:
        target, items = self.value(function), self._items(given)
        keywords = [(_text(name), self.value(value)) for name, value in named]
        direct = function[0] in ("torch", "builtin", "function", "namedtuple")

        def call(frame: Frame) -> Any:
            found = target(frame)
            if not direct:
                found = names.callable_value(found)
            return found(*items(frame), **{name: value(frame) for name, value in keywords})

        return call

    def _items(self, entries: Any) -> Run:
        parts = [(e[0] == "star", self.value(e[1] if e[0] == "star" else e)) for e in entries]
        if not any(starred for starred, _ in parts):
            runs = [run for _, run in parts]
            return lambda frame: [run(frame) for run in runs]

        def items(frame: Frame) -> list[Any]:
            found: list[Any] = []
            for starred, run in parts:
                if starred:
                    found.extend(names.iterable(run(frame)))
                else:
                    found.append(run(frame))
            return found

        return items

    def _get_tuple(self, values: Any) -> Run:
        items = self._items(values)
        return lambda frame: tuple(items(frame))

    def _get_list(self, values: Any) -> Run:
        return self._items(values)

    def _get_dict(self, pairs: Any) -> Run:
        parts = [(self.value(k), self.value(v)) for k, v in pairs]
        return lambda frame: {k(frame): v(frame) for k, v in parts}

    def _get_listcomp(self, element: Any, target: Any, over: Any, tests: Any) -> Run:
        made, store, items = self.value(element), self.store(target), self.value(over)
        asked = [self.value(t) for t in tests]

        def build(frame: Frame) -> list[Any]:
            inner, found = dict(frame), []
            for item in names.iterable(items(frame)):
                store(inner, item)
                if all(test(inner) for test in asked):
                    found.append(made(inner))
            return found

        return build

    def _get_dictcomp(self, element: Any, target: Any, over: Any, tests: Any) -> Run:
        build = self._get_listcomp(element, target, over, tests)
        return lambda frame: dict(build(frame))

    def _get_item(self, value: Any, index: Any) -> Run:
        holder, at = self.value(value), self.value(index)

        def item(frame: Frame) -> Any:
            return holder(frame)[at(frame)]

        return item

    def _get_slice(self, start: Any, stop: Any, step: Any) -> Run:
        parts = [None if part is None else self.value(part) for part in (start, stop, step)]
        return lambda frame: slice(*[None if part is None else part(frame) for part in parts])

    def _get_format(self, parts: Any) -> Run:
        pieces: list[Any] = []
        for part in parts:
            pieces.append(part if type(part) is str else (self.value(part[0]), _text(part[1]), _text(part[2])))

        def text(frame: Frame) -> str:
            shown = []
            for piece in pieces:
                if type(piece) is str:
                    shown.append(piece)
                    continue
                run, conversion, spec = piece
                found = run(frame)
                found = repr(found) if conversion == "r" else str(found) if conversion else found
                shown.append(format(found, spec))
            return "".join(shown)

        return text


KINDS = {name: function for name, function in vars(Builder).items() if name.startswith(("_do_", "_get_"))}


def _text(value: Any) -> str:
    if type(value) is not str:
        raise RuntimeError(f"a script has {value!r:.60} where a name must be")
    return value


def _set_own(module: Any, name: str, value: Any) -> None:
    """`self.name = value` in a script: buffers and constants."""
    if name in module._buffers:
        module._buffers[name] = value
    elif name in module.__dict__.get("_constants", {}):
        module.__dict__["_constants"][name] = value
    else:
        raise RuntimeError(f"a script can only set buffers and numbers that the module has; '{name}' is none")
