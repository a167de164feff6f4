"""PyTorch's `torch.backends.mps`: there is no Metal device here."""


def is_available() -> bool:
    """Always False."""
    return False


def is_built() -> bool:
    """Always False."""
    return False
