"""Writes the files in `golden/` with PyTorch (2.13): `python tests/serialization/make_golden.py`.

`objects(T)` builds the same things with either library; the tests compare what flambeau reads with what it builds.
"""

import collections
import sys
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool", "complex64",
          "complex128", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64")


def fill(T, module):
    """Weights that do not depend on random numbers."""
    for i, parameter in enumerate(module.parameters()):
        count = parameter.numel()
        parameter.data.copy_((T.arange(count).to(T.float32) / 8 - i).reshape(tuple(parameter.shape)))
    return module


def network(T):
    return fill(T, T.nn.Sequential(T.nn.Conv2d(1, 2, 3), T.nn.BatchNorm2d(2), T.nn.ReLU(), T.nn.Flatten(),
                                   T.nn.Linear(8, 3)))


def trained(T):
    model = fill(T, T.nn.Linear(2, 2))
    optimizer = T.optim.Adam(model.parameters(), lr=0.125)
    for parameter in model.parameters():
        parameter.grad = T.ones_like(parameter)
    optimizer.step()
    return optimizer


def views(T):
    base = T.arange(12.0).reshape(3, 4)
    return {"base": base, "row": base[1], "column": base[:, 2], "transposed": base.t(),
            "expanded": T.ones(2, 1).expand(2, 3)}


def mixed(T):
    return {"w": T.arange(6.0).reshape(2, 3), "list": [T.ones(1, requires_grad=True), "żółw", 2**70, None, (1.5, True)],
            "size": T.Size([2, 3]), "dtype": T.float16, "device": T.device("cpu"), "bytes": b"\x00\xff",
            "order": collections.OrderedDict(z=1, a=T.zeros(0, 3)), "p": T.nn.Parameter(T.ones(2))}


def objects(T):
    """File name -> (object, options of save)."""
    legacy = {"_use_new_zipfile_serialization": False}
    return {
        "dtypes.pt": ({name: T.tensor([0.0, 1.0, 2.0, 3.0]).to(getattr(T, name)) for name in DTYPES}, {}),
        "mixed.pt": (mixed(T), {}),
        "mixed_legacy.pt": (mixed(T), legacy),
        "views.pt": (views(T), {}),
        "views_legacy.pt": (views(T), legacy),
        "state_dict.pt": (network(T).state_dict(), {}),
        "module.pt": (network(T), {}),
        "optimizer.pt": (trained(T), {}),
    }


if __name__ == "__main__":
    import warnings

    import torch

    warnings.simplefilter("ignore")
    GOLDEN.mkdir(exist_ok=True)
    for name, (value, options) in objects(torch).items():
        torch.save(value, GOLDEN / name, **options)
    z = torch.tensor([1 + 2j, 3 - 1j])
    marks = {"conj": z.conj(), "neg": z.clone().conj().imag, "plain": z}
    torch.save(marks, GOLDEN / "marks.pt")
    torch.save(marks, GOLDEN / "marks_legacy.pt", _use_new_zipfile_serialization=False)
    sys.exit(0)
