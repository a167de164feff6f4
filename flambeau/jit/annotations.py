"""The types that annotations for `torch.jit` are written with."""

from __future__ import annotations

from typing import Any, Dict, Final, List, Optional, Tuple, Union  # noqa: UP035  (the names are what is asked for)

__all__ = ["Any", "Dict", "Final", "List", "Optional", "Tuple", "Union"]
