"""Programs as text."""

from __future__ import annotations

from typing import Any

from flambeau.jit.tape import Tape, Var, vars_in


def tape_text(tape: Tape) -> str:
    """A tape, one line for each call."""
    heads = [f"%{n} : {kind}{list(shape)}" for n, (kind, shape) in enumerate(zip(tape.dtypes, tape.shapes))]
    lines = [f"graph({', '.join(heads)}):"]
    lines += [f"  %{number} = self.{name}" for number, name in tape.attributes.items()]
    lines += [f"  %{number} = constant {t._array.dtype}{list(t.shape)}" for number, t in tape.constants.items()]
    for call in tape.calls:
        made = ", ".join(f"%{n}" for n in call.outputs if n is not None)
        operands = vars_in(call.inputs) if call.kind == "script" else call.inputs
        given = [_operand(x) for x in operands] + [f"{k}={v!r}" for k, v in call.attrs.items()]
        line = f"  # {call.line}" if call.line else ""
        lines.append(f"  {made + ' = ' if made else ''}{call.name}({', '.join(given)}){line}")
    lines.append(f"  return {', '.join(f'%{v.number}' for v in vars_in(tape.result)) or repr(tape.result)}")
    return "\n".join(lines)


def _operand(x: Any) -> str:
    return f"%{x.number}" if type(x) is Var else repr(x)
