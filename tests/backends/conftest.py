"""Shared by the tests of the backends."""

from __future__ import annotations

import numpy as np
import pytest

from flambeau.backends import onednn
from flambeau.backends.onednn import library


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def needs_onednn() -> None:
    """Skip, saying why, where the library cannot be used."""
    if not onednn.available():
        pytest.skip(f"oneDNN: {library.reason()}")
