"""Public path of the named result types."""

from flambeau.core.return_types import TYPES

globals().update(TYPES)
__all__ = sorted(TYPES)
