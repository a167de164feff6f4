"""Saving and loading: PyTorch's files, both ways."""

from flambeau.serialization.files import load, save
from flambeau.serialization.unpickler import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
