"""PyTorch's `torch.backends.mkl`: there is no MKL here, NumPy's BLAS serves."""


def is_available() -> bool:
    """Always False."""
    return False
