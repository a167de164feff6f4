"""`assert_close`: equal up to rounding, with a message that says where and by how much it is not."""

from __future__ import annotations

import cmath
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import flambeau as fl
from flambeau.core.tensor import Tensor

# dtype -> (relative, absolute) tolerance; other dtypes must be equal.
TOLERANCES = {
    fl.float16: (1e-3, 1e-5),
    fl.bfloat16: (1.6e-2, 1e-5),
    fl.float32: (1.3e-6, 1e-5),
    fl.float64: (1e-7, 1e-7),
    fl.complex64: (1.3e-6, 1e-5),
    fl.complex128: (1e-7, 1e-7),
}
NUMBER_DTYPES = {int: fl.int64, float: fl.float64, complex: fl.complex128}

Message = "str | Callable[[str], str] | None"


class _Rules:
    """What `assert_close` was asked to check, carried through nested containers."""

    def __init__(self, options: dict[str, Any]):
        self.allow_subclasses = options["allow_subclasses"]
        self.rtol, self.atol = options["rtol"], options["atol"]
        self.equal_nan = options["equal_nan"]
        self.check_device, self.check_dtype = options["check_device"], options["check_dtype"]
        self.check_layout, self.check_stride = options["check_layout"], options["check_stride"]

    def tolerances(self, *dtypes: Any) -> tuple[float, float]:
        """The tolerances given, or the widest that the dtypes bring."""
        if self.rtol is not None:
            return self.rtol, self.atol
        pairs = [TOLERANCES.get(dtype, (0.0, 0.0)) for dtype in dtypes]
        return max(rtol for rtol, _ in pairs), max(atol for _, atol in pairs)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Any = None,
) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere.

    Takes tensors, NumPy arrays, numbers, None, and sequences and mappings of these to any depth. Tolerances follow
    from the dtypes unless both are given. `msg` replaces the message, or is a function of the message.
    Raises TypeError for values that cannot be compared and ValueError for one tolerance without the other.
    """
    __tracebackhide__ = True
    if (rtol is None) != (atol is None):
        missing = "rtol" if rtol is None else "atol"
        raise ValueError(f"'rtol' and 'atol' must both be given or both be left out; {missing} is missing")
    rules = _Rules(
        {
            "allow_subclasses": allow_subclasses,
            "rtol": rtol,
            "atol": atol,
            "equal_nan": equal_nan,
            "check_device": check_device,
            "check_dtype": check_dtype,
            "check_layout": check_layout,
            "check_stride": check_stride,
        }
    )
    difference = _difference(actual, expected, rules, ())
    if difference is not None:
        raise AssertionError(msg(difference) if callable(msg) else (difference if msg is None else msg))


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str = "",
) -> None:
    """`assert_close` without checks of dtype and device. Deprecated, as in PyTorch."""
    warnings.warn("`torch.testing.assert_allclose()` is deprecated; use `torch.testing.assert_close()`.",
                  FutureWarning, stacklevel=2)
    as_tensor = lambda value: value if isinstance(value, Tensor) else fl.tensor(value)
    assert_close(as_tensor(actual), as_tensor(expected), rtol=rtol, atol=atol, equal_nan=equal_nan,
                 check_device=True, check_dtype=False, check_stride=False, msg=msg or None)


def _difference(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> str | None:
    """What is wrong first, or None."""
    found = _compared(actual, expected, rules, path)
    if found is None or "The failure occurred for item" in found or not path:
        return found
    return found + "\n\nThe failure occurred for item " + "".join(f"[{key!r}]" for key in path)


def _compared(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> str | None:
    sequences = (Sequence,)
    if isinstance(actual, sequences) and isinstance(expected, sequences) and not isinstance(actual, str) \
            and not isinstance(expected, str):
        return _sequences(actual, expected, rules, path)
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        return _mappings(actual, expected, rules, path)
    if actual is None or expected is None:
        return None if actual is expected else f"None mismatch: {actual} is not {expected}"
    if _are(actual, expected, (bool, np.bool_)):
        return None if bool(actual) == bool(expected) else f"Booleans mismatch: {actual} is not {expected}"
    if _are(actual, expected, (int, float, complex, np.number)):
        return _numbers(actual, expected, rules)
    if _comparable(actual, expected, rules):
        return _tensors(_as_tensor(actual), _as_tensor(expected), rules)
    raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.")


def _are(actual: Any, expected: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(actual, kinds) and isinstance(expected, kinds)


def _comparable(actual: Any, expected: Any, rules: _Rules) -> bool:
    """Both tensors or both arrays; of related types, or of the same type where subclasses are not allowed."""
    if not (_are(actual, expected, (Tensor,)) or _are(actual, expected, (np.ndarray,))):
        return False
    a, b = type(actual), type(expected)
    return a is b or (rules.allow_subclasses and (issubclass(a, b) or issubclass(b, a)))


def _as_tensor(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else fl.from_numpy(np.array(value))


def _sequences(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> str | None:
    if len(actual) != len(expected):
        return f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
    for index, (a, b) in enumerate(zip(actual, expected)):
        found = _difference(a, b, rules, (*path, index))
        if found is not None:
            return found
    return None


def _mappings(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> str | None:
    missing, additional = set(expected) - set(actual), set(actual) - set(expected)
    if missing or additional:
        return ("The keys of the mappings do not match:\n"
                f"Missing keys in the actual mapping: {sorted(missing, key=str)}\n"
                f"Additional keys in the actual mapping: {sorted(additional, key=str)}")
    for key in expected:
        found = _difference(actual[key], expected[key], rules, (*path, key))
        if found is not None:
            return found
    return None


def _numbers(actual: Any, expected: Any, rules: _Rules) -> str | None:
    if rules.check_dtype and type(actual) is not type(expected):
        return f"The (d)types do not match: {type(actual)} != {type(expected)}."
    dtypes = [NUMBER_DTYPES.get(kind, fl.float64) for kind in (type(actual), type(expected))]
    rtol, atol = rules.tolerances(*dtypes)
    difference = abs(actual - expected)
    if actual == expected or (difference <= atol + rtol * abs(expected) and cmath.isfinite(difference)):
        return None
    if rules.equal_nan and cmath.isnan(actual) and cmath.isnan(expected):
        return None
    relative = difference / abs(expected) if expected != 0 else float("inf")
    return _scalars(actual, expected, difference, relative, rtol, atol)


def _scalars(actual: Any, expected: Any, absolute: Any, relative: Any, rtol: float, atol: float) -> str:
    return (f"Scalars are not {_verb(rtol, atol)}!\n\nExpected {expected} but got {actual}.\n"
            f"Absolute difference: {absolute}{_allowed(rtol, atol, atol)}\n"
            f"Relative difference: {relative}{_allowed(rtol, atol, rtol)}")


def _verb(rtol: float, atol: float) -> str:
    return "close" if rtol or atol else "equal"


def _allowed(rtol: float, atol: float, limit: float) -> str:
    return f" (up to {limit} allowed)" if rtol or atol else ""


def _tensors(actual: Tensor, expected: Tensor, rules: _Rules) -> str | None:
    mismatch = lambda name, a, b: f"The values for attribute '{name}' do not match: {a} != {b}."
    if actual.shape != expected.shape:
        return mismatch("shape", actual.shape, expected.shape)
    if rules.check_layout and actual.layout != expected.layout:
        return mismatch("layout", actual.layout, expected.layout)
    if rules.check_device and actual.device != expected.device:
        return mismatch("device", actual.device, expected.device)
    if rules.check_dtype and actual.dtype != expected.dtype:
        return mismatch("dtype", actual.dtype, expected.dtype)
    if rules.check_stride and actual.stride() != expected.stride():
        return mismatch("stride()", actual.stride(), expected.stride())
    if actual.device.type == "meta":
        return None
    return _values(actual, expected, *rules.tolerances(actual.dtype, expected.dtype), rules.equal_nan)


def _values(actual: Tensor, expected: Tensor, rtol: float, atol: float, equal_nan: bool) -> str | None:
    a, b = _wide(actual), _wide(expected)
    with np.errstate(all="ignore"):
        absolute = np.abs(a - b)
        limit = atol + rtol * np.abs(b) if rtol or atol else np.zeros(())
        close = (a == b) | ((absolute <= limit) & np.isfinite(b))
        if equal_nan:
            close |= np.isnan(a) & np.isnan(b)
        if close.all():
            return None
        relative = absolute / np.abs(b)
    if a.ndim == 0:
        return _scalars(actual.item(), expected.item(), absolute.item(), relative.item(), rtol, atol)
    # What matches does not compete for the greatest difference.
    absolute, relative = np.where(close, 0, absolute), np.where(close, 0, relative)
    wrong, total = close.size - int(close.sum()), close.size
    return (f"Tensor-likes are not {_verb(rtol, atol)}!\n\nMismatched elements: {wrong} / {total} "
            f"({wrong / total:.1%})\n"
            f"Greatest absolute difference: {_greatest(absolute)}{_allowed(rtol, atol, atol)}\n"
            f"Greatest relative difference: {_greatest(relative)}{_allowed(rtol, atol, rtol)}")


def _wide(t: Tensor) -> np.ndarray:
    """The values in a type whose differences NumPy computes: bools as numbers, half-width floats as float32."""
    array = t.resolve_conj()._array
    if array.dtype.kind == "b" or (array.dtype.kind == "u" and array.dtype.itemsize < 8):
        return array.astype(np.int64)
    if array.dtype.kind == "V" or array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(np.int64) if array.dtype.kind == "i" else array


def _greatest(values: np.ndarray) -> str:
    index = np.unravel_index(int(np.argmax(values)), values.shape)
    return f"{values[index].item()} at index {tuple(int(i) for i in index)}"
