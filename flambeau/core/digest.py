"""BLAKE2 without OpenSSL: `hashlib` loads that library for its own functions, which takes 4 ms."""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # another interpreter than CPython
    from hashlib import blake2b

__all__ = ["blake2b"]
