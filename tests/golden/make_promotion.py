"""Record PyTorch's type promotion: `python tests/golden/make_promotion.py` writes promotion.json (needs PyTorch).

Operands are written as "float32" (a tensor), "float32 0-d" (a tensor without dimensions) or "2.5" (a Python number);
the table gives the type of an operation on two of them, and which types may be cast to which.
"""

import itertools
import json
from pathlib import Path

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
          "complex128"]  # fmt: skip
NUMBERS = {"True": True, "3": 3, "2.5": 2.5, "1j": 1j}
OPERANDS = [*DTYPES, *(f"{d} 0-d" for d in DTYPES), *NUMBERS]


def operand(torch, text):
    """The operand a text stands for, made by `torch` (the module under test)."""
    if text in NUMBERS:
        return NUMBERS[text]
    name, *scalar = text.split()
    return torch.ones(() if scalar else (2,), dtype=getattr(torch, name))


def name_of(dtype):
    return str(dtype).rsplit(".", 1)[-1]


def compact(table):
    """JSON with one row of a table per line."""
    parts = []
    for op, rows in table.items():
        lines = ",\n".join(f"  {json.dumps(a)}: {json.dumps(' '.join(row))}" for a, row in rows.items())
        parts.append(f"{json.dumps(op)}: {{\n{lines}\n}}")
    return "{\n" + ",\n".join(parts) + "\n}"


def main():
    import torch

    table = {
        "result_type": {
            a: [name_of(torch.result_type(operand(torch, a), operand(torch, b))) for b in OPERANDS] for a in OPERANDS
        },
        "promote_types": {
            a: [name_of(torch.promote_types(getattr(torch, a), getattr(torch, b))) for b in DTYPES] for a in DTYPES
        },
        "can_cast": {
            a: [b for b in DTYPES if torch.can_cast(getattr(torch, a), getattr(torch, b))] for a in DTYPES
        },
        "add": {}, "div": {}, "eq": {}, "pow": {}, "where": {},
    }  # fmt: skip
    for op, a in itertools.product(("add", "div", "eq", "pow"), OPERANDS[: 2 * len(DTYPES)]):
        row = []
        for b in OPERANDS:
            try:
                row.append(name_of(getattr(torch, op)(operand(torch, a), operand(torch, b)).dtype))
            except RuntimeError as error:
                row.append(type(error).__name__)
        table[op][a] = row
    condition = torch.tensor([True, False])
    for a in OPERANDS:
        row = [name_of(torch.where(condition, operand(torch, a), operand(torch, b)).dtype) for b in OPERANDS]
        table["where"][a] = row
    path = Path(__file__).with_name("promotion.json")
    path.write_text(compact(table) + "\n")


if __name__ == "__main__":
    main()
