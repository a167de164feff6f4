"""Element types, PyTorch's promotion rules, and what `finfo`/`iinfo` say about them."""

from __future__ import annotations

import builtins
from typing import Any

import ml_dtypes
import numpy as np

BOOL, INT, FLOAT, COMPLEX = range(4)


class dtype:
    """An element type: `flambeau.float32` and its siblings. One object per type; compare with `is` or `==`."""

    __slots__ = ("name", "numpy", "itemsize", "is_floating_point", "is_complex", "is_signed", "category")

    def __init__(self, name: str, numpy_type: Any, category: int, signed: builtins.bool = True):
        self.name = name
        self.numpy = np.dtype(numpy_type)
        self.itemsize = self.numpy.itemsize
        self.category = category
        self.is_floating_point = category == FLOAT
        self.is_complex = category == COMPLEX
        self.is_signed = signed

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> Any:
        return by_name, (self.name,)

    def __copy__(self) -> dtype:
        return self

    def __deepcopy__(self, memo: Any) -> dtype:
        return self

    def to_complex(self) -> dtype:
        """The complex type whose parts have this precision."""
        if self.is_complex:
            return self
        return complex128 if self is float64 else complex64

    def to_real(self) -> dtype:
        """The type of the real part."""
        return {complex64: float32, complex128: float64}.get(self, self)


bool = dtype("bool", np.bool_, BOOL, signed=False)
uint8 = dtype("uint8", np.uint8, INT, signed=False)
uint16 = dtype("uint16", np.uint16, INT, signed=False)
uint32 = dtype("uint32", np.uint32, INT, signed=False)
uint64 = dtype("uint64", np.uint64, INT, signed=False)
int8 = dtype("int8", np.int8, INT)
int16 = dtype("int16", np.int16, INT)
int32 = dtype("int32", np.int32, INT)
int64 = dtype("int64", np.int64, INT)
float16 = dtype("float16", np.float16, FLOAT)
bfloat16 = dtype("bfloat16", ml_dtypes.bfloat16, FLOAT)
float32 = dtype("float32", np.float32, FLOAT)
float64 = dtype("float64", np.float64, FLOAT)
float8_e4m3fn = dtype("float8_e4m3fn", ml_dtypes.float8_e4m3fn, FLOAT)
float8_e5m2 = dtype("float8_e5m2", ml_dtypes.float8_e5m2, FLOAT)
complex64 = dtype("complex64", np.complex64, COMPLEX)
complex128 = dtype("complex128", np.complex128, COMPLEX)

ALL: tuple[dtype, ...] = (
    bool,
    uint8,
    uint16,
    uint32,
    uint64,
    int8,
    int16,
    int32,
    int64,
    float16,
    bfloat16,
    float32,
    float64,
    float8_e4m3fn,
    float8_e5m2,
    complex64,
    complex128,
)
ALIASES = {
    "half": float16,
    "float": float32,
    "double": float64,
    "short": int16,
    "int": int32,
    "long": int64,
    "cfloat": complex64,
    "cdouble": complex128,
}
_BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL}
# NumPy's own floating and complex types: a Python number next to one of these keeps the type by itself.
NATIVE_FLOATS = frozenset(d.numpy for d in (float16, float32, float64, complex64, complex128))
NARROW_FLOATS = frozenset(d.numpy for d in (bfloat16, float8_e4m3fn, float8_e5m2))

_default = float32


def by_name(name: str) -> dtype:
    """The dtype called `name` ("float32")."""
    return _BY_NAME[name]


def from_numpy(numpy_dtype: Any) -> dtype:
    """The dtype of a NumPy dtype; TypeError for one that has no counterpart (strings, objects)."""
    found = _BY_NUMPY.get(numpy_dtype)
    if found is None:
        native = np.dtype(numpy_dtype)
        native = native.newbyteorder("=") if native.byteorder == ">" else native
        found = _BY_NUMPY.get(native)
        if found is None:
            supported = "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, "
            raise TypeError(
                f"can't convert np.ndarray of type {native}. The only supported types are: {supported}"
                "uint32, uint16, uint8, and bool."
            )
    return found


def default_dtype() -> dtype:
    """The type of tensors made from Python floats; float32 unless changed."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Set the type of tensors made from Python floats. TypeError unless it is a floating type."""
    global _default
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d}")
    _default = d


