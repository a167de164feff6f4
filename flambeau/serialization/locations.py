"""`map_location`: where the storages of a file go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.core.device import device
from flambeau.core.storage import Storage
from flambeau.serialization.rebuild import MetaStorage

Restore = Callable[[Storage, str], Any]

_NO_CUDA = (
    "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are running on a "
    "CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your storages to the CPU."
)


def restore_at(storage: Storage, location: str) -> Any:
    """The storage at the place the file names. RuntimeError for a place that does not exist here."""
    if location == "cpu":
        return storage
    if location == "meta":
        return MetaStorage(storage.nbytes())
    if location.startswith("cuda"):
        raise RuntimeError(_NO_CUDA)
    raise RuntimeError("don't know how to restore data location of torch.storage.UntypedStorage "
                       f"(tagged with {location})")


def restorer(map_location: Any) -> Restore:
    """The function that moves a loaded storage, for each form `map_location` may have."""
    if map_location is None:
        return restore_at
    if isinstance(map_location, dict):
        return lambda storage, location: restore_at(storage, str(map_location.get(location, location)))
    if isinstance(map_location, (str, device)):
        place = str(device(map_location))
        return lambda storage, location: restore_at(storage, place)
    if callable(map_location):
        def restore(storage: Storage, location: str) -> Any:
            moved = map_location(storage, location)
            moved = restore_at(storage, location) if moved is None else moved
            return moved.untyped() if isinstance(moved, Storage) else moved

        return restore
    raise TypeError(f"map_location must be a string, device, dict or function, got {type(map_location).__name__}")
