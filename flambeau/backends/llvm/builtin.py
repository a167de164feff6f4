"""Generated code as a builtin function of Python, and what it needs to know about the objects it is given.

A function `PyObject* f(PyObject* self, PyObject** args, Py_ssize_t n)` becomes a builtin through the interpreter's own
`PyCFunction_NewEx`: a call costs 25 ns (Zen 3), where one through ctypes takes microseconds. The helpers emit IR that
reads words of Python objects: the memory of an array, its shape, the array of a tensor. Where those lie is known for
CPython (header, then fields) and for NumPy's arrays (`PyArrayObject_fields`, part of its stable ABI), and checked on
live objects by `supported` before anybody relies on it; elsewhere the compiler must take another way in.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir

from flambeau.backends.llvm import registers as reg

WORD = ctypes.sizeof(ctypes.c_void_p)
HEADER = object.__basicsize__  # reference count and type, which comes last

# Offsets in an array, after the header: data pointer, int ndim, dimensions, strides, base, descr, int flags.
DATA, NDIM, SHAPE, STRIDES, BASE, DESCR, FLAGS = (HEADER + n * WORD for n in range(7))

METH_FASTCALL = 0x80
FUNCTION_TYPE = ir.FunctionType(reg.pointer, [reg.pointer, reg.pointer, reg.i64])
"""The IR type of a builtin: (self, arguments, their number) -> object, or null with an exception set."""


class _MethodDef(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("doc", ctypes.c_char_p)]  # fmt: skip


def make_builtin(address: int, keep: Any, name: str = "native") -> Callable[..., Any]:
    """The function at an address as a builtin, which holds on to `keep` (its `Code`, and whatever else it reads).

    Generated code gets the tuple `(…, keep)` as `self`. Without CPython's function the call goes through ctypes.
    """
    constructor = getattr(getattr(ctypes, "pythonapi", None), "PyCFunction_NewEx", None)
    if constructor is None:
        return through_ctypes(address, keep)
    definition = _MethodDef(name.encode(), address, METH_FASTCALL, None)
    constructor.restype = ctypes.py_object
    constructor.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    # The interpreter reads the definition as long as the function lives: so it belongs to what the function refers to.
    return constructor(ctypes.addressof(definition), (definition, keep), None)


def through_ctypes(address: int, keep: Any) -> Callable[..., Any]:
    """The same as `make_builtin`, slower, without a function object of the interpreter's own."""
    native = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t)(address)

    def call(*arguments: Any, _keep: Any = keep) -> Any:
        objects = (ctypes.py_object * len(arguments))(*arguments)
        return native(None, ctypes.addressof(objects), len(arguments))

    return call


# ---- where things lie ------------------------------------------------------------------------------


@functools.cache
def supported() -> bool:
    """Whether objects lie in memory as this module assumes: CPython with its lock, and NumPy's layout, tried out."""
    if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    base = np.arange(24, dtype=np.float32)
    probes = [base, base.reshape(2, 3, 4), base.reshape(4, 6).T[1:, ::2], np.array(1.5), np.empty((0, 3), np.int8)]
    return all(_lies_as_assumed(probe) for probe in probes) and _slots_are_found()


