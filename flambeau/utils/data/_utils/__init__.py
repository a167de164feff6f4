"""`torch.utils.data._utils`, as far as programs use it."""

from flambeau.utils.data._utils import collate, worker

__all__ = ["collate", "worker"]
