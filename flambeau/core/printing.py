"""The text of a tensor, character for character as PyTorch prints it.

`tensor_text` takes the values as an array and the facts that follow them. Floats choose one of three forms for the
whole tensor: whole numbers ("3."), fixed precision, or scientific when the range is wide. `set_printoptions`
governs precision, width and when a long tensor is summarised.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flambeau.core import dtype as dtypes
from flambeau.core.device import MetaArray


@dataclass
class PrintOptions:
    """What `set_printoptions` sets; `sci_mode=None` leaves the choice to the values."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
options = PrintOptions()


def set_printoptions(precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
                     linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Set how tensors are printed.

    precision: digits after the point (4); threshold: more elements than this are summarised (1000); edgeitems: how
    many stay at each end of a summary (3); linewidth: characters per line (80); profile: "default", "short" or
    "full", which the other arguments refine; sci_mode: True or False force or forbid scientific notation, None (also
    when not given) lets the values decide.
    """
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    changes = {**PROFILES.get(profile or "", {}), **{key: value for key, value in given.items() if value is not None}}
    for key, value in changes.items():
        setattr(options, key, value)
    options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The current options, as keyword arguments for `set_printoptions`."""
    return asdict(options)


@contextlib.contextmanager
def printoptions(**changes: Any) -> Iterator[None]:
    """Print with other options inside a `with` block."""
    before = get_printoptions()
    set_printoptions(**changes)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_text(array: np.ndarray, *, dtype: dtypes.dtype, default_dtype: dtypes.dtype = dtypes.float32,
                requires_grad: bool = False, grad_fn_name: str | None = None, names: tuple | None = None,
                prefix: str = "tensor(", contents: str | None = None) -> str:
    """The values between brackets, then the facts that a reader cannot see in them.

    `contents` replaces the values; a `MetaArray` shows "..." and its size.
    """
    meta = isinstance(array, MetaArray)
    suffixes = ["device='meta'"] if meta else []
    size = f"size={tuple(array.shape)}"
    if meta or array.size == 0:
        values = "..." if meta else "[]"
        if meta or array.ndim != 1:
            suffixes.append(size)
        if dtype is not default_dtype:                  # nothing tells int64 and bool when there are no values
            suffixes.append(f"dtype={dtype}")
    else:
        values = None
        if not options.edgeitems:
            suffixes.append(size)
        if dtype not in (default_dtype, default_dtype.to_complex(), dtypes.int64, dtypes.bool):
            suffixes.append(f"dtype={dtype}")
    if contents is not None:
        values = contents
    elif values is None:
        values = _values_text(array, len(prefix))
    if grad_fn_name is not None:
        suffixes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    if names is not None and any(name is not None for name in names):
        suffixes.append(f"names={names}")
    return _with_suffixes(prefix + values, suffixes, len(prefix))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """Append the facts, each on a new line where the current one is full."""
    parts = [text]
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > options.linewidth:
            parts.append(",\n" + " " * indent + suffix)
            length = indent + len(suffix)
        else:
            parts.append(", " + suffix)
            length += len(suffix) + 2
    return "".join(parts) + ")"


def _values_text(array: np.ndarray, indent: int) -> str:
    """The nested brackets, with no prefix and no suffixes."""
    array = np.asarray(array)
    if array.dtype.kind not in "biufc":                 # the narrow floats of ml_dtypes print as their exact values
        array = array.astype(np.float32)
    summarise = array.size > options.threshold
    shown = _summary(array) if summarise else array
    form = {"c": _ComplexFormat, "f": _FloatFormat}.get(array.dtype.kind, _PlainFormat)
    return _nested(array, indent, summarise, form(shown))


def _summary(array: np.ndarray) -> np.ndarray:
    """The elements that a summary shows: the edges of every dimension."""
    edge = options.edgeitems
    for dim, length in enumerate(array.shape):
        if length > 2 * edge:
            ends = np.r_[:edge, length - edge:length]
            array = array.take(ends, axis=dim)
    return array


class _PlainFormat:
    """Integers and booleans: as Python writes them, padded to the widest."""

    def __init__(self, shown: np.ndarray):
        self.width = max((len(str(value)) for value in shown.reshape(-1).tolist()), default=1)

    def __call__(self, value: Any) -> str:
        return str(value).rjust(self.width)


class _FloatFormat:
    """Floats: one form for all, chosen by the finite non-zero values that are shown."""

    def __init__(self, shown: np.ndarray):
        self.width, self.spec, self.point = 1, ".0f", "."
        flat = shown.reshape(-1).astype(np.float64)
        values = flat[np.isfinite(flat) & (flat != 0)]
        if values.size == 0:
            return
        whole = bool((values == np.ceil(values)).all())
        sizes = np.abs(values)
        with np.errstate(over="ignore"):
            wide = sizes.max() / sizes.min() > 1000 or sizes.max() > 1e8 or sizes.min() < 1e-4
        scientific = wide if options.sci_mode is None else options.sci_mode
        if scientific:
            self.spec, self.point = f".{options.precision}e", ""
        elif not whole:
            self.spec, self.point = f".{options.precision}f", ""
        self.width = max(len(format(value, self.spec)) for value in values.tolist()) + len(self.point)

    def __call__(self, value: float) -> str:
        text = format(value, self.spec)
        if self.point and math.isfinite(value):
            text += self.point
        return text.rjust(self.width)


class _ComplexFormat:
    """Complex numbers: two float forms, one for the real and one for the imaginary parts."""

    def __init__(self, shown: np.ndarray):
        self.real, self.imag = _FloatFormat(shown.real), _FloatFormat(shown.imag)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, value: complex) -> str:
        imaginary = (self.imag(value.imag) + "j").lstrip()
        sign = "" if imaginary[0] in "+-" else "+"
        return self.real(value.real) + sign + imaginary


def _nested(array: np.ndarray, indent: int, summarise: bool, element: Any) -> str:
    """The text of one dimension and all below it; `indent` is the column where its bracket opens."""
    if array.ndim == 0:
        return element(array.item())
    if array.ndim == 1:
        return _row(array, indent, summarise, element)
    edge, rows = options.edgeitems, len(array)
    gap = summarise and rows > 2 * edge
    shown = [*range(edge), *range(rows - edge, rows)] if gap else range(rows)
    slices = [_nested(array[i], indent + 1, summarise, element) for i in shown]
    if gap:
        slices.insert(edge, "...")
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(slices) + "]"


def _row(array: np.ndarray, indent: int, summarise: bool, element: Any) -> str:
    """The innermost brackets, broken into lines."""
    edge = options.edgeitems
    if summarise and not edge:
        texts = ["..."]
    elif summarise and len(array) > 2 * edge:
        texts = [*map(element, array[:edge].tolist()), " ...", *map(element, array[-edge:].tolist())]
    else:
        texts = [element(value) for value in array.tolist()]
    per_line = max(1, (options.linewidth - indent) // (element.width + 2))
    lines = [", ".join(texts[i:i + per_line]) for i in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
