"""Kernels written by hand, compiled, and run on NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

import flambeau  # noqa: F401  fills the registry
from flambeau.backends.llvm import jit
from flambeau.backends.llvm import registers as reg
from flambeau.compiler.kernel import Apply, Cast, Gather, Kernel, Load, Number, Position, Reduce, Store
from flambeau.compiler.lower import loops


class Compiled:
    """A kernel as a function of flat arrays, which it writes in place."""

    def __init__(self, kernel: Kernel, threads: int = 1, width: int = 0, divided: bool = False):
        """`divided`: in shares and in parallel, however small it is."""
        module = ir.Module("kernel")
        with pytest.MonkeyPatch.context() as patch:
            for name in ("PARALLEL", "TILE", "SLAB") if divided else ():
                patch.setattr(loops, name, 0)
            self.emit(module, kernel, threads, width)

    def emit(self, module: ir.Module, kernel: Kernel, threads: int, width: int) -> None:
        self.emitted = loops.emit(module, kernel, threads, width)
        main = ir.Function(module, ir.FunctionType(ir.VoidType(), [reg.pointer]), "main")
        builder = ir.IRBuilder(main.append_basic_block())
        loops.emit_call(builder, self.emitted, main.args[0])
        builder.ret_void()
        self.module = module
        self.code = jit.compile_and_load(module, ["main"])
        self.function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.code.address("main"))
        self.scratch = np.zeros(self.emitted.scratch + 64, np.uint8)

    def __call__(self, *buffers: np.ndarray) -> None:
        addresses = [b.ctypes.data for b in buffers]
        start = self.scratch.ctypes.data
        table = (ctypes.c_void_p * (len(buffers) + 1))(*addresses, start + -start % 64)
        self.function(table)


class Maker:
    """Kernels written by hand: every method adds an instruction and returns its number."""

    def __init__(self, *shape: int, inner: int = 0):
        self.shape = shape
        self.inner = inner
        self.body: list[Any] = []
        self.slots = 0

    def _add(self, instruction: Any) -> int:
        self.body.append(instruction)
        return len(self.body) - 1

    def strides(self, dims: Sequence[int] | None) -> tuple[int, ...]:
        """Contiguous strides over some of the dimensions, in the order given; 0 along the others."""
        dims = list(range(len(self.shape))) if dims is None else list(dims)
        out, step = [0] * len(self.shape), 1
        for d in reversed(dims):
            out[d] = step
            step *= self.shape[d]
        return tuple(out)

    def load(
        self,
        dtype: Any = "f4",
        dims: Sequence[int] | None = None,
        strides: Any = None,
        offset: int = 0,
        slot: int | None = None,
    ) -> int:
        """A load from a new slot (or an old one)."""
        if slot is None:
            slot = self.slots
            self.slots += 1
        return self._add(Load(slot, self.strides(dims) if strides is None else tuple(strides), offset, np.dtype(dtype)))

    def gather(self, index: int, scale: int, dtype: Any = "f4", strides: Any = None) -> int:
        self.slots += 1
        strides = strides or (0,) * len(self.shape)
        return self._add(Gather(self.slots - 1, tuple(strides), 0, np.dtype(dtype), index, scale))

    def number(self, value: Any, dtype: Any = "f4") -> int:
        return self._add(Number(value, np.dtype(dtype)))

    def position(self, dim: int) -> int:
        return self._add(Position(dim))

    def cast(self, value: int, dtype: Any) -> int:
        return self._add(Cast(value, np.dtype(dtype)))

    def reduce(self, kind: str, value: int, dtype: Any = "f4") -> int:
        return self._add(Reduce(kind, value, np.dtype(dtype)))

    def store(
        self,
        value: int,
        dtype: Any = "f4",
        dims: Sequence[int] | None = None,
        strides: Any = None,
        offset: int = 0,
        slot: int | None = None,
    ) -> int:
        """A store into a new slot (or an old one); `dims` as for `load`."""
        if slot is None:
            slot = self.slots
            self.slots += 1
        strides = self.strides(dims) if strides is None else tuple(strides)
        return self._add(Store(slot, strides, offset, value, np.dtype(dtype)))

    def apply(self, op: str, *args: int, dtype: Any = "f4", **attrs: Any) -> int:
        return self._add(Apply(op, args, tuple(sorted(attrs.items())), np.dtype(dtype)))

    def __getattr__(self, op: str) -> Any:
        if op.startswith("_"):
            raise AttributeError(op)
        return lambda *args, **more: self.apply(op, *args, **more)

    def kernel(self) -> Kernel:
        return Kernel(self.shape, self.inner, tuple(self.body), self.slots)
