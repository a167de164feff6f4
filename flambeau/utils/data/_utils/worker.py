"""`torch.utils.data._utils.worker`."""

from flambeau.data.worker import WorkerInfo, get_worker_info

__all__ = ["WorkerInfo", "get_worker_info"]
