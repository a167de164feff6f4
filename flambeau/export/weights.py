"""The constants of exported code: one block of bytes, inside the object or in a file beside it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from flambeau.compiler import interpreter
from flambeau.compiler.graph import Value

MAGIC = b"FLMBWTS1"
HEADER = 32  # bytes: magic, checksum, size, 0
_ALIGNMENT = 64
MIX, SPREAD = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93  # odd: multiplication by them loses nothing


class Block:
    """Constants side by side; `offsets` says where each lies."""

    def __init__(self, values: Iterable[Value], constants: dict[Value, np.ndarray]):
        self.offsets: dict[Value, int] = {}
        parts: list[bytes] = []
        size = 0
        for value in values:
            array = interpreter.empty_value(value)
            array[...] = constants[value]
            order = sorted(range(array.ndim), key=lambda d: (-array.strides[d], d))
            content = np.ascontiguousarray(array.transpose(order)).tobytes()
            content += bytes(-len(content) % _ALIGNMENT)
            self.offsets[value] = size
            parts.append(content)
            size += len(content)
        self.content = b"".join(parts)

    @property
    def checksum(self) -> int:
        """What `name_load` compares."""
        words = np.frombuffer(self.content, np.uint64)
        with np.errstate(over="ignore"):
            places = np.arange(words.size, dtype=np.uint64) * np.uint64(SPREAD)
            return int(((words ^ places) * np.uint64(MIX)).sum(dtype=np.uint64)) ^ len(self.content)

    def file(self) -> bytes:
        """The content of a weights file."""
        return MAGIC + struct.pack("<QQQ", self.checksum, len(self.content), 0) + self.content


def assembly(symbol: str, path: str, triple: str) -> list[str] | None:
    """Lines of assembly that put the bytes of a file under a symbol; None for object formats this does not know."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    if "linux" in triple or "bsd" in triple or "elf" in triple:
        head = ['.section .rodata.weights,"a",@progbits', f".hidden {symbol}", f".globl {symbol}"]
        tail = [".text"]
    elif "darwin" in triple or "macos" in triple:
        symbol = "_" + symbol
        head, tail = [".section __TEXT,__const", f".private_extern {symbol}", f".globl {symbol}"], [".text"]
    else:
        return None
    return [*head, ".p2align 6", f"{symbol}:", f'.incbin "{text}"', *tail]


def as_module_assembly(lines: list[str]) -> str:
    """The lines as LLVM writes assembly in a module."""
    quoted: list[Any] = [line.replace("\\", "\\5C").replace('"', "\\22") for line in lines]
    return "".join(f'module asm "{line}"\n' for line in quoted)
