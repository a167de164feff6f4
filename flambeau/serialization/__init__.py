"""Saving and loading: PyTorch's files, both ways."""

from flambeau.serialization.files import load, save
from flambeau.serialization.inspection import get_unsafe_globals_in_checkpoint
from flambeau.serialization.locations import restore_at as default_restore_location
from flambeau.serialization.options import (
    LoadEndianness,
    get_crc32_options,
    get_default_load_endianness,
    set_crc32_options,
    set_default_load_endianness,
)
from flambeau.serialization.unpickler import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

__all__ = [
    "LoadEndianness", "add_safe_globals", "clear_safe_globals", "default_restore_location", "get_crc32_options",
    "get_default_load_endianness", "get_safe_globals", "get_unsafe_globals_in_checkpoint", "load", "safe_globals",
    "save", "set_crc32_options", "set_default_load_endianness",
]
