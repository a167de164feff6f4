"""PyTorch's `torch.backends.openmp`."""

from flambeau.backends import onednn


def is_available() -> bool:
    """Whether there is an OpenMP runtime: the one that oneDNN brings."""
    return onednn.available()
