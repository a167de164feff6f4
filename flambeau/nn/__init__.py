"""Building blocks of networks: modules, parameters, functions, initialisation, helpers."""

from __future__ import annotations

from flambeau.nn import functional, init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

from flambeau.nn.layers import *  # noqa: F403  isort: skip
from flambeau.nn.layers import __all__ as _layers  # isort: skip
from flambeau.nn import modules, parallel, parameter, utils  # isort: skip
from flambeau.nn.parallel import DataParallel  # isort: skip

__all__ = ["Buffer", "DataParallel", "Module", "Parameter", "UninitializedBuffer", "UninitializedParameter",
           "functional", "init", "modules", "parallel", "parameter", "utils", *_layers]
