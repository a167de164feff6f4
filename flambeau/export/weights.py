"""The constants of exported code: one block of bytes, inside the object or in a file beside it."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

from flambeau.compiler import interpreter
from flambeau.compiler.graph import Value

MAGIC = b"FLMBWTS1"
SECTION = ".rodata.weights"
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


def definition(symbol: str, content: bytes, in_elf: bool) -> str:
    """The global, in LLVM's language: with its bytes, or in ELF with room for them that `filled` fills."""
    if not in_elf:
        spelled = np.array([f"\\{byte:02x}" for byte in range(256)], "S3")
        text = spelled[np.frombuffer(content, np.uint8)].tobytes().decode()
        return f'@"{symbol}" = internal constant [{len(content)} x i8] c"{text}", align 64'
    # (Initialised elsewhere: LLVM shall not take the zeros for the values.)
    return (f'@"{symbol}" = hidden externally_initialized constant [{len(content)} x i8] zeroinitializer, '
            f'section "{SECTION}", align 64')


def filled(object_file: bytes, content: bytes) -> bytes:
    """An ELF object with these bytes in its section for weights: a text of them would take LLVM minutes to read."""
    made = bytearray(object_file)
    (table,) = struct.unpack_from("<Q", made, 0x28)
    size, count, names = struct.unpack_from("<HHH", made, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", made, table + n * size) for n in range(count)]
    for name, _, _, _, start, length in headers:
        first = headers[names][4] + name
        if made[first : made.index(0, first)] == SECTION.encode():
            assert length == len(content)
            made[start : start + length] = content
            return bytes(made)
    raise AssertionError(f"the object has no section {SECTION}")
