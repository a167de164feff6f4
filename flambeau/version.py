"""The version of this package, in the one place that packaging and the command line read it from."""

__version__ = "0.1.0"
cuda = hip = xpu = git_version = None  # what PyTorch's `torch.version` tells of a build for the CPU
debug = False
