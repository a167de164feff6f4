"""Fixtures for tests of ops."""

import pytest

from flambeau.core.dispatch import REGISTRY


@pytest.fixture(params=["backends", "numpy"])
def engine(request, monkeypatch):
    """Runs a test with the kernels that backends registered, and again with the ops' own bodies."""
    if request.param == "numpy":
        for op in REGISTRY.values():
            monkeypatch.setattr(op, "backends", [])
    return request.param
