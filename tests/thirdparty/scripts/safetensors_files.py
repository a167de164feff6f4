"""safetensors: tensors and models written, read and kept apart from the file."""

import os
import tempfile

import torch
from safetensors.torch import load, load_file, load_model, save, save_file, save_model

torch.manual_seed(0)
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "tensors.safetensors")
save_file({"a": torch.randn(2, 3), "b": torch.arange(4), "h": torch.ones(2, dtype=torch.bfloat16)}, path)
for name, value in sorted(load_file(path).items()):
    print(name, value.dtype, value, type(value) is torch.Tensor)


def network():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


one, other = network(), network()
save_model(one, path)
print(load_model(other, path), torch.equal(one[0].weight, other[0].weight), other[1].num_batches_tracked)
read = load(save({"a": torch.eye(2)}))
read["a"][0, 0] = 5
print(read)
