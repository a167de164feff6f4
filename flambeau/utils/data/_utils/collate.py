"""`torch.utils.data._utils.collate`."""

from flambeau.data.collate import *  # noqa: F403
from flambeau.data.collate import __all__  # noqa: F401
