"""Which object stands for which name of PyTorch in a file, in both directions.

Files name PyTorch's globals (`torch.FloatStorage`, `torch.nn.modules.linear.Linear`), so PyTorch reads what flambeau
writes and the other way round.
"""

from __future__ import annotations

import importlib
from typing import Any

from flambeau.core import device as devices
from flambeau.core import dtype as dtypes
from flambeau.core.tensor import Size, Tensor
from flambeau.serialization import rebuild


class StorageType:
    """What `torch.FloatStorage` and its siblings mean in a file: the element type of a storage."""

    def __init__(self, name: str, dtype: dtypes.dtype):
        self.name = name
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"torch.{self.name}"


_STORAGE_NAMES = {
    "FloatStorage": dtypes.float32, "DoubleStorage": dtypes.float64, "HalfStorage": dtypes.float16,
    "BFloat16Storage": dtypes.bfloat16, "LongStorage": dtypes.int64, "IntStorage": dtypes.int32,
    "ShortStorage": dtypes.int16, "CharStorage": dtypes.int8, "ByteStorage": dtypes.uint8, "BoolStorage": dtypes.bool,
    "ComplexFloatStorage": dtypes.complex64, "ComplexDoubleStorage": dtypes.complex128,
}
STORAGE_TYPES = {name: StorageType(name, dtype) for name, dtype in _STORAGE_NAMES.items()}
UNTYPED = StorageType("UntypedStorage", dtypes.uint8)
STORAGE_TYPE_OF = {kind.dtype: kind for kind in STORAGE_TYPES.values()}

# PyTorch's name -> our object. Everything here is harmless: safe for weights_only.
SAFE: dict[tuple[str, str], Any] = {
    ("torch", "Size"): Size,
    ("torch", "Tensor"): Tensor,
    ("torch", "device"): devices.device,
    ("torch.serialization", "_get_layout"): rebuild.layout_by_name,
    ("torch.storage", "UntypedStorage"): UNTYPED,
    ("torch._tensor", "_rebuild_from_type_v2"): rebuild.rebuild_from_type_v2,
    ("torch._utils", "_rebuild_tensor"): rebuild.rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild.rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): rebuild.rebuild_tensor_v3,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): rebuild.rebuild_meta_tensor,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): rebuild.rebuild_from_numpy,
    ("torch._utils", "_rebuild_parameter"): rebuild.rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild.rebuild_parameter_with_state,
    **{("torch", kind.name): kind for kind in STORAGE_TYPES.values()},
    **{("torch", d.name): d for d in dtypes.ALL},
}
# What PyTorch's files may hold and flambeau has no counterpart for.
ABSENT = {
    "_rebuild_sparse_tensor": "sparse tensors", "_rebuild_sparse_csr_tensor": "sparse tensors",
    "_rebuild_nested_tensor": "nested tensors", "_rebuild_qtensor": "quantized tensors",
    "_rebuild_wrapper_subclass": "wrapped tensors",
}
# Only for files that are trusted (`weights_only=False`).
TRUSTED: dict[tuple[str, str], Any] = {
    ("torch._C", "Generator"): rebuild.rebuild_generator,
    ("torch.torch_version", "TorchVersion"): str,
}
# Objects that are written under another name than their own. Keyed by identity: not all of them can be hashed.
_WRITTEN = {id(value): name for name, value in {**SAFE, **TRUSTED}.items() if value is not str}

# Where PyTorch keeps what flambeau keeps elsewhere: the longest prefix counts, what follows it is kept unless it ends
# with a star.
_MODULES = {
    "flambeau": "torch",
    "flambeau.data": "torch.utils.data",
    "flambeau.data.collate": "torch.utils.data._utils.collate",
    "flambeau.data.worker": "torch.utils.data._utils.worker",
    "flambeau.nn.layers": "torch.nn.modules",
    "flambeau.nn.layers.attention": "torch.nn.modules.activation",
    "flambeau.nn.module": "torch.nn.modules.module",
    "flambeau.optim.adafactor": "torch.optim",
    "flambeau.optim.lr_scheduler": "torch.optim.lr_scheduler*",
    "flambeau.optim.muon": "torch.optim",
}
_FUNCTIONS = ("flambeau.ops.", "flambeau.core.inplace")     # modules whose functions are public elsewhere


def written_name(obj: Any, module: str, name: str) -> tuple[str, str]:
    """Under which module and name a class or function is written."""
    known = _WRITTEN.get(id(obj))
    if known is not None:
        return known
    parts = module.split(".")
    if parts[0] != "flambeau":
        return module, name
    if name == "DistributedSampler":
        return "torch.utils.data.distributed", name
    if module.startswith(_FUNCTIONS):
        functional = importlib.import_module("flambeau.nn.functional")
        return ("torch.nn.functional" if hasattr(functional, name) else "torch"), name
    for length in range(len(parts), 0, -1):
        place = _MODULES.get(".".join(parts[:length]))
        if place is not None:
            rest = [] if place.endswith("*") else parts[length:]
            return ".".join([place.rstrip("*"), *rest]), name
    return module, name


def find(module: str, name: str) -> Any:
    """Our object for a name of PyTorch. AttributeError when flambeau has none."""
    known = SAFE.get((module, name)) or TRUSTED.get((module, name))
    if known is not None:
        return known
    if (module, name) == ("torch._C", "_VariableFunctionsClass"):
        return importlib.import_module("flambeau")      # PyTorch names its functions as attributes of this class
    if module == "torch._C._nn":
        module = "torch.nn.functional"
    parts = module.split(".")
    # The module of the same name, then the packages around it, which export the public names.
    for length in range(len(parts), 0, -1):
        place = ".".join(["flambeau", *parts[1:length]])
        try:
            owner = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not place.startswith(error.name or "?"):
                raise
            continue
        found: Any = owner
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    what = ABSENT.get(name)
    raise AttributeError(f"the file holds {what}, which flambeau does not have" if what else
                         f"the file needs '{module}.{name}', which flambeau does not have")
