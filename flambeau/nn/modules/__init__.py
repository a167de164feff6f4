"""PyTorch's paths to the layers: `flambeau.nn.modules.linear` is `flambeau.nn.layers.linear`, and so on.

Pickled modules name their classes by these paths.
"""

from __future__ import annotations

import sys

from flambeau.nn import module
from flambeau.nn.layers import *  # noqa: F403
from flambeau.nn.layers import __all__ as _layers
from flambeau.nn.layers import (
    _sizes,
    activation,
    adaptive,
    batchnorm,
    channelshuffle,
    container,
    conv,
    distance,
    dropout,
    flatten,
    fold,
    instancenorm,
    lazy,
    linear,
    loss,
    normalization,
    padding,
    pixelshuffle,
    pooling,
    rnn,
    sparse,
    transformer,
    upsampling,
)
from flambeau.nn.module import Module

__all__ = ["Module", *_layers]

utils = _sizes
for _file in (activation, adaptive, batchnorm, channelshuffle, container, conv, distance, dropout, flatten, fold,
              instancenorm, lazy, linear, loss, module, normalization, padding, pixelshuffle, pooling, rnn, sparse,
              transformer, upsampling):
    sys.modules[f"{__name__}.{_file.__name__.rpartition('.')[2]}"] = _file
sys.modules[f"{__name__}.utils"] = utils