def _word(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _lies_as_assumed(probe: np.ndarray) -> bool:
    place = id(probe)
    ndim = ctypes.c_int.from_address(place + NDIM).value
    if _word(place + HEADER - WORD) != id(np.ndarray) or _word(place + DATA) != probe.ctypes.data or ndim != probe.ndim:
        return False
    shape, strides = (
        tuple((ctypes.c_ssize_t * ndim).from_address(_word(place + field))) if ndim else ()
        for field in (SHAPE, STRIDES)
    )
    base = id(probe.base) if probe.base is not None else 0
    return (shape, strides) == (probe.shape, probe.strides) and (
        _word(place + BASE) == base
        and _word(place + DESCR) == id(probe.dtype)
        and ctypes.c_int.from_address(place + FLAGS).value == probe.flags.num
    )


class _Slotted:
    __slots__ = ("first", "second")
    first: object
    second: object


def _slots_are_found() -> bool:
    probe = _Slotted()
    probe.first, probe.second = object(), object()
    return all(
        _word(id(probe) + slot_offset(_Slotted, name)) == id(getattr(probe, name)) for name in _Slotted.__slots__
    )


@functools.cache
def slot_offset(kind: type, name: str) -> int:
    """How far into its instances a class keeps a slot: read from the member descriptor (`PyMemberDescrObject`).

    Raises: TypeError if the class has no such slot.
    """
    descriptor = next((vars(c)[name] for c in kind.__mro__ if name in vars(c)), None)
    if type(descriptor) is not type(_Slotted.__dict__["first"]):
        raise TypeError(f"{kind.__name__} has no slot named {name}")
    member = _word(id(descriptor) + HEADER + 3 * WORD)  # after type, name and qualified name
    return ctypes.c_ssize_t.from_address(member + 2 * WORD).value  # after its name and its int type


# ---- reading objects in generated code -------------------------------------------------------------


def _field(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    place = builder.gep(address, [ir.Constant(reg.i64, offset)], inbounds=True, source_etype=reg.i8)
    return builder.load(place, typ=kind)


def argument(builder: Any, arguments: Any, number: int) -> Any:
    """The object that is argument `number`."""
    return _field(builder, arguments, number * WORD, reg.pointer)


def type_of(builder: Any, obj: Any) -> Any:
    """The address of an object's type."""
    return _field(builder, obj, HEADER - WORD, reg.pointer)


def reference_count(builder: Any, obj: Any) -> Any:
    """The low 32 bits of an object's reference count (i32): 1 means that only the holder refers to it."""
    return _field(builder, obj, 0, reg.i32)


def slot(builder: Any, obj: Any, kind: type, name: str) -> Any:
    """The object in a slot of an instance of `kind` (or a subclass); null if it was never set."""
    return _field(builder, obj, slot_offset(kind, name), reg.pointer)


def array_data(builder: Any, array: Any) -> Any:
    """The address of an array's first element."""
    return _field(builder, array, DATA, reg.pointer)


def array_ndim(builder: Any, array: Any) -> Any:
    """An array's number of dimensions (i32)."""
    return _field(builder, array, NDIM, reg.i32)


def array_size(builder: Any, array: Any, dim: int) -> Any:
    """The length of one dimension (i64)."""
    return _field(builder, _field(builder, array, SHAPE, reg.pointer), dim * WORD, reg.i64)


def array_stride(builder: Any, array: Any, dim: int) -> Any:
    """The stride of one dimension in bytes (i64)."""
    return _field(builder, _field(builder, array, STRIDES, reg.pointer), dim * WORD, reg.i64)


def array_descr(builder: Any, array: Any) -> Any:
    """The address of an array's dtype object; native dtypes are one object each."""
    return _field(builder, array, DESCR, reg.pointer)


def array_flags(builder: Any, array: Any) -> Any:
    """An array's flags (i32), as `array.flags.num`: 1 C-contiguous, 0x400 writeable."""
    return _field(builder, array, FLAGS, reg.i32)


# ---- returning, and Python's lock ------------------------------------------------------------------

_CONSTANTS = {None: "_Py_NoneStruct", True: "_Py_TrueStruct", False: "_Py_FalseStruct",
              NotImplemented: "_Py_NotImplementedStruct"}  # fmt: skip


def constant_object(builder: Any, value: Any) -> Any:
    """The address of None, True, False or NotImplemented, resolved when the code is loaded."""
    name = _CONSTANTS[value]
    found = builder.module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(builder.module, reg.i8, name)
        found.linkage = "external"
    return found


def return_object(builder: Any, obj: Any) -> None:
    """Return an object to Python with a reference of its own. Constants may be given as None, True, False, …"""
    if not isinstance(obj, ir.Value):
        obj = constant_object(builder, obj)
    builder.call(reg.declared(builder.module, "Py_IncRef", ir.VoidType(), [reg.pointer]), [obj])
    builder.ret(obj)


@contextlib.contextmanager
def without_lock(builder: Any) -> Iterator[None]:
    """Code that runs while other threads of Python may: it must not touch objects, only memory. Some 100 ns."""
    module = builder.module
    state = builder.call(reg.declared(module, "PyEval_SaveThread", reg.pointer, []), [])
    yield
    builder.call(reg.declared(module, "PyEval_RestoreThread", ir.VoidType(), [reg.pointer]), [state])
