"""PyTorch's `torch._foreach_*`: one operation over lists of tensors, as optimizers of other packages write it.

Every function takes a list of tensors first; further operands are lists of as many tensors or numbers, or one of them
for all. Names with an underscore at the end write into the first list and return it. Nothing is fused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.core.tensor import Tensor

_IN_PLACE_TOO = """abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1 floor
    frac lerp lgamma log log10 log1p log2 maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh sqrt
    sub tan tanh trunc""".split()
_NEW = "clone max mm norm".split()
_IN_PLACE = "copy_ zero_".split()
# Keywords under which operators take what differs from tensor to tensor; all others go to every call as they are.
_OPERANDS = ("other", "scalar", "scalars", "tensor1", "tensors1", "tensor2", "tensors2", "exponent", "weight", "src",
             "ord")


def _column(operand: Any, count: int) -> list[Any]:
    if not isinstance(operand, (list, tuple)):
        return [operand] * count
    if len(operand) != count:
        raise RuntimeError(f"Tensor lists must have the same number of tensors, got {count} and {len(operand)}")
    return list(operand)


def _apply(name: str, tensor: Tensor, row: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    """One call for one tensor."""
    plain, ending = name.rstrip("_"), "_" if name.endswith("_") else ""
    if plain in ("clamp_max", "clamp_min"):
        return getattr(tensor, f"clamp{ending}")(**{plain.removeprefix("clamp_"): row[0]})
    if plain in ("maximum", "minimum"):
        bound = "min" if plain == "maximum" else "max"
        if not isinstance(row[0], Tensor):
            return getattr(tensor, f"clamp{ending}")(**{bound: row[0]})
        found = getattr(tensor, plain)(row[0])
        return tensor.copy_(found) if ending else found
    if plain in ("addcdiv", "addcmul") and len(row) == 3:
        keywords, row = {**keywords, "value": row[2]}, row[:2]
    return getattr(tensor, name)(*row, **keywords)


def _foreach(name: str) -> Callable[..., Any]:
    def function(self: Any, *operands: Any, **keywords: Any) -> Any:
        operands += tuple(keywords.pop(key) for key in _OPERANDS if key in keywords)
        tensors = list(self) if isinstance(self, (list, tuple)) else []
        if not tensors and name == "pow" and isinstance(operands[0], (list, tuple)):
            return tuple(self**exponent for exponent in operands[0])
        if not tensors:
            raise RuntimeError("Tensor list must have at least one tensor.")
        rows = zip(*(_column(operand, len(tensors)) for operand in operands)) if operands else [()] * len(tensors)
        found = [_apply(name, tensor, tuple(row), keywords) for tensor, row in zip(tensors, rows)]
        return self if name.endswith("_") else tuple(found)

    function.__name__ = function.__qualname__ = f"_foreach_{name}"
    function.__doc__ = f"`{name}` of every tensor in a list."
    return function


_ALL = [*_IN_PLACE_TOO, *(f"{name}_" for name in _IN_PLACE_TOO), *_NEW, *_IN_PLACE]
FUNCTIONS = {f"_foreach_{name}": _foreach(name) for name in _ALL}
