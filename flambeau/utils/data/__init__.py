"""`torch.utils.data`: datasets, samplers, DataLoader. The code lives in `flambeau.data`."""

from flambeau.data import *  # noqa: F403
from flambeau.data import __all__
from flambeau.utils.data import _utils, dataloader, dataset, distributed, sampler
