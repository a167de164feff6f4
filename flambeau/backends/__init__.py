"""Fast kernels on NumPy arrays, and the threads and memory they use. Knows nothing of Tensor."""

from flambeau.backends import cudnn
