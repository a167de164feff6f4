"""Settings for the whole process: checksums, and the byte order of files that do not name theirs."""

from __future__ import annotations

import enum
import sys

__all__ = [
    "LoadEndianness", "get_crc32_options", "get_default_load_endianness", "set_crc32_options",
    "set_default_load_endianness",
]


class LoadEndianness(enum.Enum):
    """Byte order of the values in a file."""

    NATIVE = 1
    LITTLE = 2
    BIG = 3


_compute_crc32 = True
_default_endianness: LoadEndianness | None = None


def get_crc32_options() -> bool:
    """Whether checksums are written and compared."""
    return _compute_crc32


def set_crc32_options(compute_crc32: bool) -> None:
    """Write and compare checksums (default), or leave them out: faster, but damage to values goes unnoticed."""
    global _compute_crc32
    _compute_crc32 = bool(compute_crc32)


def get_default_load_endianness() -> LoadEndianness | None:
    """The byte order assumed of files that do not name theirs; None for this machine's."""
    return _default_endianness


def set_default_load_endianness(endianness: LoadEndianness | None) -> None:
    """Set the byte order assumed of files that do not name theirs. TypeError for anything else than one."""
    global _default_endianness
    if endianness is not None and not isinstance(endianness, LoadEndianness):
        raise TypeError("Invalid argument type in function set_default_load_endianness")
    _default_endianness = endianness


def is_swapped(named: str | None) -> bool:
    """Whether values must be swapped, for the byte order a file names ("little", "big" or None)."""
    if named is None and _default_endianness not in (None, LoadEndianness.NATIVE):
        named = _default_endianness.name.lower()  # type: ignore[union-attr]
    if named not in (None, "little", "big"):
        raise RuntimeError(f"the file names an unknown byte order: {named!r}")
    return named is not None and named != sys.byteorder
