"""Single functions of generated code for eager use, kept on disk as programs are."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from flambeau.backends.llvm import jit
from flambeau.compiler import cache


def compiled(emit: Callable[[Any], Any], symbol: str, *arguments: Any) -> Any:
    """The function that `emit(module)` adds to an llvmlite module, as a ctypes function with these argument types.

    `symbol` is its name there, and names its code in the cache. It lives as long as what is returned.
    """

    def make() -> bytes:
        from llvmlite import ir  # not for those who find their code in the cache

        module = ir.Module(symbol)
        function = emit(module)
        assert function.name == symbol
        function.linkage = "external"
        return jit.compile_module(module)

    code = jit.load_object(cache.cached(cache.key_of("function", symbol), make), [symbol])
    made = ctypes.CFUNCTYPE(None, *arguments)(code.address(symbol))
    made.code = code  # type: ignore[attr-defined]
    return made
