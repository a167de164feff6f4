"""Python's search for cyclic garbage, put off."""

from __future__ import annotations

import gc
from typing import Any


class Pause:
    """`with Pause() as pause: …` lets cyclic garbage wait until the end, or until `pause.end()`.

    The many small objects of a record and of its compilation live as long as these take, and looking for dead ones
    among them takes a tenth of their time.
    """

    def __enter__(self) -> Pause:
        self._enabled = gc.isenabled()
        gc.disable()
        return self

    def end(self) -> None:
        """Search again, if Python did before."""
        if self._enabled:
            self._enabled = False
            gc.enable()

    def __exit__(self, *error: Any) -> None:
        self.end()
