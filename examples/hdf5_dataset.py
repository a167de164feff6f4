"""A data set in an HDF5 file: written with h5py, read one batch at a time, so that it may be larger than memory.

    python examples/hdf5_dataset.py [FILE]      (needs h5py)
"""

import sys

import h5py
import numpy as np

import flambeau as torch
from flambeau.utils.data import DataLoader, Dataset
from flambeau.vision.datasets import Digits


class HDF5Images(Dataset):
    """Images and labels of an HDF5 file. The file is opened at first use, so that worker processes open their own."""

    def __init__(self, path):
        self.path = path
        self.file = None
        with h5py.File(path) as file:
            self.length = len(file["labels"])

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if self.file is None:
            self.file = h5py.File(self.path)
        image = torch.from_numpy(self.file["images"][index]).float() / 16
        return image.unsqueeze(0), int(self.file["labels"][index])


def write(path):
    """The bundled digits as two compressed arrays."""
    digits = Digits(train=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=np.asarray(digits.data), chunks=(1, 8, 8), compression="gzip")
        file.create_dataset("labels", data=np.asarray(digits.targets))


def main(path="digits.h5"):
    write(path)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(HDF5Images(path), batch_size=64, shuffle=True)
    for epoch in range(5):
        right = 0
        for images, labels in loader:
            logits = model(images)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += (logits.argmax(1) == labels).sum().item()
        print(f"epoch {epoch + 1}: accuracy {right / len(loader.dataset):.1%}")
    return right / len(loader.dataset)


if __name__ == "__main__":
    main(*sys.argv[1:])
