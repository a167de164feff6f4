"""`torch.utils.data.distributed`."""

from flambeau.data.sampler import DistributedSampler

__all__ = ["DistributedSampler"]
