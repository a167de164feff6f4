"""What a file would need, found out without running it."""

from __future__ import annotations

import os
import pickletools
from typing import Any

from flambeau.serialization import unpickler
from flambeau.serialization.torch_zip import ZipReader

__all__ = ["get_unsafe_globals_in_checkpoint"]

_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def get_unsafe_globals_in_checkpoint(f: str | os.PathLike | Any) -> list[str]:
    """The classes and functions in a file, as "module.name", which `load(weights_only=True)` does not allow yet.

    ValueError for a file in the format before PyTorch 1.6.
    """
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return get_unsafe_globals_in_checkpoint(file)
    if f.read(4) != b"PK\x03\x04":
        raise ValueError("Expected input to be a checkpoint returned by torch.save")
    found: dict[tuple[str, str], None] = {}
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(ZipReader(f).read("data.pkl")):
        if opcode.name == "GLOBAL":
            module, _, name = argument.partition(" ")
            found[module, name] = None
        elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
            found[texts[-2], texts[-1]] = None
        elif opcode.name in _TEXTS:
            texts.append(argument)
    return [f"{module}.{name}" for module, name in found if not unpickler.is_allowed(module, name)]

