"""The version of PyTorch that `as_torch` answers with, comparable as PyTorch's `torch.__version__` is."""

from __future__ import annotations

import re
from typing import Any

from flambeau.version import __version__

RELEASE = "2.13.0"  # the release whose names and numbers are followed
RELEASE_OF_VISION = "0.28.0"


class TorchVersion(str):
    """A string that compares as a version, with other versions and with tuples: `torch.__version__ >= (1, 12)`."""

    def __lt__(self, other: Any) -> bool:
        return _parts(self) < _parts(other)

    def __le__(self, other: Any) -> bool:
        return _parts(self) <= _parts(other)

    def __gt__(self, other: Any) -> bool:
        return _parts(self) > _parts(other)

    def __ge__(self, other: Any) -> bool:
        return _parts(self) >= _parts(other)

    def __eq__(self, other: object) -> bool:
        return _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def _parts(version: Any) -> tuple[int, ...]:
    """The numbers of a release, zeros at the end left out; what comes after them (`rc1`, `+cpu`) does not count."""
    if isinstance(version, str):
        found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
        version = found.group(1).split(".") if found else ()
    numbers = [int(part) for part in version if str(part).isdigit()]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def pose(release: str) -> TorchVersion:
    """`2.13.0+flambeau0.1.0`: a release, and who stands in for it."""
    return TorchVersion(f"{release}+flambeau{__version__}")
