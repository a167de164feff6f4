"""The errors of `torch.jit.script` for Python that it cannot express."""

from __future__ import annotations


class FrontendError(Exception):
    """A script that is not valid."""


class NotSupportedError(RuntimeError, FrontendError):
    """Python that scripts do not have; the message names the line."""


class UnsupportedNodeError(NotSupportedError):
    """A kind of expression or statement that scripts do not have."""