def promote(a: dtype, b: dtype) -> dtype:
    """The smallest type of PyTorch's lattice that holds both: int64 with float16 is float16."""
    if a is b:
        return a
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        if high.is_complex and low is float64:
            return complex128
        return high
    if a.category == FLOAT:
        if a in (float16, bfloat16) and b in (float16, bfloat16):
            return float32
        if a.itemsize == 1 or b.itemsize == 1:
            raise RuntimeError(f"Promotion for Float8 Types is not supported, attempted to promote {a} and {b}")
    if a.category == INT:
        unsigned = (uint16, uint32, uint64)
        if a in unsigned or b in unsigned:
            raise RuntimeError(
                f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote {a} and {b}"
            )
    return _BY_NUMPY[np.promote_types(a.numpy, b.numpy)]


def of_number(value: Any) -> dtype:
    """The type a Python number has as a tensor: bool, int64, the default dtype or its complex counterpart."""
    if isinstance(value, (builtins.bool, np.bool_)):
        return bool
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating)):
        return _default
    if isinstance(value, (complex, np.complexfloating)):
        return _default.to_complex()
    raise TypeError(f"expected a number, got {type(value).__name__}")


def combine(dimensioned: dtype | None, zero_dim: dtype | None, number: dtype | None) -> dtype:
    """Type of an operation on dimensioned tensors, 0-d tensors and Python numbers.

    A lower class promotes a higher one only when its category (bool, int, float, complex) is higher.
    """
    result = _combine_pair(dimensioned, _combine_pair(zero_dim, number))
    assert result is not None
    return result


def _combine_pair(higher: dtype | None, lower: dtype | None) -> dtype | None:
    if higher is None:
        return lower
    if lower is None or higher.category >= lower.category:
        return higher
    if higher.is_floating_point:  # lower is complex: keep the precision of the higher class
        return higher.to_complex()
    return promote(higher, lower)


def result_of(arrays: Any, numbers: Any = ()) -> dtype:
    """Result type of an operation on these NumPy arrays and Python numbers."""
    dimensioned = zero_dim = number = None
    for array in arrays:
        d = _BY_NUMPY.get(array.dtype) or from_numpy(array.dtype)
        if array.ndim:
            dimensioned = d if dimensioned is None else promote(dimensioned, d)
        else:
            zero_dim = d if zero_dim is None else promote(zero_dim, d)
    for value in numbers:
        d = of_number(value)
        number = d if number is None else promote(number, d)
    return combine(dimensioned, zero_dim, number)


def can_cast(from_: dtype, to: dtype) -> builtins.bool:
    """Whether PyTorch allows writing values of one type into a tensor of the other (float into int: no)."""
    if from_.is_complex and not to.is_complex:
        return False
    if from_.is_floating_point and to.category < FLOAT:
        return False
    return not (from_ is not bool and to is bool)


class finfo:
    """Limits of a floating type: bits, eps, max, min, tiny, smallest_normal, resolution."""

    def __init__(self, type: dtype | None = None):
        d = type or _default
        if not isinstance(d, dtype) or not (d.is_floating_point or d.is_complex):
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{d}'")
        real = d.to_real()
        info: Any = ml_dtypes.finfo(real.numpy)
        self.bits = int(info.bits)
        self.eps = float(info.eps)
        self.max = float(info.max)
        self.min = float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)
        self.dtype = real.name

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer type: bits, max, min."""

    def __init__(self, type: dtype):
        if not isinstance(type, dtype) or type.category != INT:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{type}'")
        info = np.iinfo(type.numpy)
        self.bits = int(info.bits)
        self.max = int(info.max)
        self.min = int(info.min)
        self.dtype = type.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def scalar_name(numpy_dtype: Any) -> str:
    """How PyTorch's messages call a type: Float, Long, Bool."""
    name = from_numpy(numpy_dtype).name
    special = {
        "float32": "Float",
        "float64": "Double",
        "float16": "Half",
        "bfloat16": "BFloat16",
        "int64": "Long",
        "int32": "Int",
        "int16": "Short",
        "int8": "Char",
        "uint8": "Byte",
        "bool": "Bool",
        "complex64": "ComplexFloat",
        "complex128": "ComplexDouble",
    }
    return special.get(name, name)
